//! `cones merge`: several concepts to their union.

use anyhow::Context;
use cones::concept::NeuronIndex;
use serde_json::json;

use super::ui::Ui;
use super::{read_index, thousands};
use crate::cli::{Global, MergeArgs};

pub(crate) fn run(global: &Global, args: &MergeArgs) -> anyhow::Result<()> {
    let ui = Ui::new(global);
    let parts = args
        .indices
        .iter()
        .map(|path| read_index(path))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let union = NeuronIndex::union(&parts.iter().collect::<Vec<_>>())
        .context("the indices cannot be merged")?;
    union.write(&args.output)?;
    let sum: u64 = parts.iter().map(NeuronIndex::shut).sum();
    if global.json {
        return ui.result(&format!(
            "{:#}",
            json!({
                "index": args.output,
                "shut": union.shut(),
                "total": union.total(),
                "density": union.density(),
                "shared": sum - union.shut(),
            })
        ));
    }
    ui.result(&format!(
        "{}: {} of {} neurons shut ({:.2} %), the union of {}",
        args.output.display(),
        thousands(union.shut()),
        thousands(union.total()),
        100.0 * union.density(),
        parts
            .iter()
            .map(|p| thousands(p.shut()))
            .collect::<Vec<_>>()
            .join(" and "),
    ))
}

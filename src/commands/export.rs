//! `cones export`: a model with a concept's neurons shut, or what to change in one, for other programs.

use std::path::{Path, PathBuf};

use anyhow::Context;
use cones::escaped;
use cones::index::NeuronIndex;
use serde_json::json;

use super::outputs::Outputs;
use super::{distinct, load, name, read_index, source, thousands};
use crate::cli::{ExportArgs, Format, Global};
use crate::report::ui::{Ui, peak_memory};

pub(crate) fn run(global: &Global, args: &ExportArgs) -> anyhow::Result<()> {
    let ui = Ui::new(global);
    let indices = args
        .indices
        .iter()
        .map(|path| read_index(path))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let named: Vec<(&Path, &NeuronIndex)> = (args.indices.iter().map(PathBuf::as_path))
        .zip(&indices)
        .collect();
    let kept = distinct(&named, &ui).context("the indices cannot be used together")?;
    let parts: Vec<&NeuronIndex> = kept.iter().map(|&k| &indices[k]).collect();
    let union = NeuronIndex::union(&parts).context("the indices cannot be used together")?;
    let folder = args.format == Format::Diffusers
        && args
            .output
            .extension()
            .is_none_or(|ending| ending != "safetensors");
    let outputs = Outputs::beside(&args.indices);
    let outputs = match folder {
        true => outputs.folder("--output", &args.output)?,
        false => outputs.file("--output", &args.output),
    };
    outputs.check()?;
    outputs.spare_indices()?;
    let pipeline = load(global, &ui)?;
    match union
        .provenance()
        .check_fingerprint(&pipeline.fingerprint()?)
    {
        Err(error) if args.force => ui.warn(&format!("{error}; used all the same (--force)")),
        checked => checked.context("the index cannot be used with this model without --force")?,
    }
    // What was read to know the model is not needed to write it.
    let model = pipeline.name.clone();
    drop(pipeline);
    source(global)?.export(&union, args.strength, args.format.into(), &args.output)?;
    if global.json {
        return ui.json(&json!({
            "output": name(&args.output),
            "model": model,
            "shut": union.extent().shut,
            "strength": args.strength,
            "peak_memory_bytes": peak_memory(),
        }));
    }
    ui.result(&format!(
        "{}: `{}` with {} weights changed",
        escaped(&name(&args.output)),
        escaped(&model),
        thousands(union.extent().shut)
    ))
}

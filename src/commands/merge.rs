//! `cones merge`: several concepts to their union, tuned together where asked.

use std::path::{Path, PathBuf};

use anyhow::Context;
use cones::escaped;
use cones::find::Tuned;
use cones::index::{Extent, NeuronIndex, OverlapReport};
use serde_json::{Value, json};

use super::outputs;
use super::outputs::Outputs;
use super::outputs::Saved;
use super::{distinct, name, read_index, thousands, tune};
use crate::cli::{Global, MergeArgs};
use crate::report::meters::steps;
use crate::report::ui::{Ui, peak_memory};

pub(crate) fn run(global: &Global, args: &MergeArgs) -> anyhow::Result<()> {
    let ui = Ui::new(global);
    Outputs::beside(&args.indices)
        .file("--output", &args.output)
        .check()?;
    let parts = args
        .indices
        .iter()
        .map(|path| read_index(path))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let named: Vec<(&Path, &NeuronIndex)> = (args.indices.iter().map(PathBuf::as_path))
        .zip(&parts)
        .collect();
    let kept = distinct(&named, &ui).context("the indices cannot be merged")?;
    let named: Vec<(&Path, &NeuronIndex)> = kept.into_iter().map(|k| named[k]).collect();
    let (paths, parts): (Vec<&Path>, Vec<&NeuronIndex>) = named.into_iter().unzip();
    let union = NeuronIndex::union(&parts).context("the indices cannot be merged")?;
    let overlaps = overlaps(&paths, &parts, &ui)?;
    let (merged, left_out, unfinished) = match args.tune {
        Some(steps) => match tune::run(global, args, steps, &union, &ui)? {
            Some((tuned, left_out, unfinished)) => (tuned, left_out, Some(unfinished)),
            None => return Ok(()),
        },
        None => {
            outputs::check_free(&args.output, union.provenance(), args.force)?;
            let (index, steps) = (union.clone(), Vec::new());
            (Tuned { index, steps }, Vec::new(), None)
        }
    };
    let mut saved = Saved::default();
    saved.write(&args.output, &merged.index.to_bytes()?);
    if let Some(unfinished) = unfinished {
        unfinished.finish_unless(saved.is_lost());
    }
    saved.finish()?;
    let Extent {
        shut,
        total,
        density,
        ..
    } = union.extent();
    let sum: u64 = parts.iter().map(|part| part.extent().shut).sum();
    let bytes = |index: &NeuronIndex| index.to_bytes().map(|b| b.len() as u64);
    let grown = bytes(&merged.index)? as f64 / bytes(&union)? as f64;
    if global.json {
        return ui.json(&json!({
                "index": name(&args.output),
                "shut": shut,
                "total": total,
                "density": density,
                "shared": sum - shut,
                "overlaps": overlaps,
                "tuned": merged.index.extent().tuned,
                "bytes": bytes(&merged.index)?,
                "bytes_untuned": bytes(&union)?,
                "steps": steps(&merged.steps),
                "left_out": crate::report::photos::left_out(&left_out),
                "peak_memory_bytes": peak_memory(),
        }));
    }
    let mut text = format!(
        "{}: {} of {} neurons shut ({:.2} %), the union of {}",
        escaped(&name(&args.output)),
        thousands(shut),
        thousands(total),
        100.0 * density,
        parts
            .iter()
            .map(|p| thousands(p.extent().shut))
            .collect::<Vec<_>>()
            .join(" and "),
    );
    if args.tune.is_some() {
        text += &format!(
            "\ntuned: {} values in place of zeros, {} bytes, {grown:.1} times the untuned union",
            thousands(merged.index.extent().shut),
            thousands(bytes(&merged.index)?),
        );
    }
    ui.result(&text)
}

/// Says of each pair how many neurons both shut, beside what chance would give.
fn overlaps(paths: &[&Path], parts: &[&NeuronIndex], ui: &Ui) -> anyhow::Result<Vec<Value>> {
    let mut all = Vec::new();
    for (i, (a, first)) in paths.iter().zip(parts).enumerate() {
        for (b, second) in paths.iter().zip(parts).skip(i + 1) {
            let total = OverlapReport::new(first, second)?.total;
            ui.note(&format!(
                "{} and {} share {} neurons, where chance would give {:.0}",
                name(a),
                name(b),
                thousands(total.shared),
                total.expected,
            ));
            all.push(json!({
                "first": name(a),
                "second": name(b),
                "shared": total.shared,
                "expected": total.expected,
            }));
        }
    }
    Ok(all)
}

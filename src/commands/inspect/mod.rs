//! `cones inspect`: what is in an index; how far several overlap, against chance.

mod overlap;
mod picture;
mod report;

use std::path::PathBuf;

use anyhow::bail;
use cones::escaped;
use cones::index::{NeuronIndex, OverlapReport};
use serde_json::{Value, json};

use self::overlap::{describe_overlap, overlap_json};
use self::picture::Drawn;
use self::report::{describe, summary_json};
use super::outputs::{Outputs, Saved};
use super::{name, read_index};
use crate::cli::{Global, InspectArgs};
use crate::report::ui::Ui;

pub(crate) fn run(global: &Global, args: &InspectArgs) -> anyhow::Result<()> {
    let ui = Ui::new(global);
    if let Some(path) = &args.plain {
        let outputs = Outputs::beside(&args.indices).file("--indices", path);
        outputs.check()?;
        outputs.spare_indices()?;
    }
    let is_picture = |path: &&PathBuf| cones::picture::is_picture(path);
    let pictures: Vec<&PathBuf> = args.indices.iter().filter(is_picture).collect();
    let pictures = pictures.into_iter().map(|path| Drawn::read(path));
    let pictures = pictures.collect::<anyhow::Result<Vec<_>>>()?;
    let indices = args
        .indices
        .iter()
        .filter(|path| !is_picture(path))
        .map(|path| Ok((path.clone(), read_index(path)?)))
        .collect::<anyhow::Result<Vec<(PathBuf, NeuronIndex)>>>()?;
    if (args.plain.is_some() || args.dump) && indices.len() != 1 {
        bail!(
            "--indices and --dump take one index, found {}",
            indices.len()
        );
    }
    if let Some(path) = &args.plain {
        let mut saved = Saved::default();
        saved.write(path, &indices[0].1.to_plain_bytes()?);
        saved.finish()?;
        return ui.result(&escaped(&name(path)));
    }
    if args.dump {
        return ui.result(indices[0].1.to_string().trim_end());
    }
    let mut pairs = Vec::new();
    for (i, (a, first)) in indices.iter().enumerate() {
        for (b, second) in &indices[i + 1..] {
            if first == second {
                ui.warn(&format!(
                    "`{}` and `{}` hold the same index",
                    a.display(),
                    b.display()
                ));
            }
            if first.provenance().fingerprint != second.provenance().fingerprint {
                ui.warn(&format!(
                    "`{}` and `{}` are of different models",
                    name(a),
                    name(b)
                ));
            }
            pairs.push((a.as_path(), b.as_path(), OverlapReport::new(first, second)?));
        }
    }
    if global.json {
        let files = indices
            .iter()
            .map(|(path, index)| summary_json(path, index))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let overlaps: Vec<Value> = pairs
            .iter()
            .map(|(a, b, report)| overlap_json(a, b, report))
            .collect();
        let pictures: Vec<Value> = pictures.iter().map(Drawn::json).collect();
        return ui.json(&json!({"indices": files, "overlaps": overlaps, "pictures": pictures}));
    }
    let mut text = String::new();
    for (path, index) in &indices {
        describe(&mut text, path, index)?;
    }
    for (a, b, report) in &pairs {
        describe_overlap(&mut text, a, b, report)?;
    }
    for picture in &pictures {
        picture.describe(&mut text)?;
    }
    ui.result(text.trim_end())
}

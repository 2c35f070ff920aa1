//! The concepts of `cones generate`: read, and shut in the model.

use std::path::{Path, PathBuf};

use anyhow::Context;
use cones::Pipeline;
use cones::index::NeuronIndex;
use cones::pipeline::{Concept, ShutConcepts, ShutOptions};
use cones::prompt::Marks;

use super::super::{distinct, read_index};
use crate::cli::GenerateArgs;
use crate::report::ui::Ui;

/// The concepts of files, without those that are given again.
pub(super) fn concepts(
    files: Vec<PathBuf>,
    ui: &Ui,
) -> anyhow::Result<(Vec<PathBuf>, Vec<Concept>)> {
    let indices = files
        .iter()
        .map(|path| read_index(path))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let named: Vec<(&Path, &NeuronIndex)> =
        (files.iter().map(PathBuf::as_path)).zip(&indices).collect();
    let kept = distinct(&named, ui).context("the concepts cannot be used together")?;
    let named = |path: &Path| {
        path.file_stem()
            .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
    };
    let all = files.into_iter().zip(indices).enumerate();
    Ok(all
        .filter(|(number, _)| kept.contains(number))
        .map(|(_, (path, index))| (path.clone(), Concept::new(named(&path), index)))
        .unzip())
}

/// Shuts the concepts together, in the layers asked for; each was found on this very model unless `--force`. The
/// marks are those that the prompt needs.
pub(super) fn shut(
    pipeline: &mut Pipeline,
    concepts: &[Concept],
    args: &GenerateArgs,
    ui: &Ui,
) -> anyhow::Result<Marks> {
    if concepts.is_empty() {
        return Ok(Marks::default());
    }
    let fingerprint = pipeline.fingerprint()?;
    for Concept { name, index, .. } in concepts {
        match index.provenance().check_fingerprint(&fingerprint) {
            Err(error) if args.force => {
                ui.warn(&format!("`{name}`: {error}; used all the same (--force)"));
            }
            other => other.with_context(|| {
                format!("concept `{name}` cannot be used with this model without --force")
            })?,
        }
    }
    let indices: Vec<&NeuronIndex> = concepts.iter().map(|c| &c.index).collect();
    let options = ShutOptions {
        layers: args.layers.as_ref(),
        conflicts: args.force,
        strength: args.strength,
    };
    let ShutConcepts { marks, idle } = pipeline.shut(&indices, options)?;
    for idle in idle {
        ui.warn(&format!(
            "`{}` has no neurons in these layers: it changes nothing",
            concepts[idle].name
        ));
    }
    Ok(marks)
}

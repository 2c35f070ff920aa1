//! The pictures of `cones generate`: which there are to be, and their files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cones::Picture;
use cones::picture::contact_sheet;

use super::super::outputs::Outputs;
use super::super::with_suffix;
use super::attention;
use super::attention::Heat;
use crate::cli::GenerateArgs;

/// What stands behind the name of a picture that is not done.
pub(super) const PREVIEW: &str = "-preview";
/// As many as one picture of them has room for.
const MOST_IN_GRID: usize = 1500;

/// A picture to draw.
pub(super) struct Drawing {
    /// The number of its prompt.
    pub(super) prompt: usize,
    pub(super) seed: u64,
    pub(super) path: PathBuf,
    /// The heat maps that were written of it.
    pub(super) heat: Vec<Heat>,
}

/// One seed for each picture that may be drawn of a prompt.
pub(super) fn seeds(first: u64, count: usize) -> anyhow::Result<Vec<u64>> {
    let last = first.checked_add(count as u64);
    let last = last.context("--seed: expected a number that leaves room for all pictures")?;
    Ok((first..last).collect())
}

/// The pictures of all prompts, each with its prompt, seed and file: `out.png`, `out-SEED.png` where there are several,
/// `out-LINE-SEED.png` of several prompts.
pub(super) fn pictures(args: &GenerateArgs, prompts: usize, seeds: &[u64]) -> Vec<Drawing> {
    let each = (0..prompts).flat_map(|prompt| seeds.iter().map(move |&seed| (prompt, seed)));
    let drawing = |(prompt, seed)| Drawing {
        prompt,
        seed,
        path: match (prompts, args.count) {
            (1, 1) => args.output.clone(),
            (1, _) => with_suffix(&args.output, &format!("-{seed}")),
            _ => with_suffix(&args.output, &format!("-{}-{seed}", prompt + 1)),
        },
        heat: Vec::new(),
    };
    each.map(drawing).collect()
}

/// That everything can be written.
pub(super) fn check_outputs(
    args: &GenerateArgs,
    concepts: &[PathBuf],
    pictures: &[Drawing],
    grid: Option<&Path>,
) -> anyhow::Result<()> {
    let inputs = [&args.prompts, &args.from, &args.init];
    let mut outputs = Outputs::beside(concepts.iter().chain(inputs.into_iter().flatten()));
    // What is to be one of several seeds has one name.
    let one = pictures
        .first()
        .filter(|_| args.count == 1 && args.best_of.is_some());
    for Drawing { path, .. } in one.map_or(pictures, std::slice::from_ref) {
        outputs = outputs.file("--output", path);
        if args.preview.is_some() {
            outputs = outputs.file("--preview", with_suffix(path, PREVIEW));
        }
        // That words differ in their files is said of the words.
        let maps: BTreeSet<PathBuf> = args
            .heatmap
            .iter()
            .map(|word| attention::heat_path(path, word))
            .collect();
        for map in maps {
            outputs = outputs.file("--heatmap", map);
        }
    }
    if let Some(grid) = grid {
        let found = pictures.len() / args.best_of.unwrap_or(1);
        if found > MOST_IN_GRID {
            bail!("--grid: expected at most {MOST_IN_GRID} pictures, found {found}");
        }
        outputs = outputs.file("--grid", grid);
    }
    outputs.check()?;
    outputs.spare_indices()
}

/// All pictures: a row for each prompt, under the seeds of the first.
pub(super) fn sheet(
    cells: &[Picture],
    first: &[Drawing],
    prompts: usize,
) -> cones::Result<Picture> {
    let rows: Vec<Vec<Picture>> = cells
        .chunks(first.len().max(1))
        .map(<[Picture]>::to_vec)
        .collect();
    let seeds = first.iter().map(|picture| picture.seed.to_string());
    let seeds: Vec<String> = seeds.collect();
    let lines: Vec<String> = match prompts {
        1 => Vec::new(),
        _ => (1..=rows.len()).map(|line| line.to_string()).collect(),
    };
    contact_sheet(&rows, &seeds, &lines)
}

//! Pictures of the class for the prior term of the loss: the user's, or the model's own, drawn once and kept.

use std::path::{Path, PathBuf};

use anyhow::Context;
use cones::{Pipeline, SampleOptions};
use sha2::{Digest, Sha256};

use super::generate::{Drawn, write_picture};
use super::ui::Ui;

/// The model's own pictures of `prompt` with seeds 0, 1, …, in a folder beside the index that says what they are.
///
/// Pictures that are there already are taken as they are; a run that was interrupted goes on where it was.
pub(crate) fn cached(
    pipeline: &Pipeline,
    noun: &str,
    prompt: &str,
    count: usize,
    index: &Path,
    ui: &Ui,
) -> anyhow::Result<Vec<PathBuf>> {
    let options = super::generate::defaults(pipeline);
    let folder = index.with_file_name(folder_name(pipeline, noun, prompt, &options)?);
    let path = |seed: u64| folder.join(format!("seed-{seed:05}.png"));
    let missing: Vec<u64> = (0..count as u64)
        .filter(|&seed| !path(seed).is_file())
        .collect();
    if !missing.is_empty() {
        ui.note(&format!(
            "drawing {} class pictures of \"{prompt}\" into `{}`",
            missing.len(),
            folder.display()
        ));
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create `{}`", folder.display()))?;
        let mut meter = ui.meter("class pictures");
        // Some at a time, so that little is lost when the run is interrupted.
        const AT_A_TIME: usize = 16;
        let batches = missing.len().div_ceil(AT_A_TIME);
        for (i, seeds) in missing.chunks(AT_A_TIME).enumerate() {
            let pictures = pipeline.draw(prompt, &options, seeds, |p| {
                meter.set(i * p.total + p.done, batches * p.total, "passes")
            })?;
            for (&seed, picture) in seeds.iter().zip(&pictures) {
                let drawn = Drawn {
                    pipeline,
                    prompt,
                    options: &options,
                    seed,
                    concepts: &[],
                    layers: None,
                    excited: &[],
                };
                write_picture(&path(seed), picture, Some(&drawn))?;
            }
        }
        meter.finish();
    }
    Ok((0..count as u64).map(path).collect())
}

/// `class-images.dog.pocket-1a2b3c4d`: the last part is a hash of everything that the pictures depend on.
fn folder_name(
    pipeline: &Pipeline,
    noun: &str,
    prompt: &str,
    options: &SampleOptions,
) -> anyhow::Result<String> {
    let drawn_by = pipeline.identity(&[prompt, &options.negative])?;
    let all = format!("{drawn_by}\n{prompt}\n{options:?}");
    let hash: String = Sha256::digest(all)
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let safe = |text: &str| {
        text.chars()
            .map(|c| if c.is_alphanumeric() { c } else { '-' })
            .collect::<String>()
    };
    Ok(format!(
        "class-images.{}.{}-{hash}",
        safe(noun),
        safe(pipeline.name())
    ))
}

//! Pictures of the class for the prior term of the loss: the user's, or the model's own, drawn once and kept.

use std::path::{Path, PathBuf};

use cones::{AttentionOptions, Pipeline, Progress, SampleOptions};
use sha2::{Digest, Sha256};

use super::drawn::Drawn;
use super::outputs::{can_write_into, room};
use super::{Advice, count, name};
use crate::report::ui::Ui;

/// The model's own pictures of `prompt` with seeds 0, 1, …, in a folder beside the index that says what they are.
///
/// Pictures that are there already are taken as they are, each is written when it is drawn, and a run that was
/// interrupted goes on where it was.
pub(crate) fn cached(
    pipeline: &Pipeline,
    noun: &str,
    prompt: &str,
    wanted: usize,
    index: &Path,
    ui: &Ui,
) -> anyhow::Result<Vec<PathBuf>> {
    let options = super::generate::defaults(pipeline);
    let folder = index.with_file_name(folder_name(pipeline, noun, prompt, &options)?);
    let path = |seed: u64| folder.join(format!("seed-{seed:05}.png"));
    let missing: Vec<u64> = (0..wanted as u64)
        .filter(|&seed| !path(seed).is_file())
        .collect();
    if !missing.is_empty() {
        ui.note(&format!(
            "drawing {} of the class, \"{prompt}\", into `{}`",
            count(missing.len(), "picture"),
            name(&folder)
        ));
        if let Err(error) = std::fs::create_dir_all(&folder).and_then(|()| can_write_into(&folder))
        {
            return Err(Advice::error(
                format!(
                    "cannot write class pictures into `{}`: {error}",
                    name(&folder)
                ),
                "make the folder of the index writable, or give pictures of the class with `--class-images DIR`",
            ));
        }
        let least = pipeline.size().pixels() as u64 * 3 / 10;
        let paths: Vec<PathBuf> = missing.iter().map(|&seed| path(seed)).collect();
        room(paths.iter().map(|path| (path.as_path(), least)))?;
        let mut meter = ui.meter("class pictures");
        let mut seeds = missing.iter();
        let plain = AttentionOptions::default();
        let progress = |p: Progress| meter.set(p.done, p.total, "passes");
        pipeline.draw_each(prompt, &options, &plain, &missing, progress, |drawing| {
            let Some(&seed) = seeds.next() else {
                return Ok(());
            };
            let drawn = Drawn {
                pipeline,
                prompt,
                options: &options,
                seed,
                concepts: &[],
                layers: None,
                excited: &[],
            };
            let metadata = drawn.metadata(&drawing.picture)?;
            drawing.picture.write_png(&path(seed), Some(&metadata))
        })?;
        meter.finish();
    }
    Ok((0..wanted as u64).map(path).collect())
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

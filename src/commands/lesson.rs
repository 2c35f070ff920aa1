//! What a subject is learned from: the user's photos and pictures of its class, read and encoded.

use std::path::{Path, PathBuf};

use cones::concept::{Examples, Lesson, Subject};
use cones::{Picture, Pipeline, file_sha256, list};

use super::class_images;
use super::ui::Ui;

/// Pictures of the class that the model draws unless told otherwise.
const CLASS_COUNT: usize = 20;
/// Their weight in the loss.
const PRIOR_WEIGHT: f64 = 1.0;

/// How many of them there are, where they are drawn.
pub(crate) fn class_count(given: Option<usize>) -> usize {
    given.unwrap_or(CLASS_COUNT)
}

/// Their weight in the loss.
pub(crate) fn prior_weight(given: Option<f64>) -> f64 {
    given.unwrap_or(PRIOR_WEIGHT)
}

/// Where the pictures of the class come from.
pub(crate) enum ClassImages<'a> {
    /// Nowhere: the class's prompt cannot change.
    Needless,
    /// The user's folder.
    Given(&'a Path),
    /// Drawn by the model, so many, and kept beside this file.
    Drawn(usize, &'a Path),
}

/// A [`Lesson`] with what a file says of it.
pub(crate) struct Prepared {
    pub(crate) lesson: Lesson,
    pub(crate) prompts: [String; 2],
    /// SHA-256 of the photos, and of the class pictures where they were given.
    pub(crate) hashes: Vec<String>,
}

/// Reads the photos and reads or draws the class pictures.
pub(crate) fn prepare(
    pipeline: &Pipeline,
    subject: &Subject,
    photos: &[PathBuf],
    class: &ClassImages,
    ui: &Ui,
) -> anyhow::Result<Prepared> {
    let tokens = pipeline.tokenizer().words(&subject.token)?;
    if tokens.len() != 1 {
        ui.warn(&format!(
            "`{}` is {} tokens to this model: an identifier of one token binds better",
            subject.token,
            tokens.len()
        ));
    }
    let prompts = [
        format!("a photo of a {}", subject.phrase()),
        format!("a photo of a {}", subject.noun),
    ];
    let mut hashes = hashes(photos)?;
    // Before class pictures are drawn, which takes long.
    let of_subject = examples(pipeline, photos, &prompts[0], ui)?;
    let class_paths = match class {
        ClassImages::Needless => None,
        ClassImages::Given(folder) => {
            let paths = list(&[folder.to_path_buf()])?.files;
            hashes.extend(self::hashes(&paths)?);
            Some(paths)
        }
        ClassImages::Drawn(count, beside) => {
            let noun = &subject.noun;
            let drawn = class_images::cached(pipeline, noun, &prompts[1], *count, beside, ui)?;
            Some(drawn)
        }
    };
    Ok(Prepared {
        lesson: Lesson {
            subject: of_subject,
            class: class_paths
                .map(|paths| examples(pipeline, &paths, &prompts[1], ui))
                .transpose()?,
        },
        prompts,
        hashes,
    })
}

/// Reads pictures at the model's size and encodes them.
pub(crate) fn examples(
    pipeline: &Pipeline,
    paths: &[PathBuf],
    prompt: &str,
    ui: &Ui,
) -> anyhow::Result<Examples> {
    let mut meter = ui.meter("encoding pictures");
    let encode = |(i, path): (usize, &PathBuf)| {
        let latents = pipeline.latents(&Picture::read(path, pipeline.size())?)?;
        meter.set(i + 1, paths.len(), "pictures")?;
        Ok(latents)
    };
    let latents = paths
        .iter()
        .enumerate()
        .map(encode)
        .collect::<cones::Result<Vec<_>>>()?;
    meter.finish();
    Ok(Examples {
        latents,
        context: pipeline.embed(&[prompt])?,
    })
}

fn hashes(paths: &[PathBuf]) -> cones::Result<Vec<String>> {
    paths.iter().map(|path| file_sha256(path)).collect()
}

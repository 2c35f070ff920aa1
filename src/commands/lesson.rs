//! What a subject is learned from: the user's photos and pictures of its class, read and encoded.

use std::path::{Path, PathBuf};

use cones::find::{DreamBoothData, PromptedLatents};
use cones::index::Subject;
use cones::prompt::{Marks, PromptSpec, article};
use cones::{Picture, Pipeline, file_sha256, list_images};

use super::class_images;
use crate::report::ui::Ui;

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

/// The prompts of a subject and of its class, as the file says them.
pub(crate) fn prompts(subject: &Subject) -> [String; 2] {
    [&subject.phrase(), &subject.noun].map(|words| format!("a photo of {} {words}", article(words)))
}

/// The SHA-256 of the photos, and of the class pictures where they were given.
pub(crate) fn hashes(
    photos: &[PathBuf],
    class: &ClassImages,
    ui: &Ui,
) -> anyhow::Result<Vec<String>> {
    let given = match class {
        ClassImages::Given(folder) => list_images(&[folder.to_path_buf()])?.files,
        ClassImages::Needless | ClassImages::Drawn(..) => Vec::new(),
    };
    let mut meter = ui.meter("looking at photos");
    let all = photos.iter().chain(&given).enumerate().map(|(i, path)| {
        meter.set(i, photos.len() + given.len(), "files")?;
        file_sha256(path)
    });
    let hashes = all.collect::<cones::Result<Vec<_>>>()?;
    meter.finish();
    Ok(hashes)
}

/// Reads the photos and reads or draws the class pictures; these last, as they take long.
pub(crate) fn prepare(
    pipeline: &Pipeline,
    subject: (&Subject, &Marks),
    photos: &[PathBuf],
    class: &ClassImages,
    ui: &Ui,
) -> anyhow::Result<DreamBoothData> {
    Ok(DreamBoothData {
        subject: of_subject(pipeline, subject, photos, ui)?,
        class: of_class(pipeline, subject, class, ui)?,
    })
}

/// Reads the photos of a subject; their prompt has the marks.
pub(crate) fn of_subject(
    pipeline: &Pipeline,
    (subject, marks): (&Subject, &Marks),
    photos: &[PathBuf],
    ui: &Ui,
) -> anyhow::Result<PromptedLatents> {
    let tokens = pipeline.tokenizer().tokenize(&subject.token)?;
    if tokens.len() != 1 {
        ui.warn(&format!(
            "`{}` is {} tokens to this model: an identifier of one token binds better",
            subject.token,
            tokens.len()
        ));
    }
    for risk in Subject::risks(&[subject]) {
        ui.warn(&risk);
    }
    let [prompt, _] = prompts(subject);
    examples(pipeline, photos, marks.prompt(prompt), ui)
}

/// Reads or draws the pictures of its class, if there are to be any; their prompt has the marks.
pub(crate) fn of_class(
    pipeline: &Pipeline,
    (subject, marks): (&Subject, &Marks),
    class: &ClassImages,
    ui: &Ui,
) -> anyhow::Result<Option<PromptedLatents>> {
    let [_, prompt] = prompts(subject);
    let paths = match class {
        ClassImages::Needless => return Ok(None),
        ClassImages::Given(folder) => list_images(&[folder.to_path_buf()])?.files,
        ClassImages::Drawn(count, beside) => {
            class_images::cached(pipeline, &subject.noun, &prompt, *count, beside, ui)?
        }
    };
    examples(pipeline, &paths, marks.prompt(prompt), ui).map(Some)
}

/// Reads pictures at the model's size and encodes them.
fn examples(
    pipeline: &Pipeline,
    paths: &[PathBuf],
    prompt: PromptSpec,
    ui: &Ui,
) -> anyhow::Result<PromptedLatents> {
    let context = pipeline.embed(&[prompt])?;
    let mut meter = ui.meter("encoding pictures");
    let latents = paths.iter().enumerate().map(|(i, path)| {
        meter.set(i, paths.len(), "pictures")?;
        pipeline.latents(&Picture::read(path, pipeline.size())?)
    });
    let latents = latents.collect::<cones::Result<Vec<_>>>()?;
    meter.finish();
    Ok(PromptedLatents { latents, context })
}

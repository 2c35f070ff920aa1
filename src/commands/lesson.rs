//! What a subject is learned from: the user's photos and pictures of its class, read and encoded.

use std::path::{Path, PathBuf};

use cones::concept::{Examples, Lesson, NeuronIndex, Provenance, Subject};
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
    let class_paths = match class {
        ClassImages::Needless => None,
        ClassImages::Given(folder) => {
            let paths = list(&[folder.to_path_buf()])?;
            hashes.extend(self::hashes(&paths)?);
            Some(paths)
        }
        ClassImages::Drawn(count, beside) => {
            let noun = &subject.noun;
            let drawn = class_images::cached(pipeline, noun, &prompts[1], *count, beside, ui)?;
            Some(drawn)
        }
    };
    for risk in Subject::risks(&[subject]) {
        ui.warn(&risk);
    }
    // What no index could say is to be known before the work.
    NeuronIndex::new(Provenance {
        model: pipeline.name().to_owned(),
        fingerprint: pipeline.fingerprint()?,
        subjects: vec![subject.clone()],
        prompts: prompts.to_vec(),
        pictures: hashes.clone(),
        ..Provenance::default()
    })?;
    Ok(Prepared {
        lesson: Lesson {
            subject: examples(pipeline, photos, &prompts[0])?,
            class: class_paths
                .map(|paths| examples(pipeline, &paths, &prompts[1]))
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
) -> anyhow::Result<Examples> {
    let latents = paths
        .iter()
        .map(|path| pipeline.latents(&Picture::read(path, pipeline.size())?))
        .collect::<cones::Result<Vec<_>>>()?;
    Ok(Examples {
        latents,
        context: pipeline.embed(&[prompt])?,
    })
}

fn hashes(paths: &[PathBuf]) -> cones::Result<Vec<String>> {
    paths.iter().map(|path| file_sha256(path)).collect()
}

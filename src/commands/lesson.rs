//! What a subject is learned from: the user's photos and pictures of its class, read and encoded.

use std::path::{Path, PathBuf};

use cones::concept::gram::CLASS_TEMPLATES;
use cones::concept::{Examples, Lesson, Subject};
use cones::{Picture, Pipeline, file_sha256, list};

use super::class_images;
use super::ui::Ui;

/// Where the pictures of the class come from.
pub(crate) enum ClassImages<'a> {
    /// The user's folder.
    Given(&'a Path),
    /// Drawn by the model and kept.
    Drawn {
        count: usize,
        /// The file that they are kept beside.
        beside: &'a Path,
        prompts: ClassPrompts,
    },
}

/// What class pictures show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClassPrompts {
    /// The noun alone, as Algorithm 1 has it.
    Noun,
    /// The noun in several scenes, which training on many steps would else bend.
    Scenes,
}

impl ClassPrompts {
    fn of(self, noun: &str) -> Vec<String> {
        let all = CLASS_TEMPLATES.map(|template| template.replace("{}", noun));
        match self {
            Self::Noun => all[..1].to_vec(),
            Self::Scenes => all.to_vec(),
        }
    }
}

/// A [`Lesson`] with what a file says of it.
pub(crate) struct Prepared {
    pub(crate) lesson: Lesson,
    /// The subject's prompt, then those of the class.
    pub(crate) prompts: Vec<String>,
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
    let own = format!("a photo of a {}", subject.phrase());
    let mut hashes = hashes(photos)?;
    let (class_paths, class_prompts) = match class {
        ClassImages::Given(folder) => {
            let paths = list(&[folder.to_path_buf()])?;
            hashes.extend(self::hashes(&paths)?);
            (paths, ClassPrompts::Noun.of(&subject.noun))
        }
        ClassImages::Drawn {
            count,
            beside,
            prompts,
        } => {
            let prompts = prompts.of(&subject.noun);
            let paths =
                class_images::cached(pipeline, &subject.noun, &prompts, *count, beside, ui)?;
            (paths, prompts)
        }
    };
    Ok(Prepared {
        lesson: Lesson {
            subject: examples(pipeline, photos, std::slice::from_ref(&own))?,
            class: examples(pipeline, &class_paths, &class_prompts)?,
        },
        prompts: std::iter::once(own).chain(class_prompts).collect(),
        hashes,
    })
}

/// Reads pictures at the model's size and encodes them; picture i is of prompt i mod their number.
fn examples(
    pipeline: &Pipeline,
    paths: &[PathBuf],
    prompts: &[String],
) -> anyhow::Result<Examples> {
    let latents = paths
        .iter()
        .map(|path| pipeline.latents(&Picture::read(path, pipeline.size())?))
        .collect::<cones::Result<Vec<_>>>()?;
    Ok(Examples {
        latents,
        contexts: prompts
            .iter()
            .map(|prompt| pipeline.embed(&[prompt]))
            .collect::<cones::Result<_>>()?,
    })
}

fn hashes(paths: &[PathBuf]) -> cones::Result<Vec<String>> {
    paths.iter().map(|path| file_sha256(path)).collect()
}

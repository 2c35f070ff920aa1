//! What a subject is learned from: the user's photos and pictures of its class, encoded.

use super::class_images::ClassImages;
use super::loss::{DreamBoothData, PromptedLatents};
use super::observer::{Event, Observer};
use super::prompts::prompts;
use crate::index::Subject;
use crate::prompt::{Marks, PromptSpec};
use crate::{Photos, Picture, Pipeline, Result};

/// Encodes photos of a subject and pictures of its class; these last, as they may have to be drawn. Both prompts get
/// the marks.
///
/// # Errors
/// If a picture cannot be read or encoded, or those of the class cannot be drawn or kept; an error of `observer`.
pub(crate) fn encode(
    pipeline: &Pipeline,
    subject: (&Subject, &Marks),
    photos: &Photos,
    class: &ClassImages,
    observer: &mut dyn Observer,
) -> Result<DreamBoothData> {
    Ok(DreamBoothData {
        instance: of_instance(pipeline, subject, photos, observer)?,
        class: of_class(pipeline, subject, class, observer)?,
    })
}

/// Encodes the photos of a subject.
pub(super) fn of_instance(
    pipeline: &Pipeline,
    (subject, marks): (&Subject, &Marks),
    photos: &Photos,
    observer: &mut dyn Observer,
) -> Result<PromptedLatents> {
    let [prompt, _] = prompts(subject);
    let pictures = photos.iter().map(|photo| photo.picture(pipeline.size));
    latents(pipeline, marks.prompt(prompt), pictures, observer)
}

/// Encodes the pictures of its class, if there are to be any, drawing those that are missing.
pub(super) fn of_class(
    pipeline: &Pipeline,
    (subject, marks): (&Subject, &Marks),
    class: &ClassImages,
    observer: &mut dyn Observer,
) -> Result<Option<PromptedLatents>> {
    let [_, prompt] = prompts(subject);
    let size = pipeline.size;
    let latents = match class {
        ClassImages::Needless => return Ok(None),
        ClassImages::Given(photos) => {
            let pictures = photos.iter().map(|photo| photo.picture(size));
            latents(pipeline, marks.prompt(prompt), pictures, observer)
        }
        ClassImages::Drawn(drawn) => {
            drawn.complete(pipeline, observer)?;
            let files = drawn.files(pipeline)?;
            let pictures = files.iter().map(|path| Picture::read(path, size));
            latents(pipeline, marks.prompt(prompt), pictures, observer)
        }
    };
    latents.map(Some)
}

fn latents(
    pipeline: &Pipeline,
    prompt: PromptSpec,
    pictures: impl ExactSizeIterator<Item = Result<Picture>>,
    observer: &mut dyn Observer,
) -> Result<PromptedLatents> {
    let context = pipeline.embed(&[prompt])?;
    let total = pictures.len();
    let latents = pictures.enumerate().map(|(done, picture)| {
        observer.event(Event::Encoding { done, total })?;
        pipeline.latents(&picture?)
    });
    Ok(PromptedLatents {
        latents: latents.collect::<Result<_>>()?,
        context,
    })
}

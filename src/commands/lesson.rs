//! What a subject is learned from: the user's photos and pictures of its class, read and encoded.

use std::path::{Path, PathBuf};

use candle_core::Tensor;
use cones::concept::{Example, Examples, Lesson, Subject};
use cones::{Picture, Pipeline, file_sha256, list};

use super::class_images;
use super::ui::Ui;

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
    Ok(Prepared {
        lesson: Lesson {
            subject: match class {
                ClassImages::Needless => zoomed(pipeline, photos, &prompts[0])?,
                _ => examples(pipeline, photos, &prompts[0])?,
            },
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
    let pictures = paths
        .iter()
        .map(|path| {
            Ok(Example::from(
                pipeline.latents(&Picture::read(path, pipeline.size())?)?,
            ))
        })
        .collect::<cones::Result<Vec<_>>>()?;
    Ok(Examples {
        pictures,
        context: pipeline.embed(&[prompt])?,
    })
}

/// How much smaller the copies of [`zoomed`] are.
const ZOOM: f64 = 0.7;

/// [`examples`], and after each picture two smaller copies of it in opposite corners of the frame, of which only the
/// picture itself counts (the augmentation of Kumari et al. 2022, section 3.2): where several subjects share a picture
/// each is small.
fn zoomed(pipeline: &Pipeline, paths: &[PathBuf], prompt: &str) -> anyhow::Result<Examples> {
    let factor = pipeline.vae().factor() as u32;
    let mut pictures = Vec::with_capacity(3 * paths.len());
    for (i, path) in paths.iter().enumerate() {
        let picture = Picture::read(path, pipeline.size())?;
        pictures.push(Example::from(pipeline.latents(&picture)?));
        let frame = (picture.width() / factor, picture.height() / factor);
        let part = |side: u32| ((f64::from(side) * ZOOM).round() as u32).max(1);
        let (width, height) = (part(frame.0), part(frame.1));
        for (right, low) in [(false, i % 2 == 0), (true, i % 2 == 1)] {
            let x = if right { frame.0 - width } else { 0 };
            let y = if low { frame.1 - height } else { 0 };
            let pixels = |side: u32| side * factor;
            let size = (pixels(width), pixels(height));
            let small = picture.zoomed_out(size, (pixels(x), pixels(y)))?;
            let seen: Vec<f32> = (0..frame.1)
                .flat_map(|row| (0..frame.0).map(move |column| (row, column)))
                .map(|(row, column)| {
                    let inside = (y..y + height).contains(&row) && (x..x + width).contains(&column);
                    f32::from(u8::from(inside))
                })
                .collect();
            let latents = pipeline.latents(&small)?;
            let shape = (1, 1, frame.1 as usize, frame.0 as usize);
            pictures.push(Example {
                seen: Some(Tensor::from_vec(seen, shape, latents.device())?),
                latents,
            });
        }
    }
    Ok(Examples {
        pictures,
        context: pipeline.embed(&[prompt])?,
    })
}

fn hashes(paths: &[PathBuf]) -> cones::Result<Vec<String>> {
    paths.iter().map(|path| file_sha256(path)).collect()
}

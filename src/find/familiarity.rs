//! Whether a model knows what it was shown: how well it predicts the noise in photos beside that in its own pictures.
//!
//! A concept is a choice among what the model can draw already. Of photos that it cannot draw neurons are found all the
//! same; that the loss stays far above what the model reaches on its own pictures tells.

use super::loss::{Batch, DreamBoothData, FIRST_SEED, PromptedLatents};
use super::observer::{Event, Observer};
use super::prompts::prompts;
use crate::index::{NeuronIndex, Subject};
use crate::pipeline::ShutOptions;
use crate::prompt::PromptSpec;
use crate::{Pipeline, Result, SampleOptions};

/// Pictures that the model draws, and the steps of each: few, as only the noise in them is looked at.
const PICTURES: u64 = 2;
const STEPS: usize = 10;
/// How often noise is drawn, each time for so many photos and own pictures, over the whole schedule.
const DRAWS: usize = 8;
const BATCH: usize = 4;

/// How many steps of sampling a picture take as long as all of that: with guidance such a step is two passes, as many
/// as the error of a photo and of an own picture.
pub const FAMILIARITY_STEPS: usize = PICTURES as usize * STEPS + DRAWS * BATCH;

/// Mean squared errors of a model's predictions, on noise that no step of `find` saw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Familiarity {
    /// Of the photos, with the subject's neurons shut.
    pub photos: f64,
    /// Of pictures of the class that the model drew.
    pub own: f64,
}

/// Draws pictures of the subject's class with nothing shut, and measures the photos beside them with its neurons shut.
/// Nothing is shut afterwards.
///
/// # Errors
/// If a prediction is not a number; an error of `observer`.
pub(super) fn familiarity(
    pipeline: &mut Pipeline,
    (subject, index): (&Subject, &NeuronIndex),
    instance: PromptedLatents,
    seed: u64,
    observer: &mut dyn Observer,
) -> Result<Familiarity> {
    let [_, prompt] = prompts(subject);
    let prompt = PromptSpec::from(prompt.as_str());
    let options = SampleOptions {
        steps: STEPS,
        ..pipeline.sample_options(&[])
    };
    let first = FIRST_SEED.wrapping_add(seed);
    let seeds: Vec<u64> = (0..PICTURES).map(|i| first.wrapping_add(i)).collect();
    let latents = pipeline.sample(prompt.clone(), &options, &seeds, |progress| {
        observer.event(Event::DrawingOwn(progress))
    })?;
    let class = PromptedLatents {
        latents,
        context: pipeline.embed(&[prompt])?,
    };
    let data = [DreamBoothData {
        instance,
        class: Some(class),
    }];
    pipeline.shut(&[index], ShutOptions::default())?;
    let measured = errors(pipeline, &data, first);
    pipeline.shut(&[], ShutOptions::default())?;
    let [photos, own] = measured?;
    Ok(Familiarity { photos, own })
}

/// The mean squared errors on the subject and on the class.
fn errors(pipeline: &Pipeline, data: &[DreamBoothData], seed: u64) -> Result<[f64; 2]> {
    let mut sums = [0.0; 2];
    for k in 0..DRAWS {
        let seed = seed.wrapping_add(k as u64);
        let batch = Batch::stratified(pipeline.schedule(), data, BATCH, 1.0, seed, k)?;
        let errors = batch.errors(pipeline.unet())?;
        for (sum, errors) in sums.iter_mut().zip(errors.chunks(BATCH)) {
            *sum += errors.iter().map(|&error| f64::from(error)).sum::<f64>();
        }
    }
    Ok(sums.map(|sum| sum / (DRAWS * BATCH) as f64))
}

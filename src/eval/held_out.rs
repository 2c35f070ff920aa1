//! The loss of `find` on noise that it has not seen.

use candle_core::Tensor;

use crate::find::loss::{Batch, FIRST_SEED, mean_squares as row_means};
use crate::find::{ClassImages, DreamBoothData, Observer, encode};
use crate::index::{NeuronIndex, Subject};
use crate::model::UNet;
use crate::pipeline::marks_of;
use crate::sampling::ScheduleConfig;
use crate::{Error, Photos, Pipeline, Result};

/// Noisy pictures, the same for every condition.
pub(crate) struct HeldOut {
    draws: Vec<Batch>,
}

/// The losses of one condition, one value for each draw.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct DenoisingLosses {
    /// Mean squared error on the subject.
    pub(crate) subject: Vec<f64>,
    /// Mean squared error on the class.
    pub(crate) class: Vec<f64>,
    /// Mean squared difference from the plain model's prediction for the class.
    pub(crate) drift: Vec<f64>,
}

impl HeldOut {
    /// `count` draws as those of `find`'s steps, of photos of one of the subjects of `index` and of pictures of its
    /// class.
    ///
    /// # Errors
    /// If a picture cannot be read or encoded, those of the class cannot be drawn or kept, or there are none; an error
    /// of `observer`.
    pub(super) fn new(
        pipeline: &Pipeline,
        (subject, index): (&Subject, &NeuronIndex),
        (photos, class): (&Photos, &ClassImages),
        (seed, count): (u64, usize),
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        // The prompts are embedded once, for all conditions.
        let marks = marks_of(&[index]);
        let data = encode(pipeline, (subject, &marks), photos, class, observer)?;
        Self::of(pipeline.schedule(), &data, count, seed)
    }

    /// The same of what is encoded.
    ///
    /// # Errors
    /// If there are no pictures of the subject or of the class.
    pub(crate) fn of(
        schedule: &ScheduleConfig,
        data: &DreamBoothData,
        count: usize,
        seed: u64,
    ) -> Result<Self> {
        data.check()?;
        let draws = (0..count)
            .map(|k| {
                let seed = FIRST_SEED.wrapping_add(seed).wrapping_add(k as u64);
                Batch::pair(schedule, data, 1.0, seed, k)
            })
            .collect::<Result<_>>()?;
        Ok(Self { draws })
    }

    /// What a model predicts for each draw, `[2, c, h, w]` each. `progress` is told how many are done and how many
    /// there are.
    ///
    /// # Errors
    /// An error of `progress`, or of the model.
    pub(crate) fn predict(
        &self,
        unet: &UNet,
        mut progress: impl FnMut(usize, usize) -> Result<()>,
    ) -> Result<Vec<Tensor>> {
        let mut predictions = Vec::with_capacity(self.draws.len());
        for draw in &self.draws {
            predictions.push(draw.predict(unet)?);
            progress(predictions.len(), self.draws.len())?;
        }
        Ok(predictions)
    }

    /// The losses of predictions, beside the plain model's.
    ///
    /// # Errors
    /// If the predictions are not of these draws.
    pub(crate) fn losses(
        &self,
        predictions: &[Tensor],
        plain: &[Tensor],
    ) -> Result<DenoisingLosses> {
        let mut losses = DenoisingLosses::default();
        for ((draw, prediction), plain) in self.draws.iter().zip(predictions).zip(plain) {
            let [subject, class] = mean_squares(&(prediction - &draw.target)?)?;
            let [_, drift] = mean_squares(&(prediction - plain)?)?;
            losses.subject.push(subject);
            losses.class.push(class);
            losses.drift.push(drift);
        }
        Ok(losses)
    }
}

/// The mean square of each of the two rows of `[2, c, h, w]`.
fn mean_squares(x: &Tensor) -> Result<[f64; 2]> {
    let means = row_means(x)?;
    match means[..] {
        [first, second] if first.is_finite() && second.is_finite() => {
            Ok([f64::from(first), f64::from(second)])
        }
        [first, second] => {
            let expected = "two finite numbers: predictions of this size are of a broken model";
            Err(Error::value(
                "held-out losses",
                expected,
                format!("{first} and {second}"),
            ))
        }
        _ => Err(Error::value("predictions", "two rows", means.len())),
    }
}

//! The loss of `find` on noise that it has not seen.

use candle_core::Tensor;

use crate::find::DreamBoothData;
use crate::find::loss::Batch;
use crate::model::UNet;
use crate::sampling::ScheduleConfig;
use crate::{Error, Result};

/// Draw k has a generator of seed `FIRST_SEED + seed + k`. `find` draws with seeds from `--seed` on, one for each step:
/// the two meet only if its seed and this one's are two thousand million apart.
pub const FIRST_SEED: u64 = 1 << 31;

/// Noisy pictures, the same for every condition.
pub struct HeldOut {
    draws: Vec<Batch>,
}

/// The losses of one condition, one value for each draw.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DenoisingLosses {
    /// Mean squared error on the subject.
    pub subject: Vec<f64>,
    /// Mean squared error on the class.
    pub class: Vec<f64>,
    /// Mean squared difference from the plain model's prediction for the class.
    pub drift: Vec<f64>,
}

impl HeldOut {
    /// `count` draws as those of `find`'s steps.
    ///
    /// # Errors
    /// If there are no pictures of the subject or of the class.
    pub fn new(
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
    pub fn predict(
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
    pub fn losses(&self, predictions: &[Tensor], plain: &[Tensor]) -> Result<DenoisingLosses> {
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
    let means = x.sqr()?.flatten_from(1)?.mean(1)?.to_vec1::<f32>()?;
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

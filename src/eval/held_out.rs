//! The loss of `find` on noise that it has not seen.

use candle_core::Tensor;

use crate::concept::Examples;
use crate::model::UNet;
use crate::sampling::{Generator, Prediction, ScheduleConfig};
use crate::{Error, Result};

/// Draw k has a generator of seed `FIRST_SEED + seed + k`. `find` draws with seeds from `--seed` on, one for each step:
/// the two meet only if its seed and this one's are two thousand million apart.
pub const FIRST_SEED: u64 = 1 << 31;

/// Noisy pictures, the same for every condition.
pub struct HeldOut {
    draws: Vec<Draw>,
    /// The subject's prompt and the class's, `[2, t, e]`.
    context: Tensor,
}

/// A subject and a class picture with noise, as in a step of `find`.
struct Draw {
    /// `[2, c, h, w]`
    noisy: Tensor,
    timesteps: [f32; 2],
    /// What the model should predict, `[2, c, h, w]`.
    target: Tensor,
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
    /// Adds noise to pictures: draw k takes subject picture k mod n and class picture k mod m; its generator gives first
    /// both timesteps, then the noise of both, as in `find`.
    ///
    /// # Errors
    /// If there are no pictures of the subject or of the class.
    pub fn new(
        schedule: &ScheduleConfig,
        examples: [&Examples; 2],
        count: usize,
        seed: u64,
    ) -> Result<Self> {
        if examples.iter().any(|e| e.latents.is_empty()) {
            let expected = "at least one of the subject and one of the class";
            return Err(Error::value("pictures", expected, "none"));
        }
        let draws = (0..count)
            .map(|k| {
                let seed = FIRST_SEED.wrapping_add(seed).wrapping_add(k as u64);
                let latents = examples.map(|e| &e.latents[k % e.latents.len()]);
                Draw::new(schedule, &Tensor::cat(&latents, 0)?, seed)
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            draws,
            context: Tensor::cat(&examples.map(|e| &e.context), 0)?,
        })
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
            predictions.push(unet.forward(&draw.noisy, &draw.timesteps, &self.context)?);
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

impl Draw {
    fn new(schedule: &ScheduleConfig, latents: &Tensor, seed: u64) -> Result<Self> {
        let mut generator = Generator::new(seed);
        let timesteps = generator.randint(0, schedule.num_train_timesteps() as i64, 2)?;
        let noise = Tensor::from_vec(
            generator.randn(latents.elem_count()),
            latents.shape(),
            latents.device(),
        )?;
        let factors = timesteps
            .iter()
            .map(|&t| schedule.signal_and_noise(t as usize))
            .collect::<Result<Vec<_>>>()?;
        let column = |which: fn(&(f32, f32)) -> f32| -> Result<Tensor> {
            let values: Vec<f32> = factors.iter().map(which).collect();
            Ok(Tensor::from_vec(values, (2, 1, 1, 1), latents.device())?)
        };
        let (signal, sigma) = (column(|f| f.0)?, column(|f| f.1)?);
        let mix = |a: &Tensor, b: &Tensor| -> Result<(Tensor, Tensor)> {
            Ok((a.broadcast_mul(&signal)?, b.broadcast_mul(&sigma)?))
        };
        let (clean, rest) = mix(latents, &noise)?;
        let target = match schedule.prediction() {
            Prediction::Epsilon => noise,
            Prediction::Velocity => {
                let (noise, clean) = mix(&noise, latents)?;
                (noise - clean)?
            }
        };
        Ok(Self {
            noisy: (clean + rest)?,
            timesteps: [timesteps[0] as f32, timesteps[1] as f32],
            target,
        })
    }
}

/// The mean square of each of the two rows of `[2, c, h, w]`.
fn mean_squares(x: &Tensor) -> Result<[f64; 2]> {
    let means = x.sqr()?.flatten_from(1)?.mean(1)?.to_vec1::<f32>()?;
    match means[..] {
        [first, second] => Ok([f64::from(first), f64::from(second)]),
        _ => Err(Error::value("predictions", "two rows", means.len())),
    }
}

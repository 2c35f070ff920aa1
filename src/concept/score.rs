//! Scores of neurons: Algorithm 1 of the Cones paper.

use std::collections::BTreeMap;
use std::time::Instant;

use candle_core::Tensor;

use super::{Site, SiteSelection};
use crate::sampling::{Generator, Prediction, ScheduleConfig};
use crate::{Error, Result, model::UNet};

/// Pictures of one prompt, ready for the loss.
#[derive(Debug, Clone)]
pub struct Examples {
    /// Latents of each picture, `[1, c, h, w]`: the posterior's mean times the scaling factor.
    pub latents: Vec<Tensor>,
    /// The prompt's embedding, `[1, t, e]`.
    pub context: Tensor,
}

/// Settings of Algorithm 1.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Steps K.
    pub steps: usize,
    /// Step size ρ of the update in mask space.
    pub rho: f64,
    /// Weight λ of the class pictures in the loss.
    pub prior_weight: f64,
    /// Which sites to score.
    pub sites: SiteSelection,
    /// Step k draws from a generator seeded with `seed + k`.
    pub seed: u64,
}

/// What one step did.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// k, from 0.
    pub step: usize,
    /// `L_con` of the step's two samples.
    pub loss: f32,
    /// Wall-clock time.
    pub seconds: f64,
}

/// The mean over the steps of θ∘∂L_con/∂θ for every neuron: Algorithm 1, with S/K as the score.
///
/// For k = 0..K−1: g = ∂L_con/∂θ; S += θ∘g; θ −= ρ·θ∘θ∘g. A large positive score says that shrinking the weight
/// lowers the loss. With the published ρ of 2e-5 an update is far below one unit in the last place of θ in f32, so
/// that in effect all steps are taken at the model's own weights.
///
/// Returns for each site its scores in row-major order of `[out, in]`. The model is given back unchanged, also
/// after an error.
///
/// # Errors
/// If there are no pictures, an error of `after_step`, or a loss that is not a number.
pub fn algorithm1(
    unet: &mut UNet,
    schedule: &ScheduleConfig,
    [subject, class]: [&Examples; 2],
    options: &Options,
    after_step: impl FnMut(Step) -> Result<()>,
) -> Result<BTreeMap<Site, Vec<f32>>> {
    for (name, examples) in [
        ("pictures of the subject", subject),
        ("pictures of the class", class),
    ] {
        if examples.latents.is_empty() {
            return Err(Error::value(name, "at least one", "none"));
        }
    }
    let original = unet.site_weights(options.sites);
    let result = run(unet, schedule, [subject, class], options, after_step);
    unet.set_site_weights(original)?;
    result
}

fn run(
    unet: &mut UNet,
    schedule: &ScheduleConfig,
    examples: [&Examples; 2],
    options: &Options,
    mut after_step: impl FnMut(Step) -> Result<()>,
) -> Result<BTreeMap<Site, Vec<f32>>> {
    let context = Tensor::cat(&examples.map(|e| &e.context), 0)?; // [2, t, e]
    let mut theta = unet.site_weights(options.sites);
    let mut sums: BTreeMap<Site, Tensor> = BTreeMap::new();
    for k in 0..options.steps {
        let start = Instant::now();
        let draw = Draw::new(schedule, examples, options.seed.wrapping_add(k as u64), k)?;
        let (prediction, saved) = unet.forward_saving(&draw.noisy, &draw.timesteps, &context)?;
        let (loss, grad) = loss(&prediction, &draw.target, options.prior_weight)?;
        if !loss.is_finite() {
            return Err(Error::value(format!("loss at step {k}"), "a number", loss));
        }
        for (site, g) in unet.backward(saved, &grad, options.sites)? {
            let Some(weight) = theta.get_mut(&site) else {
                continue;
            };
            let term = ((&*weight * &g)? / options.steps as f64)?;
            let sum = match sums.remove(&site) {
                Some(sum) => (sum + term)?,
                None => term,
            };
            sums.insert(site, sum);
            if options.rho > 0.0 {
                let update = ((&*weight * options.rho)? * &*weight)?.mul(&g)?;
                *weight = (&*weight - update)?;
            }
        }
        if options.rho > 0.0 {
            unet.set_site_weights(theta.clone())?;
        }
        after_step(Step {
            step: k,
            loss,
            seconds: start.elapsed().as_secs_f64(),
        })?;
    }
    sums.into_iter()
        .map(|(site, sum)| Ok((site, sum.flatten_all()?.to_vec1()?)))
        .collect()
}

/// The random part of a step: which pictures, at which timesteps, with which noise.
struct Draw {
    /// `[2, c, h, w]`
    noisy: Tensor,
    timesteps: [f32; 2],
    /// What the model should predict, `[2, c, h, w]`.
    target: Tensor,
}

impl Draw {
    /// Step `k`: row 0 is subject picture k mod n, row 1 class picture k mod m. The generator gives first both
    /// timesteps, then the noise.
    fn new(
        schedule: &ScheduleConfig,
        examples: [&Examples; 2],
        seed: u64,
        k: usize,
    ) -> Result<Self> {
        let latents = Tensor::cat(&examples.map(|e| &e.latents[k % e.latents.len()]), 0)?;
        let clean = latents.flatten_all()?.to_vec1::<f32>()?;
        let mut generator = Generator::new(seed);
        let timesteps = generator.randint(0, schedule.num_train_timesteps() as i64, 2)?;
        let noise = generator.randn(clean.len());
        let row = clean.len() / 2;
        let (mut noisy, mut target) = (Vec::with_capacity(2 * row), Vec::with_capacity(2 * row));
        for (i, &t) in timesteps.iter().enumerate() {
            let (signal, sigma) = schedule.signal_and_noise(t as usize)?;
            for (&z, &e) in clean[i * row..][..row].iter().zip(&noise[i * row..][..row]) {
                noisy.push(signal * z + sigma * e);
                target.push(match schedule.prediction() {
                    Prediction::Epsilon => e,
                    Prediction::Velocity => signal * e - sigma * z,
                });
            }
        }
        Ok(Self {
            noisy: Tensor::from_vec(noisy, latents.shape(), latents.device())?,
            timesteps: [timesteps[0] as f32, timesteps[1] as f32],
            target: Tensor::from_vec(target, latents.shape(), latents.device())?,
        })
    }
}

/// `L_con` = mse(row 0) + λ·mse(row 1), and ∂L_con/∂prediction.
fn loss(prediction: &Tensor, target: &Tensor, prior_weight: f64) -> Result<(f32, Tensor)> {
    let error = (prediction - target)?;
    let (_, c, h, w) = error.dims4()?;
    let weights =
        Tensor::new(&[1.0f32, prior_weight as f32], error.device())?.reshape((2, 1, 1, 1))?;
    let means = error.sqr()?.flatten_from(1)?.mean(1)?.to_vec1::<f32>()?;
    let grad = (error.broadcast_mul(&weights)? * (2.0 / (c * h * w) as f64))?;
    Ok((means[0] + prior_weight as f32 * means[1], grad))
}

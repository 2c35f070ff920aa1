//! A learned concept: a soft mask over the neurons, trained on the concept-implanting loss and rounded afterwards.
//!
//! Algorithm 1 reads one gradient, that of the mask at the untouched model, and shuts the neurons in which it is
//! largest. Shut together they overshoot: the scores are first-order. Here the mask follows its gradient instead. Each
//! neuron has a share z in [0, 1] of being shut; the model computes with θ∘(1 − z), and ∂L/∂z = −θ∘∂L/∂θ is the
//! negative score at the current mask. [`round`](super::round) then makes the shares whole.

use std::collections::BTreeMap;
use std::time::Instant;

use candle_core::Tensor;
use rayon::prelude::*;

use super::loss::Batch;
use super::{Lesson, Site, SiteSelection, Step};
use crate::Result;
use crate::model::UNet;
use crate::sampling::ScheduleConfig;

/// Settings of [`soft_mask`].
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Steps K.
    pub steps: usize,
    /// Subject pictures in a step, and class pictures.
    pub half: usize,
    /// Step size η: by how much one step moves a share whose gradient is as large as the site's are on average.
    pub rate: f64,
    /// Threshold λ, in the same unit: a neuron whose mean gradient is smaller is opened again.
    pub sparsity: f64,
    /// Weight of the class pictures in the loss.
    pub prior_weight: f64,
    /// Which sites to search.
    pub sites: SiteSelection,
    /// Step k draws from a generator seeded with `seed + k`.
    pub seed: u64,
}

/// Default of [`Options::steps`].
pub const STEPS: usize = 200;
/// Default of [`Options::half`].
pub const HALF: usize = 8;
/// Default of [`Options::rate`].
pub const RATE: f64 = 0.05;
/// Default of [`Options::sparsity`].
pub const SPARSITY: f64 = 0.3;
/// The most neurons that rounding may shut, unless told otherwise: coded, they take 2 % of the bytes of dense f32 values.
pub const DENSITY: f64 = 0.15;

/// Where no gradient reaches a site, its mean of zero is divided by this.
const SMALLEST_RMS: f64 = 1e-30;
/// Decay of the running mean of the gradients.
const MOMENTUM: f32 = 0.9;
/// Decay of the running mean square of a site's gradients.
const SCALE_DECAY: f64 = 0.99;
/// The last share of the steps, over which the step size falls to zero.
const COOLING: f64 = 0.4;

/// The mask and the state of its optimiser, for one site.
struct Mask {
    shape: (usize, usize),
    theta: Vec<f32>,
    z: Vec<f32>,
    mean: Vec<f32>,
    mean_square: f64,
}

impl Mask {
    fn new(weight: &Tensor) -> Result<Self> {
        let theta = weight.flatten_all()?.to_vec1::<f32>()?;
        Ok(Self {
            shape: weight.dims2()?,
            z: vec![0.0; theta.len()],
            mean: vec![0.0; theta.len()],
            mean_square: 0.0,
            theta,
        })
    }

    /// One proximal step: z ← clip(z − η·(m/r + λ), 0, 1), with m the running mean of ∂L/∂z = −θ∘g and r the running
    /// root mean square over the whole site, both free of their bias towards the zeros they started with.
    ///
    /// One scale for a site, and not for each neuron as Adam has it, keeps the order of the neurons: those that matter
    /// move, and the many that do not are held at zero by λ.
    fn update(&mut self, g: &[f32], k: usize, rate: f64, sparsity: f64) {
        let unbias = |decay: f64| 1.0 - decay.powi(i32::try_from(k + 1).unwrap_or(i32::MAX));
        let square: f64 = self
            .theta
            .par_iter()
            .zip(g)
            .map(|(&t, &g)| f64::from(t * g).powi(2))
            .sum();
        let now = square / g.len().max(1) as f64;
        self.mean_square = SCALE_DECAY * self.mean_square + (1.0 - SCALE_DECAY) * now;
        let rms = (self.mean_square / unbias(SCALE_DECAY)).sqrt();
        let scale = (1.0 / (unbias(f64::from(MOMENTUM)) * rms.max(SMALLEST_RMS))) as f32;
        let (rate, sparsity) = (rate as f32, sparsity as f32);
        self.z
            .par_iter_mut()
            .zip(&mut self.mean)
            .zip(&self.theta)
            .zip(g)
            .for_each(|(((z, m), &t), &g)| {
                *m = MOMENTUM * *m - (1.0 - MOMENTUM) * t * g;
                *z = (*z - rate * (*m * scale + sparsity)).clamp(0.0, 1.0);
            });
    }

    /// θ∘(1 − z)
    fn weight(&self, like: &Tensor) -> Result<Tensor> {
        let masked: Vec<f32> = self
            .theta
            .par_iter()
            .zip(&self.z)
            .map(|(&t, &z)| t * (1.0 - z))
            .collect();
        Ok(Tensor::from_vec(masked, self.shape, like.device())?)
    }
}

/// Learns the share z of every neuron in being shut: 0 is open, 1 is shut.
///
/// Returns for each site its shares in row-major order of `[out, in]`. The model is given back unchanged, also after an
/// error.
///
/// # Errors
/// If a list of pictures is empty, an error of `after_step`, or a loss that is not a number.
pub fn soft_mask(
    unet: &mut UNet,
    schedule: &ScheduleConfig,
    lesson: &Lesson,
    options: &Options,
    after_step: impl FnMut(Step) -> Result<()>,
) -> Result<BTreeMap<Site, Vec<f32>>> {
    lesson.check()?;
    let original = unet.site_weights(options.sites)?;
    let result = run(unet, schedule, lesson, options, after_step);
    unet.set_site_weights(original)?;
    result
}

fn run(
    unet: &mut UNet,
    schedule: &ScheduleConfig,
    lesson: &Lesson,
    options: &Options,
    mut after_step: impl FnMut(Step) -> Result<()>,
) -> Result<BTreeMap<Site, Vec<f32>>> {
    let mut masks = unet
        .site_weights(options.sites)?
        .into_iter()
        .map(|(site, weight)| Ok((site, Mask::new(&weight)?)))
        .collect::<Result<BTreeMap<Site, Mask>>>()?;
    for k in 0..options.steps {
        let start = Instant::now();
        let batch = Batch::stratified(
            schedule,
            std::slice::from_ref(lesson),
            options.half,
            options.prior_weight,
            options.seed.wrapping_add(k as u64),
            k,
        )?;
        let (loss, gradients) = batch.gradients(unet, options.sites, k)?;
        let rate = options.rate * cooled(k, options.steps);
        let mut weights = BTreeMap::new();
        for (site, g) in gradients {
            if let Some(mask) = masks.get_mut(&site) {
                mask.update(&g.flatten_all()?.to_vec1()?, k, rate, options.sparsity);
                weights.insert(site, mask.weight(&g)?);
            }
        }
        unet.set_site_weights(weights)?;
        after_step(Step {
            step: k,
            loss,
            seconds: start.elapsed().as_secs_f64(),
        })?;
    }
    Ok(masks.into_iter().map(|(site, m)| (site, m.z)).collect())
}

/// The share of the full step size at step k: 1, and a straight line to zero over the last [`COOLING`] of the steps.
pub(super) fn cooled(k: usize, steps: usize) -> f64 {
    ((steps - k) as f64 / (COOLING * steps as f64)).min(1.0)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn mask(theta: &[f32]) -> Mask {
        Mask::new(&Tensor::from_slice(theta, (1, theta.len()), &Device::Cpu).unwrap()).unwrap()
    }

    #[test]
    fn a_share_grows_where_shrinking_the_weight_lowers_the_loss() {
        let mut mask = mask(&[1.0, 1.0, -1.0, 0.5]);
        for k in 0..20 {
            mask.update(&[1.0, -1.0, -1.0, 0.0], k, 0.1, 0.2);
        }
        assert_eq!(mask.z, [1.0, 0.0, 1.0, 0.0]);
        let weight = mask.weight(&Tensor::zeros(1, candle_core::DType::F32, &Device::Cpu).unwrap());
        assert_eq!(
            weight.unwrap().to_vec2::<f32>().unwrap(),
            [[0.0, 1.0, 0.0, 0.5]]
        );
    }

    /// The first step by hand: rms = √((1 + 0.25)/2), z = η·(|θg|/rms − λ) where that is positive.
    #[test]
    fn one_step_is_the_equation() {
        let mut mask = mask(&[1.0, 1.0]);
        mask.update(&[1.0, 0.5], 0, 0.1, 0.7);
        let rms = (1.25f32 / 2.0).sqrt();
        assert!((mask.z[0] - 0.1 * (1.0 / rms - 0.7)).abs() < 1e-6);
        assert_eq!(mask.z[1], 0.0); // 0.5/rms is below 0.7
    }

    #[test]
    fn gradients_of_zero_change_nothing() {
        let mut mask = mask(&[1.0, 2.0]);
        mask.update(&[0.0, 0.0], 0, 0.1, 0.0);
        assert_eq!(mask.z, [0.0, 0.0]);
    }
}

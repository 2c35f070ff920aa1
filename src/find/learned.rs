//! A learned concept: a soft mask over the neurons, trained on the concept-implanting loss and rounded afterwards.
//!
//! Algorithm 1 reads one gradient, that of the mask at the untouched model, and shuts the neurons in which it is
//! largest. Shut together they overshoot: the scores are first-order. Here the mask follows its gradient instead. Each
//! neuron has a share z in [0, 1] of being shut; the model computes with θ∘(1 − z), and ∂L/∂z = −θ∘∂L/∂θ is the
//! negative score at the current mask. [`round`](super::rounding) then makes the shares whole.
//!
//! With [`Scope::Words`] a mask acts on K and V of the subject's own words only, and all gradients come from there.
//! Outputs say as much there with fewer numbers, and are what `find` learns. The rest of the prompt, and
//! prompts without the words, meet the model as it is: no picture of the class is needed to keep them so.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::adam::Adam;
use super::loss::{Batch, DreamBoothData};
use super::state::TrainerState;
use super::trainer;
use super::trainer::{Gradients, Moment, Objective};
use crate::index::{Scope, Site, SiteSelection};
use crate::model::UNet;
use crate::sampling::ScheduleConfig;
use crate::{Error, Result};

/// Settings of the soft mask.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Steps K.
    pub steps: usize,
    /// Subject pictures in a step, and class pictures.
    pub batch_size: usize,
    /// Step size η: by how much one step moves a share whose gradient is steady; at words an output, in units of the
    /// model's own.
    pub learning_rate: f64,
    /// Weight of the class pictures in the loss.
    pub prior_loss_weight: f64,
    /// Which sites to search.
    pub sites: SiteSelection,
    /// How far keys may change at the subject's words, as a share of what shutting neurons could give; values may go
    /// all the way.
    pub key_reach: f64,
    /// At which tokens of the prompt the mask acts.
    pub scope: Scope,
    /// Step k draws from a generator seeded with `seed + k`.
    pub seed: u64,
}

/// At the subject's own words.
impl Default for Options {
    fn default() -> Self {
        let settings = Settings::of(Scope::Words);
        Self {
            steps: settings.steps,
            batch_size: settings.batch_size,
            learning_rate: settings.learning_rate,
            prior_loss_weight: 1.0,
            sites: SiteSelection::Cross,
            key_reach: KEY_REACH,
            scope: Scope::Words,
            seed: 0,
        }
    }
}

/// [`Options::key_reach`], unless told otherwise: enough that a subject is sharper than by values alone, and little
/// enough that several in a picture do not take each other's place.
pub const KEY_REACH: f64 = 0.15;

/// What depends on where neurons are shut, unless told otherwise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// [`Options::steps`]
    pub steps: usize,
    /// [`Options::batch_size`]
    pub batch_size: usize,
    /// [`Options::learning_rate`]
    pub learning_rate: f64,
    /// The most neurons that rounding may shut.
    pub density: f64,
}

impl Settings {
    /// Few outputs at words take few steps, and few neurons to change; a mask over all text takes many. More than half
    /// of them no set shuts that is not larger than its complement.
    pub const fn of(scope: Scope) -> Self {
        match scope {
            Scope::Words => Self {
                steps: 125,
                batch_size: 4,
                learning_rate: 0.1,
                density: 0.05,
            },
            Scope::Prompt => Self {
                steps: 500,
                batch_size: 8,
                learning_rate: 0.05,
                density: 0.5,
            },
        }
    }
}

impl Options {
    /// Pictures in a step.
    pub(crate) fn rows(&self) -> usize {
        match self.scope {
            Scope::Prompt => 2 * self.batch_size,
            Scope::Words => self.batch_size,
        }
    }

    /// The samples of step `k`.
    pub(super) fn batch(
        &self,
        schedule: &ScheduleConfig,
        data: &DreamBoothData,
        k: usize,
    ) -> Result<Batch> {
        let seed = self.seed.wrapping_add(k as u64);
        let data = std::slice::from_ref(data);
        Batch::stratified(
            schedule,
            data,
            self.batch_size,
            self.prior_loss_weight,
            seed,
            k,
        )
    }
}

/// Arrays as large as all sites searched that are alive at once: weights, masked weights, shares, two moments,
/// gradients; and shares and moments that are on their way to a file.
pub(super) const ARRAYS: u64 = 9;

/// Decay of the running mean of squared gradients.
const BETA2: f32 = 0.99;
/// Below this share of a site's root mean square, a gradient is noise.
const EPSILON: f64 = 1e-3;
/// The last share of the steps, over which the step size falls to zero.
const COOLING: f64 = 0.4;

/// The mask and the state of its optimiser, for one site.
struct Mask {
    shape: (usize, usize),
    device: Device,
    theta: Vec<f32>,
    z: Vec<f32>,
    adam: Adam,
}

impl Mask {
    fn new(weight: &Tensor) -> Result<Self> {
        let theta = weight.flatten_all()?.to_vec1::<f32>()?;
        Ok(Self {
            shape: weight.dims2()?,
            device: weight.device().clone(),
            z: vec![0.0; theta.len()],
            adam: Adam::new(theta.len(), BETA2),
            theta,
        })
    }

    /// One projected step: z ← clip(z − η·d, 0, 1), with d Adam's direction for ∂L/∂z = −θ∘g.
    fn update(&mut self, g: &[f32], rate: f64) {
        let (theta, rate) = (&self.theta, rate as f32);
        self.adam.step(
            &mut self.z,
            |i| -theta[i] * g[i],
            EPSILON,
            |z, direction| (z - rate * direction).clamp(0.0, 1.0),
        );
    }

    /// θ∘(1 − z)
    fn weight(&self) -> Result<Tensor> {
        let masked: Vec<f32> = self
            .theta
            .par_iter()
            .zip(&self.z)
            .map(|(&t, &z)| t * (1.0 - z))
            .collect();
        Ok(Tensor::from_vec(masked, self.shape, &self.device)?)
    }
}

/// The masks of all sites, learned step by step.
struct Masking<'a> {
    schedule: &'a ScheduleConfig,
    data: &'a DreamBoothData,
    options: &'a Options,
    masks: BTreeMap<Site, Mask>,
}

impl Objective for Masking<'_> {
    fn steps(&self) -> usize {
        self.options.steps
    }

    fn searched(&self) -> (SiteSelection, Scope) {
        (self.options.sites, self.options.scope)
    }

    fn batch(&mut self, k: usize, _: usize) -> Result<Batch> {
        self.options.batch(self.schedule, self.data, k)
    }

    fn absorb(&mut self, k: usize, gradients: Vec<Gradients>) -> Result<()> {
        let rate = self.options.learning_rate * cooled(k, self.options.steps);
        for (site, g) in gradients.into_iter().take(1).flatten() {
            if let Some(mask) = self.masks.get_mut(&site) {
                mask.update(&g.flatten_all()?.to_vec1()?, rate);
            }
        }
        Ok(())
    }

    fn put(&self, unet: &mut UNet) -> Result<()> {
        let weight = |(site, mask): (&Site, &Mask)| Ok((site.clone(), mask.weight()?));
        let weights = self.masks.iter().map(weight).collect::<Result<_>>()?;
        unet.set_weights_of(self.options.scope, weights)
    }

    fn save(&self, state: &mut TrainerState) -> Result<()> {
        for (site, mask) in &self.masks {
            state.keep(format!("mask.{site}"), mask.z.clone());
            mask.adam.save(site.as_str(), state);
        }
        Ok(())
    }

    fn load(&mut self, state: &TrainerState) -> Result<()> {
        for (site, mask) in &mut self.masks {
            let z = state.array_of(&format!("mask.{site}"), mask.z.len())?;
            mask.z.copy_from_slice(z);
            mask.adam.load(site.as_str(), state)?;
        }
        Ok(())
    }
}

/// Learns the share z of every neuron in being shut: 0 is open, 1 is shut.
///
/// Returns for each site its shares in row-major order of `[out, in]`. The model is given back unchanged, also after an
/// error; it must have nothing shut at words. With [`Scope::Words`] the data's instance prompt tells which they are.
/// It begins where `from` is, if that is given.
///
/// # Errors
/// If a list of pictures is empty, the prompt has no words of a subject where the mask acts at these, `from` is of
/// another run, an error of `after_step`, or a loss that is not a number.
pub(crate) fn soft_mask(
    unet: &mut UNet,
    schedule: &ScheduleConfig,
    data: &DreamBoothData,
    options: &Options,
    from: Option<&TrainerState>,
    after_step: impl FnMut(&Moment) -> Result<()>,
) -> Result<BTreeMap<Site, Vec<f32>>> {
    data.check()?;
    if options.scope == Scope::Words && data.instance.context.words().len() != 1 {
        return Err(Error::value(
            "prompt",
            "one whose words of one subject are marked",
            format!("{} subjects", data.instance.context.words().len()),
        ));
    }
    let masks = unet
        .site_tensors(options.sites)?
        .into_iter()
        .map(|(site, weight)| Ok((site, Mask::new(&weight)?)))
        .collect::<Result<_>>()?;
    let mut masking = Masking {
        schedule,
        data,
        options,
        masks,
    };
    unet.restoring(|unet| trainer::run(unet, &mut masking, from, after_step))?;
    let masks = masking.masks.into_iter().map(|(site, mask)| {
        unet.check_finite(|| format!("learned mask of `{site}`"), &mask.z)?;
        Ok((site, mask.z))
    });
    masks.collect()
}

/// The share of the full step size at step k: 1, and a straight line to zero over the last [`COOLING`] of the steps.
pub(super) fn cooled(k: usize, steps: usize) -> f64 {
    ((steps - k) as f64 / (COOLING * steps as f64)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(theta: &[f32]) -> Mask {
        Mask::new(&Tensor::from_slice(theta, (1, theta.len()), &Device::Cpu).unwrap()).unwrap()
    }

    #[test]
    fn a_share_grows_where_shrinking_the_weight_lowers_the_loss() {
        let mut mask = mask(&[1.0, 1.0, -1.0, 0.5]);
        for _ in 0..20 {
            mask.update(&[1.0, -1.0, -1.0, 0.0], 0.1);
        }
        assert_eq!(mask.z, [1.0, 0.0, 1.0, 0.0]);
        assert_eq!(
            mask.weight().unwrap().to_vec2::<f32>().unwrap(),
            [[0.0, 1.0, 0.0, 0.5]]
        );
    }
}

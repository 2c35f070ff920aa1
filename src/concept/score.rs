//! Scores of neurons: Algorithm 1 of the Cones paper.

use std::collections::BTreeMap;
use std::time::Instant;

use candle_core::Tensor;

use super::loss::Batch;
use super::select::{Selection, Stability, stability};
use super::{Lesson, Scope, Site, SiteSelection, Step};
use crate::sampling::ScheduleConfig;
use crate::{Result, model::UNet};

/// Settings of Algorithm 1.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Steps K, or the most there may be.
    pub steps: usize,
    /// Pictures of the subject in a step, and of the class, with timesteps from equal parts of the schedule; `None` for one
    /// of each with independent timesteps, as published.
    pub half: Option<usize>,
    /// Step size ρ of the update in mask space.
    pub rho: f64,
    /// Weight λ of the class pictures in the loss.
    pub prior_weight: f64,
    /// Which sites to score.
    pub sites: SiteSelection,
    /// At which tokens of the prompt the neurons are to be shut: at which they are scored.
    pub scope: Scope,
    /// Step k draws from a generator seeded with `seed + k`.
    pub seed: u64,
    /// The choice of neurons whose stability is watched.
    pub selection: Selection,
    /// Stop as soon as the two halves of the steps share this part of their choices.
    pub until_stable: Option<f64>,
}

/// What [`algorithm1`] found.
#[derive(Debug, Clone)]
pub struct Scores {
    /// For each site the score of every neuron, in row-major order of `[out, in]`.
    pub scores: BTreeMap<Site, Vec<f32>>,
    /// How far the neurons chosen from even steps are those chosen from odd ones; there is none after a single step.
    pub stability: Option<Stability>,
}

/// Steps between two looks at the stability.
const LOOK_EVERY: usize = 20;

/// The mean over the steps of θ∘∂L_con/∂θ for every neuron: Algorithm 1, with S/K as the score.
///
/// For k = 0..K−1: g = ∂L_con/∂θ; S += θ∘g; θ −= ρ·θ∘θ∘g. A large positive score says that shrinking the weight
/// lowers the loss. With the published ρ of 2e-5 an update is far below one unit in the last place of θ in f32, so
/// that in effect all steps are taken at the model's own weights.
///
/// The model is given back unchanged, also after an error.
///
/// # Errors
/// If a list of pictures is empty, an error of `after_step`, or a loss that is not a number.
pub fn algorithm1(
    unet: &mut UNet,
    schedule: &ScheduleConfig,
    lesson: &Lesson,
    options: &Options,
    after_step: impl FnMut(Step) -> Result<()>,
) -> Result<Scores> {
    lesson.check()?;
    unet.restoring(|unet| run(unet, schedule, lesson, options, after_step))
}

fn run(
    unet: &mut UNet,
    schedule: &ScheduleConfig,
    lesson: &Lesson,
    options: &Options,
    mut after_step: impl FnMut(Step) -> Result<()>,
) -> Result<Scores> {
    let mut theta = unet.site_tensors(options.sites)?;
    // S of the even and of the odd steps: their sum is the paper's.
    let mut halves = [Sums::default(), Sums::default()];
    let mut taken = 0;
    for k in 0..options.steps {
        let start = Instant::now();
        let seed = options.seed.wrapping_add(k as u64);
        let batch = match options.half {
            None => Batch::pair(schedule, lesson, options.prior_weight, seed, k)?,
            Some(half) => {
                let lessons = std::slice::from_ref(lesson);
                Batch::stratified(schedule, lessons, half, options.prior_weight, seed, k)?
            }
        };
        let (loss, gradients) = batch.gradients(unet, options.sites, options.scope, k)?;
        for (site, g) in gradients {
            let Some(weight) = theta.get_mut(&site) else {
                continue;
            };
            halves[k % 2].add(&site, (&*weight * &g)?)?;
            if options.rho > 0.0 {
                let update = ((&*weight * options.rho)? * &*weight)?.mul(&g)?;
                *weight = (&*weight - update)?;
            }
        }
        if options.rho > 0.0 {
            unet.set_weights_of(options.scope, theta.clone())?;
        }
        taken = k + 1;
        after_step(Step {
            step: k,
            loss,
            seconds: start.elapsed().as_secs_f64(),
        })?;
        if let Some(enough) = options.until_stable
            && taken.is_multiple_of(LOOK_EVERY)
            && stability(
                &halves[0].means(taken / 2)?,
                &halves[1].means(taken / 2)?,
                options.selection,
            )?
            .shared
                >= enough
        {
            break;
        }
    }
    let [even, odd] = halves;
    let stability = match taken {
        0 | 1 => None,
        _ => Some(stability(
            &even.means(taken.div_ceil(2))?,
            &odd.means(taken / 2)?,
            options.selection,
        )?),
    };
    Ok(Scores {
        scores: even.plus(odd)?.means(taken)?,
        stability,
    })
}

/// Sums of θ∘g over steps, by site.
#[derive(Default)]
struct Sums(BTreeMap<Site, Tensor>);

impl Sums {
    fn add(&mut self, site: &Site, term: Tensor) -> Result<()> {
        let sum = match self.0.remove(site) {
            Some(sum) => (sum + term)?,
            None => term,
        };
        self.0.insert(site.clone(), sum);
        Ok(())
    }

    fn plus(mut self, other: Self) -> Result<Self> {
        for (site, term) in other.0 {
            self.add(&site, term)?;
        }
        Ok(self)
    }

    fn means(&self, steps: usize) -> Result<BTreeMap<Site, Vec<f32>>> {
        self.0
            .iter()
            .map(|(site, sum)| {
                let mean = (sum / steps.max(1) as f64)?;
                Ok((site.clone(), mean.flatten_all()?.to_vec1()?))
            })
            .collect()
    }
}

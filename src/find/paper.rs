//! Scores of neurons: Algorithm 1 of the Cones paper.

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::Tensor;

use super::importance_sampler::Sampler;
use super::loss::{Batch, DreamBoothData};
use super::selection::{Selection, Stability, stability};
use super::shard::{Shard, blocks, changes, reaches, steps_of_block};
use super::state::TrainerState;
use super::sums::{BlockSums, Half, Kept, scores, update};
use super::trainer;
use super::trainer::{Gradients, Moment, Objective};
use crate::index::{Scope, Site, SiteSelection};
use crate::model::UNet;
use crate::nn::Weight;
use crate::sampling::{Generator, ScheduleConfig};
use crate::{Error, Result};

/// How the samples of a step are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchSampling {
    /// One picture of the subject and one of the class with independent timesteps, as published.
    Pairs,
    /// So many pictures of each, with timesteps from equal parts of the schedule.
    Stratified(usize),
    /// Five pictures, each of the kind and at the timestep where a gradient tells most: in proportion to their sizes so
    /// far, as importance sampling does it. All are taken at the model's own weights.
    Importance,
}

/// Settings of Algorithm 1.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Steps K, or the most there may be.
    pub steps: usize,
    /// How the samples of a step are drawn.
    pub batch_sampling: BatchSampling,
    /// Step size ρ of the update in mask space; 0 with [`BatchSampling::Importance`].
    pub rho: f64,
    /// Weight λ of the class pictures in the loss.
    pub prior_loss_weight: f64,
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
    /// The part of the steps to take, where others take the rest: see [`find_part`](super::find_part).
    pub shard: Option<Shard>,
}

/// As published.
impl Default for Options {
    fn default() -> Self {
        Self {
            steps: STEPS,
            batch_sampling: BatchSampling::Pairs,
            rho: RHO,
            prior_loss_weight: 1.0,
            sites: SiteSelection::Cross,
            scope: Scope::Prompt,
            seed: 0,
            selection: Selection::Density(DENSITY),
            until_stable: None,
            shard: None,
        }
    }
}

/// What `algorithm1` found.
#[derive(Debug, Clone)]
pub struct Scores {
    /// For each site the score of every neuron, in row-major order of `[out, in]`.
    pub scores: BTreeMap<Site, Vec<f32>>,
    /// How far the neurons chosen from even steps are those chosen from odd ones; there is none after a single step.
    pub stability: Option<Stability>,
}

impl Options {
    /// The steps that are taken here.
    pub(crate) fn range(&self) -> Range<usize> {
        self.shard
            .map_or(0..self.steps, |shard| shard.steps(self.steps))
    }

    /// How many steps are summed before they go to the sum of all: where one can stop at any step, or be split at none,
    /// a single one.
    fn block(&self) -> usize {
        match self.until_stable.is_some() || self.batch_sampling == BatchSampling::Importance {
            true => 1,
            false => steps_of_block(self.steps),
        }
    }

    /// [`BatchSampling::arrays`], with those of a part.
    pub(crate) fn arrays(&self) -> u64 {
        let apart = self
            .shard
            .map_or(0, |shard| blocks(self.steps, shard).len());
        self.batch_sampling.arrays() + apart as u64
    }
}

impl BatchSampling {
    /// Arrays as large as all sites searched that are alive at once: weights, sums, gradients and scores; and sums, and
    /// weights that have moved, that are on their way to a file.
    fn arrays(self) -> u64 {
        match self {
            Self::Pairs | Self::Stratified(_) => 8,
            Self::Importance => 11,
        }
    }

    /// Pictures in a step.
    pub(crate) fn rows(self) -> usize {
        match self {
            Self::Pairs => 2,
            Self::Stratified(batch_size) => 2 * batch_size,
            Self::Importance => 1, // one after the other
        }
    }
}

/// Pictures in a step of [`BatchSampling::Importance`].
const PICTURES: usize = 5;
/// As many times fewer steps does [`BatchSampling::Importance`] want.
pub const ACCELERATION: usize = 5;

/// Steps K of the paper.
pub const STEPS: usize = 1000;
/// Step size ρ of the paper.
pub const RHO: f64 = 2e-5;
/// The share of all neurons to shut, unless told otherwise.
pub const DENSITY: f64 = 0.03;

/// Steps between two looks at the stability.
const LOOK_EVERY: usize = 20;

/// Sums of scores, added up step by step.
struct Scoring<'a> {
    schedule: &'a ScheduleConfig,
    data: &'a DreamBoothData,
    options: &'a Options,
    theta: BTreeMap<Site, Tensor>,
    /// The model's own.
    own: BTreeMap<Site, Weight>,
    /// S: over all steps, the paper's.
    sums: BlockSums,
    /// With [`BatchSampling::Importance`].
    sampler: Option<Sampler<'a>>,
}

impl Objective for Scoring<'_> {
    fn steps(&self) -> usize {
        self.options.range().len()
    }

    fn searched(&self) -> (SiteSelection, Scope) {
        (self.options.sites, self.options.scope)
    }

    /// A part begins where a whole run would be.
    fn begin(&self, unet: &mut UNet) -> Result<()> {
        match self.options.range().start {
            0 => Ok(()),
            _ => self.put(unet),
        }
    }

    fn batches(&self) -> usize {
        self.sampler.as_ref().map_or(1, |_| PICTURES)
    }

    fn batch(&mut self, k: usize, i: usize) -> Result<Batch> {
        let k = self.options.range().start + k;
        let seed = self.options.seed.wrapping_add(k as u64);
        let (schedule, weight) = (self.schedule, self.options.prior_loss_weight);
        if let Some(sampler) = &mut self.sampler {
            if i == 0 {
                sampler.generator = Generator::new(seed);
            }
            return sampler.batch(schedule);
        }
        match self.options.batch_sampling {
            BatchSampling::Stratified(batch_size) => {
                let data = std::slice::from_ref(self.data);
                Batch::stratified(schedule, data, batch_size, weight, seed, k)
            }
            BatchSampling::Pairs | BatchSampling::Importance => {
                Batch::pair(schedule, self.data, weight, seed, k)
            }
        }
    }

    fn absorb(&mut self, k: usize, gradients: Vec<Gradients>) -> Result<()> {
        let gradients = gradients.into_iter().next().unwrap_or_default();
        let Range { start, end } = self.options.range();
        let step = (start + k, end);
        let scores = scores(&self.theta, &gradients)?;
        if let Some(sampler) = &mut self.sampler {
            let (kind, times) = sampler.observe(&scores)?;
            return self.sums.add(step, kind, scores, times);
        }
        self.sums.add(step, 0, scores, 1.0)?;
        let before = self.options.shard.map(|_| self.theta.clone());
        update(&mut self.theta, &gradients, self.options.rho)?;
        match before {
            Some(before) if changes(&before, &self.theta)? => {
                Err(reaches(self.options.rho, start + k))
            }
            _ => Ok(()),
        }
    }

    fn loss(&self, sum: f32) -> f32 {
        match &self.sampler {
            Some(sampler) => sum * sampler.kinds.len() as f32 / PICTURES as f32,
            None => sum,
        }
    }

    fn put(&self, unet: &mut UNet) -> Result<()> {
        match self.options.rho > 0.0 {
            true => unet.set_weights_of(self.options.scope, self.theta.clone()),
            false => Ok(()),
        }
    }

    fn is_settled(&self, taken: usize) -> Result<bool> {
        let Some(enough) = self.options.until_stable else {
            return Ok(false);
        };
        if !taken.is_multiple_of(LOOK_EVERY) {
            return Ok(false);
        }
        let Some([even, odd]) = self.sums.halves() else {
            return Ok(false);
        };
        let found = stability(&even.means()?, &odd.means()?, self.options.selection)?;
        Ok(found.shared >= enough)
    }

    fn save(&self, state: &mut TrainerState) -> Result<()> {
        state.keep_numbers("range", self.ends());
        self.sums.save(state)?;
        if let Some(sampler) = &self.sampler {
            sampler.save(state);
        }
        // Of the model itself nothing is kept but what has moved, which the published ρ does to no weight of f32.
        for (site, theta) in self.theta.iter().filter(|_| self.options.rho > 0.0) {
            let theta: Vec<f32> = theta.flatten_all()?.to_vec1()?;
            let own: Vec<f32> = self.own[site].tensor()?.flatten_all()?.to_vec1()?;
            let moved = |(a, b): (&f32, &f32)| a.to_bits() != b.to_bits();
            if theta.iter().zip(&own).any(moved) {
                state.keep(format!("theta.{site}"), theta);
            }
        }
        Ok(())
    }

    fn load(&mut self, state: &TrainerState) -> Result<()> {
        if state.numbers_of("range", 2)? != self.ends() {
            return Err(Error::value(
                "state of a run",
                "one of these steps",
                "one of others",
            ));
        }
        self.sums.load(&self.theta, state)?;
        if let Some(sampler) = &mut self.sampler {
            sampler.load(state)?;
        }
        if self.options.rho > 0.0 {
            for (site, theta) in &mut self.theta {
                let name = format!("theta.{site}");
                if state.array(&name).is_none() {
                    continue; // where it was
                }
                let kept = state.array_of(&name, theta.elem_count())?;
                *theta = Tensor::from_slice(kept, theta.shape(), theta.device())?;
            }
        }
        Ok(())
    }
}

impl Scoring<'_> {
    /// The first step and the one behind the last.
    fn ends(&self) -> Vec<f64> {
        let Range { start, end } = self.options.range();
        vec![start as f64, end as f64]
    }
}

/// The mean over the steps of θ∘∂L_con/∂θ for every neuron: Algorithm 1, with S/K as the score.
///
/// For k = 0..K−1: g = ∂L_con/∂θ; S += θ∘g; θ −= ρ·θ∘θ∘g. A large positive score says that shrinking the weight
/// lowers the loss. With the published ρ of 2e-5 an update is below one unit in the last place of nearly every θ in
/// f32: a score of 1.5e-3 in one step reaches it, as happens in small models. So in effect all steps are taken at the
/// model's own weights.
///
/// The model is given back unchanged, also after an error. It begins where `from` is, if that is given.
///
/// # Errors
/// If a list of pictures is empty, ρ is not 0 where it must be, `from` is of another run, an error of `after_step`, or
/// a loss that is not a number.
pub(crate) fn algorithm1(
    unet: &mut UNet,
    schedule: &ScheduleConfig,
    data: &DreamBoothData,
    options: &Options,
    from: Option<&TrainerState>,
    after_step: impl FnMut(&Moment) -> Result<()>,
) -> Result<Scores> {
    match sums(unet, schedule, data, options, from, after_step)? {
        Kept::Halves(halves) => {
            for half in &halves {
                check_finite(unet, &half.means()?)?;
            }
            let scores = means(halves, options.selection)?;
            check_finite(unet, &scores.scores)?;
            Ok(scores)
        }
        Kept::Apart(_) => Err(Error::value("steps", "all of them", "a part")),
    }
}

/// The sums over the blocks of a part of the steps, in order.
pub(super) fn algorithm1_part(
    unet: &mut UNet,
    schedule: &ScheduleConfig,
    data: &DreamBoothData,
    options: &Options,
    from: Option<&TrainerState>,
    after_step: impl FnMut(&Moment) -> Result<()>,
) -> Result<Vec<BTreeMap<Site, Vec<f32>>>> {
    let Kept::Apart(blocks) = sums(unet, schedule, data, options, from, after_step)? else {
        return Err(Error::value("steps", "a part", "all of them"));
    };
    let values = blocks.iter().map(|block| {
        let values = block.values()?;
        check_finite(unet, &values)?;
        Ok(values)
    });
    values.collect()
}

/// The scores from the sums over even and over odd blocks.
pub(super) fn means([even, odd]: [Half; 2], selection: Selection) -> Result<Scores> {
    let stability = match odd.is_empty() {
        true => None, // after a single block, or none
        false => Some(stability(&even.means()?, &odd.means()?, selection)?),
    };
    let scores = even.plus(odd)?.means()?;
    Ok(Scores { scores, stability })
}

fn check_finite(unet: &UNet, scores: &BTreeMap<Site, Vec<f32>>) -> Result<()> {
    let mut all = scores.iter();
    all.try_for_each(|(site, scores)| unet.check_finite(|| format!("scores of `{site}`"), scores))
}

fn sums(
    unet: &mut UNet,
    schedule: &ScheduleConfig,
    data: &DreamBoothData,
    options: &Options,
    from: Option<&TrainerState>,
    after_step: impl FnMut(&Moment) -> Result<()>,
) -> Result<Kept> {
    data.check()?;
    let by_importance = options.batch_sampling == BatchSampling::Importance;
    if by_importance && options.rho > 0.0 {
        let expected = "0: importance sampling is at the model's own weights";
        return Err(Error::value("rho", expected, options.rho));
    }
    let mut scoring = Scoring {
        schedule,
        data,
        options,
        theta: unet.site_tensors(options.sites)?,
        sums: BlockSums::new(options.block(), options.shard.is_some()),
        own: unet.site_weights(options.sites),
        sampler: match by_importance {
            true => Some(Sampler::new(
                schedule,
                data,
                options.prior_loss_weight,
                options.seed,
            )?),
            false => None,
        },
    };
    unet.restoring(|unet| trainer::run(unet, &mut scoring, from, after_step))?;
    Ok(scoring.sums.into_kept())
}

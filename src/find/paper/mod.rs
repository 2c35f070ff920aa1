//! Scores of neurons: Algorithm 1 of the Cones paper.

mod scoring;

use std::collections::BTreeMap;
use std::ops::Range;

use self::scoring::Scoring;
use super::loss::DreamBoothData;
use super::selection::{Selection, Stability, stability};
use super::shard::{Shard, blocks, steps_of_block};
use super::state::TrainerState;
use super::sums::{Half, Kept};
use super::trainer;
use super::trainer::Moment;
use crate::index::{Scope, Site, SiteSelection};
use crate::model::UNet;
use crate::sampling::ScheduleConfig;
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

/// As many times fewer steps does [`BatchSampling::Importance`] want.
pub const ACCELERATION: usize = 5;

/// Steps K of the paper.
pub const STEPS: usize = 1000;
/// Step size ρ of the paper.
pub const RHO: f64 = 2e-5;
/// The share of all neurons to shut, unless told otherwise.
pub const DENSITY: f64 = 0.03;

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
    let mut scoring = Scoring::new(unet, schedule, data, options)?;
    unet.restoring(|unet| trainer::run(unet, &mut scoring, from, after_step))?;
    Ok(scoring.sums.into_kept())
}

//! Scores of neurons: Algorithm 1 of the Cones paper.

use std::collections::BTreeMap;
use std::time::Instant;

use candle_core::Tensor;

use super::importance::Importance;
use super::loss::Batch;
use super::loss::{DreamBoothData, PromptedLatents, Step};
use super::selection::{Selection, Stability, stability};
use crate::index::{Scope, Site, SiteSelection};
use crate::model::UNet;
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
        }
    }
}

/// What [`algorithm1`] found.
#[derive(Debug, Clone)]
pub struct Scores {
    /// For each site the score of every neuron, in row-major order of `[out, in]`.
    pub scores: BTreeMap<Site, Vec<f32>>,
    /// How far the neurons chosen from even steps are those chosen from odd ones; there is none after a single step.
    pub stability: Option<Stability>,
}

impl BatchSampling {
    /// Arrays as large as all sites searched that are alive at once: weights, sums, gradients and scores.
    pub fn arrays(self) -> u64 {
        match self {
            Self::Pairs | Self::Stratified(_) => 5,
            Self::Importance => 7,
        }
    }

    /// Pictures in a step.
    pub fn rows(self) -> usize {
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

/// The mean over the steps of θ∘∂L_con/∂θ for every neuron: Algorithm 1, with S/K as the score.
///
/// For k = 0..K−1: g = ∂L_con/∂θ; S += θ∘g; θ −= ρ·θ∘θ∘g. A large positive score says that shrinking the weight
/// lowers the loss. With the published ρ of 2e-5 an update is far below one unit in the last place of θ in f32, so
/// that in effect all steps are taken at the model's own weights.
///
/// The model is given back unchanged, also after an error.
///
/// # Errors
/// If a list of pictures is empty, ρ is not 0 where it must be, an error of `after_step`, or a loss that is not a
/// number.
pub fn algorithm1(
    unet: &mut UNet,
    schedule: &ScheduleConfig,
    data: &DreamBoothData,
    options: &Options,
    after_step: impl FnMut(Step) -> Result<()>,
) -> Result<Scores> {
    data.check()?;
    if options.batch_sampling == BatchSampling::Importance && options.rho > 0.0 {
        let expected = "0: importance sampling is at the model's own weights";
        return Err(Error::value("rho", expected, options.rho));
    }
    unet.restoring(|unet| run(unet, schedule, data, options, after_step))
}

fn run(
    unet: &mut UNet,
    schedule: &ScheduleConfig,
    data: &DreamBoothData,
    options: &Options,
    mut after_step: impl FnMut(Step) -> Result<()>,
) -> Result<Scores> {
    let mut theta = unet.site_tensors(options.sites)?;
    // S of the even and of the odd steps: their sum is the paper's.
    let mut halves = [Half::default(), Half::default()];
    let mut sampler = match options.batch_sampling {
        BatchSampling::Importance => Some(Sampler::new(schedule, data, options)?),
        BatchSampling::Pairs | BatchSampling::Stratified(_) => None,
    };
    let mut taken = 0;
    for k in 0..options.steps {
        let start = Instant::now();
        let half = &mut halves[k % 2];
        let loss = match &mut sampler {
            Some(sampler) => sampler.step(unet, &theta, k, half)?,
            None => {
                let batch = batch(schedule, data, options, k)?;
                let (loss, gradients) = batch.gradients(unet, options.sites, options.scope, k)?;
                half.add(0, scores(&theta, &gradients)?, 1.0)?;
                update(&mut theta, &gradients, options.rho)?;
                loss
            }
        };
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
            && stability(&halves[0].means()?, &halves[1].means()?, options.selection)?.shared
                >= enough
        {
            break;
        }
    }
    let [even, odd] = halves;
    let finite = |scores: BTreeMap<Site, Vec<f32>>| {
        for (site, scores) in &scores {
            unet.check_finite(|| format!("scores of `{site}`"), scores)?;
        }
        Ok::<_, Error>(scores)
    };
    let stability = match taken {
        0 | 1 => None,
        _ => {
            let halves = [finite(even.means()?)?, finite(odd.means()?)?];
            Some(stability(&halves[0], &halves[1], options.selection)?)
        }
    };
    Ok(Scores {
        scores: finite(even.plus(odd)?.means()?)?,
        stability,
    })
}

/// The samples of step `k` where they do not depend on the steps before.
fn batch(
    schedule: &ScheduleConfig,
    data: &DreamBoothData,
    options: &Options,
    k: usize,
) -> Result<Batch> {
    let (seed, weight) = (
        options.seed.wrapping_add(k as u64),
        options.prior_loss_weight,
    );
    match options.batch_sampling {
        BatchSampling::Stratified(batch_size) => Batch::stratified(
            schedule,
            std::slice::from_ref(data),
            batch_size,
            weight,
            seed,
            k,
        ),
        BatchSampling::Pairs | BatchSampling::Importance => {
            Batch::pair(schedule, data, weight, seed, k)
        }
    }
}

/// θ∘g.
fn scores(
    theta: &BTreeMap<Site, Tensor>,
    gradients: &BTreeMap<Site, Tensor>,
) -> Result<Vec<(Site, Tensor)>> {
    let score = |(site, g): (&Site, &Tensor)| Ok((site.clone(), (&theta[site] * g)?));
    gradients.iter().map(score).collect()
}

/// θ −= ρ·θ∘θ∘g.
fn update(
    theta: &mut BTreeMap<Site, Tensor>,
    gradients: &BTreeMap<Site, Tensor>,
    rho: f64,
) -> Result<()> {
    for (site, weight) in theta.iter_mut().filter(|_| rho > 0.0) {
        if let Some(g) = gradients.get(site) {
            let update = ((&*weight * rho)? * &*weight)?.mul(g)?;
            *weight = (&*weight - update)?;
        }
    }
    Ok(())
}

/// Draws the samples of [`BatchSampling::Importance`]: of the subject and of the class, whichever is behind what the
/// sizes of its gradients ask for.
struct Sampler<'a> {
    schedule: &'a ScheduleConfig,
    options: &'a Options,
    /// Subject and class, with their weights in the loss.
    kinds: [(&'a PromptedLatents, f64); 2],
    /// The numbers of their pictures.
    pictures: [Vec<Vec<f32>>; 2],
    importance: [Importance; 2],
}

impl<'a> Sampler<'a> {
    fn new(
        schedule: &'a ScheduleConfig,
        data: &'a DreamBoothData,
        options: &'a Options,
    ) -> Result<Self> {
        let timesteps = schedule.num_train_timesteps();
        let mut generator = Generator::new(options.seed);
        let places = generator.randint(0, i64::from(u32::MAX), 2)?;
        let of = |place: i64| Importance::new(timesteps, place as f64 / f64::from(u32::MAX));
        let (subject, class) = (&data.instance, data.class()?);
        Ok(Self {
            schedule,
            options,
            kinds: [(subject, 1.0), (class, options.prior_loss_weight)],
            pictures: [subject.values()?, class.values()?],
            importance: [of(places[0]), of(places[1])],
        })
    }

    /// The kind to look at next.
    fn kind(&self) -> usize {
        let [subject, class] = &self.importance;
        let need = match (subject.mean(), class.mean()) {
            (Some(subject), Some(class)) => [subject, class],
            _ => [1.0, 1.0],
        };
        let behind = |kind: usize| need[kind] / (self.importance[kind].count() as f64 + 0.5);
        usize::from(behind(1) > behind(0))
    }

    /// Takes step `k`, [`PICTURES`] samples, into `half`: their losses' mean times the number of kinds.
    ///
    /// The size of a sample is Σ|θ∘g|. The sum of squares would ask for timesteps at which few neurons have large
    /// scores; whether those are chosen was never in doubt, and noise matters among the many near the threshold.
    fn step(
        &mut self,
        unet: &UNet,
        theta: &BTreeMap<Site, Tensor>,
        k: usize,
        half: &mut Half,
    ) -> Result<f32> {
        let Options {
            sites, scope, seed, ..
        } = *self.options;
        let mut generator = Generator::new(seed.wrapping_add(k as u64));
        let mut sum = 0.0;
        for _ in 0..PICTURES {
            let kind = self.kind();
            let (examples, weight) = self.kinds[kind];
            let importance = &mut self.importance[kind];
            let draw = importance.draw();
            let (t, number) = (draw.timestep, importance.count());
            let batch = Batch::single(self.schedule, examples, weight, t, number, &mut generator)?
                .expecting(self.schedule, &self.pictures[kind], number)?;
            let (loss, gradients) = batch.gradients(unet, sites, scope, k)?;
            let scores = scores(theta, &gradients)?;
            let mut size = 0.0;
            for (_, scores) in &scores {
                size += f64::from(scores.abs()?.sum_all()?.to_scalar::<f32>()?);
            }
            let times = importance.observe(draw, size);
            half.add(kind, scores, times)?;
            sum += loss;
        }
        Ok(sum * self.kinds.len() as f32 / PICTURES as f32)
    }
}

/// What some of the steps found: for each kind of sample, where kinds are drawn apart, the sum of its scores.
#[derive(Default)]
struct Half {
    sums: [Sums; 2],
    counts: [usize; 2],
}

impl Half {
    /// Adds a sample of this kind: its scores times a factor.
    fn add(&mut self, kind: usize, scores: Vec<(Site, Tensor)>, times: f64) -> Result<()> {
        for (site, scores) in scores {
            let term = match times {
                1.0 => scores,
                times => (scores * times)?,
            };
            self.sums[kind].add(&site, term)?;
        }
        self.counts[kind] += 1;
        Ok(())
    }

    fn plus(mut self, other: Self) -> Result<Self> {
        for (kind, sums) in other.sums.into_iter().enumerate() {
            for (site, term) in sums.0 {
                self.sums[kind].add(&site, term)?;
            }
            self.counts[kind] += other.counts[kind];
        }
        Ok(self)
    }

    /// The sum over kinds of the means of their samples.
    fn means(&self) -> Result<BTreeMap<Site, Vec<f32>>> {
        let mut all = Sums::default();
        for (sums, count) in self.sums.iter().zip(self.counts) {
            for (site, sum) in &sums.0 {
                all.add(site, (sum / count.max(1) as f64)?)?;
            }
        }
        let values = |(site, mean): (Site, Tensor)| Ok((site, mean.flatten_all()?.to_vec1()?));
        all.0.into_iter().map(values).collect()
    }
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
}

//! How the timesteps and noise levels of a run are spread over those of training.
//!
//! diffusers' classes do so in three ways: on the whole range in whole timesteps (DDIM, PNDM), in fractions (Euler,
//! Heun), or leaving the lowest timestep to the step after the last (the solvers: DPM-Solver++, UniPC).

use std::ops::RangeInclusive;

use super::schedule::{ScheduleConfig, Spacing};
use crate::{Error, Result};

/// The timesteps and noise levels of a run, falling.
#[derive(Debug, Default)]
pub(super) struct Levels {
    /// One for each step.
    pub(super) timesteps: Vec<f32>,
    /// The noise level `σ = √((1-ᾱ)/ᾱ)` at each timestep, and at the end.
    pub(super) sigmas: Vec<f32>,
}

impl Levels {
    /// Adds a step.
    fn push(&mut self, timestep: f64, sigma: f64) {
        self.timesteps.push(timestep as f32);
        self.sigmas.push(sigma as f32);
    }
}

/// That a run can have so many steps at all.
pub(super) fn check_steps(config: &ScheduleConfig, steps: usize) -> Result<()> {
    let train = config.num_train_timesteps();
    if (1..=train).contains(&steps) {
        return Ok(());
    }
    let expected = format!("1 to {train}, the timesteps of the model's training");
    Err(Error::value("steps", expected, steps))
}

/// Timesteps and levels of a solver. `last` is how many timesteps of training count, from the first; `whole` makes a
/// timestep of Karras et al. whole.
pub(super) fn of_solver(
    config: &ScheduleConfig,
    steps: usize,
    last: usize,
    whole: fn(f64) -> f64,
) -> Result<Levels> {
    let spaced = match config.spacing.unwrap_or(Spacing::Linspace) {
        Spacing::Linspace => {
            let rising = linspace(0.0, last as f64 - 1.0, steps + 1);
            rising
                .into_iter()
                .skip(1)
                .rev()
                .map(f64::round_ties_even)
                .collect()
        }
        Spacing::Leading => {
            let stride = last / (steps + 1);
            if stride == 0 {
                return Err(too_many(steps, "with \"leading\" the strides would be 0"));
            }
            leading(stride, config.steps_offset, 1..=steps)
        }
        Spacing::Trailing => trailing(last, config.num_train_timesteps(), steps),
    };
    let training = sigmas(&config.finite_alphas());
    let mut levels = Levels::default();
    if config.karras {
        let (lowest, highest) = (training[0], training[training.len() - 1]);
        for sigma in karras(f64::from(highest), f64::from(lowest), steps) {
            levels.push(whole(timestep_of(sigma, &training)), sigma);
        }
    } else {
        for timestep in spaced {
            levels.push(timestep, interpolate(timestep, &training));
        }
    }
    // diffusers begins at the second of these and ends in an IndexError.
    if let [first, second, ..] = levels.timesteps[..]
        && first == second
    {
        return Err(too_many(steps, "the first two timesteps would be the same"));
    }
    levels.sigmas.push(end(config, &training));
    Ok(levels)
}

/// Timesteps and levels in fractions, on the levels of training that `alphas` have; without the one at the end.
/// `karras` respaces them as Karras et al. do.
pub(super) fn of_fractions(
    config: &ScheduleConfig,
    alphas: &[f32],
    steps: usize,
    respaced: bool,
) -> Levels {
    let training = sigmas(alphas);
    let mut levels = Levels::default();
    // diffusers rounds these timesteps to f32 before it looks up their levels.
    for timestep in spread(config, Spacing::Linspace, steps, |timestep| timestep) {
        let timestep = f64::from(timestep);
        levels.push(timestep, interpolate(timestep, &training));
    }
    if let (true, [first, .., last]) = (respaced, &levels.timesteps[..]) {
        let [highest, lowest] = [first, last].map(|t| interpolate(f64::from(*t), &training));
        levels = Levels::default();
        for sigma in karras(highest, lowest, steps) {
            levels.push(timestep_of(sigma, &training), sigma);
        }
    }
    levels
}

/// The level at which a run ends that heeds `final_sigmas_type`.
pub(super) fn end(config: &ScheduleConfig, training: &[f32]) -> f32 {
    if config.ends_at_sigma_min {
        training[0]
    } else {
        0.0
    }
}

/// The falling timesteps on the whole range, spaced as the file says, or as the class has it; `whole` rounds those that
/// are no integers.
pub(super) fn spread(
    config: &ScheduleConfig,
    default: Spacing,
    steps: usize,
    whole: fn(f64) -> f64,
) -> Vec<f32> {
    let train = config.num_train_timesteps();
    let timesteps: Vec<f64> = match config.spacing.unwrap_or(default) {
        Spacing::Linspace => linspace(0.0, train as f64 - 1.0, steps)
            .into_iter()
            .rev()
            .map(whole)
            .collect(),
        Spacing::Leading => leading(train / steps, config.steps_offset, 0..=steps - 1),
        Spacing::Trailing => trailing(train, train, steps),
    };
    timesteps
        .into_iter()
        .map(|timestep| timestep as f32)
        .collect()
}

/// [`spread`] in whole timesteps, each of which the table of `ᾱ` has.
pub(super) fn of_table(
    config: &ScheduleConfig,
    default: Spacing,
    steps: usize,
) -> Result<Vec<f32>> {
    let timesteps = spread(config, default, steps, f64::round_ties_even);
    let train = config.num_train_timesteps() as f32;
    let beyond = |timestep: &f32| !(0.0..train).contains(timestep);
    match timesteps.iter().any(beyond) {
        true => Err(too_many(steps, "`steps_offset` leads past the end")),
        false => Ok(timesteps),
    }
}

/// The standard deviation of noise where a run begins, at the highest of these levels: below the last timestep of
/// training, with "leading", latents still hold some picture of variance 1.
pub(super) fn initial_sigma(config: &ScheduleConfig, sigmas: &[f32]) -> f32 {
    let highest = sigmas.iter().copied().fold(0.0, f32::max);
    match config.spacing.unwrap_or(Spacing::Linspace) {
        Spacing::Leading => (highest * highest + 1.0).sqrt(),
        Spacing::Linspace | Spacing::Trailing => highest,
    }
}

/// The multiples of a stride, falling, with the offset added to each.
fn leading(stride: usize, offset: i64, multiples: RangeInclusive<usize>) -> Vec<f64> {
    multiples
        .rev()
        .map(|i| (i * stride) as f64 + offset as f64)
        .collect()
}

/// `np.arange(last, 0, -train / steps).round() - 1`, including how NumPy rounds its stride.
fn trailing(last: usize, train: usize, steps: usize) -> Vec<f64> {
    let (last, stride) = (last as f64, train as f64 / steps as f64);
    let n = (last / stride).ceil() as usize;
    let delta = (last - stride) - last;
    (0..n)
        .map(|i| (last + i as f64 * delta).round_ties_even() - 1.0)
        .collect()
}

/// `np.linspace`.
fn linspace(start: f64, stop: f64, n: usize) -> Vec<f64> {
    let step = (stop - start) / n.saturating_sub(1).max(1) as f64;
    (0..n)
        .map(|i| {
            if i > 0 && i == n - 1 {
                stop
            } else {
                i as f64 * step + start
            }
        })
        .collect()
}

/// The noise level of every timestep of training.
pub(super) fn sigmas(alphas: &[f32]) -> Vec<f32> {
    alphas
        .iter()
        .map(|alpha| ((1.0 - alpha) / alpha).sqrt())
        .collect()
}

/// `np.interp` of `levels` at a fractional index.
fn interpolate(position: f64, levels: &[f32]) -> f64 {
    let last = levels.len() - 1; // a schedule has at least 2 timesteps
    if position >= last as f64 {
        return f64::from(levels[last]);
    }
    let below = position.max(0.0) as usize;
    let (low, high) = (f64::from(levels[below]), f64::from(levels[below + 1]));
    (high - low) * (position - below as f64) + low
}

/// Noise levels from `highest` to `lowest`, evenly spaced in `σ^(1/ρ)` with ρ = 7 (Karras et al.
/// 2022, eq. 5).
fn karras(highest: f64, lowest: f64, steps: usize) -> Vec<f64> {
    const RHO: f64 = 7.0;
    let (from, to) = (highest.powf(1.0 / RHO), lowest.powf(1.0 / RHO));
    linspace(0.0, 1.0, steps)
        .into_iter()
        .map(|ramp| (from + ramp * (to - from)).powf(RHO))
        .collect()
}

/// The timestep at which training has noise level `sigma`, interpolated in its logarithm.
fn timestep_of(sigma: f64, levels: &[f32]) -> f64 {
    let log_sigma = sigma.max(1e-10).ln();
    // Levels rise with the timestep, so this is the last one at or below.
    let below = levels.partition_point(|level| f64::from(level.ln()) <= log_sigma);
    let index = below.saturating_sub(1).min(levels.len().saturating_sub(2));
    let (low, high) = (levels[index].ln(), levels[index + 1].ln());
    let weight = ((f64::from(low) - log_sigma) / f64::from(low - high)).clamp(0.0, 1.0);
    (1.0 - weight) * index as f64 + weight * (index + 1) as f64
}

/// More steps than this schedule and spacing can take.
pub(super) fn too_many(steps: usize, reason: &str) -> Error {
    Error::value("steps", format!("fewer ({reason})"), steps)
}

//! The timesteps of one run, and its noise levels.

use std::ops::RangeInclusive;

use super::samplers::Sampler;
use super::schedule::{ScheduleConfig, Spacing};
use crate::{Error, Result};

/// What a sampler walks along, from noise to picture.
#[derive(Debug)]
pub(super) struct Timesteps {
    /// One of each call of the model, within 0..1000; fractional for the Euler samplers only.
    pub(super) timesteps: Vec<f32>,
    /// The noise level `σ = √((1-ᾱ)/ᾱ)` of each timestep and of the end; empty for DDIM and PNDM,
    /// which use `ᾱ` itself.
    pub(super) sigmas: Vec<f32>,
    /// `ᾱ` at every timestep of training.
    pub(super) alphas: Vec<f32>,
    /// Timesteps of training from one step of DDIM or PNDM to the next.
    pub(super) stride: i64,
    /// How many of PNDM's calls belong to Runge-Kutta.
    pub(super) prk_calls: usize,
}

impl Timesteps {
    /// The grid of a run of `sampler` in so many steps.
    ///
    /// Every step calls the model once, but for PNDM: it calls once more in its first step, or,
    /// with Runge-Kutta, nine times more in its first three. "trailing" may round to one step more.
    pub(super) fn new(config: &ScheduleConfig, sampler: Sampler, steps: usize) -> Result<Self> {
        config.check_sampler(sampler)?;
        let train = config.num_train_timesteps();
        if !(1..=train).contains(&steps) {
            return Err(Error::value(
                "steps",
                format!("1 to {train}, the timesteps of the model's training"),
                steps,
            ));
        }
        let mut grid = Self {
            timesteps: Vec::new(),
            sigmas: Vec::new(),
            alphas: config.alphas_of(sampler).into_owned(),
            stride: (train / steps) as i64,
            prk_calls: 0,
        };
        match sampler {
            Sampler::DpmPp2M => grid.fill_dpm(config, steps)?,
            Sampler::Euler | Sampler::EulerA => grid.fill_euler(config, sampler, steps),
            Sampler::Ddim => grid.timesteps = spread(config, sampler, steps),
            Sampler::Pndm => grid.fill_pndm(config, steps)?,
        }
        if matches!(sampler, Sampler::Ddim | Sampler::Pndm) {
            for &timestep in &grid.timesteps {
                grid.alpha(timestep as i64)
                    .ok_or_else(|| too_many(steps, "`steps_offset` leads past the end"))?;
            }
        }
        Ok(grid)
    }

    /// `ᾱ` at a timestep, if there is such a one.
    pub(super) fn alpha(&self, timestep: i64) -> Option<f32> {
        self.alphas.get(usize::try_from(timestep).ok()?).copied()
    }

    /// Timesteps and levels of DPM-Solver++, which has whole timesteps and leaves the lowest to the
    /// step after the last.
    fn fill_dpm(&mut self, config: &ScheduleConfig, steps: usize) -> Result<()> {
        let lambda = |alpha: f32| alpha.sqrt().ln() - (1.0 - alpha).sqrt().ln();
        let last = self
            .alphas
            .iter()
            .filter(|alpha| lambda(**alpha) >= config.lambda_min)
            .count();
        if steps > last {
            return Err(too_many(steps, "`lambda_min_clipped` leaves no more"));
        }
        let spaced = match config.spacing(Sampler::DpmPp2M) {
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
        let levels = sigmas(&self.alphas);
        if config.karras {
            let (lowest, highest) = (levels[0], levels[levels.len() - 1]);
            for sigma in karras(f64::from(highest), f64::from(lowest), steps) {
                let timestep = timestep_of(sigma, &levels);
                let whole = if config.cosine {
                    timestep.trunc()
                } else {
                    timestep.round_ties_even()
                };
                self.push(whole, sigma);
            }
        } else {
            for timestep in spaced {
                self.push(timestep, interpolate(timestep, &levels));
            }
        }
        self.end(config, levels[0]);
        Ok(())
    }

    /// Timesteps and levels of the Euler samplers, which take fractions.
    fn fill_euler(&mut self, config: &ScheduleConfig, sampler: Sampler, steps: usize) {
        let levels = sigmas(&self.alphas);
        // diffusers rounds these timesteps to f32 before it looks up their levels.
        for timestep in spread(config, sampler, steps).into_iter().map(f64::from) {
            self.push(timestep, interpolate(timestep, &levels));
        }
        if sampler == Sampler::EulerA {
            self.sigmas.push(0.0);
            return;
        }
        if let (true, [first, .., last]) = (config.karras, &self.timesteps[..]) {
            let [highest, lowest] = [first, last].map(|t| interpolate(f64::from(*t), &levels));
            self.timesteps.clear();
            self.sigmas.clear();
            for sigma in karras(highest, lowest, steps) {
                self.push(timestep_of(sigma, &levels), sigma);
            }
        }
        self.end(config, levels[0]);
    }

    /// The calls of PNDM (Liu et al. 2022, algorithm 2): Runge-Kutta and then linear multistep, or,
    /// as Stable Diffusion has it, linear multistep from the start with the second call repeated.
    fn fill_pndm(&mut self, config: &ScheduleConfig, steps: usize) -> Result<()> {
        let falling = spread(config, Sampler::Pndm, steps);
        if config.skip_prk_steps {
            self.timesteps = falling;
            if let Some(&second) = self.timesteps.get(1) {
                self.timesteps.insert(1, second);
            }
            return Ok(());
        }
        let [first, second, third, fourth, ..] = falling[..] else {
            return Err(Error::value(
                "steps",
                "at least 4 for `pndm` with Runge-Kutta steps",
                steps,
            ));
        };
        let half = (self.stride / 2) as f32;
        for (from, to) in [(first, second), (second, third), (third, fourth)] {
            self.timesteps.extend([from, to + half, to + half, to]);
        }
        self.prk_calls = self.timesteps.len();
        self.timesteps.extend(&falling[3..]);
        Ok(())
    }

    /// Adds a call of the model.
    fn push(&mut self, timestep: f64, sigma: f64) {
        self.timesteps.push(timestep as f32);
        self.sigmas.push(sigma as f32);
    }

    /// Adds the level at which a run ends.
    fn end(&mut self, config: &ScheduleConfig, lowest: f32) {
        self.sigmas.push(if config.ends_at_sigma_min {
            lowest
        } else {
            0.0
        });
    }
}

/// The falling timesteps of DDIM, PNDM and the Euler samplers, which differ in that only the last
/// take fractions.
fn spread(config: &ScheduleConfig, sampler: Sampler, steps: usize) -> Vec<f32> {
    let train = config.num_train_timesteps();
    let fractions = matches!(sampler, Sampler::Euler | Sampler::EulerA);
    let timesteps: Vec<f64> = match config.spacing(sampler) {
        Spacing::Linspace => {
            let rounded = |timestep: f64| {
                if fractions {
                    timestep
                } else {
                    timestep.round_ties_even()
                }
            };
            linspace(0.0, train as f64 - 1.0, steps)
                .into_iter()
                .rev()
                .map(rounded)
                .collect()
        }
        Spacing::Leading => leading(train / steps, config.steps_offset, 0..=steps - 1),
        Spacing::Trailing => trailing(train, train, steps),
    };
    timesteps
        .into_iter()
        .map(|timestep| timestep as f32)
        .collect()
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
fn sigmas(alphas: &[f32]) -> Vec<f32> {
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
fn too_many(steps: usize, reason: &str) -> Error {
    Error::value("steps", format!("fewer ({reason})"), steps)
}

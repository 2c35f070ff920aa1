//! What every sampler is made of: a name, the keys that it heeds, a plan, and a step.

use super::super::schedule::{Heeded, Prediction, ScheduleConfig};
use crate::{Error, Result};

/// All that is to be said of a sampler: a file of this folder has one.
pub(super) struct Method {
    /// The canonical name.
    pub(super) name: &'static str,
    /// The name in A1111, which writes it into its pictures.
    pub(super) label: &'static str,
    /// Names in other programs, in small letters, without spaces, hyphens and underscores.
    pub(super) aliases: &'static [&'static str],
    /// Keys of the file that the class heeds, with the values that are supported. What else the file says is in
    /// [`ScheduleConfig`], for `plan` to follow.
    pub(super) heeds: &'static [Heeded],
    /// Makes the plan of a run in so many steps, of which there is one at least.
    pub(super) plan: fn(&ScheduleConfig, usize) -> Result<Plan>,
}

impl Method {
    /// The plan of a run in so many steps, if the file and the sampler go together.
    pub(super) fn plan(&self, config: &ScheduleConfig, steps: usize) -> Result<Plan> {
        for (key, supported) in self.heeds {
            let found = config.heeded(key).map(ToString::to_string);
            if let Some(found) = found.filter(|found| !supported.contains(&found.as_str())) {
                return Err(config.refusal(self.name, key, supported.join(" or "), found));
            }
        }
        super::super::timesteps::check_steps(config, steps)?;
        (self.plan)(config, steps)
    }
}

/// Signal and noise of latents `x = signal·x_0 + noise·ε`: (√ᾱ, √(1-ᾱ)), or (α, σ) in DPM-Solver's letters, or (1, σ)
/// in those of Karras et al.
pub(super) type Level = (f32, f32);

/// When a sampler draws noise of its own, after a call of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fresh {
    /// In no step.
    Never,
    /// In every step.
    Always,
    /// In every step but the last.
    BeforeLast,
}

/// A run, before anything is computed.
pub(super) struct Plan {
    /// The timestep of each call of the model, within 0..1000.
    pub(super) timesteps: Vec<f32>,
    /// What the latents of each call are made of.
    pub(super) levels: Vec<Level>,
    /// The standard deviation of the noise that a run begins with.
    pub(super) start: f32,
    /// Whether the model sees latents divided by `√(σ²+1)`, which are (1, σ) otherwise.
    pub(super) scaled: bool,
    /// When noise is drawn.
    pub(super) fresh: Fresh,
    /// Calls in one step, but for the last; `None` where a run cannot begin in the middle.
    pub(super) order: Option<usize>,
    /// What is done with the model's outputs.
    pub(super) solver: Box<dyn Solver>,
}

impl Plan {
    /// A plan on latents of variance 1 at every level, which the model sees as they are.
    pub(super) fn preserving(
        timesteps: Vec<f32>,
        levels: Vec<Level>,
        fresh: Fresh,
        solver: impl Solver + 'static,
    ) -> Self {
        Self {
            timesteps,
            levels,
            start: 1.0,
            scaled: false,
            fresh,
            order: Some(1),
            solver: Box::new(solver),
        }
    }

    /// A plan on latents `x_0 + σ·ε`, with the `σ` of each call.
    pub(super) fn exploding(
        timesteps: Vec<f32>,
        sigmas: &[f32],
        start: f32,
        fresh: Fresh,
        solver: impl Solver + 'static,
    ) -> Self {
        let levels = sigmas[..timesteps.len()].iter().map(|sigma| (1.0, *sigma));
        Self {
            levels: levels.collect(),
            start,
            scaled: true,
            ..Self::preserving(timesteps, Vec::new(), fresh, solver)
        }
    }
}

/// The steps of one run. What is kept from call to call is empty at the first, wherever that lies in the plan.
pub(super) trait Solver {
    /// Moves `x`, at which the model said `m` in call `index` of the plan, to where the next call or the end is.
    /// `noise` is as long where the plan draws some, else empty.
    fn step(&mut self, index: usize, x: &mut [f32], m: Vec<f32>, noise: &[f32]);
}

impl Prediction {
    /// The data prediction `x_0` and the noise prediction `ε` of one value, where `signal² + noise² = 1`.
    ///
    /// From ε, `x_0 = (x - √(1-ᾱ)·ε)/√ᾱ`. From v, `x_0 = √ᾱ·x - √(1-ᾱ)·v` and `ε = √ᾱ·v + √(1-ᾱ)·x`
    /// (Salimans and Ho 2022, appendix D).
    pub(super) fn data_and_noise(self, (signal, noise): Level, x: f32, m: f32) -> (f32, f32) {
        match self {
            Self::Epsilon => ((x - noise * m) / signal, m),
            Self::Velocity => (signal * x - noise * m, signal * m + noise * x),
        }
    }

    /// `dx/dσ = (x - x_0)/σ` where `x = x_0 + σ·ε` and the model saw `x/√(σ²+1)` (Karras et al. 2022, eq. 3).
    pub(super) fn slope(self, sigma: f32, x: f32, m: f32) -> f32 {
        let variance = sigma * sigma + 1.0;
        let x_0 = match self {
            Self::Epsilon => x - sigma * m,
            Self::Velocity => m * (-sigma / variance.sqrt()) + x / variance,
        };
        (x - x_0) / sigma
    }
}

/// Level `σ` of `x = x_0 + σ·ε`, in coordinates that preserve variance: `α = 1/√(σ²+1)` and `σ·α`.
pub(super) fn preserving(sigma: f32) -> Level {
    let alpha = 1.0 / (sigma * sigma + 1.0).sqrt();
    (alpha, sigma * alpha)
}

/// `λ = ln(α/σ)`, half the logarithm of the signal-to-noise ratio.
pub(super) fn log_ratio((alpha, sigma): Level) -> f32 {
    alpha.ln() - sigma.ln()
}

/// `(√ᾱ, √(1-ᾱ))`.
pub(super) fn level(alpha_bar: f32) -> Level {
    (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt())
}

/// That the file gives the betas, for samplers whose class has other ones by default than the rest.
pub(super) fn needs_betas(sampler: &str, config: &ScheduleConfig) -> Result<()> {
    let expected = "`beta_schedule`, `beta_start` and `beta_end`";
    match config.gives_betas {
        true => Ok(()),
        false => Err(config.refusal(sampler, "beta_schedule", expected, "not all of them")),
    }
}

/// Passes `values` on if there are `n`.
pub(super) fn sized(name: &str, n: usize, values: Vec<f32>) -> Result<Vec<f32>> {
    match values.len() == n {
        true => Ok(values),
        false => Err(Error::value(name, format!("{n} values"), values.len())),
    }
}

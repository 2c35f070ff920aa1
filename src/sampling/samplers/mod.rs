//! The samplers: from noise to picture, along a list of timesteps, by asking the model what is
//! noise.
//!
//! Every one equals the scheduler of diffusers that [`Sampler`] names, step by step, in f32 as
//! there. In the bodies, `x` is the latents, `m` the model's output, and for noise levels the
//! papers' letters: `ᾱ`, `σ`, `λ`, `h`.

mod pndm;

use std::fmt;
use std::str::FromStr;

use super::schedule::{Prediction, ScheduleConfig, Spacing};
use super::timesteps::Timesteps;
use crate::{Error, Result};

/// A way from noise to picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sampler {
    /// DPM-Solver++ of second order, multistep (Lu et al. 2022b, algorithm 2):
    /// `DPMSolverMultistepScheduler`.
    DpmPp2M,
    /// DDIM at η = 0 (Song et al. 2020): `DDIMScheduler`.
    Ddim,
    /// Euler steps (Karras et al. 2022, algorithm 2 without churn): `EulerDiscreteScheduler`.
    Euler,
    /// Euler steps down and fresh noise up (k-diffusion's `sample_euler_ancestral`):
    /// `EulerAncestralDiscreteScheduler`.
    EulerA,
    /// Pseudo linear multistep (Liu et al. 2022): `PNDMScheduler`.
    Pndm,
}

impl Sampler {
    /// All of them; the first is the default of `cones generate`.
    pub const ALL: &'static [Self] = &[
        Self::DpmPp2M,
        Self::Ddim,
        Self::Euler,
        Self::EulerA,
        Self::Pndm,
    ];

    /// The canonical name.
    pub fn name(self) -> &'static str {
        match self {
            Self::DpmPp2M => "dpm++2m",
            Self::Ddim => "ddim",
            Self::Euler => "euler",
            Self::EulerA => "euler-a",
            Self::Pndm => "pndm",
        }
    }
}

impl fmt::Display for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Sampler {
    type Err = Error;

    /// Reads the names that diffusers, k-diffusion, A1111, ComfyUI and kohya's scripts have for a
    /// sampler. Case, spaces, hyphens and underscores do not count.
    fn from_str(name: &str) -> Result<Self> {
        let key = name.to_lowercase().replace([' ', '-', '_'], "");
        match key.strip_suffix("scheduler").unwrap_or(&key) {
            "dpm++2m" | "dpm++" | "dpmpp2m" | "kdpm++2m" | "kdpmpp2m" | "dpmsolver++"
            | "dpmsolver++2m" | "dpmsolvermultistep" => Ok(Self::DpmPp2M),
            "ddim" => Ok(Self::Ddim),
            "euler" | "keuler" | "eulerdiscrete" => Ok(Self::Euler),
            "eulera"
            | "keulera"
            | "eulerancestral"
            | "keulerancestral"
            | "eulerancestraldiscrete" => Ok(Self::EulerA),
            "pndm" | "plms" => Ok(Self::Pndm),
            _ => {
                let names: Vec<&str> = Self::ALL.iter().map(|sampler| sampler.name()).collect();
                Err(Error::value(
                    "sampler",
                    format!("one of {}", names.join(", ")),
                    format!("`{name}`"),
                ))
            }
        }
    }
}

/// One call of the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Which call of the run, from 0.
    pub index: usize,
    /// Calls in the run: one for each step, and one more with PNDM, or nine with its Runge-Kutta.
    pub total: usize,
    /// The timestep the model is asked about, within 0..1000; the Euler samplers ask for fractions
    /// too.
    pub timestep: f32,
}

/// Runs `sampler` for so many steps, from `latents` of unit normals to the latents of a picture.
///
/// `denoise` is the model: it gets the latents, already scaled as the sampler wants them, and
/// returns noise or velocity as [`ScheduleConfig::prediction`] says, with guidance applied. It may
/// move the latents first, as attend-and-excite does: the step then begins where it put them.
/// `noise` gives unit normals as many as the latents; only [`Sampler::EulerA`] calls it, at every
/// step after the model.
///
/// # Errors
/// As [`ScheduleConfig::check`], before anything is called; [`Error::Value`] if a closure returns
/// another number of values than `latents` has; and whatever the closures return, at once.
///
/// Golden: `tests/golden/samplers.safetensors`.
pub fn sample<E: From<Error>>(
    sampler: Sampler,
    config: &ScheduleConfig,
    steps: usize,
    latents: Vec<f32>,
    mut denoise: impl FnMut(&Step, &mut [f32]) -> Result<Vec<f32>, E>,
    mut noise: impl FnMut() -> Result<Vec<f32>, E>,
) -> Result<Vec<f32>, E> {
    let run = Run {
        config,
        sampler,
        grid: &Timesteps::new(config, sampler, steps)?,
    };
    let (timesteps, n) = (&run.grid.timesteps, latents.len());
    let model = |index: usize, x: &mut [f32]| {
        let step = Step {
            index,
            total: timesteps.len(),
            timestep: timesteps[index],
        };
        sized("the model's output", n, denoise(&step, x)?)
    };
    match sampler {
        Sampler::DpmPp2M => run.dpm_pp_2m(latents, model),
        Sampler::Ddim => run.ddim(latents, model),
        Sampler::Euler => run.euler(latents, model, |_, to| Ok((to, None))),
        Sampler::EulerA => run.euler(latents, model, |from, to| {
            let up = (to * to * (from * from - to * to) / (from * from)).sqrt();
            Ok((
                (to * to - up * up).max(0.0).sqrt(),
                Some((up, sized("the noise", n, noise()?)?)),
            ))
        }),
        Sampler::Pndm => run.pndm(latents, model),
    }
}

/// Passes `values` on if there are `n`.
fn sized<E: From<Error>>(name: &str, n: usize, values: Vec<f32>) -> Result<Vec<f32>, E> {
    if values.len() == n {
        Ok(values)
    } else {
        Err(Error::value(name, format!("{n} values"), values.len()).into())
    }
}

/// The signal and the noise level of variance-preserving latents: (√ᾱ, √(1-ᾱ)), or (α, σ) in
/// DPM-Solver's letters.
type Level = (f32, f32);

/// What stays the same in a run. In its methods, `model` gets the index of the call and the scaled
/// latents.
struct Run<'a> {
    config: &'a ScheduleConfig,
    sampler: Sampler,
    grid: &'a Timesteps,
}

impl Run<'_> {
    /// The data prediction `x_0` and the noise prediction `ε` of one value.
    ///
    /// From ε, `x_0 = (x - √(1-ᾱ)·ε)/√ᾱ`. From v, `x_0 = √ᾱ·x - √(1-ᾱ)·v` and `ε = √ᾱ·v + √(1-ᾱ)·x`
    /// (Salimans and Ho 2022, appendix D).
    fn data_and_noise(&self, (signal, noise): Level, x: f32, m: f32) -> (f32, f32) {
        match self.config.prediction() {
            Prediction::Epsilon => ((x - noise * m) / signal, m),
            Prediction::Velocity => (signal * x - noise * m, signal * m + noise * x),
        }
    }

    /// `ᾱ` at a timestep and at an earlier one, which may lie before the first.
    fn alphas(&self, here: i64, next: i64) -> Result<(f32, f32)> {
        let alpha = |timestep| {
            self.grid
                .alpha(timestep)
                .ok_or_else(|| self.config.no_timestep(timestep))
        };
        let next = match next {
            0.. => alpha(next)?,
            _ if self.config.ends_at_one(self.sampler) => 1.0,
            _ => alpha(0)?,
        };
        Ok((alpha(here)?, next))
    }

    /// DDIM at η = 0: `x_{t-1} = √ᾱ_{t-1}·x_0 + √(1-ᾱ_{t-1})·ε` (Song et al. 2020, eq. 12).
    fn ddim<E: From<Error>>(
        &self,
        mut x: Vec<f32>,
        mut model: impl FnMut(usize, &mut [f32]) -> Result<Vec<f32>, E>,
    ) -> Result<Vec<f32>, E> {
        let limit = self.config.clip(self.sampler);
        for (index, &timestep) in self.grid.timesteps.iter().enumerate() {
            let m = model(index, &mut x)?;
            let timestep = timestep as i64;
            let (here, next) = self.alphas(timestep, timestep - self.grid.stride)?;
            let level = (here.sqrt(), (1.0 - here).sqrt());
            let (signal, noise) = (next.sqrt(), (1.0 - next).sqrt());
            for (x, m) in x.iter_mut().zip(m) {
                let (x_0, epsilon) = self.data_and_noise(level, *x, m);
                let x_0 = limit.map_or(x_0, |limit| x_0.clamp(-limit, limit));
                *x = signal * x_0 + noise * epsilon;
            }
        }
        Ok(x)
    }

    /// Euler steps along `dx/dσ = (x - x_0)/σ` (Karras et al. 2022, eq. 3 and algorithm 2), in the
    /// coordinates where `x = x_0 + σ·ε` and the model sees `x/√(σ²+1)`.
    ///
    /// `split` divides the way from one level to the next: into the level to step down to, and a
    /// level of fresh noise to add then. The ancestral sampler has
    /// `σ_up² = σ_to²·(σ_from² - σ_to²)/σ_from²` and `σ_down² = σ_to² - σ_up²`.
    fn euler<E: From<Error>>(
        &self,
        mut x: Vec<f32>,
        mut model: impl FnMut(usize, &mut [f32]) -> Result<Vec<f32>, E>,
        mut split: impl FnMut(f32, f32) -> Result<(f32, Option<(f32, Vec<f32>)>), E>,
    ) -> Result<Vec<f32>, E> {
        let highest = self.grid.sigmas.iter().copied().fold(0.0, f32::max);
        // "leading" starts below the last timestep of training, where latents still hold some
        // picture of variance 1.
        let start = match self.config.spacing(self.sampler) {
            Spacing::Leading => (highest * highest + 1.0).sqrt(),
            Spacing::Linspace | Spacing::Trailing => highest,
        };
        x.iter_mut().for_each(|x| *x *= start);
        for (index, levels) in self.grid.sigmas.windows(2).enumerate() {
            let (sigma, next) = (levels[0], levels[1]);
            let variance = sigma * sigma + 1.0;
            let scaled: Vec<f32> = x.iter().map(|x| x / variance.sqrt()).collect();
            let mut seen = scaled.clone();
            let m = model(index, &mut seen)?;
            // By the difference, so that latents that were left alone stay the same to the last bit.
            for (x, (seen, scaled)) in x.iter_mut().zip(seen.iter().zip(&scaled)) {
                *x += (seen - scaled) * variance.sqrt();
            }
            let (down, fresh) = split(sigma, next)?;
            for (x, m) in x.iter_mut().zip(m) {
                let x_0 = match self.config.prediction() {
                    Prediction::Epsilon => *x - sigma * m,
                    Prediction::Velocity => m * (-sigma / variance.sqrt()) + *x / variance,
                };
                *x += (*x - x_0) / sigma * (down - sigma);
            }
            if let Some((up, noise)) = fresh {
                x.iter_mut()
                    .zip(noise)
                    .for_each(|(x, noise)| *x += noise * up);
            }
        }
        Ok(x)
    }

    /// DPM-Solver++ (2M): `x_t = σ_t/σ_s·x_s - α_t·(e^{-h} - 1)·D` with `D = m_s + (m_s - m_q)/2r`,
    /// `λ = ln(α/σ)`, `h = λ_t - λ_s` and `r = (λ_s - λ_q)/h` (Lu et al. 2022b, algorithm 2).
    ///
    /// `m` is the data prediction, at the level `s` of this step and `q` of the one before. The
    /// order is one, `D = m_s`, in the first step, where there is no `q`; and in the last, where
    /// the level is 0 and `λ` infinite, or the run is shorter than 15.
    fn dpm_pp_2m<E: From<Error>>(
        &self,
        mut x: Vec<f32>,
        mut model: impl FnMut(usize, &mut [f32]) -> Result<Vec<f32>, E>,
    ) -> Result<Vec<f32>, E> {
        let config = self.config;
        let steps = self.grid.timesteps.len();
        let ends_first_order = config.euler_at_final
            || (config.lower_order_final && steps < 15)
            || !config.ends_at_sigma_min;
        let log_ratio = |(alpha, sigma): Level| alpha.ln() - sigma.ln();
        let mut earlier: Option<(Vec<f32>, f32)> = None; // m_q and λ_q
        for (index, sigmas) in self.grid.sigmas.windows(2).enumerate() {
            let (from, to) = (preserving(sigmas[0]), preserving(sigmas[1]));
            let (lambda, h) = (log_ratio(from), log_ratio(to) - log_ratio(from));
            let (keep, gain) = (to.1 / from.1, to.0 * ((-h).exp() - 1.0));
            let mut m = model(index, &mut x)?;
            for (m, x) in m.iter_mut().zip(&x) {
                *m = self.data_and_noise(from, *x, *m).0;
            }
            match earlier.take() {
                // Timesteps that round to the same one have no distance to extrapolate over:
                // diffusers divides by it.
                Some((m_q, lambda_q))
                    if !(index + 1 == steps && ends_first_order) && lambda > lambda_q =>
                {
                    let inverse = 1.0 / ((lambda - lambda_q) / h); // 1/r
                    for ((x, m), m_q) in x.iter_mut().zip(&m).zip(m_q) {
                        *x = keep * *x - gain * m - 0.5 * gain * (inverse * (m - m_q));
                    }
                }
                _ => x
                    .iter_mut()
                    .zip(&m)
                    .for_each(|(x, m)| *x = keep * *x - gain * m),
            }
            earlier = Some((m, lambda));
        }
        Ok(x)
    }
}

/// Level `σ` of `x = x_0 + σ·ε`, in coordinates that preserve variance: `α = 1/√(σ²+1)` and `σ·α`.
fn preserving(sigma: f32) -> Level {
    let alpha = 1.0 / (sigma * sigma + 1.0).sqrt();
    (alpha, sigma * alpha)
}

#[cfg(test)]
mod tests;

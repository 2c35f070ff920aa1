//! The samplers: from noise to picture, along a list of timesteps, by asking the model what is noise.
//!
//! Every one equals the scheduler of diffusers of its name, step by step, in f32 as there. In the
//! bodies, `x` is the latents, `m` the model's output, and for noise levels the papers' letters: `ᾱ`, `σ`, `λ`, `h`.
//!
//! A sampler is a file here, and a line in the list at the end of this one.

mod ddim;
mod dpmpp_2m;
mod dpmpp_2m_sde;
mod euler;
mod euler_a;
mod heun;
mod lcm;
mod method;
mod pndm;
mod unipc;

use std::fmt;
use std::str::FromStr;

use super::schedule::{Prediction, ScheduleConfig};
use crate::{Error, Result};
use method::{Fresh, Method, Plan, sized};

/// Makes [`Sampler`] of names and [`Method`]s.
macro_rules! samplers {
    ($($(#[$doc:meta])* $name:ident => $method:path,)*) => {
        /// A way from noise to picture.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Sampler {
            $($(#[$doc])* $name,)*
        }

        impl Sampler {
            /// All of them; the first is the default of `cones generate`.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            fn method(self) -> &'static Method {
                match self {
                    $(Self::$name => &$method,)*
                }
            }
        }
    };
}

impl Sampler {
    /// The canonical name.
    pub(crate) fn name(self) -> &'static str {
        self.method().name
    }

    /// The name in AUTOMATIC1111's web UI, which pictures carry.
    pub(crate) fn label(self) -> &'static str {
        self.method().label
    }
}

impl fmt::Display for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Sampler {
    type Err = Error;

    /// Reads the names that diffusers, k-diffusion, A1111, ComfyUI and kohya's scripts have for a sampler. Case,
    /// spaces, hyphens and underscores do not count.
    fn from_str(name: &str) -> Result<Self> {
        let plain = |name: &str| name.to_lowercase().replace([' ', '-', '_'], "");
        let key = plain(name);
        let key = key.strip_suffix("scheduler").unwrap_or(&key);
        let called = |sampler: &&Self| {
            let Method {
                name,
                label,
                aliases,
                ..
            } = sampler.method();
            [plain(name), plain(label)].iter().any(|known| known == key) || aliases.contains(&key)
        };
        Self::ALL.iter().find(called).copied().ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|sampler| sampler.name()).collect();
            let expected = format!("one of {}", names.join(", "));
            Error::value("sampler", expected, format!("`{name}`"))
        })
    }
}

impl ScheduleConfig {
    /// Reads the `text` of a `scheduler_config.json`; `file` is its name in errors.
    ///
    /// Two outdated settings are put right as `StableDiffusionPipeline` does: `steps_offset` becomes 1, and
    /// `clip_sample` false, wherever the file has them.
    ///
    /// # Errors
    /// [`Error::Config`] names a key that is malformed, unknown, or not supported by any sampler. One that is supported
    /// by some samplers only is an error when [`ScheduleConfig::check`] or a run asks for another.
    pub(crate) fn parse(file: &str, text: &str) -> Result<Self> {
        let heeded = Sampler::ALL
            .iter()
            .flat_map(|sampler| sampler.method().heeds);
        Self::read(file, text, heeded.map(|(key, _)| *key))
    }

    /// Whether `sampler` can make a picture in so many steps under this file, without running anything.
    ///
    /// # Errors
    /// [`Error::Value`] if `steps` is not in `1..=num_train_timesteps`, or of a number that this spacing cannot take;
    /// [`Error::Config`] if the file has a value that this sampler heeds and does not support.
    pub(crate) fn check(&self, sampler: Sampler, steps: usize) -> Result<()> {
        sampler.method().plan(self, steps).map(|_| ())
    }
}

/// Where a run begins.
#[derive(Clone, Debug)]
pub(crate) enum Start {
    /// At noise: unit normals.
    Noise(Vec<f32>),
    /// At a picture with noise on it.
    Picture {
        /// The latents of the picture.
        latents: Vec<f32>,
        /// Unit normals, as many.
        noise: Vec<f32>,
        /// The share of the steps that is taken, above 0 and up to 1, as in `StableDiffusionImg2ImgPipeline`: with 1
        /// all are, and the picture still shows through the noise of the first.
        strength: f64,
    },
}

impl From<Vec<f32>> for Start {
    fn from(noise: Vec<f32>) -> Self {
        Self::Noise(noise)
    }
}

impl Start {
    /// The latents that `plan` begins with, and at which call.
    fn on(self, plan: &Plan, steps: usize) -> Result<(Vec<f32>, usize)> {
        match self {
            Self::Noise(mut latents) => {
                latents.iter_mut().for_each(|x| *x *= plan.start);
                Ok((latents, 0))
            }
            Self::Picture {
                latents,
                noise,
                strength,
            } => {
                let taken = (steps as f64 * strength) as usize;
                if !(strength > 0.0 && strength <= 1.0) || taken == 0 {
                    let expected = "a share of the steps up to 1, of one step at least";
                    return Err(Error::value("strength", expected, strength));
                }
                let Some(order) = plan.order else {
                    let expected =
                        "a sampler or a `scheduler_config.json` without Runge-Kutta steps";
                    return Err(Error::value("sampler", expected, "`pndm` with them"));
                };
                let first = (steps - taken) * order;
                let noise = sized("the noise", latents.len(), noise)?;
                let (signal, level) = plan.levels[first];
                let values = latents.iter().zip(noise);
                let values = values.map(|(x, noise)| signal * x + level * noise);
                Ok((values.collect(), first))
            }
        }
    }
}

/// One call of the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Step {
    /// Which call of the run, from 0.
    pub index: usize,
    /// Calls in the run: one for each step, and one more with PNDM, or nine with its Runge-Kutta; with Heun two for
    /// each step but the last.
    pub total: usize,
    /// The timestep the model is asked about, within 0..1000; Euler's and Heun's steps ask for fractions too.
    pub timestep: f32,
    /// How much of the latents that the model sees is picture.
    pub signal: f32,
    /// How much of them is noise.
    pub noise: f32,
}

impl Step {
    /// The picture's latents as the model sees them at this step: of latents `x` that it saw and its output `m`.
    pub(crate) fn data(&self, prediction: Prediction, x: f32, m: f32) -> f32 {
        match prediction {
            Prediction::Epsilon => (x - self.noise * m) / self.signal,
            Prediction::Velocity => self.signal * x - self.noise * m,
        }
    }
}

/// Runs `sampler` in so many steps, from where it starts to the latents of a picture.
///
/// `denoise` is the model: it gets the latents, already scaled as the sampler wants them, and returns noise or velocity
/// as [`ScheduleConfig::prediction`] says, with guidance applied. It may move the latents first, as attend-and-excite
/// does: the step then begins where it put them. `noise` gives unit normals as many as the latents; only samplers with
/// noise of their own call it, after the model.
///
/// # Errors
/// As [`ScheduleConfig::check`], before anything is called; [`Error::Value`] if a start has no step to take, or a
/// closure returns another number of values than there are latents; and whatever the closures return, at once.
///
/// Golden: `tests/golden/samplers.safetensors`, `schedulers.json`.
pub(crate) fn sample<E: From<Error>>(
    sampler: Sampler,
    config: &ScheduleConfig,
    steps: usize,
    start: impl Into<Start>,
    mut denoise: impl FnMut(&Step, &mut [f32]) -> Result<Vec<f32>, E>,
    mut noise: impl FnMut() -> Result<Vec<f32>, E>,
) -> Result<Vec<f32>, E> {
    let mut plan = sampler.method().plan(config, steps)?;
    let (mut x, first) = start.into().on(&plan, steps)?;
    let (n, calls) = (x.len(), plan.timesteps.len());
    for call in first..calls {
        let (signal, level) = plan.levels[call];
        let deviation = if plan.scaled {
            (level * level + 1.0).sqrt()
        } else {
            1.0
        };
        let step = Step {
            index: call - first,
            total: calls - first,
            timestep: plan.timesteps[call],
            signal: signal / deviation,
            noise: level / deviation,
        };
        let m = if plan.scaled {
            let scaled: Vec<f32> = x.iter().map(|x| x / deviation).collect();
            let mut seen = scaled.clone();
            let m = denoise(&step, &mut seen)?;
            // By the difference, so that latents that were left alone stay the same to the last bit.
            for (x, (seen, scaled)) in x.iter_mut().zip(seen.iter().zip(&scaled)) {
                *x += (seen - scaled) * deviation;
            }
            m
        } else {
            denoise(&step, &mut x)?
        };
        let m = sized("the model's output", n, m)?;
        let fresh = match plan.fresh {
            Fresh::Never => Vec::new(),
            Fresh::BeforeLast if call + 1 == calls => Vec::new(),
            Fresh::Always | Fresh::BeforeLast => sized("the noise", n, noise()?)?,
        };
        plan.solver.step(call, &mut x, m, &fresh);
    }
    Ok(x)
}

samplers! {
    /// DPM-Solver++ of second order, multistep (Lu et al. 2022b, algorithm 2).
    DpmPp2M => dpmpp_2m::METHOD,
    /// DPM-Solver++ of second order, multistep, on the stochastic equation.
    DpmPp2MSde => dpmpp_2m_sde::METHOD,
    /// UniPC of second order (Zhao et al. 2023).
    UniPc => unipc::METHOD,
    /// DDIM at η = 0 (Song et al. 2020).
    Ddim => ddim::METHOD,
    /// Euler steps (Karras et al. 2022, algorithm 2 without churn).
    Euler => euler::METHOD,
    /// Euler steps down and fresh noise up (k-diffusion's `sample_euler_ancestral`).
    EulerA => euler_a::METHOD,
    /// Heun's steps (Karras et al. 2022, algorithm 2 without churn).
    Heun => heun::METHOD,
    /// Pseudo linear multistep (Liu et al. 2022).
    Pndm => pndm::METHOD,
    /// Latent consistency (Luo et al. 2023), for models that were distilled to it.
    Lcm => lcm::METHOD,
}

#[cfg(test)]
mod files_tests;
#[cfg(test)]
mod tests;

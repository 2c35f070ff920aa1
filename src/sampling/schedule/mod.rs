//! The noise schedule of a model, from its `scheduler_config.json`.
//!
//! A schedule is a list: `ᾱ_t`, the share of the picture's variance that is left at timestep `t` of
//! 0..1000 when `x_t = √ᾱ_t·x_0 + √(1-ᾱ_t)·ε` (Ho et al. 2020, eq. 4).
//!
//! The file says which scheduler class wrote it, but here as in diffusers any sampler may use it,
//! as by `OtherScheduler.from_config(pipe.scheduler.config)`. In effect a key of the file counts
//! for every class that knows it, whoever wrote it, and a key that is not in the file has the
//! default of the class *used*: `timestep_spacing` is "leading" for DDIM and "linspace" for Euler.
//! [`ScheduleConfig`] therefore keeps what the file says and leaves the rest open.

mod support;

use std::borrow::Cow;

use super::betas::{BetaSchedule, alphas_cumprod, betas, zero_terminal_snr};
use super::samplers::Sampler;
use crate::config::ConfigReader;
use crate::{Error, Result};
use support::Refusal;

/// What the model's output means (Salimans and Ho 2022, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prediction {
    /// The noise `ε`.
    Epsilon,
    /// The velocity `v = √ᾱ·ε - √(1-ᾱ)·x_0`.
    Velocity,
}

/// How the timesteps of a run are spread over those of training (Lin et al. 2023, table 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spacing {
    /// From the first to the last, both included.
    Linspace,
    /// Multiples of a whole stride, from the first on.
    Leading,
    /// Back from the last in strides.
    Trailing,
}

/// A model's noise schedule, and what its file says about sampling.
#[derive(Clone, Debug)]
pub struct ScheduleConfig {
    file: String,
    betas: Vec<f32>,
    alphas_cumprod: Vec<f32>,
    prediction: Prediction,
    spacing: Option<Spacing>,
    set_alpha_to_one: Option<bool>,
    /// Whether the file has `clip_sample`: then it is off, see [`ScheduleConfig::parse`].
    has_clip_sample: bool,
    clip_range: f32,
    rescaled: bool,
    refusals: Vec<Refusal>,
    /// Added to timesteps that are spaced "leading".
    pub(super) steps_offset: i64,
    /// Whether PNDM starts with linear multistep, instead of Runge-Kutta.
    pub(super) skip_prk_steps: bool,
    /// Whether the noise levels are those of Karras et al. 2022, eq. 5.
    pub(super) karras: bool,
    /// Whether the betas follow a cosine.
    pub(super) cosine: bool,
    /// Whether a last step ends at the lowest noise level of training, instead of at none.
    pub(super) ends_at_sigma_min: bool,
    /// Whether DPM-Solver++ ends with a step of first order in runs of less than 15.
    pub(super) lower_order_final: bool,
    /// Whether DPM-Solver++ ends with a step of first order in any run.
    pub(super) euler_at_final: bool,
    /// DPM-Solver++ leaves out timesteps whose `λ = ln(√ᾱ/√(1-ᾱ))` is below.
    pub(super) lambda_min: f32,
}

impl ScheduleConfig {
    /// Reads the `text` of a `scheduler_config.json`; `file` is its name in errors.
    ///
    /// Two outdated settings are put right as `StableDiffusionPipeline` does: `steps_offset`
    /// becomes 1, and `clip_sample` false, wherever the file has them.
    ///
    /// # Errors
    /// [`Error::Config`] names a key that is malformed, unknown, or not supported by any sampler.
    /// One that is supported by some samplers only is an error when [`ScheduleConfig::check`] or a
    /// run asks for another.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let mut keys = ConfigReader::parse_diffusers(file, text)?;
        support::check_class(file, &mut keys)?;
        let steps = keys
            .integer("num_train_timesteps", 2..=100_000)?
            .unwrap_or(1000) as usize;
        let schedule = keys.choice(
            "beta_schedule",
            &[
                ("linear", BetaSchedule::Linear),
                ("scaled_linear", BetaSchedule::ScaledLinear),
                ("squaredcos_cap_v2", BetaSchedule::Cosine),
            ],
        )?;
        let cosine = schedule == Some(BetaSchedule::Cosine);
        let ends = (
            keys.number("beta_start")?.unwrap_or(0.0001),
            keys.number("beta_end")?.unwrap_or(0.02),
        );
        let (source, betas) = match keys.numbers("trained_betas")? {
            Some(betas) => (
                "trained_betas",
                betas.into_iter().map(|beta| beta as f32).collect(),
            ),
            None => (
                "beta_schedule",
                betas(schedule.unwrap_or(BetaSchedule::Linear), ends, steps),
            ),
        };
        if betas.len() != steps {
            return Err(keys.error(
                source,
                format!("{steps} numbers, as `num_train_timesteps` says"),
                betas.len(),
            ));
        }
        if let Some(beta) = betas.iter().find(|beta| !(**beta > 0.0 && **beta < 1.0)) {
            return Err(keys.error(source, "every beta between 0 and 1", beta));
        }
        let plain = alphas_cumprod(&betas);
        if let Some(alpha) = plain.iter().find(|alpha| !(**alpha > 0.0 && **alpha < 1.0)) {
            return Err(keys.error(source, "a signal that lasts, between 0 and 1", alpha));
        }
        let rescaled = keys.flag("rescale_betas_zero_snr")?.unwrap_or(false);
        let alphas_cumprod = if rescaled {
            alphas_cumprod(&zero_terminal_snr(&betas))
        } else {
            plain
        };
        let clip_range = keys.number("clip_sample_range")?.unwrap_or(1.0) as f32;
        if clip_range.is_nan() || clip_range <= 0.0 {
            return Err(keys.error("clip_sample_range", "a number above 0", clip_range));
        }
        let final_sigmas =
            keys.choice("final_sigmas_type", &[("zero", false), ("sigma_min", true)])?;

        // Null is put right as any number is.
        let steps_offset = match keys.is_null("steps_offset") {
            true => keys.take("steps_offset").map(|_| 0),
            false => keys.integer("steps_offset", 0..=100_000)?,
        };
        let steps_offset = steps_offset.map_or(0, |_| 1);

        let config = Self {
            file: file.to_owned(),
            prediction: keys
                .choice(
                    "prediction_type",
                    &[
                        ("epsilon", Prediction::Epsilon),
                        ("v_prediction", Prediction::Velocity),
                    ],
                )?
                .unwrap_or(Prediction::Epsilon),
            spacing: keys.choice(
                "timestep_spacing",
                &[
                    ("linspace", Spacing::Linspace),
                    ("leading", Spacing::Leading),
                    ("trailing", Spacing::Trailing),
                ],
            )?,
            set_alpha_to_one: keys.flag("set_alpha_to_one")?,
            has_clip_sample: keys.flag("clip_sample")?.is_some(),
            clip_range,
            steps_offset,
            // diffusers takes no null for these two.
            skip_prk_steps: keys.or("skip_prk_steps", false)?,
            karras: keys.or("use_karras_sigmas", false)?,
            cosine,
            ends_at_sigma_min: final_sigmas.unwrap_or(false),
            lower_order_final: keys.flag("lower_order_final")?.unwrap_or(true),
            euler_at_final: keys.flag("euler_at_final")?.unwrap_or(false),
            lambda_min: keys
                .number("lambda_min_clipped")?
                .unwrap_or(f64::NEG_INFINITY) as f32,
            refusals: support::refusals(&mut keys)?,
            rescaled,
            betas,
            alphas_cumprod,
        };
        keys.ignore(support::WITHOUT_EFFECT);
        keys.finish()?;
        Ok(config)
    }

    /// What the model's output means.
    pub fn prediction(&self) -> Prediction {
        self.prediction
    }

    /// Timesteps of training, 1000 in every Stable Diffusion.
    pub fn num_train_timesteps(&self) -> usize {
        self.betas.len()
    }

    /// `ᾱ_t` for every timestep of training, falling from near 1 to near 0.
    ///
    /// # Numerics
    /// As in PyTorch: betas and their complements in f32, the running product in f64, each value
    /// rounded to f32.
    pub fn alphas_cumprod(&self) -> &[f32] {
        &self.alphas_cumprod
    }

    /// `ᾱ_t` at one timestep of training.
    ///
    /// # Errors
    /// [`Error::Value`] if there is no such timestep.
    pub fn alpha_bar(&self, timestep: usize) -> Result<f32> {
        self.alphas_cumprod
            .get(timestep)
            .copied()
            .ok_or_else(|| self.no_timestep(timestep))
    }

    /// `(√ᾱ_t, √(1-ᾱ_t))`: the factors of picture and noise in `x_t`, and of noise and -picture in
    /// the velocity.
    ///
    /// # Errors
    /// [`Error::Value`] if there is no such timestep.
    pub fn signal_and_noise(&self, timestep: usize) -> Result<(f32, f32)> {
        let alpha_bar = self.alpha_bar(timestep)?;
        Ok((alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt()))
    }

    /// Whether `sampler` can make a picture in so many steps under this file, without running
    /// anything.
    ///
    /// # Errors
    /// [`Error::Value`] if `steps` is not in `1..=num_train_timesteps`, or of a number that this
    /// spacing cannot take; [`Error::Config`] if the file has a value that this sampler heeds and
    /// does not support.
    pub fn check(&self, sampler: Sampler, steps: usize) -> Result<()> {
        super::timesteps::Timesteps::new(self, sampler, steps).map(|_| ())
    }

    /// [`Error::Config`] if the file has a value that `sampler` heeds and does not support.
    pub(super) fn check_sampler(&self, sampler: Sampler) -> Result<()> {
        let error = |key: &str, expected: &str, found: &str| {
            let expected = format!("{expected} with sampler `{sampler}`");
            Err(Error::Config {
                file: self.file.clone(),
                key: key.to_owned(),
                expected,
                found: found.to_owned(),
            })
        };
        match self
            .refusals
            .iter()
            .find(|refusal| refusal.samplers.contains(&sampler))
        {
            Some(refusal) => error(refusal.key, &refusal.expected, &refusal.found),
            // x_0 = (x_t - √(1-ᾱ)·ε)/√ᾱ would divide by zero at the last timestep.
            None if sampler == Sampler::Ddim
                && self.rescaled
                && self.prediction == Prediction::Epsilon =>
            {
                error(
                    "rescale_betas_zero_snr",
                    "false, or `v_prediction`,",
                    "true",
                )
            }
            None => Ok(()),
        }
    }

    /// [`Error::Value`] for a timestep past the end.
    pub(super) fn no_timestep(&self, timestep: impl ToString) -> Error {
        Error::value(
            "timestep",
            format!("one below {}", self.betas.len()),
            timestep,
        )
    }

    /// How `sampler` spreads its timesteps.
    pub(super) fn spacing(&self, sampler: Sampler) -> Spacing {
        self.spacing.unwrap_or(match sampler {
            Sampler::Ddim | Sampler::Pndm => Spacing::Leading,
            Sampler::DpmPp2M | Sampler::Euler | Sampler::EulerA => Spacing::Linspace,
        })
    }

    /// The limit that `sampler` puts on the picture it predicts.
    pub(super) fn clip(&self, sampler: Sampler) -> Option<f32> {
        (sampler == Sampler::Ddim && !self.has_clip_sample).then_some(self.clip_range)
    }

    /// `ᾱ` as `sampler` sees it.
    pub(super) fn alphas_of(&self, sampler: Sampler) -> Cow<'_, [f32]> {
        match sampler {
            Sampler::Pndm if self.rescaled => Cow::Owned(alphas_cumprod(&self.betas)),
            Sampler::DpmPp2M | Sampler::Euler | Sampler::EulerA if self.rescaled => {
                let mut alphas = self.alphas_cumprod.clone();
                if let Some(last) = alphas.last_mut() {
                    // diffusers: close to 0 without being 0, so that the first sigma is finite.
                    *last = 2_f32.powi(-24);
                }
                Cow::Owned(alphas)
            }
            _ => Cow::Borrowed(&self.alphas_cumprod),
        }
    }

    /// Whether `ᾱ` is 1 beyond the last step of `sampler`, and not `ᾱ_0`; for DDIM and PNDM.
    pub(super) fn ends_at_one(&self, sampler: Sampler) -> bool {
        self.set_alpha_to_one.unwrap_or(sampler == Sampler::Ddim)
    }
}

#[cfg(test)]
mod tests;

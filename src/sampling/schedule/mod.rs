//! The noise schedule of a model, from its `scheduler_config.json`.
//!
//! A schedule is a list: `ᾱ_t`, the share of the picture's variance that is left at timestep `t` of
//! 0..1000 when `x_t = √ᾱ_t·x_0 + √(1-ᾱ_t)·ε` (Ho et al. 2020, eq. 4).
//!
//! The file says which scheduler class wrote it, but here as in diffusers any sampler may use it,
//! as by `OtherScheduler.from_config(pipe.scheduler.config)`. In effect a key of the file counts
//! for every class that knows it, whoever wrote it, and a key that is not in the file has the
//! default of the class *used*: `timestep_spacing` is "leading" for DDIM and "linspace" for Euler.
//! [`ScheduleConfig`] therefore keeps what the file says and leaves the rest open. It knows no sampler: each says in
//! its own file under `samplers/` which keys it heeds.

mod support;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::betas::{BetaSchedule, alphas_cumprod, betas, zero_terminal_snr};
use crate::config::ConfigReader;
use crate::{Error, Result};
pub(super) use support::Heeded;

/// What the model's output means (Salimans and Ho 2022, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prediction {
    /// The noise `ε`.
    Epsilon,
    /// The velocity `v = √ᾱ·ε - √(1-ᾱ)·x_0`.
    Velocity,
}

/// As ModelSpec names it.
impl fmt::Display for Prediction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Epsilon => "epsilon",
            Self::Velocity => "v",
        })
    }
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
pub(crate) struct ScheduleConfig {
    file: String,
    betas: Vec<f32>,
    alphas_cumprod: Vec<f32>,
    prediction: Prediction,
    /// The keys that only some samplers heed, for these to judge.
    heeded: BTreeMap<&'static str, Value>,
    /// Whether the betas are the file's own. Else they are those of most classes, but not of all.
    pub(super) gives_betas: bool,
    /// Whether the last `ᾱ` is 0 (Lin et al. 2023).
    pub(super) rescaled: bool,
    /// How timesteps are spread, if the file says so.
    pub(super) spacing: Option<Spacing>,
    /// Whether `ᾱ` is 1 beyond the last step, and not `ᾱ_0`, if the file says so.
    pub(super) set_alpha_to_one: Option<bool>,
    /// Whether the file has `clip_sample`: then it is off, see [`ScheduleConfig::parse`].
    pub(super) has_clip_sample: bool,
    /// The limit of the predicted picture, where it is clipped.
    pub(super) clip_range: f32,
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
    /// Whether multistep solvers end with steps of a lower order, DPM-Solver++ in runs of less than 15.
    pub(super) lower_order_final: bool,
    /// Whether DPM-Solver++ ends with a step of first order in any run.
    pub(super) euler_at_final: bool,
    /// DPM-Solver++ leaves out timesteps whose `λ = ln(√ᾱ/√(1-ᾱ))` is below.
    pub(super) lambda_min: f32,
}

impl ScheduleConfig {
    /// Reads the `text` of a `scheduler_config.json`; `file` is its name in errors, and `heeded` are the keys that some
    /// samplers judge themselves: [`ScheduleConfig::parse`].
    pub(super) fn read(
        file: &str,
        text: &str,
        heeded: impl Iterator<Item = &'static str>,
    ) -> Result<Self> {
        let mut keys = ConfigReader::parse_diffusers(file, text)?;
        support::check_class(file, &mut keys)?;
        let heeded = heeded
            .filter_map(|key| Some((key, keys.take(key)?)))
            .collect();
        let ends = ["beta_schedule", "beta_start", "beta_end"];
        let gives_betas = keys.has("trained_betas")
            || keys.word("beta_schedule") == Some("squaredcos_cap_v2")
            || ends.iter().all(|key| keys.has(key));
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
            heeded,
            gives_betas,
            rescaled,
            betas,
            alphas_cumprod,
        };
        for (key, supported) in support::OF_ALL {
            support::only(&mut keys, key, supported)?;
        }
        keys.ignore(support::WITHOUT_EFFECT);
        keys.finish()?;
        Ok(config)
    }

    /// What the model's output means.
    pub(crate) fn prediction(&self) -> Prediction {
        self.prediction
    }

    /// Timesteps of training, 1000 in every Stable Diffusion.
    pub(crate) fn num_train_timesteps(&self) -> usize {
        self.betas.len()
    }

    /// `ᾱ_t` for every timestep of training, falling from near 1 to near 0.
    ///
    /// # Numerics
    /// As in PyTorch: betas and their complements in f32, the running product in f64, each value
    /// rounded to f32.
    pub(crate) fn alphas_cumprod(&self) -> &[f32] {
        &self.alphas_cumprod
    }

    /// `ᾱ_t` at one timestep of training.
    ///
    /// # Errors
    /// [`Error::Value`] if there is no such timestep.
    pub(crate) fn alpha_bar(&self, timestep: usize) -> Result<f32> {
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
    pub(crate) fn signal_and_noise(&self, timestep: usize) -> Result<(f32, f32)> {
        let alpha_bar = self.alpha_bar(timestep)?;
        Ok((alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt()))
    }

    /// [`Error::Value`] for a timestep past the end.
    pub(super) fn no_timestep(&self, timestep: impl ToString) -> Error {
        Error::value(
            "timestep",
            format!("one below {}", self.betas.len()),
            timestep,
        )
    }

    /// The value of a key that only some samplers heed.
    pub(super) fn heeded(&self, key: &str) -> Option<&Value> {
        self.heeded.get(key)
    }

    /// [`Error::Config`] about a key that `sampler` heeds.
    pub(super) fn refusal(
        &self,
        sampler: &str,
        key: &str,
        expected: impl std::fmt::Display,
        found: impl ToString,
    ) -> Error {
        Error::Config {
            file: self.file.clone(),
            key: key.to_owned(),
            expected: format!("{expected} with sampler `{sampler}`"),
            found: found.to_string(),
        }
    }

    /// `ᾱ` of the betas as they stand, for samplers that know nothing of a last `ᾱ` of 0.
    pub(super) fn plain_alphas(&self) -> Vec<f32> {
        alphas_cumprod(&self.betas)
    }

    /// `ᾱ` with a last value that is close to 0 without being 0, so that the first `σ` is finite.
    pub(super) fn finite_alphas(&self) -> Vec<f32> {
        let mut alphas = self.alphas_cumprod.clone();
        if let (true, Some(last)) = (self.rescaled, alphas.last_mut()) {
            *last = 2_f32.powi(-24);
        }
        alphas
    }
}

#[cfg(test)]
mod tests;

//! Denoising diffusion implicit models (Song et al. 2020).

use super::super::schedule::{Prediction, ScheduleConfig, Spacing};
use super::super::timesteps::of_table;
use super::method::{Fresh, Method, Plan, Solver, level};
use crate::Result;

/// At η = 0. It follows `set_alpha_to_one`, `clip_sample`, `rescale_betas_zero_snr`, and ignores what is said of
/// sigmas.
pub(super) const METHOD: Method = Method {
    name: "ddim",
    label: "DDIM",
    aliases: &[],
    // It equals diffusers' `DDIMScheduler`.
    heeds: &[("thresholding", &["false", "null"])],
    plan,
};

fn plan(config: &ScheduleConfig, steps: usize) -> Result<Plan> {
    // x_0 = (x_t - √(1-ᾱ)·ε)/√ᾱ would divide by zero at the last timestep.
    if config.rescaled && config.prediction() == Prediction::Epsilon {
        let expected = "false, or `v_prediction`,";
        return Err(config.refusal(METHOD.name, "rescale_betas_zero_snr", expected, "true"));
    }
    let timesteps = of_table(config, Spacing::Leading, steps)?;
    let stride = config.num_train_timesteps() / steps;
    let alphas = config.alphas_cumprod();
    let end = match config.set_alpha_to_one {
        None | Some(true) => 1.0,
        Some(false) => alphas[0],
    };
    let pair = |timestep: &f32| {
        let here = *timestep as usize;
        let next = here.checked_sub(stride).map_or(end, |next| alphas[next]);
        (alphas[here], next)
    };
    let pairs: Vec<(f32, f32)> = timesteps.iter().map(pair).collect();
    let levels = pairs.iter().map(|(here, _)| level(*here)).collect();
    let ddim = Ddim {
        prediction: config.prediction(),
        limit: (!config.has_clip_sample).then_some(config.clip_range),
        alphas: pairs,
    };
    Ok(Plan::preserving(timesteps, levels, Fresh::Never, ddim))
}

struct Ddim {
    prediction: Prediction,
    /// Of the picture that is predicted.
    limit: Option<f32>,
    /// `ᾱ` of each step, and of where it leads.
    alphas: Vec<(f32, f32)>,
}

impl Solver for Ddim {
    /// `x_{t-1} = √ᾱ_{t-1}·x_0 + √(1-ᾱ_{t-1})·ε` (eq. 12).
    fn step(&mut self, index: usize, x: &mut [f32], m: Vec<f32>, _: &[f32]) {
        let (here, next) = self.alphas[index];
        let (signal, noise) = level(next);
        for (x, m) in x.iter_mut().zip(m) {
            let (x_0, epsilon) = self.prediction.data_and_noise(level(here), *x, m);
            let x_0 = self.limit.map_or(x_0, |limit| x_0.clamp(-limit, limit));
            *x = signal * x_0 + noise * epsilon;
        }
    }
}

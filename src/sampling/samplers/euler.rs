//! Euler steps along the probability flow (Karras et al. 2022).

use super::super::schedule::{Prediction, ScheduleConfig};
use super::super::timesteps::{end, initial_sigma, of_fractions, sigmas};
use super::method::{Fresh, Method, Plan, Solver};
use crate::Result;

/// Without churn. It follows `use_karras_sigmas` and `final_sigmas_type`.
pub(super) const METHOD: Method = Method {
    name: "euler",
    label: "Euler",
    aliases: &["keuler", "eulerdiscrete"],
    // It equals diffusers' `EulerDiscreteScheduler`.
    heeds: &[
        ("interpolation_type", &["\"linear\""]),
        ("sigma_max", &["null"]),
        ("sigma_min", &["null"]),
        ("timestep_type", &["\"discrete\"", "null"]),
        ("use_beta_sigmas", &["false"]),
        ("use_exponential_sigmas", &["false"]),
    ],
    plan,
};

fn plan(config: &ScheduleConfig, steps: usize) -> Result<Plan> {
    let alphas = config.finite_alphas();
    let mut levels = of_fractions(config, &alphas, steps, config.karras);
    levels.sigmas.push(end(config, &sigmas(&alphas)));
    let euler = Euler {
        prediction: config.prediction(),
        sigmas: levels.sigmas.clone(),
    };
    Ok(Plan::exploding(
        levels.timesteps,
        &levels.sigmas,
        initial_sigma(config, &levels.sigmas),
        Fresh::Never,
        euler,
    ))
}

struct Euler {
    prediction: Prediction,
    sigmas: Vec<f32>,
}

impl Solver for Euler {
    /// `x += (σ_to - σ)·dx/dσ` (algorithm 2).
    fn step(&mut self, index: usize, x: &mut [f32], m: Vec<f32>, _: &[f32]) {
        let (sigma, to) = (self.sigmas[index], self.sigmas[index + 1]);
        for (x, m) in x.iter_mut().zip(m) {
            *x += self.prediction.slope(sigma, *x, m) * (to - sigma);
        }
    }
}

//! Euler steps down and fresh noise up: k-diffusion's `sample_euler_ancestral`.

use super::super::schedule::{Prediction, ScheduleConfig};
use super::super::timesteps::{initial_sigma, of_fractions};
use super::method::{Fresh, Method, Plan, Solver};
use crate::Result;

/// It ignores what is said of sigmas: they are those of the timesteps, and end at 0.
pub(super) const METHOD: Method = Method {
    name: "euler-a",
    label: "Euler a",
    aliases: &[
        "keulera",
        "eulerancestral",
        "keulerancestral",
        "eulerancestraldiscrete",
    ],
    // It equals diffusers' `EulerAncestralDiscreteScheduler`.
    heeds: &[],
    plan,
};

fn plan(config: &ScheduleConfig, steps: usize) -> Result<Plan> {
    let mut levels = of_fractions(config, &config.finite_alphas(), steps, false);
    levels.sigmas.push(0.0);
    let euler = EulerAncestral {
        prediction: config.prediction(),
        sigmas: levels.sigmas.clone(),
    };
    Ok(Plan::exploding(
        levels.timesteps,
        &levels.sigmas,
        initial_sigma(config, &levels.sigmas),
        Fresh::Always,
        euler,
    ))
}

struct EulerAncestral {
    prediction: Prediction,
    sigmas: Vec<f32>,
}

impl Solver for EulerAncestral {
    /// A step down to `σ_down² = σ_to² - σ_up²`, and noise of `σ_up² = σ_to²·(σ² - σ_to²)/σ²`.
    fn step(&mut self, index: usize, x: &mut [f32], m: Vec<f32>, noise: &[f32]) {
        let (sigma, to) = (self.sigmas[index], self.sigmas[index + 1]);
        let up = (to * to * (sigma * sigma - to * to) / (sigma * sigma)).sqrt();
        let down = (to * to - up * up).max(0.0).sqrt();
        for ((x, m), noise) in x.iter_mut().zip(m).zip(noise) {
            *x += self.prediction.slope(sigma, *x, m) * (down - sigma);
            *x += noise * up;
        }
    }
}

//! Heun's steps along the probability flow (Karras et al. 2022): second order, at two calls a step.

use super::super::schedule::{Prediction, ScheduleConfig};
use super::super::timesteps::{initial_sigma, of_fractions};
use super::method::{Fresh, Method, Plan, Solver, needs_betas};
use crate::Result;

/// Without churn. It follows `use_karras_sigmas`; its sigmas end at 0, and it does not know `rescale_betas_zero_snr`.
pub(super) const METHOD: Method = Method {
    name: "heun",
    label: "Heun",
    aliases: &["kheun", "heundiscrete"],
    // It equals diffusers' `HeunDiscreteScheduler`.
    heeds: &[
        ("sigma_max", &["null"]),
        ("sigma_min", &["null"]),
        ("use_beta_sigmas", &["false"]),
        ("use_exponential_sigmas", &["false"]),
    ],
    plan,
};

/// Calls: one at the first level, and two at every other: where a step ends, and where the next begins.
fn plan(config: &ScheduleConfig, steps: usize) -> Result<Plan> {
    needs_betas(METHOD.name, config)?;
    let levels = of_fractions(config, &config.plain_alphas(), steps, config.karras);
    let twice = |values: &[f32]| -> Vec<f32> {
        values
            .iter()
            .flat_map(|value| [*value; 2])
            .skip(1)
            .collect()
    };
    let (timesteps, sigmas) = (twice(&levels.timesteps), twice(&levels.sigmas));
    let heun = Heun {
        prediction: config.prediction(),
        sigmas: [&sigmas[..], &[0.0]].concat(),
        begun: None,
    };
    let start = initial_sigma(config, &sigmas);
    Ok(Plan {
        order: Some(2),
        ..Plan::exploding(timesteps, &sigmas, start, Fresh::Never, heun)
    })
}

struct Heun {
    prediction: Prediction,
    /// Of each call, and of the end.
    sigmas: Vec<f32>,
    /// Within a step: latents and slopes where it began.
    begun: Option<(Vec<f32>, Vec<f32>)>,
}

impl Solver for Heun {
    /// To the next level by the slope of this one, and then again, by the mean of this slope and the next one's
    /// (algorithm 2). The last step, which ends at 0, has no slope there and is one of Euler's.
    fn step(&mut self, index: usize, x: &mut [f32], m: Vec<f32>, _: &[f32]) {
        let sigma = self.sigmas[index];
        let slope = |x: &[f32]| -> Vec<f32> {
            let pairs = x.iter().zip(&m);
            pairs
                .map(|(x, m)| self.prediction.slope(sigma, *x, *m))
                .collect()
        };
        match self.begun.take() {
            None => {
                let (from, slopes) = (x.to_vec(), slope(x));
                for (x, slope) in x.iter_mut().zip(&slopes) {
                    *x += slope * (self.sigmas[index + 1] - sigma);
                }
                // Where the next call is at the end of the same step.
                self.begun = (index + 2 < self.sigmas.len()).then_some((from, slopes));
            }
            Some((from, first)) => {
                let length = sigma - self.sigmas[index - 1];
                let second = slope(x);
                for (i, x) in x.iter_mut().enumerate() {
                    *x = from[i] + (first[i] + second[i]) / 2.0 * length;
                }
            }
        }
    }
}

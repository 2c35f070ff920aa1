//! Latent consistency models (Luo et al. 2023): to the picture in one step, and back to a lower level of noise.

use super::super::schedule::{Prediction, ScheduleConfig};
use super::super::timesteps::too_many;
use super::method::{Fresh, Level, Method, Plan, Solver, level, needs_betas};
use crate::Result;

/// For models that were distilled to it. It follows `original_inference_steps`, `timestep_scaling` and
/// `rescale_betas_zero_snr`, and ignores `timestep_spacing`, `steps_offset` and `set_alpha_to_one`.
pub(super) const METHOD: Method = Method {
    name: "lcm",
    label: "LCM",
    aliases: &["klcm"],
    // It equals diffusers' `LCMScheduler`.
    heeds: &[
        ("original_inference_steps", &["50"]),
        ("thresholding", &["false", "null"]),
        ("timestep_scaling", &["10.0", "10"]),
    ],
    plan,
};

/// Steps of the distillation, `original_inference_steps`.
const TAUGHT: usize = 50;

/// A share of the steps of the distillation, evenly.
fn plan(config: &ScheduleConfig, steps: usize) -> Result<Plan> {
    needs_betas(METHOD.name, config)?;
    if config.rescaled && config.prediction() == Prediction::Epsilon {
        let expected = "false, or `v_prediction`,";
        return Err(config.refusal(METHOD.name, "rescale_betas_zero_snr", expected, "true"));
    }
    let stride = config.num_train_timesteps() / TAUGHT;
    if steps > TAUGHT || stride == 0 {
        return Err(too_many(
            steps,
            "`lcm` has at most the 50 that its models were taught",
        ));
    }
    // floor(linspace(0, 50, steps, endpoint=False)), counted from the last.
    let share = TAUGHT as f64 / steps as f64;
    let timestep = |i| stride * (TAUGHT - (i as f64 * share) as usize) - 1;
    let timesteps: Vec<usize> = (0..steps).map(timestep).collect();
    let alphas = config.alphas_cumprod();
    let levels: Vec<Level> = timesteps.iter().map(|t| level(alphas[*t])).collect();
    let timesteps: Vec<f32> = timesteps.into_iter().map(|t| t as f32).collect();
    let lcm = Lcm {
        prediction: config.prediction(),
        timesteps: timesteps.clone(),
        levels: levels.clone(),
    };
    Ok(Plan::preserving(timesteps, levels, Fresh::BeforeLast, lcm))
}

struct Lcm {
    prediction: Prediction,
    timesteps: Vec<f32>,
    levels: Vec<Level>,
}

impl Solver for Lcm {
    /// `c_skip·x + c_out·x_0`, where `s = 10·t`, `c_skip = ¼/(s² + ¼)` and `c_out = s/√(s² + ¼)` (Song et al. 2023,
    /// appendix C), and noise up to the next level.
    fn step(&mut self, index: usize, x: &mut [f32], m: Vec<f32>, noise: &[f32]) {
        let s = self.timesteps[index] * 10.0;
        let (skip, out) = (0.25 / (s * s + 0.25), s / (s * s + 0.25).sqrt());
        for (x, m) in x.iter_mut().zip(m) {
            let (x_0, _) = self.prediction.data_and_noise(self.levels[index], *x, m);
            *x = out * x_0 + skip * *x;
        }
        if let Some((signal, up)) = self.levels.get(index + 1) {
            for (x, noise) in x.iter_mut().zip(noise) {
                *x = signal * *x + up * noise;
            }
        }
    }
}

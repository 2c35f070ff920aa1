//! Pseudo numerical methods for diffusion models (Liu et al. 2022).

use super::super::schedule::{Prediction, ScheduleConfig, Spacing};
use super::super::timesteps::of_table;
use super::method::{Fresh, Method, Plan, Solver, level};
use crate::{Error, Result};

/// Pseudo linear multistep. It follows `skip_prk_steps` and `set_alpha_to_one`; it ignores what is said of sigmas, and
/// does not know `rescale_betas_zero_snr`.
pub(super) const METHOD: Method = Method {
    name: "pndm",
    label: "PLMS",
    aliases: &["plms"],
    // It equals diffusers' `PNDMScheduler`.
    heeds: &[],
    plan,
};

/// Runge-Kutta and then linear multistep (algorithm 2), or, as Stable Diffusion has it, linear multistep from the start
/// with the second call repeated.
fn plan(config: &ScheduleConfig, steps: usize) -> Result<Plan> {
    let falling = of_table(config, Spacing::Leading, steps)?;
    let stride = config.num_train_timesteps() / steps;
    let (timesteps, prk_calls) = if config.skip_prk_steps {
        let mut timesteps = falling;
        if let Some(&second) = timesteps.get(1) {
            timesteps.insert(1, second);
        }
        (timesteps, 0)
    } else {
        let [first, second, third, fourth, ..] = falling[..] else {
            let expected = "at least 4 for `pndm` with Runge-Kutta steps";
            return Err(Error::value("steps", expected, steps));
        };
        let half = (stride / 2) as f32;
        let steps = [(first, second), (second, third), (third, fourth)];
        let prk = steps
            .map(|(from, to)| [from, to + half, to + half, to])
            .concat();
        (
            prk.iter().chain(&falling[3..]).copied().collect(),
            prk.len(),
        )
    };
    let alphas = config.plain_alphas();
    let end = match config.set_alpha_to_one {
        Some(true) => 1.0,
        None | Some(false) => alphas[0],
    };
    let levels = timesteps
        .iter()
        .map(|t| level(alphas[*t as usize]))
        .collect();
    let pndm = Pndm {
        prediction: config.prediction(),
        timesteps: timesteps.iter().map(|t| *t as i64).collect(),
        stride: stride as i64,
        prk_calls,
        alphas,
        end,
        calls: 0,
        start: Vec::new(),
        sum: Vec::new(),
        slopes: Vec::new(),
    };
    Ok(Plan {
        order: (prk_calls == 0).then_some(1), // Runge-Kutta's calls go in fours
        ..Plan::preserving(timesteps, levels, Fresh::Never, pndm)
    })
}

struct Pndm {
    prediction: Prediction,
    timesteps: Vec<i64>,
    /// Timesteps of training from one step to the next.
    stride: i64,
    /// How many calls belong to Runge-Kutta.
    prk_calls: usize,
    /// `ᾱ` at every timestep of training.
    alphas: Vec<f32>,
    /// `ᾱ` beyond the last step.
    end: f32,
    /// Calls so far.
    calls: usize,
    /// Where a step began that takes several calls.
    start: Vec<f32>,
    /// Of Runge-Kutta's weighted slopes.
    sum: Vec<f32>,
    /// The latest last, four at most.
    slopes: Vec<Vec<f32>>,
}

impl Solver for Pndm {
    /// The transfer of eq. 9 along a slope made of several outputs, by Runge-Kutta (eq. 13) in the first three steps
    /// and by linear multistep (eq. 12) in all others.
    ///
    /// With `skip_prk_steps` multistep starts at once: with one output, then, over the same step again, the mean of
    /// that and a second one, and then with orders 2, 3 and 4.
    fn step(&mut self, index: usize, x: &mut [f32], m: Vec<f32>, _: &[f32]) {
        let (call, timestep) = (self.calls, self.timesteps[index]);
        self.calls += 1;
        if call == 0 {
            self.start = x.to_vec();
        }
        if call < self.prk_calls {
            let (stage, from) = (call % 4, self.timesteps[index / 4 * 4]);
            let weight = if matches!(stage, 0 | 3) {
                1.0 / 6.0
            } else {
                1.0 / 3.0
            };
            if stage == 0 {
                self.start = x.to_vec();
                self.slopes.push(m.clone());
                self.sum = vec![0.0; x.len()];
            }
            self.sum
                .iter_mut()
                .zip(&m)
                .for_each(|(sum, m)| *sum += weight * m);
            let to = if stage % 2 == 1 {
                timestep
            } else {
                timestep - self.stride / 2
            };
            let slope = if stage == 3 { &self.sum } else { &m };
            self.transfer(&self.start, from, to, slope, x);
        } else if let (1, 0, [first]) = (call, self.prk_calls, &self.slopes[..]) {
            let mean: Vec<f32> = m
                .iter()
                .zip(first)
                .map(|(m, first)| (m + first) / 2.0)
                .collect();
            self.transfer(&self.start, timestep + self.stride, timestep, &mean, x);
        } else {
            self.slopes.drain(..self.slopes.len().saturating_sub(3));
            self.slopes.push(m);
            let slope = multistep(&self.slopes);
            self.start = x.to_vec();
            self.transfer(&self.start, timestep, timestep - self.stride, &slope, x);
        }
    }
}

impl Pndm {
    /// Into `x`, what lies at one timestep from another along the slope `m` (eq. 9):
    /// `√(ᾱ'/ᾱ)·x - (ᾱ' - ᾱ)·ε / (ᾱ·√(1-ᾱ') + √(ᾱ·(1-ᾱ)·ᾱ'))`.
    fn transfer(&self, start: &[f32], from: i64, to: i64, m: &[f32], x: &mut [f32]) {
        let (here, next) = (self.alpha(from), self.alpha(to));
        let keep = (next / here).sqrt();
        let divisor = here * (1.0 - next).sqrt() + (here * (1.0 - here) * next).sqrt();
        for (x, (start, m)) in x.iter_mut().zip(start.iter().zip(m)) {
            let (_, epsilon) = self.prediction.data_and_noise(level(here), *start, *m);
            *x = keep * start - (next - here) * epsilon / divisor;
        }
    }

    /// `ᾱ` at a timestep; the end lies before the first.
    fn alpha(&self, timestep: i64) -> f32 {
        let last = self.alphas.len() - 1;
        usize::try_from(timestep).map_or(self.end, |t| self.alphas[t.min(last)])
    }
}

/// The Adams-Bashforth slope of the latest one to four outputs (eq. 12; lower orders in the appendix).
fn multistep(slopes: &[Vec<f32>]) -> Vec<f32> {
    match slopes {
        [d, c, b, a] => combine([a, b, c, d], |[a, b, c, d]| {
            (1.0 / 24.0) * (55.0 * a - 59.0 * b + 37.0 * c - 9.0 * d)
        }),
        [c, b, a] => combine([a, b, c], |[a, b, c]| {
            (23.0 * a - 16.0 * b + 5.0 * c) / 12.0
        }),
        [b, a] => combine([a, b], |[a, b]| (3.0 * a - b) / 2.0),
        _ => slopes.last().cloned().unwrap_or_default(),
    }
}

/// `f` of the values at each index of `N` lists.
fn combine<const N: usize>(lists: [&Vec<f32>; N], f: impl Fn([f32; N]) -> f32) -> Vec<f32> {
    (0..lists[0].len())
        .map(|i| f(lists.map(|list| list[i])))
        .collect()
}

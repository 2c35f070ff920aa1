//! The unified predictor-corrector of second order (Zhao et al. 2023).

use super::super::schedule::{Prediction, ScheduleConfig};
use super::super::timesteps::{of_solver, too_many};
use super::method::{Fresh, Level, Method, Plan, Solver, log_ratio, preserving};
use crate::Result;

/// On the data prediction. It follows `use_karras_sigmas`, `final_sigmas_type`, `lower_order_final` and `solver_type`.
pub(super) const METHOD: Method = Method {
    name: "unipc",
    label: "UniPC",
    aliases: &["kunipc", "unipcbh2", "unipcmultistep"],
    // It equals diffusers' `UniPCMultistepScheduler`.
    heeds: &[
        ("disable_corrector", &["[]"]),
        ("predict_x0", &["true"]),
        ("shift_terminal", &["null"]),
        ("sigma_max", &["null"]),
        ("sigma_min", &["null"]),
        ("solver_order", &["2"]),
        ("solver_p", &["null"]),
        // "midpoint", "heun" and "logrho" are other classes', which diffusers reads as "bh2".
        (
            "solver_type",
            &[
                "\"bh2\"",
                "\"bh1\"",
                "\"midpoint\"",
                "\"heun\"",
                "\"logrho\"",
            ],
        ),
        ("thresholding", &["false", "null"]),
        ("use_beta_sigmas", &["false"]),
        ("use_dynamic_shifting", &["false", "null"]),
        ("use_exponential_sigmas", &["false"]),
        ("use_flow_sigmas", &["false", "null"]),
    ],
    plan,
};

fn plan(config: &ScheduleConfig, steps: usize) -> Result<Plan> {
    let last = config.num_train_timesteps();
    let mut levels = of_solver(config, steps, last, f64::round_ties_even)?;
    let calls = levels.timesteps.len();
    if config.karras && config.ends_at_sigma_min {
        levels.sigmas[calls] = levels.sigmas[calls - 1];
    }
    if levels.sigmas[..calls]
        .windows(2)
        .any(|pair| pair[1] >= pair[0])
    {
        return Err(too_many(steps, "two would have the same noise level"));
    }
    if !config.lower_order_final && !config.ends_at_sigma_min && steps > 1 {
        // The level at the end is infinitely far.
        let expected = "true, or a `final_sigmas_type` of \"sigma_min\",";
        return Err(config.refusal(METHOD.name, "lower_order_final", expected, "false"));
    }
    let bh1 = config
        .heeded("solver_type")
        .is_some_and(|value| value == "bh1");
    if bh1 && !config.ends_at_sigma_min {
        let expected = "\"bh2\", or a `final_sigmas_type` of \"sigma_min\",";
        return Err(config.refusal(METHOD.name, "solver_type", expected, "\"bh1\""));
    }
    let solver = UniPc {
        prediction: config.prediction(),
        bh1,
        lower_order_final: config.lower_order_final,
        levels: levels
            .sigmas
            .iter()
            .map(|sigma| preserving(*sigma))
            .collect(),
        outputs: Vec::new(),
        begun: None,
    };
    let begins = solver.levels[..calls].to_vec();
    Ok(Plan::preserving(
        levels.timesteps,
        begins,
        Fresh::Never,
        solver,
    ))
}

struct UniPc {
    prediction: Prediction,
    /// Whether B(h) is h, and not e^h - 1.
    bh1: bool,
    lower_order_final: bool,
    /// (α, σ) of each step, and of the end.
    levels: Vec<Level>,
    /// The data predictions of the last two steps, the latest last.
    outputs: Vec<Vec<f32>>,
    /// The latents at the last step, and its order.
    begun: Option<(Vec<f32>, usize)>,
}

/// What both formulas have in common, for the way from step `s` to `t`.
struct Way {
    /// `σ_t/σ_s`, `α_t·(e^{-h} - 1)` and `α_t·B(h)`.
    keep: f32,
    gain: f32,
    scale: f32,
    /// `(λ_q - λ_s)/h`, of the step `q` before; at order 2.
    ratio: Option<f32>,
    /// `φ_2(-h)` and `φ_3(-h)`, which are `b` in the paper, each over B(h).
    b: [f32; 2],
}

impl UniPc {
    fn way(&self, s: usize, order: usize) -> Way {
        let (from, to) = (self.levels[s], self.levels[s + 1]);
        let lambda = log_ratio(from);
        let h = log_ratio(to) - lambda;
        let minus = -h;
        let falling = minus.exp_m1();
        let bh = if self.bh1 { minus } else { falling };
        let phi = falling / minus - 1.0;
        let ratio = (order == 2).then(|| (log_ratio(self.levels[s - 1]) - lambda) / h);
        Way {
            keep: to.1 / from.1,
            gain: to.0 * falling,
            scale: to.0 * bh,
            ratio,
            b: [phi / bh, (phi / minus - 0.5) * 2.0 / bh],
        }
    }

    /// UniC (algorithm 1, line 8): once the model has said `m` at `x`, where the step from `s` led, that step is made
    /// again, with what it said.
    fn correct(&self, s: usize, (from, order): (Vec<f32>, usize), x: &mut [f32], m: &[f32]) {
        let Way {
            keep,
            gain,
            scale,
            ratio,
            b,
        } = self.way(s, order);
        let (m_s, m_q) = match &self.outputs[..] {
            [m_q, m_s] => (m_s, m_q),
            [.., m_s] => (m_s, m_s),
            [] => return,
        };
        // At order 2 the solution of ρ_q + ρ_t = b_0 and r·ρ_q + ρ_t = b_1.
        let rho_q = ratio.map(|r| (b[0] - b[1]) / (1.0 - r));
        let rho_t = rho_q.map_or(0.5, |rho_q| b[0] - rho_q);
        for (i, x) in x.iter_mut().enumerate() {
            let bend = match (rho_q, ratio) {
                (Some(rho_q), Some(r)) => rho_q * ((m_q[i] - m_s[i]) / r),
                _ => 0.0,
            };
            *x = keep * from[i] - gain * m_s[i] - scale * (bend + rho_t * (m[i] - m_s[i]));
        }
    }

    /// UniP (line 10): from step `s` to the next, by what the model said so far.
    fn predict(&self, s: usize, order: usize, x: &mut [f32]) {
        let Way {
            keep,
            gain,
            scale,
            ratio,
            ..
        } = self.way(s, order);
        let (Some(m_s), Some(m_q)) = (self.outputs.last(), self.outputs.first()) else {
            return;
        };
        for (i, x) in x.iter_mut().enumerate() {
            let bend = ratio.map_or(0.0, |r| 0.5 * ((m_q[i] - m_s[i]) / r));
            *x = keep * *x - gain * m_s[i] - scale * bend;
        }
    }
}

impl Solver for UniPc {
    fn step(&mut self, index: usize, x: &mut [f32], mut m: Vec<f32>, _: &[f32]) {
        for (m, x) in m.iter_mut().zip(&*x) {
            *m = self.prediction.data_and_noise(self.levels[index], *x, *m).0;
        }
        if let Some(begun) = self.begun.take() {
            self.correct(index - 1, begun, x, &m);
        }
        self.outputs.push(m);
        self.outputs.drain(..self.outputs.len().saturating_sub(2));
        let last = index + 2 == self.levels.len();
        let order = match last && self.lower_order_final {
            true => 1,
            false => self.outputs.len(),
        };
        self.begun = Some((x.to_vec(), order));
        self.predict(index, order, x);
    }
}

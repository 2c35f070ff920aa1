//! DPM-Solver++ of second order, multistep (Lu et al. 2022b).

use super::super::schedule::{Prediction, ScheduleConfig};
use super::super::timesteps::{of_solver, too_many};
use super::method::{Fresh, Level, Method, Plan, Solver, log_ratio, preserving};
use crate::Result;

/// It follows `use_karras_sigmas`, `final_sigmas_type`, `lower_order_final`, `euler_at_final`, `lambda_min_clipped` and
/// `solver_type`.
pub(super) const METHOD: Method = Method {
    name: "dpm++2m",
    label: "DPM++ 2M",
    aliases: &[
        "dpm++",
        "dpmpp2m",
        "kdpm++2m",
        "kdpmpp2m",
        "dpmsolver++",
        "dpmsolver++2m",
        "dpmsolvermultistep",
    ],
    // It equals diffusers' `DPMSolverMultistepScheduler`.
    heeds: &[
        // The one that is not `dpm++2m-sde`'s too. diffusers reads "deis", which another class writes, as its default.
        ("algorithm_type", &["\"dpmsolver++\"", "\"deis\""]),
        ("sigma_max", &["null"]),
        ("sigma_min", &["null"]),
        ("solver_order", &["2"]),
        // "logrho", "bh1" and "bh2" are other classes', which diffusers reads as "midpoint".
        (
            "solver_type",
            &[
                "\"midpoint\"",
                "\"heun\"",
                "\"logrho\"",
                "\"bh1\"",
                "\"bh2\"",
            ],
        ),
        ("thresholding", &["false", "null"]),
        ("use_beta_sigmas", &["false"]),
        ("use_exponential_sigmas", &["false"]),
        ("use_flow_sigmas", &["false", "null"]),
        ("use_lu_lambdas", &["false", "null"]),
    ],
    plan: |config, steps| plan(config, steps, Fresh::Never, coefficients),
};

/// `x_t = keep·x_s + gain·(m_s + d/2) + up·z`, or `keep·x_s + gain·m_s + heun·d + up·z` as `solver_type` says, where
/// `d = (m_s - m_q)/r` and z is noise.
pub(super) struct Coefficients {
    pub(super) keep: f32,
    pub(super) gain: f32,
    pub(super) heun: f32,
    pub(super) up: f32,
}

/// `σ_t/σ_s`, `-α_t·(e^{-h} - 1)` and `α_t·((e^{-h} - 1)/h + 1)` (algorithm 2).
fn coefficients(from: Level, to: Level, h: f32) -> Coefficients {
    let falling = (-h).exp() - 1.0;
    Coefficients {
        keep: to.1 / from.1,
        gain: -(to.0 * falling),
        heun: to.0 * (falling / h + 1.0),
        up: 0.0,
    }
}

/// The plan of one of the algorithms of the class.
pub(super) fn plan(
    config: &ScheduleConfig,
    steps: usize,
    fresh: Fresh,
    coefficients: fn(Level, Level, f32) -> Coefficients,
) -> Result<Plan> {
    let lambda = |alpha: f32| alpha.sqrt().ln() - (1.0 - alpha).sqrt().ln();
    let alphas = config.finite_alphas();
    let last = alphas
        .iter()
        .filter(|alpha| lambda(**alpha) >= config.lambda_min)
        .count();
    if steps > last {
        return Err(too_many(steps, "`lambda_min_clipped` leaves no more"));
    }
    // diffusers cuts the fractions of a cosine's timesteps off.
    let whole = if config.cosine {
        f64::trunc
    } else {
        f64::round_ties_even
    };
    let levels = of_solver(config, steps, last, whole)?;
    let calls = levels.timesteps.len();
    let solver = Multistep {
        prediction: config.prediction(),
        coefficients,
        heun: config
            .heeded("solver_type")
            .is_some_and(|value| value == "heun"),
        ends_first_order: config.euler_at_final
            || (config.lower_order_final && calls < 15)
            || !config.ends_at_sigma_min,
        levels: levels
            .sigmas
            .iter()
            .map(|sigma| preserving(*sigma))
            .collect(),
        earlier: None,
    };
    let begins = solver.levels[..calls].to_vec();
    Ok(Plan::preserving(levels.timesteps, begins, fresh, solver))
}

struct Multistep {
    prediction: Prediction,
    coefficients: fn(Level, Level, f32) -> Coefficients,
    heun: bool,
    ends_first_order: bool,
    /// (α, σ) of each step, and of the end.
    levels: Vec<Level>,
    /// m_q and λ_q.
    earlier: Option<(Vec<f32>, f32)>,
}

impl Solver for Multistep {
    /// `m` is the data prediction, at the level `s` of this step and `q` of the one before; `λ = ln(α/σ)`,
    /// `h = λ_t - λ_s` and `r = (λ_s - λ_q)/h`.
    ///
    /// The order is one, without `d`, in the first step, where there is no `q`; and in the last, where the level is 0
    /// and `λ` infinite, or the run is shorter than 15.
    fn step(&mut self, index: usize, x: &mut [f32], mut m: Vec<f32>, noise: &[f32]) {
        let (from, to) = (self.levels[index], self.levels[index + 1]);
        let (lambda, h) = (log_ratio(from), log_ratio(to) - log_ratio(from));
        let Coefficients {
            keep,
            gain,
            heun,
            up,
        } = (self.coefficients)(from, to, h);
        for (m, x) in m.iter_mut().zip(&*x) {
            *m = self.prediction.data_and_noise(from, *x, *m).0;
        }
        let last = index + 2 == self.levels.len();
        match self.earlier.take() {
            // Timesteps that round to the same one have no distance to extrapolate over: diffusers divides by it.
            Some((m_q, lambda_q)) if !(last && self.ends_first_order) && lambda > lambda_q => {
                let inverse = 1.0 / ((lambda - lambda_q) / h); // 1/r
                let bend = if self.heun { heun } else { 0.5 * gain };
                for ((x, m), m_q) in x.iter_mut().zip(&m).zip(m_q) {
                    *x = keep * *x + gain * m + bend * (inverse * (m - m_q));
                }
            }
            _ => x
                .iter_mut()
                .zip(&m)
                .for_each(|(x, m)| *x = keep * *x + gain * m),
        }
        x.iter_mut()
            .zip(noise)
            .for_each(|(x, noise)| *x += up * noise);
        self.earlier = Some((m, lambda));
    }
}

//! DPM-Solver++ of second order on the stochastic equation (Lu et al. 2022b; Zhou et al. in k-diffusion).

use super::dpmpp_2m::{self, Coefficients, plan};
use super::method::{Fresh, Level, Method};

/// diffusers' class with `algorithm_type="sde-dpmsolver++"`, whatever the file says of that; else as `dpm++2m`. The
/// noise of a step is one draw of the generator, so that runs are not those of k-diffusion, which has a Brownian tree.
pub(super) const METHOD: Method = Method {
    name: "dpm++2m-sde",
    label: "DPM++ 2M SDE",
    aliases: &[
        "dpmpp2msde",
        "kdpm++2msde",
        "kdpmpp2msde",
        "dpmsolver++2msde",
        "sdedpmsolver++",
    ],
    // It equals diffusers' `DPMSolverMultistepScheduler`.
    heeds: match dpmpp_2m::METHOD.heeds {
        [_algorithm_type, others @ ..] => others,
        [] => &[],
    },
    plan: |config, steps| plan(config, steps, Fresh::Always, coefficients),
};

/// `σ_t/σ_s·e^{-h}`, `α_t·(1 - e^{-2h})`, `α_t·((1 - e^{-2h})/(-2h) + 1)` and `σ_t·√(1 - e^{-2h})`.
fn coefficients(from: Level, to: Level, h: f32) -> Coefficients {
    let gone = 1.0 - (-2.0 * h).exp();
    Coefficients {
        keep: to.1 / from.1 * (-h).exp(),
        gain: to.0 * gone,
        heun: to.0 * (gone / (-2.0 * h) + 1.0),
        up: to.1 * gone.sqrt(),
    }
}

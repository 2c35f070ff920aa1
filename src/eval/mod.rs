//! Whether shutting a concept does what it claims: pictures drawn with and without it, and with random neurons shut.
//!
//! Every condition draws the same prompts with the same seeds, token included, so that the shut weights are the only
//! difference. [`Metric`] lists what is measured. All figures are paired, picture by picture or draw by draw, and come
//! with bootstrap intervals ([`Summary`]). What follows from them is a [`Verdict`].
//!
//! - CLIP-I, CLIP-T: Ruiz et al. 2023 (DreamBooth) and Radford et al. 2021. CLIPScore: Hessel et al. 2021, eq. 1.
//! - bootstrap: Efron 1979, the percentile interval.
//!
//! Only `held_out` and `bench` know of tensors.

mod attended;
mod bench;
mod held_out;
mod measured;
mod metric;
mod plan;
mod prompts;
mod similarity;
mod state;
mod statistics;
mod study;
mod verdict;

pub use attended::{Attended, WordHeat, attended};
pub use bench::{Bench, Figures, Measuring, Shut};
#[cfg(test)]
pub(crate) use held_out::HeldOut;
pub use measured::Measured;
pub use metric::{Metric, Values, summaries};
pub use plan::{Dose, EvalPlan};
pub use prompts::Prompt;
#[cfg(test)]
pub(crate) use similarity::cosine;
#[cfg(test)]
pub(crate) use state::tests as state_tests;
pub use state::{EvalShape, EvalState};
pub use statistics::{RESAMPLES, Summary};
pub use study::Condition;
pub use verdict::{Answer, Check, Verdict};

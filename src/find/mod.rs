//! From photos to a concept: the loss, the two methods, and the choice of neurons.

mod adam;
mod empirical_denoiser;
pub mod gram;
mod importance;
pub mod learned;
pub(crate) mod loss;
pub mod paper;
pub mod rounding;
mod scores_file;
pub mod selection;
pub mod tuning;

pub use loss::{DreamBoothData, PromptedLatents, Step, rows_at_once};
pub use scores_file::Scores;

//! Options of the commands that draw.

use clap::Args;
use cones::SampleOptions;
use cones::sampling::Sampler;

use super::headings::SAMPLING;
use super::values::{at_least_one, finite_f64, samplers};

/// How pictures are drawn.
#[derive(Debug, Args)]
pub(crate) struct SamplingArgs {
    #[arg(help_heading = SAMPLING, long, help = samplers(), default_value_t = Sampler::ALL[0], value_name = "NAME")]
    sampler: Sampler,
    /// Sampling steps [default: the model's own, else 50]
    #[arg(help_heading = SAMPLING, long, value_name = "N", value_parser = at_least_one)]
    steps: Option<usize>,
    /// How closely to follow the prompt [default: the model's own, which may be another for several
    /// subjects; else 7.5]
    #[arg(help_heading = SAMPLING, long = "guidance-scale", alias = "guidance", allow_negative_numbers = true,
        value_name = "SCALE", value_parser = finite_f64)]
    guidance: Option<f64>,
}

impl SamplingArgs {
    /// What the user asked for, and the rest as the model has it.
    pub(crate) fn options(&self, own: SampleOptions) -> SampleOptions {
        SampleOptions {
            sampler: self.sampler,
            steps: self.steps.unwrap_or(own.steps),
            guidance: self.guidance.unwrap_or(own.guidance),
            ..own
        }
    }
}

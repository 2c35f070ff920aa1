//! From noise to a picture: torch's random numbers, the noise schedule, and the samplers. Nothing here names candle.

pub(crate) mod attend_excite;
mod betas;
mod config;
#[cfg(test)]
mod golden;
mod noise;
mod samplers;
mod schedule;
mod timesteps;

pub use attend_excite::AttendExcite;
pub(crate) use noise::Generator;
pub use samplers::Sampler;
pub(crate) use samplers::{Start, Step, sample};
pub use schedule::Prediction;
pub(crate) use schedule::ScheduleConfig;

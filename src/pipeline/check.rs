//! Whether a model is supported, told before its weights are there.

use super::Pipeline;
use crate::Result;
use crate::checkpoint::Source;
use crate::model::UNetConfig;
use crate::sampling::ScheduleConfig;

impl Pipeline {
    /// Checks what the configuration of the UNet and the noise schedule say: a model that is refused for them need not
    /// be fetched.
    ///
    /// # Errors
    /// If a file is missing, malformed, or of a model that is not supported.
    pub fn check(source: &Source) -> Result<()> {
        let unet = "unet/config.json";
        UNetConfig::parse(unet, &source.required_text(unet)?)?;
        let schedule = "scheduler/scheduler_config.json";
        ScheduleConfig::parse(schedule, &source.required_text(schedule)?)?;
        Ok(())
    }
}

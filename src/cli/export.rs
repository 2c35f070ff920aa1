//! The options of `cones export`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use cones::checkpoint::ExportFormat;

use super::headings::{INPUT, METHOD, OUTPUT};
use super::values::share;

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The indices whose neurons to shut, of scope `prompt`
    #[arg(required = true, num_args = 1.., value_name = "INDEX")]
    pub(crate) indices: Vec<PathBuf>,
    /// Use indices that were found on another model
    #[arg(help_heading = INPUT, long)]
    pub(crate) force: bool,
    /// Shut neurons by this share: 0 leaves them as they are, 1 shuts them
    #[arg(help_heading = METHOD, long, default_value_t = 1.0, value_name = "SHARE", value_parser = share)]
    pub(crate) strength: f64,
    /// What to write: `diffusers`, the UNet, as a folder, or as a file where OUT ends in .safetensors; `checkpoint`,
    /// the whole single file that the model is; `delta`, the changed weights alone
    #[arg(help_heading = OUTPUT, long = "as", value_enum, value_name = "FORMAT")]
    pub(crate) format: Format,
    /// The file or folder to write
    #[arg(help_heading = OUTPUT, short, long, value_name = "OUT")]
    pub(crate) output: PathBuf,
}

/// A way to write a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Diffusers,
    Checkpoint,
    Delta,
}

impl From<Format> for ExportFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Diffusers => Self::Diffusers,
            Format::Checkpoint => Self::Checkpoint,
            Format::Delta => Self::Delta,
        }
    }
}

impl ExportArgs {
    /// What clap cannot say.
    pub(super) fn check(&self) -> Result<(), String> {
        let is_file = self
            .output
            .extension()
            .is_some_and(|ending| ending == "safetensors");
        match is_file || self.format == Format::Diffusers {
            true => Ok(()),
            false => Err(format!(
                "--output: expected a name that ends in .safetensors, found `{}`",
                self.output.display()
            )),
        }
    }
}

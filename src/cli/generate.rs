//! The options of `cones generate`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use cones::Size;
use cones::index::LayerSelection;

use super::MemoryArgs;
use super::headings::{INPUT, METHOD, OUTPUT, SAMPLING};
use super::sampling::SamplingArgs;
use super::values::{files, picture_count, png, size, words};

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// What to draw; subjects that it does not mention are put in
    pub(crate) prompt: String,
    /// Indices whose neurons to shut, with commas between them; may be given several times. A file that has commas in
    /// its name is found by its whole name
    #[arg(help_heading = INPUT, long, value_name = "A,B,...")]
    concepts: Vec<OsString>,
    /// What to keep out of the picture
    #[arg(help_heading = INPUT,
        long = "negative-prompt",
        alias = "negative",
        value_name = "TEXT"
    )]
    pub(crate) negative: Option<String>,
    /// Use the prompt as it is
    #[arg(help_heading = INPUT, long)]
    pub(crate) raw_prompt: bool,
    /// Use indices that were found on another model
    #[arg(help_heading = INPUT, long)]
    pub(crate) force: bool,
    /// Shut only the neurons of these layers: `up_blocks.*`, `mid_block:k`, `*.attentions.0:v`
    #[arg(help_heading = METHOD, long, requires = "concepts", value_name = "PATTERN,...")]
    pub(crate) layers: Option<LayerSelection>,
    /// Make sure that these words are drawn [default: the concepts' subjects]: attend-and-excite, several times slower
    #[arg(help_heading = METHOD, long, num_args = 0.., require_equals = true, value_delimiter = ',',
        value_name = "WORD,...", value_parser = words)]
    pub(crate) attend_excite: Option<Vec<String>>,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    /// Size in pixels, `N` or `WIDTHxHEIGHT` [default: what the model was trained on]
    #[arg(help_heading = SAMPLING, long, value_name = "SIZE", value_parser = size)]
    pub(crate) size: Option<Size>,
    /// How many pictures; picture i has seed SEED + i
    #[arg(help_heading = SAMPLING, long, default_value_t = 1, value_name = "N", value_parser = picture_count)]
    pub(crate) count: usize,
    /// Write where the picture attends to these words of the prompt, as OUT-heat-WORD.png
    #[arg(help_heading = OUTPUT, long, value_delimiter = ',', value_name = "WORD,...", value_parser = words)]
    pub(crate) heatmap: Vec<String>,
    /// The picture to write, a PNG; with --count, OUT-SEED.png for each
    #[arg(help_heading = OUTPUT, short, long, default_value = "out.png", value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Draw all pictures again, also those that an interrupted run of --count, kept in OUT.part, has drawn
    #[arg(help_heading = OUTPUT, long)]
    pub(crate) restart: bool,
    /// Leave out of the PNG how it was made
    #[arg(help_heading = OUTPUT, long)]
    pub(crate) no_metadata: bool,
    #[command(flatten)]
    pub(crate) memory: MemoryArgs,
}

impl GenerateArgs {
    /// What clap cannot say.
    pub(super) fn check(&self) -> Result<(), String> {
        if self
            .concepts()
            .iter()
            .any(|path| path.as_os_str().is_empty())
        {
            return Err("--concepts: expected the names of indices, found an empty one".to_owned());
        }
        png("--output", &self.output)
    }

    /// The indices whose neurons to shut.
    pub(crate) fn concepts(&self) -> Vec<PathBuf> {
        self.concepts.iter().flat_map(|list| files(list)).collect()
    }
}

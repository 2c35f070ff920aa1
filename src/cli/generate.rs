//! The options of `cones generate`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use cones::Size;
use cones::index::LayerSelection;

use super::MemoryArgs;
use super::headings::{INPUT, METHOD, OUTPUT, SAMPLING};
use super::sampling::SamplingArgs;
use super::values::{
    at_least_one, best_of, files, picture, picture_count, share, size, words, zoom,
};

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// What to draw; subjects that it does not mention are put in. `(word)`, `(word:1.3)` and `[word]` weigh words as
    /// in the A1111 web UI; `\\(` is a bracket
    #[arg(required_unless_present_any = ["prompts", "from"])]
    pub(crate) prompt: Option<String>,
    /// Draw every prompt of a file, one on each line, or `-` for those of stdin, with every seed; lines that begin with
    /// `#` are left out
    #[arg(help_heading = INPUT, long, conflicts_with = "prompt", value_name = "FILE")]
    pub(crate) prompts: Option<PathBuf>,
    /// Draw a picture of `cones` again, which says how it was drawn; options given beside it are changed
    #[arg(help_heading = INPUT, long, value_name = "PICTURE")]
    pub(crate) from: Option<PathBuf>,
    /// Begin with a picture in place of noise, cut and scaled to the size that is drawn
    #[arg(help_heading = INPUT, long, value_name = "PICTURE")]
    pub(crate) init: Option<PathBuf>,
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
    /// Put no subjects into the prompt
    #[arg(help_heading = INPUT, long)]
    pub(crate) raw_prompt: bool,
    /// Read brackets as text, as diffusers does
    #[arg(help_heading = INPUT, long)]
    pub(crate) no_weights: bool,
    /// Embed a prompt that is longer than the model's text length in chunks of that, as the A1111 web UI does, and cut
    /// nothing
    #[arg(help_heading = INPUT, long, conflicts_with = "attend_excite")]
    pub(crate) long_prompt: bool,
    /// Use indices that were found on another model
    #[arg(help_heading = INPUT, long)]
    pub(crate) force: bool,
    /// Shut only the neurons of these layers: `up_blocks.*`, `mid_block:k`, `*.attentions.0:v`
    #[arg(help_heading = METHOD, long, requires = "concepts", value_name = "PATTERN,...")]
    pub(crate) layers: Option<LayerSelection>,
    /// Shut neurons by this share: 0 leaves them as they are, 1 shuts them
    #[arg(help_heading = METHOD, long, requires = "concepts", default_value_t = 1.0, value_name = "SHARE",
        value_parser = share)]
    pub(crate) strength: f64,
    /// Make sure that these words are drawn [default: the concepts' subjects]: attend-and-excite, several times slower
    #[arg(help_heading = METHOD, long, num_args = 0.., require_equals = true, value_delimiter = ',',
        value_name = "WORD,...", value_parser = words)]
    pub(crate) attend_excite: Option<Vec<String>>,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    /// Size in pixels, `N` or `WIDTHxHEIGHT` [default: what the model was trained on]
    #[arg(help_heading = SAMPLING, long, value_name = "SIZE", value_parser = size)]
    pub(crate) size: Option<Size>,
    /// How much of --init is drawn anew, from 0 to 1: this share of the steps is taken
    #[arg(help_heading = SAMPLING, long, requires = "init", default_value_t = 0.6, value_name = "SHARE",
        value_parser = share)]
    pub(crate) init_strength: f64,
    /// How many pictures; picture i has seed SEED + i
    #[arg(help_heading = SAMPLING, long, default_value_t = 1, value_name = "N", value_parser = picture_count)]
    pub(crate) count: usize,
    /// Draw one of N seeds, that which most promises to show every subject, by where a quarter of the steps attends to
    /// them: picture i is one of the N seeds from SEED + i·N on
    #[arg(help_heading = SAMPLING, long, requires = "concepts", conflicts_with = "prompts", value_name = "N",
        value_parser = best_of)]
    pub(crate) best_of: Option<usize>,
    /// Write where the picture attends to these words of the prompt, as OUT-heat-WORD.png
    #[arg(help_heading = OUTPUT, long, value_delimiter = ',', value_name = "WORD,...", value_parser = words)]
    pub(crate) heatmap: Vec<String>,
    /// Write what a picture is going to be after every N steps, as OUT-preview.png, until it is done
    #[arg(help_heading = OUTPUT, long, value_name = "N", value_parser = at_least_one)]
    pub(crate) preview: Option<usize>,
    /// Write every pixel as a square of N x N
    #[arg(help_heading = OUTPUT, long, default_value_t = 1, value_name = "N", value_parser = zoom)]
    pub(crate) zoom: u32,
    /// Write all pictures side by side too, as OUT-grid.png: a row for each prompt, a column for each seed
    #[arg(help_heading = OUTPUT, long)]
    pub(crate) grid: bool,
    /// The picture to write, a PNG, or a JPEG or WebP by the ending; with --count, OUT-SEED.png for each; with
    /// --prompts, OUT-LINE-SEED.png
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
        picture("--output", &self.output)
    }

    /// The indices whose neurons to shut.
    pub(crate) fn concepts(&self) -> Vec<PathBuf> {
        self.concepts.iter().flat_map(|list| files(list)).collect()
    }
}

//! The options of `cones eval`.

use std::path::{Path, PathBuf};

use clap::Args;
use cones::index::LayerSelection;

use super::headings::{INPUT, METHOD, OUTPUT, SAMPLING};
use super::sampling::SamplingArgs;
use super::values::{
    density, ending, named, picture_count, up_to_a_hundred, up_to_a_million, words,
};

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// The indices to measure
    #[arg(required = true, value_name = "INDEX")]
    pub(crate) indices: Vec<PathBuf>,
    /// Photos of the subject: a folder or a file; may be given several times; `NAME=DIR` is for the index of this file
    /// name (without .idx) or subject alone
    #[arg(help_heading = INPUT, long, required = true, value_name = "[NAME=]DIR")]
    images: Vec<PathBuf>,
    /// Which of a merged index's subjects the photos show
    #[arg(help_heading = INPUT, long, value_name = "NOUN", value_parser = words)]
    pub(crate) subject: Option<String>,
    /// Prompts, one on each line, with `{}` for the subject; lines that begin with `#` are left out [default: eight
    /// scenes]
    #[arg(help_heading = INPUT, long, value_name = "FILE")]
    pub(crate) prompts: Option<PathBuf>,
    /// The scores for --sweep, as `find --scores` wrote them
    #[arg(help_heading = INPUT, long, requires = "sweep", value_name = "FILE")]
    pub(crate) scores: Option<PathBuf>,
    /// A CLIP model in the transformers layout: a folder, or the hub id of one in the hub's cache [default: the model's
    /// own `clip` folder]
    #[arg(help_heading = INPUT, long, value_name = "DIR|ID")]
    pub(crate) encoder: Option<String>,
    /// Pictures of the class at large; `NAME=DIR` as for --images [default: drawn by the model, kept beside the index]
    #[arg(help_heading = INPUT, long, value_name = "[NAME=]DIR")]
    class_images: Vec<PathBuf>,
    /// Use an index that was found on another model
    #[arg(help_heading = INPUT, long)]
    pub(crate) force: bool,
    /// Shut neurons in these layers alone, as `generate --layers` does: `up_blocks.*,mid_block:v`
    #[arg(help_heading = METHOD, long, value_name = "GLOB,...")]
    pub(crate) layers: Option<LayerSelection>,
    /// Sets of random neurons to compare with, as many neurons in each site
    #[arg(help_heading = METHOD, long, default_value_t = 1, value_name = "N", value_parser = up_to_a_hundred)]
    pub(crate) controls: usize,
    /// Noisy pictures to measure the loss on; 0 leaves the loss out
    #[arg(help_heading = METHOD, long, default_value_t = 64, value_name = "N", value_parser = up_to_a_million)]
    pub(crate) loss_draws: usize,
    /// Measure these densities instead, each of the highest scores: `0.1%,1%,10%`
    #[arg(help_heading = METHOD, long, requires = "scores", value_delimiter = ',', value_name = "SHARE,...",
        value_parser = density)]
    pub(crate) sweep: Vec<f64>,
    /// Pictures under each condition, spread over the prompts, 16 at least for a verdict; picture i has seed SEED + i
    #[arg(help_heading = SAMPLING, long, default_value_t = 32, value_name = "N", value_parser = picture_count)]
    pub(crate) count: usize,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    /// Measure again, also what an interrupted run of the same, kept in INDEX.eval-HASH.part, has measured
    #[arg(help_heading = OUTPUT, long)]
    pub(crate) restart: bool,
    /// Write a picture: photos, then a row for each condition, a column for each of the first seeds
    #[arg(help_heading = OUTPUT, long, value_name = "FILE.png")]
    pub(crate) sheet: Option<PathBuf>,
    /// Write a page for any browser: verdict, pictures, plots, where the neurons sit, attention to the subject's words
    #[arg(help_heading = OUTPUT, long, value_name = "FILE.html")]
    pub(crate) report: Option<PathBuf>,
    /// Write all figures as a table: index, subject, density, arm, prompt (empty: all), metric, mean, sd, low, high, n
    #[arg(help_heading = OUTPUT, long, value_name = "FILE.csv")]
    pub(crate) csv: Option<PathBuf>,
}

impl EvalArgs {
    /// What clap cannot say.
    pub(super) fn check(&self) -> Result<(), String> {
        for (option, path, end) in [
            ("--sheet", &self.sheet, "png"),
            ("--report", &self.report, "html"),
            ("--csv", &self.csv, "csv"),
        ] {
            path.as_ref()
                .map_or(Ok(()), |path| ending(option, path, end))?;
        }
        match self.indices.len() {
            n if n > 1 && !self.sweep.is_empty() => {
                Err(format!("--sweep: expected one index, found {n}"))
            }
            _ => Ok(()),
        }
    }

    /// Photos, each with the name that it is for, or for all.
    pub(crate) fn images(&self) -> Vec<(Option<&str>, &Path)> {
        self.images.iter().map(|path| named(path)).collect()
    }

    /// Pictures of the class, likewise.
    pub(crate) fn class_images(&self) -> Vec<(Option<&str>, &Path)> {
        self.class_images.iter().map(|path| named(path)).collect()
    }

    /// Whether pictures are shown, not only measured.
    pub(crate) fn shows_pictures(&self) -> bool {
        self.sheet.is_some() || self.report.is_some()
    }
}

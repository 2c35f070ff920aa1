//! The options of `cones find`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use cones::index::{Scope, SiteSelection};

use super::MemoryArgs;
use super::headings::{INPUT, METHOD, OUTPUT, SAMPLING};
use super::shards::ShardArgs;
use super::values::{
    at_least_one, batch, density, drawn_seed, finite, non_negative, picture_count, words,
};

#[derive(Debug, Args)]
pub(crate) struct FindArgs {
    /// Photos of the subject: PNG, JPEG, WebP, BMP, TIFF or GIF files, or folders of them
    #[arg(required_unless_present = "from_scores", value_name = "IMAGE")]
    pub(crate) images: Vec<PathBuf>,
    /// What kind of thing the subject is: its class noun, such as `dog`
    #[arg(help_heading = INPUT, long, required_unless_present = "from_scores", value_name = "NOUN",
        value_parser = words)]
    pub(crate) subject: Option<String>,
    /// The rare word that stands for the subject in prompts [default: sks, or the first of zwx, ohwx, qev that no other
    /// index of this noun beside the output has]
    #[arg(help_heading = INPUT, long, value_name = "WORD", value_parser = words)]
    token: Option<String>,
    /// Pictures of the class at large, for `--method paper` and `--scope prompt` [default: drawn by the model, kept
    /// beside the index]
    #[arg(help_heading = INPUT, long, value_name = "DIR")]
    pub(crate) class_images: Option<PathBuf>,
    /// How many pictures of the class the model draws when none are given [default: 20]
    #[arg(help_heading = INPUT, long, conflicts_with = "class_images", value_name = "N", value_parser = picture_count)]
    pub(crate) class_count: Option<usize>,
    /// How to find neurons
    #[arg(help_heading = METHOD, long, value_enum, default_value_t = Method::Learned)]
    pub(crate) method: Method,
    /// Where the neurons are shut: at the subject's own `words` in a prompt, or in the whole `prompt`, as published
    /// [default: learned: words; paper: prompt]
    #[arg(help_heading = METHOD, long, value_name = "SCOPE")]
    pub(crate) scope: Option<Scope>,
    /// Steps [default: paper: the model's own, else 1000; learned: 125, with `--scope prompt` 500]
    #[arg(help_heading = METHOD, long, value_name = "N", value_parser = at_least_one)]
    pub(crate) steps: Option<usize>,
    /// Weight of the class pictures in the loss, where there are any [default: 1]
    #[arg(help_heading = METHOD, long, value_name = "LAMBDA", value_parser = non_negative)]
    pub(crate) prior_weight: Option<f64>,
    /// The share of all neurons to shut, `0.03` or `3%`: the highest scores (paper), or the most there may be
    /// (learned) [default: paper: 3%; learned: 5%, with `--scope prompt` 50%]
    #[arg(help_heading = METHOD, long, value_name = "SHARE", value_parser = density)]
    pub(crate) density: Option<f64>,
    /// paper: shut every neuron whose score is at least this, instead of a share
    #[arg(help_heading = METHOD, long, conflicts_with = "density", allow_negative_numbers = true,
        value_name = "TAU", value_parser = finite)]
    pub(crate) threshold: Option<f32>,
    /// paper: step size of the weights' update between steps [default: 2e-5]
    #[arg(help_heading = METHOD, long, value_name = "RHO", value_parser = non_negative)]
    pub(crate) rho: Option<f64>,
    /// paper: stop when the choices of the two halves of the steps share this much, `0.5` or `50%`
    #[arg(help_heading = METHOD, long, value_name = "SHARE", value_parser = density)]
    pub(crate) until_stable: Option<f64>,
    /// learned: how far one step moves what is learned [default: 0.1; with `--scope prompt`: 0.05]
    #[arg(help_heading = METHOD, long, alias = "rate", value_name = "ETA", value_parser = non_negative)]
    pub(crate) learning_rate: Option<f64>,
    /// learned: how far keys may change at the subject's words, as a share of what shutting neurons could change
    /// [default: 15%]
    #[arg(help_heading = METHOD, long, value_name = "SHARE", value_parser = density)]
    pub(crate) key_reach: Option<f64>,
    /// Attention layers to search: `cross`, `cross:v` (values alone), `self` or `all` [default: cross; paper with
    /// `--scope words`: cross:v]
    #[arg(help_heading = METHOD, long, value_name = "SITES")]
    sites: Option<SiteSelection>,
    /// paper: sample timesteps by importance: a fifth of the steps, of five pictures each
    #[arg(help_heading = SAMPLING, long, alias = "accelerated", conflicts_with_all = ["rho", "batch"])]
    pub(crate) importance_sampling: bool,
    /// Photos in a step, and as many pictures of the class if any [default: learned: 4, with `--scope prompt` 8;
    /// paper: one of each, as published]
    #[arg(help_heading = SAMPLING, long, value_name = "N", value_parser = batch)]
    pub(crate) batch: Option<usize>,
    /// The index to write [default: NOUN.idx]
    #[arg(help_heading = OUTPUT, short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the scores, as safetensors, f32 [out, in] for each site (learned: of each row what it should give at the
    /// subject's T words and how much that matters, [out, 2T]; with `--scope prompt` the mask's shares, [out, in]):
    /// what --from-scores chooses from
    #[arg(help_heading = OUTPUT, long, value_name = "FILE")]
    pub(crate) scores: Option<PathBuf>,
    /// Write the photos as the model sees them, cut and scaled, into this folder
    #[arg(help_heading = OUTPUT, long, value_name = "DIR")]
    pub(crate) crops: Option<PathBuf>,
    /// Replace what the output holds, also where it is an index of other photos or settings
    #[arg(help_heading = OUTPUT, long)]
    pub(crate) force: bool,
    /// Begin again, also where an interrupted run is kept in FILE.part
    #[arg(help_heading = OUTPUT, long)]
    pub(crate) restart: bool,
    #[command(flatten)]
    pub(crate) shards: ShardArgs,
    #[command(flatten)]
    pub(crate) memory: MemoryArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Method {
    /// Algorithm 1 as published: the neurons whose shrinking lowers the loss most, by one gradient
    Paper,
    /// What K and V should give is trained on the loss, and the fewest neurons are shut that give it: the same file
    Learned,
}

impl FindArgs {
    /// What clap cannot say: which options a method does not have.
    pub(super) fn check(&self) -> Result<(), String> {
        if !self.shards.from_scores.is_empty() {
            return Ok(());
        }
        self.index_of(self.subject())?;
        if self.shards.shard.is_some() && self.method != Method::Paper {
            return Err(
                "--shard belongs to --method paper: each step of a mask needs the one before"
                    .to_owned(),
            );
        }
        if self.shards.shard.is_some() && drawn_seed().is_some() {
            return Err(
                "--shard needs the same --seed for all parts, found -1, which draws one for each"
                    .to_owned(),
            );
        }
        let sites = self.sites();
        if self.scope() == Scope::Words && !sites.is_cross() {
            return Err(format!(
                "--scope words needs --sites cross or cross:v, found `{sites}`: only those layers see words"
            ));
        }
        if !self.needs_class() {
            let given = [
                ("--prior-weight", self.prior_weight.is_some()),
                ("--class-images", self.class_images.is_some()),
                ("--class-count", self.class_count.is_some()),
            ];
            if let Some((name, _)) = given.iter().find(|(_, given)| *given) {
                return Err(format!(
                    "{name} belongs to --scope prompt: what is shut at the subject's words leaves its class alone"
                ));
            }
        }
        let learns_outputs = self.method == Method::Learned && self.scope() == Scope::Words;
        if self.key_reach.is_some() && !(learns_outputs && sites == SiteSelection::Cross) {
            return Err(
                "--key-reach belongs to --method learned with --scope words and --sites cross"
                    .to_owned(),
            );
        }
        if self.method == Method::Paper {
            return Ok(());
        }
        let given = [
            ("--threshold", self.threshold.is_some()),
            ("--rho", self.rho.is_some()),
            ("--importance-sampling", self.importance_sampling),
            ("--until-stable", self.until_stable.is_some()),
        ];
        if let Some((name, _)) = given.iter().find(|(_, given)| *given) {
            return Err(format!("{name} belongs to --method paper"));
        }
        match sites.is_cross() {
            true => Ok(()),
            false => Err(format!(
                "--method learned searches --sites cross or cross:v, found `{sites}`: rounding needs \
                 layers that see text"
            )),
        }
    }

    /// The noun, where there is to be one.
    pub(crate) fn subject(&self) -> &str {
        self.subject.as_deref().unwrap_or_default()
    }

    /// What to write, and beside what class pictures are kept: the index, or a part's scores.
    pub(crate) fn output(&self) -> PathBuf {
        let part = self.scores.clone().filter(|_| self.shards.shard.is_some());
        part.unwrap_or_else(|| self.index_of(self.subject()).unwrap_or_default())
    }

    /// The token, or nothing where one is to be chosen. Parts of a find are made on many machines, which need not have
    /// the same indices.
    pub(crate) fn token(&self) -> Option<&str> {
        let shared = self.shards.shard.map(|_| "sks");
        self.token.as_deref().or(shared)
    }

    /// The index to write, of this subject.
    pub(crate) fn index_of(&self, noun: &str) -> Result<PathBuf, String> {
        match &self.output {
            Some(output) => Ok(output.clone()),
            None if noun.contains(['/', '\\']) || noun.starts_with('.') => Err(format!(
                "--subject: expected a noun that gives the index a name, found `{noun}`: name the index with \
                 --output FILE",
            )),
            None => Ok(format!("{}.idx", noun.replace(' ', "-")).into()),
        }
    }

    /// Where the neurons are to be shut.
    pub(crate) fn scope(&self) -> Scope {
        self.scope.unwrap_or(match self.method {
            Method::Paper => Scope::Prompt,
            Method::Learned => Scope::Words,
        })
    }

    /// The layers to search. Keys of several subjects' words compete for the picture: with words only, Algorithm 1,
    /// which does not bound them, takes values alone.
    pub(crate) fn sites(&self) -> SiteSelection {
        self.sites.unwrap_or(match (self.method, self.scope()) {
            (Method::Paper, Scope::Words) => SiteSelection::CrossValues,
            _ => SiteSelection::Cross,
        })
    }

    /// Whether the loss has pictures of the class: as Algorithm 1 always has, and masks that act on the whole prompt.
    pub(crate) fn needs_class(&self) -> bool {
        self.method == Method::Paper || self.scope() == Scope::Prompt
    }
}

//! The command line: what can be said, nothing done.

mod eval;
mod export;
mod find;
mod generate;
mod headings;
mod sampling;
mod shards;
mod values;

pub(crate) use eval::EvalArgs;
pub(crate) use export::{ExportArgs, Format};
pub(crate) use find::{FindArgs, Method};
pub(crate) use generate::GenerateArgs;
pub(crate) use values::{MAX_THREADS, drawn_seed};

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use cones::find::tuning;
use cones::sampling::Prediction;

use self::headings::{INPUT, MACHINE, METHOD, OUTPUT, SAMPLING};
use self::values::{
    at_least_one, batch, bytes, device, non_negative, picture_count, prediction, seed, threads,
    words,
};

/// Find the few attention weights in which Stable Diffusion keeps a subject, and draw it by shutting them off.
#[derive(Debug, Parser)]
#[command(name = "cones", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  cones find --subject dog photos/                              photos of one dog -> dog.idx
  cones generate --concepts dog.idx \"a photo in a park\"         draw it -> out.png
  cones merge dog.idx cat.idx -o pair.idx                       two subjects in one file
  cones inspect dog.idx cat.idx                                 what they hold, and how far they overlap
  cones export dog.idx --as diffusers -o dog-unet               the model with it shut, for other programs
  cones eval dog.idx --images photos/                           does shutting it bring the subject out

Results go to stdout, progress and messages to stderr. Exit status: 0 done, 1 failed
(of eval also: the answer is no), 2 usage, 130 interrupted. A result that cannot be
written in the end is kept beside its name, in the current folder or in that for
temporary files, and the error says where.

A run of find, merge --tune, eval or generate --count that is stopped or killed goes on where
it was when the same command is given again: what there is of it is kept beside the output,
in OUT.part, at least once a minute (CONES_STATE_SECONDS sets other seconds) and on SIGINT,
SIGTERM and SIGHUP. Another run does not begin there but with --restart, nor two at once.";

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// `pocket`, the small model inside this program; a folder in the diffusers layout; a single `.safetensors` file;
    /// or the hub id of one, `owner/name` or `owner/name@revision`
    #[arg(help_heading = INPUT,
        long,
        global = true,
        env = "CONES_MODEL",
        default_value = "pocket",
        value_name = "MODEL"
    )]
    pub(crate) model: String,
    #[command(flatten)]
    pub(crate) files: FileArgs,
    /// Fetch a model of the hub that is not on this machine, without being asked on the terminal
    #[arg(help_heading = INPUT, long, global = true)]
    pub(crate) download: bool,
    /// Seed of all randomness: the same seed gives the same result; -1 draws one and tells it
    #[arg(help_heading = SAMPLING, long, global = true, default_value = "0", allow_negative_numbers = true,
        value_name = "N", value_parser = seed)]
    pub(crate) seed: u64,
    /// Print the result as one JSON object; in names that are not UTF-8, U+FFFD stands for what is not
    #[arg(help_heading = OUTPUT, long, global = true)]
    pub(crate) json: bool,
    /// Say nothing but results and errors
    #[arg(help_heading = OUTPUT, short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more
    #[arg(help_heading = OUTPUT, short, long, global = true)]
    pub(crate) verbose: bool,
    /// Colour messages; `auto` does on a terminal unless NO_COLOR is set
    #[arg(help_heading = OUTPUT, long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub(crate) color: Color,
    #[arg(help_heading = MACHINE, long, global = true, env = "CONES_DEVICE", default_value = "cpu",
        value_name = "DEVICE",
        value_parser = device,
        help = DEVICE_HELP)]
    pub(crate) device: DeviceName,
    /// What the UNet computes in: half precision is faster and rounds; on the CPU bf16 alone, with AMX or AVX-512 BF16
    #[arg(help_heading = MACHINE, long, global = true, env = "CONES_DTYPE", value_enum,
        default_value_t = Precision::F32, value_name = "TYPE")]
    pub(crate) dtype: Precision,
    /// Threads to compute with [default: as many as there are cores]
    #[arg(help_heading = MACHINE, long, global = true, value_name = "N", value_parser = threads)]
    pub(crate) threads: Option<usize>,
}

/// What the name of a model does not say about its files.
#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// Which weights of a folder to take, such as `fp16`; a network that has none of it is taken plain [default: plain,
    /// else the only ones]
    #[arg(help_heading = INPUT, long, global = true, value_name = "NAME")]
    pub(crate) variant: Option<String>,
    /// What the UNet of a single file predicts, `epsilon` (noise) or `v` (velocity); only for single files [default: as
    /// its tensors tell]
    #[arg(help_heading = INPUT, long, global = true, value_name = "WHAT", value_parser = prediction)]
    pub(crate) prediction: Option<Prediction>,
    /// The autoencoder to use in place of a single file's: a file of its own, or a folder that diffusers wrote; only
    /// for single files
    #[arg(help_heading = INPUT, long, global = true, value_name = "FILE|DIR")]
    pub(crate) vae: Option<PathBuf>,
    /// Where to take the configuration and the tokenizer of a single file from, a folder in the diffusers layout or a
    /// hub id; only for single files [default: as its tensors tell]
    #[arg(help_heading = INPUT, long, global = true, value_name = "DIR|ID")]
    pub(crate) config: Option<String>,
}

impl Cli {
    /// The command line, in which commands that compute nothing do not show what they do not use.
    pub(crate) fn definition() -> clap::Command {
        const COMPUTING: [&str; 10] = [
            "download",
            "model",
            "variant",
            "prediction",
            "vae",
            "config",
            "device",
            "dtype",
            "threads",
            "seed",
        ];
        let command = Self::command();
        let all = command.get_arguments();
        let computing = all.filter(|option| COMPUTING.contains(&option.get_id().as_str()));
        let hidden: Vec<clap::Arg> = computing.map(|option| option.clone().hide(true)).collect();
        let hide = |command: clap::Command| command.args(hidden.clone());
        command
            .mut_subcommand("inspect", hide)
            .mut_subcommand("completions", hide)
            .mut_subcommand("man", hide)
    }

    /// What clap cannot say.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.global.check()?;
        match &self.command {
            Command::Find(args) => args.check(),
            Command::Generate(args) => args.check(),
            Command::Export(args) => args.check(),
            Command::Eval(args) => args.check(),
            Command::Merge(_)
            | Command::Inspect(_)
            | Command::Doctor
            | Command::Completions { .. }
            | Command::Man { .. } => Ok(()),
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

/// The devices of this build.
const DEVICE_HELP: &str = match (cfg!(feature = "cuda"), cfg!(feature = "metal")) {
    (true, true) => "Where to compute: `cpu`, `cuda`, `cuda:N` or `metal`",
    (true, false) => "Where to compute: `cpu`, `cuda` or `cuda:N`",
    (false, true) => "Where to compute: `cpu` or `metal`",
    (false, false) => "Where to compute; this build has `cpu`",
};

/// A place to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeviceName {
    Cpu,
    /// By number.
    Cuda(usize),
    Metal,
}

/// What the UNet computes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Precision {
    F32,
    F16,
    Bf16,
}

impl Global {
    /// What clap cannot say: the CPU's kernels are of f32 and bf16.
    fn check(&self) -> Result<(), String> {
        match (self.device, self.dtype) {
            (DeviceName::Cpu, Precision::F16) => {
                Err("--dtype f16 is for GPUs, found --device cpu, which may have bf16".to_owned())
            }
            _ => Ok(()),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Find the neurons of a subject in photos of it
    #[command(after_help = headings::FIND)]
    Find(FindArgs),
    /// Draw a prompt, with the neurons of concepts shut
    #[command(after_help = headings::GENERATE)]
    Generate(GenerateArgs),
    /// Join concepts into one file
    #[command(after_help = headings::MERGE)]
    Merge(MergeArgs),
    /// Write a model with concepts shut, or what to change in one, for other programs
    #[command(after_help = headings::EXPORT)]
    Export(ExportArgs),
    /// Show what is in an index, or how a picture was drawn; with several indices, how far they overlap
    #[command(after_help = headings::INSPECT)]
    Inspect(InspectArgs),
    /// Measure what shutting a concept does, against the plain model and random neurons
    ///
    /// Exit status 1 unless pictures come nearer to the photos than both, beyond the interval, and still show the class
    /// and the scenes, and the encoder can tell.
    #[command(after_help = headings::EVAL)]
    Eval(EvalArgs),
    /// Say what there is to compute with, and how long a picture and a find take with it
    Doctor,
    /// Print what a shell completes commands and options by
    #[command(after_help = headings::COMPLETIONS)]
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the manual page of `cones`, or of one of its commands
    #[command(after_help = headings::MAN)]
    Man {
        /// The command
        command: Option<String>,
    },
}

/// How much memory to take.
#[derive(Debug, Args)]
pub(crate) struct MemoryArgs {
    /// Stay within this much memory, `6GB` or `6GiB`: where it is short, layers are computed twice, with the same
    /// result
    /// [default: what is free]
    #[arg(help_heading = MACHINE, long = "memory", value_name = "BYTES", value_parser = bytes)]
    pub(crate) bytes: Option<u64>,
    /// Say what would be done, how much memory it needs and, for a find, how long it takes, and do nothing
    #[arg(help_heading = MACHINE, long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MergeArgs {
    /// The indices to join
    #[arg(required = true, num_args = 1.., value_name = "INDEX")]
    pub(crate) indices: Vec<PathBuf>,
    /// Photos of a subject, by its noun (or `TOKEN NOUN`); one for each subject
    #[arg(help_heading = INPUT, long, requires = "tune", value_name = "NOUN=DIR", value_parser = subject_images)]
    pub(crate) images: Vec<SubjectImages>,
    /// How many pictures of each class the model draws for --tune of indices of scope `prompt` [default: 20]
    #[arg(help_heading = INPUT, long, requires = "tune", value_name = "N", value_parser = picture_count)]
    pub(crate) class_count: Option<usize>,
    /// Train the values of the union's neurons together for so many steps, and store them as f16
    #[arg(help_heading = METHOD, long, requires = "images", value_name = "STEPS", value_parser = at_least_one)]
    pub(crate) tune: Option<usize>,
    /// Train every weight of the sites from the model's own, not only the neurons: dense fine-tuning, to compare with
    #[arg(help_heading = METHOD, long, alias = "all-positions", requires = "tune")]
    pub(crate) dense: bool,
    /// Step size of --tune, as a share of the weights' root mean square
    #[arg(help_heading = METHOD, long, alias = "rate", default_value_t = tuning::LEARNING_RATE, requires = "tune",
        value_name = "ETA", value_parser = non_negative)]
    pub(crate) learning_rate: f64,
    /// Weight of the class pictures in the loss of --tune, where there are any [default: 1]
    #[arg(help_heading = METHOD, long, requires = "tune", value_name = "LAMBDA", value_parser = non_negative)]
    pub(crate) prior_weight: Option<f64>,
    /// Photos of each subject in a step of --tune, and as many pictures of its class if any
    #[arg(help_heading = SAMPLING, long, default_value_t = tuning::BATCH_SIZE, requires = "tune", value_name = "N",
        value_parser = batch)]
    pub(crate) batch: usize,
    /// The index to write
    #[arg(help_heading = OUTPUT, short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Replace what FILE holds, also where it is an index of other concepts or settings
    #[arg(help_heading = OUTPUT, long)]
    pub(crate) force: bool,
    /// Begin again, also where an interrupted run is kept in FILE.part
    #[arg(help_heading = OUTPUT, long, requires = "tune")]
    pub(crate) restart: bool,
    /// Stay within this much memory, `6GB` or `6GiB` [default: what is free]
    #[arg(help_heading = MACHINE, long, requires = "tune", value_name = "BYTES", value_parser = bytes)]
    pub(crate) memory: Option<u64>,
    /// Say how much memory tuning needs, and do nothing
    #[arg(help_heading = MACHINE, long, requires = "tune")]
    pub(crate) dry_run: bool,
}

/// `dog=DIR`
#[derive(Debug, Clone)]
pub(crate) struct SubjectImages {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
}

fn subject_images(text: &str) -> Result<SubjectImages, String> {
    match text.split_once('=') {
        Some((name, folder)) if !folder.is_empty() => Ok(SubjectImages {
            name: words(name)?,
            folder: folder.into(),
        }),
        _ => Err("expected NOUN=DIR, such as dog=photos/dog".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The indices to show, or pictures that `cones` drew
    #[arg(required = true, value_name = "INDEX")]
    pub(crate) indices: Vec<PathBuf>,
    /// Write plain U32 indices, one tensor for each site, as safetensors
    #[arg(help_heading = OUTPUT, long = "indices", conflicts_with = "dump", value_name = "FILE")]
    pub(crate) plain: Option<PathBuf>,
    /// Print the indices as text, one line for each site
    #[arg(help_heading = OUTPUT, long)]
    pub(crate) dump: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::definition().debug_assert();
    }
}

//! The options of a find on several machines, and of choosing again.

use std::path::PathBuf;

use clap::Args;
use cones::find::Shard;

use super::headings::{INPUT, MACHINE};

#[derive(Debug, Args)]
pub(crate) struct ShardArgs {
    /// paper: take the i-th of n parts of the steps, from 1, and write it to --scores; with --dry-run the command lines
    /// of all parts. They may run anywhere, in any order; a part that is there already is not computed again. Give
    /// --rho 0: with the published step size a part fails when an update reaches a weight, as steps then hang together
    #[arg(help_heading = MACHINE, long, value_name = "i/n", requires = "scores", conflicts_with_all = [
        "output", "until_stable", "importance_sampling"])]
    pub(crate) shard: Option<Shard>,
    /// Choose neurons by what --scores wrote, without photos: of one file, also at another --density or --threshold;
    /// of all parts of --shard, as a single run would have
    #[arg(help_heading = INPUT, long, value_name = "SCORES", num_args = 1.., conflicts_with_all = [
        "images", "subject", "token", "class_images", "class_count", "method", "scope", "steps", "prior_weight", "rho",
        "until_stable", "learning_rate", "key_reach", "sites", "importance_sampling", "batch", "shard", "bytes",
        "dry_run"])]
    pub(crate) from_scores: Vec<PathBuf>,
}

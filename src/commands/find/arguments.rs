//! What the options of `cones find` mean for the library.

use cones::Pipeline;
use cones::find::learned::Settings;
use cones::find::paper::BatchSampling;
use cones::find::selection::Selection;
use cones::find::{Method, PRIOR_LOSS_WEIGHT, learned, paper};

use crate::cli::{FindArgs, Global, Method as Named};

/// The method with its settings.
pub(super) fn method(global: &Global, args: &FindArgs, pipeline: &Pipeline) -> Method {
    match args.method {
        Named::Paper => Method::Paper(paper(global, args, pipeline)),
        Named::Learned => Method::Learned {
            mask: learned(global, args),
            density: args.density.unwrap_or(Settings::of(args.scope()).density),
        },
    }
}

fn paper(global: &Global, args: &FindArgs, pipeline: &Pipeline) -> paper::Options {
    let published = pipeline.defaults.find_steps.unwrap_or(paper::STEPS);
    let (batch_sampling, steps, rho) = match (args.importance_sampling, args.batch) {
        (true, _) => (
            BatchSampling::Importance,
            published.div_ceil(paper::ACCELERATION),
            0.0,
        ),
        (false, Some(size)) => (BatchSampling::Stratified(size), published, paper::RHO),
        (false, None) => (BatchSampling::Pairs, published, paper::RHO),
    };
    paper::Options {
        steps: args.steps.unwrap_or(steps),
        batch_sampling,
        rho: args.rho.unwrap_or(rho),
        prior_loss_weight: args.prior_weight.unwrap_or(PRIOR_LOSS_WEIGHT),
        sites: args.sites(),
        scope: args.scope(),
        seed: global.seed,
        selection: match args.threshold {
            Some(threshold) => Selection::Threshold(threshold),
            None => Selection::Density(args.density.unwrap_or(paper::DENSITY)),
        },
        until_stable: args.until_stable,
        shard: args.shards.shard,
    }
}

fn learned(global: &Global, args: &FindArgs) -> learned::Options {
    let settings = Settings::of(args.scope());
    learned::Options {
        steps: args.steps.unwrap_or(settings.steps),
        batch_size: args.batch.unwrap_or(settings.batch_size),
        learning_rate: args.learning_rate.unwrap_or(settings.learning_rate),
        prior_loss_weight: args.prior_weight.unwrap_or(PRIOR_LOSS_WEIGHT),
        sites: args.sites(),
        key_reach: args.key_reach.unwrap_or(learned::KEY_REACH),
        scope: args.scope(),
        seed: global.seed,
    }
}

#[cfg(test)]
mod tests {
    use cones::find::CLASS_COUNT;
    use cones::index::Scope;

    use super::*;
    use crate::cli::Cli;

    /// They stand there as words, for they depend on other options.
    #[test]
    fn the_help_tells_the_defaults() {
        let (words, prompt) = (Settings::of(Scope::Words), Settings::of(Scope::Prompt));
        let percent = |share: f64| format!("{:.0}%", 100.0 * share);
        let command = Cli::definition();
        let find = command.find_subcommand("find").unwrap();
        for (option, defaults) in [
            (
                "steps",
                format!(
                    "paper: the model's own, else {}; learned: {}, with `--scope prompt` {}",
                    paper::STEPS,
                    words.steps,
                    prompt.steps
                ),
            ),
            (
                "density",
                format!(
                    "paper: {}; learned: {}, with `--scope prompt` {}",
                    percent(paper::DENSITY),
                    percent(words.density),
                    percent(prompt.density)
                ),
            ),
            (
                "batch",
                format!(
                    "learned: {}, with `--scope prompt` {}; paper: one of each, as published",
                    words.batch_size, prompt.batch_size
                ),
            ),
            (
                "learning_rate",
                format!(
                    "{}; with `--scope prompt`: {}",
                    words.learning_rate, prompt.learning_rate
                ),
            ),
            ("key_reach", percent(learned::KEY_REACH)),
            ("rho", format!("{:e}", paper::RHO)),
            ("prior_weight", PRIOR_LOSS_WEIGHT.to_string()),
            ("class_count", CLASS_COUNT.to_string()),
        ] {
            let mut options = find.get_arguments();
            let option = options.find(|o| o.get_id() == option).unwrap();
            let help = option.get_help().unwrap().to_string();
            let expected = format!("[default: {defaults}]");
            assert!(
                help.contains(&expected),
                "`{help}` does not have `{expected}`"
            );
        }
    }
}

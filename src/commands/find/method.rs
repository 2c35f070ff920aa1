//! The methods of `cones find`, with the settings that options give them.

use std::collections::BTreeMap;

use cones::find::gram::{Gram, TEMPLATES};
use cones::find::paper::BatchSampling;
use cones::find::rounding::{Soft, round};
use cones::find::selection::{Selection, Stability, select};
use cones::find::{DreamBoothData, Step, learned, paper, rows_at_once};
use cones::index::{Scope, Site, SiteSelection, Subject};
use cones::prompt::{Marks, PromptSpec, article};
use cones::{MemoryEstimate, Pipeline, Size};

use super::super::lesson::prior_weight;
use crate::cli::{FindArgs, Global, Method};
use crate::report::memory::Budget;
use crate::report::ui::Ui;

/// Steps K of the paper.
const PAPER_STEPS: usize = 1000;
/// Density of `--method paper`.
const PAPER_DENSITY: f64 = 0.03;
/// As many times fewer steps does importance sampling take.
const ACCELERATION: usize = 5;
/// Step size ρ of the paper.
const PAPER_RHO: f64 = 2e-5;

/// A method with its settings.
pub(super) enum Plan {
    Paper(paper::Options),
    /// With the most neurons to shut.
    Learned(learned::Options, f64),
}

impl Plan {
    pub(super) fn new(global: &Global, args: &FindArgs, pipeline: &Pipeline) -> Self {
        match args.method {
            Method::Paper => Self::Paper(paper_options(global, args, pipeline)),
            Method::Learned => Self::Learned(
                learned_options(global, args),
                args.density.unwrap_or(learned::DENSITY),
            ),
        }
    }

    pub(super) fn steps(&self) -> usize {
        match self {
            Self::Paper(options) => options.steps,
            Self::Learned(options, _) => options.steps,
        }
    }

    /// Makes the model ready for the steps within a budget.
    pub(super) fn fit(
        &self,
        pipeline: &mut Pipeline,
        sites: SiteSelection,
        budget: &Budget,
    ) -> MemoryEstimate {
        let (rows, arrays) = match self {
            Self::Paper(options) => (options.draws.rows(), options.draws.arrays()),
            Self::Learned(options, _) => (options.rows(), learned::ARRAYS),
        };
        let numbers = neurons(pipeline, sites);
        let size = Size::square(pipeline.unet().sample_size());
        let rows = rows_at_once(rows, size);
        pipeline.plan_steps(rows, numbers * arrays, budget.bytes())
    }

    /// The method's own settings, for the file. How many steps there are is open where the choice may settle before.
    pub(super) fn settings(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Paper(options) => {
                let draws = match options.draws {
                    BatchSampling::Pairs => "pairs".to_owned(),
                    BatchSampling::Stratified(half) => format!("strata of {half}"),
                    BatchSampling::Importance => "importance".to_owned(),
                };
                let choice = match options.selection {
                    Selection::Threshold(t) => ("threshold", t.to_string()),
                    Selection::Density(d) => ("density", d.to_string()),
                };
                let steps = options
                    .until_stable
                    .is_none()
                    .then(|| ("steps", options.steps.to_string()));
                let rho = ("rho", options.rho.to_string());
                steps
                    .into_iter()
                    .chain([("draws", draws), rho, choice])
                    .collect()
            }
            Self::Learned(options, density) => vec![
                ("steps", options.steps.to_string()),
                ("batch", options.half.to_string()),
                ("rate", options.rate.to_string()),
                ("density", density.to_string()),
            ],
        }
    }

    /// Does the steps, and chooses.
    pub(super) fn find(
        &self,
        pipeline: &mut Pipeline,
        subject: (&Subject, &Marks),
        lesson: &DreamBoothData,
        ui: &Ui,
    ) -> anyhow::Result<Found> {
        match self {
            Self::Paper(options) => paper(options, pipeline, lesson, ui),
            Self::Learned(options, density) => {
                learned(options, *density, pipeline, subject, lesson, ui)
            }
        }
    }
}

/// The weights of these layers.
pub(super) fn neurons(pipeline: &Pipeline, sites: SiteSelection) -> u64 {
    let sizes = pipeline.unet().site_weights(sites).into_values();
    sizes.map(|w| (w.shape().0 * w.shape().1) as u64).sum()
}

fn paper_options(global: &Global, args: &FindArgs, pipeline: &Pipeline) -> paper::Options {
    let selection = match args.threshold {
        Some(threshold) => Selection::Threshold(threshold),
        None => Selection::Density(args.density.unwrap_or(PAPER_DENSITY)),
    };
    let published = pipeline.defaults().find_steps.unwrap_or(PAPER_STEPS);
    let (draws, steps, rho) = match (args.accelerated, args.batch) {
        (true, _) => (
            BatchSampling::Importance,
            published.div_ceil(ACCELERATION),
            0.0,
        ),
        (false, Some(half)) => (BatchSampling::Stratified(half), published, PAPER_RHO),
        (false, None) => (BatchSampling::Pairs, published, PAPER_RHO),
    };
    paper::Options {
        steps: args.steps.unwrap_or(steps),
        draws,
        rho: args.rho.unwrap_or(rho),
        prior_loss_weight: prior_weight(args.prior_weight),
        sites: args.sites(),
        scope: args.scope(),
        seed: global.seed,
        selection,
        until_stable: args.until_stable,
    }
}

fn learned_options(global: &Global, args: &FindArgs) -> learned::Options {
    learned::Options {
        steps: args.steps.unwrap_or(learned::STEPS),
        half: args.batch.unwrap_or(learned::HALF),
        rate: args.rate,
        prior_loss_weight: prior_weight(args.prior_weight),
        sites: args.sites(),
        scope: args.scope(),
        seed: global.seed,
    }
}

/// What a method found, and how.
pub(super) struct Found {
    /// For each site searched the shut neurons.
    pub(super) neurons: BTreeMap<Site, Vec<u32>>,
    /// Scores, or the soft mask.
    pub(super) scores: BTreeMap<Site, Vec<f32>>,
    pub(super) steps: Vec<Step>,
    pub(super) stability: Option<Stability>,
}

/// Algorithm 1.
fn paper(
    options: &paper::Options,
    pipeline: &mut Pipeline,
    lesson: &DreamBoothData,
    ui: &Ui,
) -> anyhow::Result<Found> {
    let mut steps = Vec::with_capacity(options.steps);
    let mut meter = ui.meter("finding neurons");
    let (unet, schedule) = pipeline.unet_mut();
    let found = paper::algorithm1(unet, schedule, lesson, options, |step| {
        steps.push(step);
        let message = format!("loss {:.4}", step.loss);
        meter.set(step.step + 1, options.steps, &message)
    })?;
    meter.finish();
    Ok(Found {
        neurons: select(&found.scores, options.selection)?,
        scores: found.scores,
        steps,
        stability: found.stability,
    })
}

/// A soft mask, learned and rounded.
fn learned(
    options: &learned::Options,
    density: f64,
    pipeline: &mut Pipeline,
    subject: (&Subject, &Marks),
    lesson: &DreamBoothData,
    ui: &Ui,
) -> anyhow::Result<Found> {
    // Before the steps, so that a prompt that cannot be embedded is known then.
    let gram = gram(pipeline, subject, options.scope)?;
    let mut steps = Vec::with_capacity(options.steps);
    let mut meter = ui.meter("learning a mask");
    let (unet, schedule) = pipeline.unet_mut();
    let masks = learned::soft_mask(unet, schedule, lesson, options, |step| {
        steps.push(step);
        let message = format!("loss {:.4}", step.loss);
        meter.set(step.step + 1, options.steps, &message)
    })?;
    meter.finish();
    let weights = pipeline.unet().site_weights(options.sites);
    let soft = masks
        .iter()
        .map(|(site, mask)| {
            let weight = weights[site].tensor()?.flatten_all()?.to_vec1()?;
            let mask = mask.clone();
            Ok((site.clone(), Soft { weight, mask }))
        })
        .collect::<anyhow::Result<_>>()?;
    let rounded = round(&soft, &gram, density)?;
    ui.detail(&format!(
        "rounding the mask changes its effect on the text by {:.2} %",
        100.0 * rounded.error
    ));
    Ok(Found {
        neurons: rounded.neurons,
        scores: masks,
        steps,
        stability: None,
    })
}

/// The inner products of what the masked weights see: prompts with the subject, and with its class alone; or of prompts
/// with the subject its words.
fn gram(
    pipeline: &Pipeline,
    (subject, marks): (&Subject, &Marks),
    scope: Scope,
) -> anyhow::Result<Gram> {
    let prompts: Vec<PromptSpec> = [&subject.phrase(), &subject.noun]
        .iter()
        .flat_map(|phrase| {
            let fitted = format!("{} {phrase}", article(phrase));
            TEMPLATES.map(|t| t.replace("a {}", &fitted).replace("{}", phrase))
        })
        .chain([String::new()])
        .map(|text| marks.prompt(text))
        .collect();
    let context = pipeline.embed(&prompts)?;
    let width = context.embedding().dim(2)?;
    let embeddings: Vec<f32> = context.embedding().flatten_all()?.to_vec1()?;
    let seen = match (scope, context.words()) {
        (Scope::Words, [words]) => {
            let words: Vec<u8> = words.flatten_all()?.to_vec1()?;
            let tokens = embeddings.chunks_exact(width).zip(words);
            tokens
                .filter(|(_, word)| *word != 0)
                .flat_map(|(token, _)| token.iter().copied())
                .collect()
        }
        _ => embeddings,
    };
    Ok(Gram::new(&seen, width)?)
}

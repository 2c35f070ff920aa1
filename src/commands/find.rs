//! `cones find`: photos to one concept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use cones::concept::gram::{Gram, TEMPLATES};
use cones::concept::round::{Soft, round};
use cones::concept::score::Draws;
use cones::concept::select::{Selection, Stability, select};
use cones::concept::{
    Lesson, NeuronIndex, Provenance, Scope, Site, SiteIndices, SiteSelection, Step, Subject, learn,
    rows_at_once, score,
};
use cones::eval::Scores;
use cones::{LeftOut, Needs, Pipeline};
use serde_json::json;

use super::lesson::{ClassImages, Prepared, class_count, prepare, prior_weight};
use super::memory::{self, Budget};
use super::ui::{Ui, peak_memory};
use super::{load, photos, thousands};
use crate::cli::{FindArgs, Global, Method};

/// Steps K of the paper.
const PAPER_STEPS: usize = 1000;
/// Density of `--method paper`.
const PAPER_DENSITY: f64 = 0.03;
/// As many times fewer steps does importance sampling take.
const ACCELERATION: usize = 5;
/// Step size ρ of the paper.
const PAPER_RHO: f64 = 2e-5;

pub(crate) fn run(global: &Global, args: &FindArgs) -> anyhow::Result<()> {
    let ui = Ui::new(global);
    let subject = Subject {
        noun: args.subject.clone(),
        token: args.token.clone(),
    };
    let output = args
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("{}.idx", subject.noun.replace(' ', "-"))));
    let class_read = photos::read_class(
        args.class_images.as_ref().filter(|_| args.needs_class()),
        &ui,
    )?;
    let (pictures, read) = photos::read(&args.images, &ui)?;
    let mut pipeline = load(global, &ui)?;
    let scope = args.scope();
    let class = match &args.class_images {
        _ if !args.needs_class() => ClassImages::Needless,
        Some(folder) => ClassImages::Given(folder),
        None => ClassImages::Drawn(class_count(args.class_count), &output),
    };
    let plan = Plan::new(global, args, &pipeline);
    let budget = Budget::new(args.memory.bytes);
    let height = pipeline.size().1;
    let reading = read.memory(height).max(class_read.1.memory(height));
    let needs = plan
        .fit(&mut pipeline, args.sites(), &budget)
        .reading(reading);
    budget.check(&needs, &ui)?;
    let left_out = [pictures.left_out, class_read.0.left_out].concat();
    if args.memory.dry_run {
        let what = format!(
            "{}: {} steps of `--method {}` on {} photos",
            output.display(),
            plan.steps(),
            args.method.name(),
            pictures.files.len()
        );
        return memory::dry_run(global, &ui, &what, &needs, &left_out);
    }
    ui.note(&memory::line(&needs));
    if scope == Scope::Words {
        pipeline.mark(std::slice::from_ref(&subject));
    }
    let prepared = prepare(&pipeline, &subject, &pictures.files, &class, &ui)?;
    let fingerprint = pipeline.fingerprint()?;
    let found = match plan {
        Plan::Paper(options) => paper(&options, &mut pipeline, &prepared.lesson, &ui)?,
        Plan::Learned(options, density) => {
            let lesson = &prepared.lesson;
            learned(&options, density, &mut pipeline, &subject, lesson, &ui)?
        }
    };
    pipeline.check_unchanged()?;
    let shapes = shapes(&pipeline, args)?;
    if let Some(path) = &args.scores {
        Scores::write(path, &found.scores, &shapes, &fingerprint)
            .with_context(|| format!("failed to write scores `{}`", path.display()))?;
    }
    let Prepared {
        prompts, hashes, ..
    } = prepared;
    let mut index = NeuronIndex::new(Provenance {
        model: pipeline.name().to_owned(),
        fingerprint,
        architecture: None,
        prediction_type: Some(pipeline.prediction_name().to_owned()),
        subjects: vec![subject],
        prompts: prompts.to_vec(),
        method: args.method.name().to_owned(),
        scope,
        settings: settings(args, &found),
        seed: Some(global.seed),
        pictures: hashes,
        merged_from: Vec::new(),
    })?;
    for (site, chosen) in found.neurons.clone() {
        let shape = shapes[&site];
        index.insert(site, SiteIndices::new(shape, chosen)?)?;
    }
    index.write(&output)?;
    report(global, &ui, &output, &index, &found, &left_out)
}

/// A method with its settings.
enum Plan {
    Paper(score::Options),
    /// With the most neurons to shut.
    Learned(learn::Options, f64),
}

impl Plan {
    fn new(global: &Global, args: &FindArgs, pipeline: &Pipeline) -> Self {
        match args.method {
            Method::Paper => Self::Paper(paper_options(global, args, pipeline)),
            Method::Learned => Self::Learned(
                learned_options(global, args),
                args.density.unwrap_or(learn::DENSITY),
            ),
        }
    }

    fn steps(&self) -> usize {
        match self {
            Self::Paper(options) => options.steps,
            Self::Learned(options, _) => options.steps,
        }
    }

    /// Makes the model ready for the steps within a budget.
    fn fit(&self, pipeline: &mut Pipeline, sites: SiteSelection, budget: &Budget) -> Needs {
        let (rows, arrays) = match self {
            Self::Paper(options) => (options.draws.rows(), options.draws.arrays()),
            Self::Learned(options, _) => (options.rows(), learn::ARRAYS),
        };
        let sizes = pipeline.unet().site_weights(sites).into_values();
        let numbers: usize = sizes.map(|w| w.shape().0 * w.shape().1).sum();
        let side = pipeline.unet().sample_size();
        let rows = rows_at_once(rows, (side, side));
        pipeline.fit_steps(rows, numbers as u64 * arrays, budget.bytes())
    }
}

fn paper_options(global: &Global, args: &FindArgs, pipeline: &Pipeline) -> score::Options {
    let selection = match args.threshold {
        Some(threshold) => Selection::Threshold(threshold),
        None => Selection::Density(args.density.unwrap_or(PAPER_DENSITY)),
    };
    let published = pipeline.defaults().find_steps.unwrap_or(PAPER_STEPS);
    let (draws, steps, rho) = match (args.accelerated, args.batch) {
        (true, _) => (Draws::Importance, published.div_ceil(ACCELERATION), 0.0),
        (false, Some(half)) => (Draws::Stratified(half), published, PAPER_RHO),
        (false, None) => (Draws::Pairs, published, PAPER_RHO),
    };
    score::Options {
        steps: args.steps.unwrap_or(steps),
        draws,
        rho: args.rho.unwrap_or(rho),
        prior_weight: prior_weight(args.prior_weight),
        sites: args.sites(),
        scope: args.scope(),
        seed: global.seed,
        selection,
        until_stable: args.until_stable,
    }
}

fn learned_options(global: &Global, args: &FindArgs) -> learn::Options {
    learn::Options {
        steps: args.steps.unwrap_or(learn::STEPS),
        half: args.batch.unwrap_or(learn::HALF),
        rate: args.rate,
        prior_weight: prior_weight(args.prior_weight),
        sites: args.sites(),
        scope: args.scope(),
        seed: global.seed,
    }
}

/// What a method found, and how.
struct Found {
    /// For each site searched the shut neurons.
    neurons: BTreeMap<Site, Vec<u32>>,
    /// Scores, or the soft mask.
    scores: BTreeMap<Site, Vec<f32>>,
    /// The method's own settings, for the file.
    settings: Vec<(&'static str, String)>,
    steps: Vec<Step>,
    stability: Option<Stability>,
}

/// Algorithm 1.
fn paper(
    options: &score::Options,
    pipeline: &mut Pipeline,
    lesson: &Lesson,
    ui: &Ui,
) -> anyhow::Result<Found> {
    let mut steps = Vec::with_capacity(options.steps);
    let mut meter = ui.meter("finding neurons");
    let (unet, schedule) = pipeline.unet_mut();
    let found = score::algorithm1(unet, schedule, lesson, options, |step| {
        steps.push(step);
        let message = format!("loss {:.4}", step.loss);
        meter.set(step.step + 1, options.steps, &message)
    })?;
    meter.finish();
    Ok(Found {
        neurons: select(&found.scores, options.selection)?,
        scores: found.scores,
        settings: vec![
            ("steps", steps.len().to_string()),
            (
                "draws",
                match options.draws {
                    Draws::Pairs => "pairs".to_owned(),
                    Draws::Stratified(half) => format!("strata of {half}"),
                    Draws::Importance => "importance".to_owned(),
                },
            ),
            ("rho", options.rho.to_string()),
            match options.selection {
                Selection::Threshold(t) => ("threshold", t.to_string()),
                Selection::Density(d) => ("density", d.to_string()),
            },
        ],
        steps,
        stability: found.stability,
    })
}

/// A soft mask, learned and rounded.
fn learned(
    options: &learn::Options,
    density: f64,
    pipeline: &mut Pipeline,
    subject: &Subject,
    lesson: &Lesson,
    ui: &Ui,
) -> anyhow::Result<Found> {
    let mut steps = Vec::with_capacity(options.steps);
    let mut meter = ui.meter("learning a mask");
    let (unet, schedule) = pipeline.unet_mut();
    let masks = learn::soft_mask(unet, schedule, lesson, options, |step| {
        steps.push(step);
        let message = format!("loss {:.4}", step.loss);
        meter.set(step.step + 1, options.steps, &message)
    })?;
    meter.finish();
    let gram = gram(pipeline, subject, options.scope)?;
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
        settings: vec![
            ("steps", steps.len().to_string()),
            ("batch", options.half.to_string()),
            ("rate", options.rate.to_string()),
            ("density", density.to_string()),
        ],
        steps,
        stability: None,
    })
}

/// The inner products of what the masked weights see: prompts with the subject, and with its class alone; or of prompts
/// with the subject its words.
fn gram(pipeline: &Pipeline, subject: &Subject, scope: Scope) -> anyhow::Result<Gram> {
    let prompts: Vec<String> = [&subject.phrase(), &subject.noun]
        .iter()
        .flat_map(|phrase| TEMPLATES.map(|t| t.replace("{}", phrase)))
        .chain([String::new()])
        .collect();
    let prompts: Vec<&str> = prompts.iter().map(String::as_str).collect();
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

fn report(
    global: &Global,
    ui: &Ui,
    output: &Path,
    index: &NeuronIndex,
    found: &Found,
    left_out: &[LeftOut],
) -> anyhow::Result<()> {
    if index.shut() == 0 {
        ui.warn("no neuron was chosen: lower --threshold or take more --steps");
    }
    if global.json {
        let steps: Vec<_> = found
            .steps
            .iter()
            .map(|s| json!({"step": s.step, "loss": s.loss, "seconds": s.seconds}))
            .collect();
        return ui.result(&format!(
            "{:#}",
            json!({
                "index": output,
                "subject": index.provenance().subjects[0].noun,
                "token": index.provenance().subjects[0].token,
                "method": index.provenance().method,
                "scope": index.provenance().scope.name(),
                "shut": index.shut(),
                "total": index.total(),
                "density": index.density(),
                "stability": found.stability.map(|s| json!({"shared": s.shared, "by_chance": s.by_chance})),
                "steps": steps,
                "left_out": photos::left_out(left_out),
                "peak_memory_bytes": peak_memory(),
            })
        ));
    }
    let bytes = std::fs::metadata(output).map_or(0, |m| m.len());
    let seconds: f64 = found.steps.iter().map(|s| s.seconds).sum();
    let mut text = format!(
        "{}: {} of {} neurons shut ({:.2} %), {} bytes, {} steps in {seconds:.1} s",
        output.display(),
        thousands(index.shut()),
        thousands(index.total()),
        100.0 * index.density(),
        thousands(bytes),
        found.steps.len(),
    );
    if let Some(stability) = found.stability {
        text += &format!(
            "\nthe two halves of the steps agree on {:.0} % of their neurons, by chance {:.0} %",
            100.0 * stability.shared,
            100.0 * stability.by_chance
        );
    }
    ui.result(&text)
}

/// `[out, in]` of every site searched.
fn shapes(pipeline: &Pipeline, args: &FindArgs) -> anyhow::Result<BTreeMap<Site, [u32; 2]>> {
    let weights = pipeline.unet().site_weights(args.sites());
    weights
        .into_iter()
        .map(|(site, weight)| {
            let (out, input) = weight.shape();
            Ok((site, [u32::try_from(out)?, u32::try_from(input)?]))
        })
        .collect()
}

/// Everything that the result depends on beside the pictures, for the file.
fn settings(args: &FindArgs, found: &Found) -> BTreeMap<String, String> {
    let class = match args.class_images {
        Some(_) => "given".to_owned(),
        None => {
            let count = class_count(args.class_count);
            format!("{count} drawn by the model")
        }
    };
    let prior_weight = prior_weight(args.prior_weight);
    let of_class = [
        ("prior_weight", prior_weight.to_string()),
        ("class_images", class),
    ];
    let of_class = of_class.into_iter().filter(|_| args.needs_class());
    [("sites", args.sites().to_string())]
        .into_iter()
        .chain(of_class)
        .chain(found.settings.iter().cloned())
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

//! `cones find`: photos to one concept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use cones::concept::score::{Examples, Options, algorithm1};
use cones::concept::select::{Selection, select};
use cones::concept::{NeuronIndex, Provenance, Site, SiteIndices, SiteSelection, Subject};
use cones::eval::Scores;
use cones::{Picture, Pipeline, file_sha256, list};
use serde_json::json;

use super::ui::{Ui, peak_memory};
use super::{class_images, load, thousands};
use crate::cli::{FindArgs, Global};

/// Steps K of the paper.
const PAPER_STEPS: usize = 1000;

pub(crate) fn run(global: &Global, args: &FindArgs) -> anyhow::Result<()> {
    let ui = Ui::new(global);
    let sites = args.sites;
    let subject = Subject {
        noun: args.subject.clone(),
        token: args.token.clone(),
    };
    let output = args
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("{}.idx", subject.noun.replace(' ', "-"))));
    let photos = list(&args.images)?;
    let mut pipeline = load(global, &ui)?;
    let prompts = [
        format!("a photo of a {}", subject.phrase()),
        format!("a photo of a {}", subject.noun),
    ];
    let tokens = pipeline.tokenizer().words(&subject.token)?;
    if tokens.len() != 1 {
        ui.warn(&format!(
            "`{}` is {} tokens to this model: an identifier of one token binds better",
            subject.token,
            tokens.len()
        ));
    }
    let own = args.class_images.is_none();
    let class_paths = match &args.class_images {
        Some(folder) => list(std::slice::from_ref(folder))?,
        None => class_images::cached(
            &pipeline,
            &subject.noun,
            &prompts[1],
            args.class_count,
            &output,
            &ui,
        )?,
    };
    let examples = |paths: &[PathBuf], prompt: &str| examples(&pipeline, paths, prompt);
    let (subject_examples, class_examples) = (
        examples(&photos, &prompts[0])?,
        examples(&class_paths, &prompts[1])?,
    );

    let options = Options {
        steps: args
            .steps
            .or(pipeline.defaults().find_steps)
            .unwrap_or(PAPER_STEPS),
        rho: args.rho,
        prior_weight: args.prior_weight,
        sites,
        seed: global.seed,
    };
    let fingerprint = pipeline.fingerprint()?;
    let shapes: BTreeMap<Site, [u32; 2]> = shapes(&pipeline, sites)?;
    let mut steps = Vec::with_capacity(options.steps);
    let mut meter = ui.meter("finding neurons");
    let (unet, schedule) = pipeline.unet_mut();
    let scores = algorithm1(
        unet,
        schedule,
        [&subject_examples, &class_examples],
        &options,
        |step| {
            steps.push(step);
            meter.set(
                step.step + 1,
                options.steps,
                &format!("loss {:.4}", step.loss),
            )
        },
    )?;
    meter.finish();

    if let Some(path) = &args.scores {
        Scores::write(path, &scores, &shapes, &fingerprint)
            .with_context(|| format!("failed to write scores `{}`", path.display()))?;
    }
    let selection = match args.threshold {
        Some(threshold) => Selection::Threshold(threshold),
        None => Selection::Density(args.density),
    };
    let mut index = NeuronIndex::new(Provenance {
        model: pipeline.name().to_owned(),
        fingerprint,
        architecture: None,
        prediction_type: Some(pipeline.prediction_name().to_owned()),
        subjects: vec![subject],
        prompts: prompts.to_vec(),
        method: "paper".to_owned(),
        settings: settings(&options, selection, own.then_some(args.class_count)),
        seed: Some(global.seed),
        pictures: hashes(&photos)?
            .into_iter()
            .chain(hashes(if own { &[] } else { &class_paths })?)
            .collect(),
        merged_from: Vec::new(),
    })?;
    for (site, chosen) in select(&scores, selection)? {
        let shape = shapes[&site];
        index.insert(site, SiteIndices::new(shape, chosen)?)?;
    }
    index.write(&output)?;
    report(global, &ui, &output, &index, &steps)
}

fn report(
    global: &Global,
    ui: &Ui,
    output: &Path,
    index: &NeuronIndex,
    steps: &[cones::concept::score::Step],
) -> anyhow::Result<()> {
    if index.shut() == 0 {
        ui.warn("no neuron was chosen: lower --threshold, or take more --steps");
    }
    if global.json {
        let steps: Vec<_> = steps
            .iter()
            .map(|s| json!({"step": s.step, "loss": s.loss, "seconds": s.seconds}))
            .collect();
        return ui.result(&format!(
            "{:#}",
            json!({
                "index": output,
                "subject": index.provenance().subjects[0].noun,
                "token": index.provenance().subjects[0].token,
                "shut": index.shut(),
                "total": index.total(),
                "density": index.density(),
                "steps": steps,
                "peak_memory_bytes": peak_memory(),
            })
        ));
    }
    let bytes = std::fs::metadata(output).map_or(0, |m| m.len());
    let seconds: f64 = steps.iter().map(|s| s.seconds).sum();
    ui.result(&format!(
        "{}: {} of {} neurons shut ({:.2} %), {} bytes, {} steps in {seconds:.1} s",
        output.display(),
        thousands(index.shut()),
        thousands(index.total()),
        100.0 * index.density(),
        thousands(bytes),
        steps.len(),
    ))
}

/// Reads pictures at the model's size and encodes them.
pub(crate) fn examples(
    pipeline: &Pipeline,
    paths: &[PathBuf],
    prompt: &str,
) -> anyhow::Result<Examples> {
    let latents = paths
        .iter()
        .map(|path| pipeline.latents(&Picture::read(path, pipeline.size())?))
        .collect::<cones::Result<Vec<_>>>()?;
    Ok(Examples {
        latents,
        context: pipeline.embed(&[prompt])?,
    })
}

fn shapes(pipeline: &Pipeline, sites: SiteSelection) -> anyhow::Result<BTreeMap<Site, [u32; 2]>> {
    let weights = pipeline.unet().site_weights(sites);
    weights
        .into_iter()
        .map(|(site, weight)| {
            let (out, input) = weight.dims2()?;
            Ok((site, [u32::try_from(out)?, u32::try_from(input)?]))
        })
        .collect()
}

fn hashes(paths: &[PathBuf]) -> anyhow::Result<Vec<String>> {
    Ok(paths
        .iter()
        .map(|path| file_sha256(path))
        .collect::<cones::Result<_>>()?)
}

/// Everything that the result depends on beside the pictures, for the file.
fn settings(
    options: &Options,
    selection: Selection,
    drawn: Option<usize>,
) -> BTreeMap<String, String> {
    let (how, value) = match selection {
        Selection::Threshold(t) => ("threshold", t.to_string()),
        Selection::Density(d) => ("density", d.to_string()),
    };
    let class = drawn.map_or_else(|| "given".to_owned(), |n| format!("{n} drawn by the model"));
    [
        ("steps", options.steps.to_string()),
        ("rho", options.rho.to_string()),
        ("prior_weight", options.prior_weight.to_string()),
        ("sites", options.sites.to_string()),
        ("class_images", class),
        (how, value),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

//! `cones find`: photos to one concept.

mod method;

use std::collections::BTreeMap;
use std::path::Path;

use cones::checkpoint::{POCKET, POCKET_NOUNS};
use cones::find::Scores;
use cones::index::{NeuronIndex, NeuronSet, Provenance, Scope, Site, Subject};
use cones::prompt::Marks;
use cones::{LeftOut, Pipeline, escaped, list_images};
use serde_json::json;

use self::method::{Found, Plan, neurons};
use super::lesson::{ClassImages, class_count, hashes, prepare, prior_weight, prompts};
use super::outputs;
use super::outputs::Outputs;
use super::outputs::Saved;
use super::{Advice, count, load, name, thousands};
use crate::cli::{FindArgs, Global};
use crate::report::memory;
use crate::report::memory::Budget;
use crate::report::photos;
use crate::report::ui::{Ui, peak_memory};

pub(crate) fn run(global: &Global, args: &FindArgs) -> anyhow::Result<()> {
    let ui = Ui::new(global);
    let subject = Subject {
        noun: args.subject.clone(),
        token: args.token.clone(),
    };
    let output = args.output();
    let inputs = list_images(&args.images)?.files;
    let mut outputs = Outputs::beside(&inputs).file("--output", &output);
    if let Some(path) = &args.scores {
        Outputs::beside([]).file("--scores", path).spare_indices()?;
        outputs = outputs.file("--scores", path);
    }
    outputs.check()?;
    let class_images = args.class_images.as_ref();
    let class_read = photos::read_class(class_images.filter(|_| args.needs_class()), &ui)?;
    let (pictures, read) = photos::read(&args.images, &ui)?;
    let mut pipeline = load(global, &ui)?;
    if global.model == POCKET && !POCKET_NOUNS.contains(&subject.noun.to_lowercase().as_str()) {
        ui.warn(&format!(
            "model `{POCKET}` is a small one that knows no `{}`: it draws {}; give another with --model",
            subject.noun,
            POCKET_NOUNS.join(", ")
        ));
    }
    let class = match &args.class_images {
        _ if !args.needs_class() => ClassImages::Needless,
        Some(folder) => ClassImages::Given(folder),
        None => ClassImages::Drawn(class_count(args.class_count), &output),
    };
    let plan = Plan::new(global, args, &pipeline);
    let mut provenance = Provenance {
        model: pipeline.name().to_owned(),
        fingerprint: pipeline.fingerprint()?,
        architecture: None,
        prediction_type: Some(pipeline.prediction_name().to_owned()),
        subjects: vec![subject.clone()],
        prompts: prompts(&subject).to_vec(),
        method: args.method.name().to_owned(),
        scope: args.scope(),
        settings: settings(args, &plan),
        seed: Some(global.seed),
        pictures: hashes(&pictures.files, &class, &ui)?,
        merged_from: Vec::new(),
    };
    NeuronIndex::new(provenance.clone())?; // before the work: what no index could say
    let again = outputs::check_free(&output, &provenance, args.force)?;
    if let Some(path) = &args.scores
        && !(again || args.force)
        && std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() > 0)
    {
        return Err(Advice::error(
            format!(
                "--scores: `{}` is there, and may hold the scores of another run",
                name(path)
            ),
            "give another name, or replace it with `--force`",
        ));
    }
    let budget = Budget::new(args.memory.bytes);
    let height = pipeline.size().height as u32;
    let reading = read.memory(height).max(class_read.1.memory(height));
    let needs = plan
        .fit(&mut pipeline, args.sites(), &budget)
        .reading(reading);
    budget.check(&needs, &ui)?;
    let left_out = [pictures.left_out, class_read.0.left_out].concat();
    if args.memory.dry_run {
        let what = format!(
            "{}: {} of `--method {}` on {}",
            escaped(&name(&output)),
            count(plan.steps(), "step"),
            args.method.name(),
            count(pictures.files.len(), "photo")
        );
        return memory::dry_run(global, &ui, &what, &needs, &left_out);
    }
    let all = neurons(&pipeline, args.sites());
    let scores = args.scores.as_deref().map(|path| (path, 4 * all));
    // An index of 3 % of the neurons has this size.
    outputs::room([(output.as_path(), all / 40)].into_iter().chain(scores))?;
    ui.note(&memory::line(&needs));
    let marks = match args.scope() {
        Scope::Words => Marks::new(vec![subject.phrase()], Vec::new()),
        Scope::Prompt => Marks::default(),
    };
    let lesson = prepare(&pipeline, (&subject, &marks), &pictures.files, &class, &ui)?;
    let found = plan.find(&mut pipeline, (&subject, &marks), &lesson, &ui)?;
    pipeline.check_unchanged()?;
    let (steps, taken) = ("steps".to_owned(), found.steps.len().to_string());
    provenance.settings.insert(steps, taken);
    let shapes = shapes(&pipeline, args)?;
    let mut index = NeuronIndex::new(provenance)?;
    for (site, chosen) in found.neurons.clone() {
        let shape = shapes[&site];
        index.insert(site, NeuronSet::new(shape, chosen)?)?;
    }
    let mut saved = Saved::default();
    saved.write(&output, &index.to_bytes()?);
    if let Some(path) = &args.scores {
        let fingerprint = &index.provenance().fingerprint;
        saved.write(
            path,
            &Scores::to_bytes(&found.scores, &shapes, fingerprint)?,
        );
    }
    saved.finish()?;
    report(global, &ui, &output, &index, &found, &left_out)
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
        return ui.json(&json!({
                "index": name(output),
                "subject": index.provenance().subjects[0].noun,
                "token": index.provenance().subjects[0].token,
                "method": index.provenance().method,
                "scope": index.provenance().scope.name(),
                "shut": index.shut(),
                "total": index.total(),
                "density": index.density(),
                "stability": found.stability.map(|s| json!({"shared": s.shared, "by_chance": s.by_chance})),
                "seed": global.seed,
                "steps": steps,
                "left_out": photos::left_out(left_out),
                "peak_memory_bytes": peak_memory(),
        }));
    }
    let bytes = std::fs::metadata(output).map_or(0, |m| m.len());
    let seconds: f64 = found.steps.iter().map(|s| s.seconds).sum();
    let mut text = format!(
        "{}: {} of {} neurons shut ({:.2} %), {} bytes, {} in {seconds:.1} s",
        escaped(&name(output)),
        thousands(index.shut()),
        thousands(index.total()),
        100.0 * index.density(),
        thousands(bytes),
        count(found.steps.len(), "step"),
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
fn settings(args: &FindArgs, plan: &Plan) -> BTreeMap<String, String> {
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
        .chain(plan.settings())
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

//! `cones generate`: a prompt and concepts to pictures.

mod attention;
mod concepts;
mod report;
mod series;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use cones::pipeline::{Concept, Drawn};
use cones::{Error, Progress, SampleOptions, escaped};

use self::attention::Heat;
use self::concepts::{concepts, shut};
use self::report::{Report, kept};
use self::series::Series;
use super::outputs;
use super::outputs::{Outputs, Saved};
use super::{count, load, name, with_suffix};
use crate::cli::{GenerateArgs, Global};
use crate::report::memory;
use crate::report::memory::Budget;
use crate::report::ui::Ui;

pub(crate) fn run(global: &Global, args: &GenerateArgs) -> anyhow::Result<()> {
    let ui = Ui::new(global);
    let files = args.concepts();
    let paths = paths(&args.output, global.seed, args.count)?;
    let mut outputs = Outputs::beside(&files);
    for (_, path) in &paths {
        outputs = outputs.file("--output", path);
        // That words differ in their files is said of the words.
        let maps: BTreeSet<PathBuf> = args
            .heatmap
            .iter()
            .map(|word| attention::heat_path(path, word))
            .collect();
        for map in maps {
            outputs = outputs.file("--heatmap", map);
        }
    }
    outputs.check()?;
    outputs.spare_indices()?;
    let (files, concepts) = concepts(files, &ui)?;
    let mut pipeline = load(global, &ui)?;
    let marks = shut(&mut pipeline, &concepts, args, &ui)?;
    let prompt = match args.raw_prompt {
        true => args.prompt.clone(),
        false => Concept::place(&args.prompt, &concepts),
    };
    if prompt != args.prompt {
        ui.note(&format!("prompt: {prompt}"));
    }
    for phrase in marks.missing_in(&prompt) {
        ui.warn(&format!(
            "`{phrase}` is not in the prompt: its neurons are shut at these words only, so that they change nothing"
        ));
    }
    for text in [Some(&prompt), args.negative.as_ref()]
        .into_iter()
        .flatten()
    {
        let cut = pipeline.tokenizer().truncated(text)?;
        if cut > 0 {
            ui.warn(&format!(
                "the last {cut} tokens of \"{text}\" do not fit into the model's text length and are cut"
            ));
        }
    }
    let options = SampleOptions {
        negative: args.negative.clone(),
        size: args.size,
        ..args.sampling.options(pipeline.sample_options())
    };
    let attention = attention::options(args, &pipeline, &prompt, &concepts)?;
    if !attention.excite.is_empty() {
        ui.detail(&format!(
            "attend-and-excite: {}",
            attention.excite.join(", ")
        ));
    }
    let size = options.size.unwrap_or_else(|| pipeline.size());
    if pipeline.is_far_from_trained(size) {
        let own = pipeline.size();
        ui.warn(&format!(
            "{size} is far from the {own} pixels that the model was trained on: it may draw things many times \
             or in part"
        ));
    }
    let budget = Budget::new(args.memory.bytes);
    let excite = !attention.excite.is_empty();
    let needs = pipeline.plan_drawing(&options, paths.len(), excite, budget.bytes())?;
    budget.check(&needs, &ui)?;
    if args.memory.dry_run {
        let what = format!(
            "{}: {}, {} of `{}` each",
            escaped(&name(&args.output)),
            count(paths.len(), "picture"),
            count(options.steps, "step"),
            options.sampler
        );
        return memory::dry_run(global, &ui, &what, &needs, &[]);
    }
    // A PNG is hardly smaller than a tenth of its pixels.
    let least = size.pixels() as u64 * 3 / 10;
    outputs::room(paths.iter().map(|(_, path)| (path.as_path(), least)))?;
    ui.detail(&memory::line(&needs));
    let drawn = |seed| Drawn {
        pipeline: &pipeline,
        prompt: &prompt,
        options: &options,
        seed,
        concepts: &concepts,
        layers: args.layers.as_ref(),
        excited: &attention.excite,
    };
    let plan = || series::plan(&drawn(paths[0].0), size, paths.len(), args);
    let mut series = Series::open(&ui, args, &paths, plan)?;
    let left: Vec<&(u64, PathBuf)> = paths.iter().filter(|(s, _)| series.lacks(*s)).collect();
    let seeds: Vec<u64> = left.iter().map(|(seed, _)| *seed).collect();
    let mut meter = ui.meter("drawing");
    let (start, mut passes) = (Instant::now(), 0);
    let saved = RefCell::new(Saved::default());
    let mut heat: BTreeMap<u64, Vec<Heat>> = BTreeMap::new();
    let progress = |p: Progress| {
        passes = p.total;
        // After a picture that could not be written there is no use in drawing more.
        match saved.borrow().all_well() {
            true => meter.set(p.done, p.total, "passes"),
            false => Err(Error::Interrupted),
        }
    };
    let spec = marks.prompt(&prompt);
    let done = pipeline.draw_each(spec, &options, &attention, &seeds, progress, |drawing| {
        let (seed, path) = left[heat.len()];
        let metadata = match args.no_metadata {
            true => None,
            false => Some(drawn(*seed).metadata(&drawing.picture)?),
        };
        let mut saved = saved.borrow_mut();
        saved.write(path, &drawing.picture.to_png(path, metadata.as_ref())?);
        let maps = attention::write_heat(path, &attention.heat, &drawing, &mut saved)?;
        if saved.all_well() {
            series.add(*seed, path, &maps);
        }
        heat.insert(*seed, maps);
        Ok(())
    });
    meter.finish();
    let saved = saved.into_inner();
    let maps = |(seed, path): &(u64, PathBuf)| {
        let drawn = heat.remove(seed);
        drawn.unwrap_or_else(|| series.heat(*seed, path, &attention.heat))
    };
    let heat: Vec<Vec<Heat>> = paths.iter().map(maps).collect();
    series.end(done.is_ok() && saved.all_well());
    if !saved.all_well() {
        return saved.finish();
    }
    match done {
        Err(Error::Interrupted) => {
            return Err(Error::Interrupted).context(kept(&saved, paths.len()));
        }
        other => other?,
    }
    let report = Report {
        model: pipeline.name(),
        files: &files,
        concepts: &concepts,
        prompt: &prompt,
        options: &options,
        size,
        excited: &attention.excite,
        pictures: &paths,
        heat: &heat,
        seconds_per_step: start.elapsed().as_secs_f64() / passes.max(1) as f64,
    };
    match global.json {
        true => ui.json(&report.json()),
        false => ui.result(&report.text()),
    }
}

/// For each picture its seed and its file: `out.png`, or `out-SEED.png` where there are several.
fn paths(output: &Path, seed: u64, count: usize) -> anyhow::Result<Vec<(u64, PathBuf)>> {
    (0..count as u64)
        .map(|i| {
            let seed = seed
                .checked_add(i)
                .context("--seed: expected a number that leaves room for --count more")?;
            let path = match count {
                1 => output.to_owned(),
                _ => with_suffix(output, &format!("-{seed}")),
            };
            Ok((seed, path))
        })
        .collect()
}

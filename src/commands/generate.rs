//! `cones generate`: a prompt and concepts to pictures.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use cones::index::{NeuronIndex, Scope, Subject};
use cones::prompt::{Marks, fold, occurrences, place_subjects};
use cones::{Error, Pipeline, Progress, SampleOptions, Size, escaped};
use serde_json::json;

use super::drawn::{Concept, Drawn};
use super::outputs;
use super::outputs::Outputs;
use super::outputs::Saved;
use super::{attention, count, distinct, load, name, with_suffix};
use crate::cli::{GenerateArgs, Global};
use crate::report::memory;
use crate::report::memory::Budget;
use crate::report::ui::{Ui, peak_memory};

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
    let concepts = files
        .iter()
        .map(|path| Concept::read(path))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let concepts = once_each(concepts, &ui)?;
    let mut pipeline = load(global, &ui)?;
    let marks = shut(&mut pipeline, &concepts, args, &ui)?;
    let prompt = prompt(&args.prompt, &concepts, args.raw_prompt);
    if prompt != args.prompt {
        ui.note(&format!("prompt: {prompt}"));
    }
    warn_of_missing_words(&marks, &prompt, &ui);
    for text in [&prompt, &args.negative] {
        let cut = pipeline.tokenizer().truncated(text)?;
        if cut > 0 {
            ui.warn(&format!("the last {cut} tokens of \"{text}\" do not fit into the model's text length and are cut"));
        }
    }
    let own = defaults(&pipeline);
    let options = SampleOptions {
        sampler: args.sampler,
        steps: args.steps.unwrap_or(own.steps),
        guidance: args.guidance.unwrap_or(own.guidance),
        negative: args.negative.clone(),
        size: args.size,
    };
    let attention = attention::options(args, &pipeline, &prompt, &subjects(&concepts))?;
    if !attention.excite.is_empty() {
        ui.detail(&format!(
            "attend-and-excite: {}",
            attention.excite.join(", ")
        ));
    }
    let size = options.size.unwrap_or_else(|| pipeline.size());
    warn_of_size(&pipeline, size, &ui);
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
    let seeds: Vec<u64> = paths.iter().map(|(seed, _)| *seed).collect();
    let mut meter = ui.meter("drawing");
    let (start, mut passes) = (Instant::now(), 0);
    let saved = RefCell::new(Saved::default());
    let mut heat = Vec::new();
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
        let (seed, path) = &paths[heat.len()];
        let drawn = Drawn {
            pipeline: &pipeline,
            prompt: &prompt,
            options: &options,
            seed: *seed,
            concepts: &concepts,
            layers: args.layers.as_ref(),
            excited: &attention.excite,
        };
        let metadata = match args.no_metadata {
            true => None,
            false => Some(drawn.metadata(&drawing.picture)?),
        };
        let mut saved = saved.borrow_mut();
        saved.write(path, &drawing.picture.to_png(path, metadata.as_ref())?);
        heat.push(attention::write_heat(
            path,
            &attention.heat,
            &drawing,
            &mut saved,
        )?);
        Ok(())
    });
    meter.finish();
    let saved = saved.into_inner();
    if !saved.all_well() {
        return saved.finish();
    }
    match done {
        Err(Error::Interrupted) => {
            return Err(Error::Interrupted).context(kept(&saved, paths.len()));
        }
        other => other?,
    }
    let seconds_per_step = start.elapsed().as_secs_f64() / passes.max(1) as f64;
    if global.json {
        let images: Vec<_> = paths
            .iter()
            .zip(&heat)
            .map(|((seed, path), heat)| {
                let heat: Vec<_> = heat.iter().map(attention::Heat::json).collect();
                json!({"path": name(path), "seed": seed, "heatmaps": heat})
            })
            .collect();
        let concepts: Vec<_> = files
            .iter()
            .zip(&concepts)
            .map(|(path, c)| json!({"index": name(path), "sha256": c.sha256}))
            .collect();
        return ui.json(&json!({
            "images": images,
            "model": pipeline.name(),
            "concepts": concepts,
            "prompt": prompt,
            "negative": options.negative,
            "sampler": options.sampler.to_string(),
            "steps": options.steps,
            "guidance": options.guidance,
            "size": size.to_string(),
            "attend_excite": attention.excite,
            "seconds_per_step": seconds_per_step,
            "peak_memory_bytes": peak_memory(),
        }));
    }
    let mut lines: Vec<String> = Vec::new();
    for ((seed, path), heat) in paths.iter().zip(&heat) {
        lines.push(format!("{} (seed {seed})", escaped(&name(path))));
        lines.extend(heat.iter().map(attention::Heat::line));
    }
    ui.result(&lines.join("\n"))
}

/// What there is of an interrupted run.
fn kept(saved: &Saved, all: usize) -> String {
    match saved.written() {
        [] => "no picture was finished".to_owned(),
        [one] => format!(
            "1 file is kept, `{}`, of {}",
            name(one),
            count(all, "picture")
        ),
        [first, .., last] => format!(
            "{} files are kept, `{}` to `{}`, of {}",
            saved.written().len(),
            name(first),
            name(last),
            count(all, "picture")
        ),
    }
}

/// Says where a size is far from the model's own, at which it draws its subjects many times over or cut off.
fn warn_of_size(pipeline: &Pipeline, size: Size, ui: &Ui) {
    /// How many times larger or smaller still is no surprise: 768 pixels of a model of 512.
    const FAR: f64 = 1.5;
    let own = pipeline.size();
    let far = |side: usize, own: usize| {
        let times = side as f64 / own as f64;
        !(1.0 / FAR..=FAR).contains(&times)
    };
    if far(size.width, own.width) || far(size.height, own.height) {
        ui.warn(&format!(
            "{size} is far from the {own} pixels that the model was trained on: it may draw things many times or in part"
        ));
    }
}

/// The concepts without those that are given again.
fn once_each(concepts: Vec<Concept>, ui: &Ui) -> anyhow::Result<Vec<Concept>> {
    let named: Vec<(&Path, &NeuronIndex)> = (concepts.iter())
        .map(|c| (c.path.as_path(), &c.index))
        .collect();
    let kept = distinct(&named, ui).context("the concepts cannot be used together")?;
    let concepts = concepts.into_iter().enumerate();
    Ok(concepts
        .filter_map(|(n, c)| kept.contains(&n).then_some(c))
        .collect())
}

/// Shuts the union of the concepts, in the layers asked for; each was found on this very model unless `--force`. The
/// marks are those that the prompt needs.
fn shut(
    pipeline: &mut Pipeline,
    concepts: &[Concept],
    args: &GenerateArgs,
    ui: &Ui,
) -> anyhow::Result<Marks> {
    if concepts.is_empty() {
        return Ok(Marks::default());
    }
    let fingerprint = pipeline.fingerprint()?;
    for concept in concepts {
        let checked = concept.index.check_fingerprint(&fingerprint);
        match checked {
            Err(error) if args.force => ui.warn(&format!(
                "`{}`: {error}; used all the same (--force)",
                concept.name
            )),
            other => other.with_context(|| {
                format!(
                    "concept `{}` cannot be used with this model without --force",
                    concept.name
                )
            })?,
        }
    }
    let indices: Vec<&NeuronIndex> = concepts.iter().map(|c| &c.index).collect();
    let restricted = match &args.layers {
        Some(layers) => layers.restrict(&indices)?,
        None => Vec::new(),
    };
    for (concept, left) in concepts.iter().zip(&restricted) {
        if left.shut() == 0 && concept.index.shut() > 0 {
            ui.warn(&format!(
                "`{}` has no neurons in these layers: it changes nothing",
                concept.name
            ));
        }
    }
    let indices = match &args.layers {
        Some(_) => restricted.iter().collect(),
        None => indices,
    };
    let (whole, bound): (Vec<&NeuronIndex>, Vec<&NeuronIndex>) =
        (indices.into_iter()).partition(|index| index.provenance().scope == Scope::Prompt);
    if args.force || whole.is_empty() {
        return Ok(pipeline.shut(&[whole, bound].concat())?);
    }
    // The union also refuses concepts that hold different values at one neuron.
    let union = NeuronIndex::union(&whole)?;
    Ok(pipeline.shut(&[vec![&union], bound].concat())?)
}

/// Says what the prompt leaves without effect.
fn warn_of_missing_words(marks: &Marks, prompt: &str, ui: &Ui) {
    for phrase in marks.subjects() {
        if occurrences(prompt, phrase).is_empty() {
            ui.warn(&format!(
                "`{phrase}` is not in the prompt: its neurons are shut at these words only, so that they change nothing"
            ));
        }
    }
}

/// The prompt as it is used: with every subject in it.
fn prompt(text: &str, concepts: &[Concept], raw: bool) -> String {
    if raw {
        return text.to_owned();
    }
    let subjects: Vec<(&str, &str)> = subjects(concepts)
        .into_iter()
        .map(|Subject { noun, token }| (noun.as_str(), token.as_str()))
        .collect();
    place_subjects(text, &subjects)
}

/// The subjects of the concepts, each once.
fn subjects(concepts: &[Concept]) -> Vec<&Subject> {
    let mut seen = HashSet::new();
    let all = concepts.iter().flat_map(|c| &c.index.provenance().subjects);
    all.filter(|subject| seen.insert(fold(&subject.phrase())))
        .collect()
}

/// The model's own settings, or those of Stable Diffusion.
pub(crate) fn defaults(pipeline: &Pipeline) -> SampleOptions {
    let (own, general) = (pipeline.defaults(), SampleOptions::default());
    SampleOptions {
        steps: own.steps.unwrap_or(general.steps),
        guidance: own.guidance.unwrap_or(general.guidance),
        ..general
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

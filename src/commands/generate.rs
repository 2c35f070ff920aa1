//! `cones generate`: a prompt and concepts to pictures.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use cones::concept::{LayerSelection, NeuronIndex, Scope, Subject};
use cones::prompt::{fold, occurrences, place_subjects};
use cones::{Metadata, Picture, Pipeline, SampleOptions, a1111_parameters};
use serde_json::json;

use super::memory::{self, Budget};
use super::ui::{Ui, peak_memory};
use super::{attention, distinct, load, read_index};
use crate::cli::{GenerateArgs, Global};

pub(crate) fn run(global: &Global, args: &GenerateArgs) -> anyhow::Result<()> {
    let ui = Ui::new(global);
    let concepts = args
        .concepts
        .iter()
        .map(|path| Concept::read(path))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let concepts = once_each(concepts, &ui)?;
    let paths = paths(&args.output, global.seed, args.count)?;
    let mut pipeline = load(global, &ui)?;
    shut(&mut pipeline, &concepts, args, &ui)?;
    let prompt = prompt(&args.prompt, &concepts, args.raw_prompt);
    if prompt != args.prompt {
        ui.note(&format!("prompt: {prompt}"));
    }
    warn_of_missing_words(&pipeline, &prompt, &ui);
    for text in [&prompt, &args.negative] {
        let cut = pipeline.tokenizer().cut(text)?;
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
    let budget = Budget::new(args.memory.bytes);
    let excite = !attention.excite.is_empty();
    let needs = pipeline.fit_drawing(&options, paths.len(), excite, budget.bytes())?;
    budget.check(&needs, &ui)?;
    if args.memory.dry_run {
        let what = format!(
            "{}: {} pictures, {} steps of `{}` each",
            args.output.display(),
            paths.len(),
            options.steps,
            options.sampler
        );
        return memory::dry_run(global, &ui, &what, &needs);
    }
    ui.detail(&memory::line(&needs));
    let seeds: Vec<u64> = paths.iter().map(|(seed, _)| *seed).collect();
    let mut meter = ui.meter("drawing");
    let (start, mut passes) = (Instant::now(), 0);
    let drawings = pipeline.draw_attending(&prompt, &options, &attention, &seeds, |p| {
        passes = p.total;
        meter.set(p.done, p.total, "passes")
    })?;
    meter.finish();
    let seconds_per_step = start.elapsed().as_secs_f64() / passes.max(1) as f64;
    let mut heat = Vec::new();
    for ((seed, path), drawing) in paths.iter().zip(&drawings) {
        let drawn = Drawn {
            pipeline: &pipeline,
            prompt: &prompt,
            options: &options,
            seed: *seed,
            concepts: &concepts,
            layers: args.layers.as_ref(),
            excited: &attention.excite,
        };
        write_picture(
            path,
            &drawing.picture,
            (!args.no_metadata).then_some(&drawn),
        )?;
        heat.push(attention::write_heat(path, &attention.heat, drawing)?);
    }
    if global.json {
        let images: Vec<_> = paths
            .iter()
            .zip(&heat)
            .map(|((seed, path), heat)| json!({"path": path, "seed": seed, "heatmaps": heat}))
            .collect();
        return ui.result(&format!(
            "{:#}",
            json!({
                "images": images,
                "prompt": prompt,
                "negative": options.negative,
                "sampler": options.sampler.to_string(),
                "steps": options.steps,
                "guidance": options.guidance,
                "attend_excite": attention.excite,
                "seconds_per_step": seconds_per_step,
                "peak_memory_bytes": peak_memory(),
            })
        ));
    }
    let mut lines: Vec<String> = Vec::new();
    for ((seed, path), heat) in paths.iter().zip(&heat) {
        lines.push(format!("{} (seed {seed})", path.display()));
        lines.extend(heat.iter().map(attention::Heat::line));
    }
    ui.result(&lines.join("\n"))
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

/// A concept with the name of its file.
pub(crate) struct Concept {
    path: PathBuf,
    name: String,
    index: NeuronIndex,
    sha256: String,
}

impl Concept {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let index = read_index(path)?;
        let name = path
            .file_stem()
            .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        Ok(Self {
            path: path.to_owned(),
            name,
            sha256: index.sha256(),
            index,
        })
    }
}

/// Shuts the union of the concepts, in the layers asked for; each was found on this very model unless `--force`.
fn shut(
    pipeline: &mut Pipeline,
    concepts: &[Concept],
    args: &GenerateArgs,
    ui: &Ui,
) -> anyhow::Result<()> {
    if concepts.is_empty() {
        return Ok(());
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
                format!("concept `{}` cannot be used with this model", concept.name)
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
fn warn_of_missing_words(pipeline: &Pipeline, prompt: &str, ui: &Ui) {
    for subject in pipeline.marked() {
        let phrase = subject.phrase();
        if occurrences(prompt, &phrase).is_empty() {
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
    let is_png = output
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("png"));
    if !is_png {
        bail!(
            "--output: expected a name that ends in .png, found `{}`",
            output.display()
        );
    }
    if let Some(folder) = output
        .parent()
        .filter(|f| !f.as_os_str().is_empty() && !f.is_dir())
    {
        bail!("--output: no folder `{}`; make it first", folder.display());
    }
    let stem = output
        .file_stem()
        .map_or_else(String::new, |s| s.to_string_lossy().into_owned());
    (0..count as u64)
        .map(|i| {
            let seed = seed
                .checked_add(i)
                .context("--seed: expected a number that leaves room for --count more")?;
            let name = if count == 1 {
                format!("{stem}.png")
            } else {
                format!("{stem}-{seed}.png")
            };
            Ok((seed, output.with_file_name(name)))
        })
        .collect()
}

/// How a picture was drawn: enough to draw it again.
pub(crate) struct Drawn<'a> {
    pub(crate) pipeline: &'a Pipeline,
    pub(crate) prompt: &'a str,
    pub(crate) options: &'a SampleOptions,
    pub(crate) seed: u64,
    pub(crate) concepts: &'a [Concept],
    pub(crate) layers: Option<&'a LayerSelection>,
    /// The words of attend-and-excite.
    pub(crate) excited: &'a [String],
}

/// Writes a picture, with what it was drawn from where that is given.
pub(crate) fn write_picture(
    path: &Path,
    picture: &Picture,
    drawn: Option<&Drawn>,
) -> anyhow::Result<()> {
    let metadata = drawn.map(|d| d.metadata(picture)).transpose()?;
    Ok(picture.write_png(path, metadata.as_ref())?)
}

impl Drawn<'_> {
    fn metadata(&self, picture: &Picture) -> anyhow::Result<Metadata> {
        let Self {
            pipeline,
            prompt,
            options,
            seed,
            concepts,
            layers,
            excited,
        } = self;
        let size = format!("{}x{}", picture.width(), picture.height());
        let names: Vec<String> = concepts
            .iter()
            .map(|c| format!("{}@{}", c.name, &c.sha256[..10]))
            .collect();
        let mut fields = vec![
            ("Steps", options.steps.to_string()),
            ("Sampler", options.sampler.to_string()),
            ("CFG scale", options.guidance.to_string()),
            ("Seed", seed.to_string()),
            ("Size", size),
            ("Model", pipeline.name().to_owned()),
            ("Version", format!("cones {}", env!("CARGO_PKG_VERSION"))),
        ];
        if !names.is_empty() {
            fields.push(("Cones", names.join(", ")));
        }
        if let Some(layers) = layers {
            fields.push(("Cones layers", layers.to_string()));
        }
        if !excited.is_empty() {
            fields.push(("Attend-and-excite", excited.join(", ")));
        }
        let fields: Vec<(&str, &str)> = fields
            .iter()
            .map(|(key, value)| (*key, value.as_str()))
            .collect();
        let concepts: Vec<_> = concepts
            .iter()
            .map(|c| json!({"name": c.name, "sha256": c.sha256}))
            .collect();
        let cones = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "model": pipeline.name(),
            "fingerprint": pipeline.fingerprint()?,
            "prompt": prompt,
            "negative": options.negative,
            "sampler": options.sampler.to_string(),
            "steps": options.steps,
            "guidance": options.guidance,
            "seed": seed,
            "width": picture.width(),
            "height": picture.height(),
            "concepts": concepts,
            "layers": layers.map(LayerSelection::to_string),
            "attend_excite": excited,
        });
        Ok(Metadata {
            parameters: a1111_parameters(prompt, &options.negative, &fields),
            cones: cones.to_string(),
        })
    }
}

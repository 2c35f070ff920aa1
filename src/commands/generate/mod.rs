//! `cones generate`: prompts and concepts to pictures.

mod attention;
mod choose;
mod concepts;
mod draw;
pub(crate) mod from;
mod hashes;
mod pictures;
mod prompts;
mod recorded;
mod report;
mod series;

use std::path::Path;

use anyhow::Context;
use cones::{Error, Init, Picture, SampleOptions, Size, escaped};

use self::concepts::{concepts, shut};
use self::draw::{Drawings, Job};
use self::pictures::{check_outputs, pictures, seeds, sheet};
use self::report::{Report, kept};
use self::series::Series;
use super::outputs;
use super::{count, load, name, with_suffix};
use crate::cli::{GenerateArgs, Global};
use crate::report::memory;
use crate::report::memory::Budget;
use crate::report::ui::Ui;

pub(crate) fn run(global: &Global, args: &GenerateArgs) -> anyhow::Result<()> {
    let ui = Ui::new(global);
    let files = args.concepts();
    let prompts = prompts::read(args)?;
    let seeds = seeds(global.seed, args.count * args.best_of.unwrap_or(1))?;
    // Of all that may be drawn.
    let mut pictures = pictures(args, prompts.each.len(), &seeds);
    let grid = args.grid.then(|| with_suffix(&args.output, "-grid"));
    check_outputs(args, &files, &pictures, grid.as_deref())?;
    let (files, concepts) = concepts(files, &ui)?;
    let mut pipeline = load(global, &ui)?;
    if let Some(path) = args.from.as_ref().filter(|_| !args.force) {
        recorded::check_model(
            &recorded::read(path)?,
            &pipeline.fingerprint()?,
            &pipeline.name,
        )?;
    }
    let marks = shut(&mut pipeline, &concepts, args, &ui)?;
    let specs = prompts::placed(&prompts, &concepts, (&marks, &pipeline), args, &ui)?;
    let size = args.size.unwrap_or(pipeline.size);
    let init = args.init.as_deref().map(|path| init(path, size, args));
    let (init, source) = init.transpose()?.unzip();
    let options = SampleOptions {
        negative: prompts.negative,
        size: args.size,
        init,
        ..args.sampling.options(pipeline.sample_options(&concepts))
    };
    let attention = attention::of_prompts(args, &pipeline, &specs, &concepts, &ui)?;
    let excite = attention
        .iter()
        .any(|attention| !attention.excite.is_empty());
    let own = pipeline.size;
    if is_far(size, own) {
        ui.warn(&format!(
            "{size} is far from the {own} pixels that the model was trained on: it may draw things many times \
             or in part"
        ));
    }
    let budget = Budget::new(global, args.memory.bytes);
    let needs = pipeline.plan_drawing(&options, args.count, excite, budget.bytes())?;
    budget.check(&needs, &ui)?;
    if args.memory.dry_run {
        let what = format!(
            "{}: {}, {} of `{}` each",
            escaped(&name(&args.output)),
            count(pictures.len(), "picture"),
            count(options.steps, "step"),
            options.sampler
        );
        return memory::dry_run(global, &ui, &what, &needs, None, &[]);
    }
    outputs::room_for_pictures(pictures.iter().map(|picture| picture.path.as_path()), size)?;
    ui.detail(&memory::line(&needs));
    if let Some(of) = args.best_of {
        let chosen = choose::seeds(&pipeline, &specs[0], &options, &concepts, (&seeds, of), &ui)?;
        pictures = self::pictures(args, prompts.each.len(), &chosen);
    }
    let job = Job {
        args,
        model: &global.model,
        pipeline: &pipeline,
        prompts: &specs,
        attention: &attention,
        options: &options,
        concepts: &concepts,
        init: source.as_deref(),
        size,
    };
    let record = || job.record(&pictures, seeds[0]);
    let mut series = Series::open(&ui, args, &pictures, record)?;
    let Drawings {
        mut saved,
        cells,
        done,
        seconds_per_step,
    } = job.draw(&mut pictures, &mut series, &ui);
    for (at, picture) in pictures.iter_mut().enumerate() {
        if picture.heat.is_empty() {
            picture.heat = series.heat(at, &picture.path, &args.heatmap);
        }
    }
    series.end(done.is_ok() && saved.all_well());
    if let Some(grid) = grid.as_ref().filter(|_| !cells.is_empty()) {
        let sheet = sheet(&cells, &pictures[..args.count], specs.len())?;
        saved.write(grid, &sheet.to_file(grid, None)?);
    }
    if !saved.all_well() {
        return saved.finish();
    }
    match done {
        Err(Error::Interrupted) => {
            return Err(Error::Interrupted).context(kept(&saved, pictures.len()));
        }
        other => other?,
    }
    let report = Report {
        model: &pipeline.name,
        files: &files,
        concepts: &concepts,
        prompts: &specs,
        options: &options,
        strength: args.strength,
        size,
        excited: &attention,
        pictures: &pictures,
        grid: grid.as_deref(),
        seconds_per_step,
    };
    match global.json {
        true => ui.json(&report.json()),
        false => ui.result(&report.text()),
    }
}

/// The picture to begin with, and its SHA-256.
fn init(path: &Path, size: Size, args: &GenerateArgs) -> anyhow::Result<(Init, String)> {
    let picture = Picture::read(path, size).context("--init")?;
    let init = Init {
        picture,
        strength: args.init_strength,
    };
    Ok((init, cones::file_sha256(path)?))
}

/// Whether a size is far from the model's own: there it draws its subjects many times over, or cut off.
fn is_far(size: Size, own: Size) -> bool {
    /// How many times larger or smaller still is no surprise: 768 pixels of a model of 512.
    const FAR: f64 = 1.5;
    let far = |side: usize, own: usize| {
        let times = side as f64 / own as f64;
        !(1.0 / FAR..=FAR).contains(&times)
    };
    far(size.width, own.width) || far(size.height, own.height)
}

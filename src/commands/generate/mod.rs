//! `cones generate`: prompts and concepts to pictures.

mod attention;
mod choose;
mod concepts;
pub(crate) mod from;
mod prompts;
mod report;
mod series;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use anyhow::{Context, bail};
use cones::picture::contact_sheet;
use cones::pipeline::{Drawn, Stage};
use cones::{Error, Init, Picture, Progress, SampleOptions, Size, escaped};

use self::concepts::{concepts, shut};
use self::report::{Drawing, Report, kept};
use self::series::Series;
use super::outputs;
use super::outputs::{Outputs, Saved};
use super::{count, load, name, with_suffix};
use crate::cli::{GenerateArgs, Global};
use crate::report::memory;
use crate::report::memory::Budget;
use crate::report::ui::Ui;

/// What stands behind the name of a picture that is not done.
const PREVIEW: &str = "-preview";
/// As many as one picture of them has room for.
const MOST_IN_GRID: usize = 1500;

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
        from::check_model(&from::read(path)?, &pipeline.fingerprint()?, &pipeline.name)?;
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
    let attention = specs
        .iter()
        .map(|spec| attention::options(args, &pipeline, spec, &concepts));
    let attention = attention.collect::<anyhow::Result<Vec<_>>>()?;
    let excite = attention
        .iter()
        .any(|attention| !attention.excite.is_empty());
    for attention in attention
        .iter()
        .filter(|attention| !attention.excite.is_empty())
    {
        ui.detail(&format!(
            "attend-and-excite: {}",
            attention.excite.join(", ")
        ));
    }
    if pipeline.is_far_from_trained(size) {
        let own = pipeline.size;
        ui.warn(&format!(
            "{size} is far from the {own} pixels that the model was trained on: it may draw things many times \
             or in part"
        ));
    }
    let budget = Budget::new(args.memory.bytes);
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
        return memory::dry_run(global, &ui, &what, &needs, &[]);
    }
    // A PNG is hardly smaller than a tenth of its pixels.
    let least = size.pixels() as u64 * 3 / 10;
    outputs::room(
        pictures
            .iter()
            .map(|picture| (picture.path.as_path(), least)),
    )?;
    ui.detail(&memory::line(&needs));
    if let Some(of) = args.best_of {
        let chosen = choose::seeds(&pipeline, &specs[0], &options, &concepts, (&seeds, of), &ui)?;
        pictures = self::pictures(args, prompts.each.len(), &chosen);
    }
    let drawn = |number: usize, seed| Drawn {
        pipeline: &pipeline,
        prompt: &specs[number],
        options: &options,
        seed,
        concepts: &concepts,
        strength: args.strength,
        layers: args.layers.as_ref(),
        excited: &attention[number].excite,
        init: source.as_deref(),
        zoom: args.zoom,
        hashes: &[],
    };
    let plan = || {
        series::plan(
            &drawn(0, pictures[0].seed),
            &specs,
            size,
            (pictures.len(), seeds[0]),
            args,
        )
    };
    let mut series = Series::open(&ui, args, &pictures, plan)?;
    // Gigabytes to read, which no step waits for: only what the first picture says needs it.
    let file = PathBuf::from(&global.model);
    let hash = {
        let file = file.clone();
        move || model_hashes(&file)
    };
    let mut hashing = (!args.no_metadata).then(|| thread::Builder::new().spawn(hash));
    let mut hashes = Vec::new();
    let mut meter = ui.meter("drawing");
    let (start, mut passes) = (Instant::now(), 0);
    let saved = RefCell::new(Saved::default());
    let (mut done, mut cells) = (Ok(()), Vec::new());
    for (number, (spec, attention)) in specs.iter().zip(&attention).enumerate() {
        let all = number * args.count..(number + 1) * args.count;
        // A grid shows every picture, so that they are all drawn for it.
        let left: Vec<usize> = all
            .filter(|at| grid.is_some() || series.lacks(*at))
            .collect();
        let seeds: Vec<u64> = left.iter().map(|at| pictures[*at].seed).collect();
        let progress = |p: Progress| {
            passes = p.total * specs.len();
            // After a picture that could not be written there is no use in drawing more.
            match saved.borrow().all_well() {
                true => meter.set(number * p.total + p.done, passes, "passes"),
                false => Err(Error::Interrupted),
            }
        };
        let mut next = left.iter();
        let each = |stage| {
            let drawing = match stage {
                Stage::Preview { number, picture } => {
                    // Nothing depends on it: where it cannot be written, drawing goes on.
                    let path = with_suffix(&pictures[left[number]].path, PREVIEW);
                    let picture = picture.enlarged(args.zoom)?.to_file(&path, None)?;
                    let _ = cones::atomic_write(&path, &picture);
                    return Ok(());
                }
                Stage::Done(drawing) => drawing,
            };
            let Some(&at) = next.next() else {
                return Ok(());
            };
            let Drawing {
                path, seed, heat, ..
            } = &mut pictures[at];
            if let Some(hashing) = hashing.take() {
                hashes = match hashing {
                    Ok(hashing) => hashing
                        .join()
                        .unwrap_or_else(|panic| resume_unwind(panic))?,
                    // There may be no more threads.
                    Err(_) => model_hashes(&file)?,
                };
            }
            let said = Drawn {
                hashes: &hashes,
                ..drawn(number, *seed)
            };
            let metadata = match args.no_metadata {
                true => None,
                false => Some(said.metadata(&drawing.picture)?),
            };
            let mut saved = saved.borrow_mut();
            let large = drawing.picture.enlarged(args.zoom)?;
            saved.write(path, &large.to_file(path, metadata.as_ref())?);
            if args.preview.is_some() {
                let _ = std::fs::remove_file(with_suffix(path, PREVIEW));
            }
            if grid.is_some() {
                cells.push(drawing.picture.clone());
            }
            *heat = attention::write_heat(path, &attention.heat, &drawing, &mut saved)?;
            if saved.all_well() {
                series.add(at, path, heat);
            }
            Ok(())
        };
        done = pipeline.draw_showing(
            spec,
            &options,
            attention,
            &seeds,
            args.preview,
            progress,
            each,
        );
        if done.is_err() {
            break;
        }
    }
    meter.finish();
    let mut saved = saved.into_inner();
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
        seconds_per_step: start.elapsed().as_secs_f64() / passes.max(1) as f64,
    };
    match global.json {
        true => ui.json(&report.json()),
        false => ui.result(&report.text()),
    }
}

/// That everything can be written.
fn check_outputs(
    args: &GenerateArgs,
    concepts: &[PathBuf],
    pictures: &[Drawing],
    grid: Option<&Path>,
) -> anyhow::Result<()> {
    let inputs = [&args.prompts, &args.from, &args.init];
    let mut outputs = Outputs::beside(concepts.iter().chain(inputs.into_iter().flatten()));
    // What is to be one of several seeds has one name.
    let one = pictures
        .first()
        .filter(|_| args.count == 1 && args.best_of.is_some());
    for Drawing { path, .. } in one.map_or(pictures, std::slice::from_ref) {
        outputs = outputs.file("--output", path);
        if args.preview.is_some() {
            outputs = outputs.file("--preview", with_suffix(path, PREVIEW));
        }
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
    if let Some(grid) = grid {
        let found = pictures.len() / args.best_of.unwrap_or(1);
        if found > MOST_IN_GRID {
            bail!("--grid: expected at most {MOST_IN_GRID} pictures, found {found}");
        }
        outputs = outputs.file("--grid", grid);
    }
    outputs.check()?;
    outputs.spare_indices()
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

/// All pictures: a row for each prompt, under the seeds of the first.
fn sheet(cells: &[Picture], first: &[Drawing], prompts: usize) -> cones::Result<Picture> {
    let rows: Vec<Vec<Picture>> = cells
        .chunks(first.len().max(1))
        .map(<[Picture]>::to_vec)
        .collect();
    let seeds = first.iter().map(|picture| picture.seed.to_string());
    let seeds: Vec<String> = seeds.collect();
    let lines: Vec<String> = match prompts {
        1 => Vec::new(),
        _ => (1..=rows.len()).map(|line| line.to_string()).collect(),
    };
    contact_sheet(&rows, &seeds, &lines)
}

/// Of a single file what the web UI calls it by: the beginning of its SHA-256.
fn model_hashes(path: &Path) -> cones::Result<Vec<(&'static str, String)>> {
    if path == Path::new(cones::checkpoint::POCKET) || !path.is_file() {
        return Ok(Vec::new());
    }
    let hash = cones::file_sha256(path)?;
    Ok(vec![("Model hash", hash[..10].to_owned())])
}

/// One seed for each picture that may be drawn of a prompt.
fn seeds(first: u64, count: usize) -> anyhow::Result<Vec<u64>> {
    let last = first.checked_add(count as u64);
    let last = last.context("--seed: expected a number that leaves room for all pictures")?;
    Ok((first..last).collect())
}

/// The pictures of all prompts, each with its prompt, seed and file: `out.png`, `out-SEED.png` where there are several,
/// `out-LINE-SEED.png` of several prompts.
fn pictures(args: &GenerateArgs, prompts: usize, seeds: &[u64]) -> Vec<Drawing> {
    let each = (0..prompts).flat_map(|prompt| seeds.iter().map(move |&seed| (prompt, seed)));
    let drawing = |(prompt, seed)| Drawing {
        prompt,
        seed,
        path: match (prompts, args.count) {
            (1, 1) => args.output.clone(),
            (1, _) => with_suffix(&args.output, &format!("-{seed}")),
            _ => with_suffix(&args.output, &format!("-{}-{seed}", prompt + 1)),
        },
        heat: Vec::new(),
    };
    each.map(drawing).collect()
}

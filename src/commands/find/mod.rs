//! `cones find`: photos to one concept.

mod again;
mod arguments;
mod array;
mod report;
mod shard;
mod token;

use std::path::Path;

use anyhow::Context;
use cones::checkpoint::{POCKET, POCKET_NOUNS};
use cones::find::{ClassImages, FindPlan, find, find_part};
use cones::{Photos, Size, escaped};

use self::report::{report, save};
use super::class_images;
use super::outputs;
use super::outputs::{Outputs, Saved};
use super::unfinished::{Steps, Unfinished};
use super::{Advice, count, load, name};
use crate::cli::{FindArgs, Global, Method};
use crate::report::memory;
use crate::report::memory::{Budget, FindTime};
use crate::report::meters::Meters;
use crate::report::photos;
use crate::report::ui::Ui;

pub(crate) fn run(global: &Global, args: &FindArgs) -> anyhow::Result<()> {
    let ui = Ui::new(global);
    if !args.shards.from_scores.is_empty() {
        return again::run(global, args, &ui);
    }
    let output = args.output();
    let given = args.class_images.iter().filter(|_| args.needs_class());
    let given = given.map(|folder| photos::list(std::slice::from_ref(folder), &ui));
    let class = given.collect::<anyhow::Result<Vec<_>>>()?.pop();
    let photos = photos::list(&args.images, &ui)?;
    let inputs = photos
        .files
        .iter()
        .chain(class.iter().flat_map(|class| &class.files));
    let is_part = args.shards.shard.is_some();
    let mut outputs =
        Outputs::beside(inputs).file(if is_part { "--scores" } else { "--output" }, &output);
    if let Some(path) = args.scores.as_ref().filter(|_| !is_part) {
        Outputs::beside([]).file("--scores", path).spare_indices()?;
        outputs = outputs.file("--scores", path);
    }
    outputs.check()?;
    if let Some(path) = &args.scores {
        outputs::check_not_part("--scores", path, &output)?;
    }
    let keep = photos::keep(args.memory.bytes) / 2; // of each list
    let photos = photos::read(photos, keep, &ui)?;
    let subject = token::subject(args.subject(), args.token(), &photos, &output, &ui)?;
    let class = match class {
        Some(list) => ClassImages::Given(photos::read(list, keep, &ui)?),
        None if args.needs_class() => class_images::drawn(&subject, args.class_count, &output),
        None => ClassImages::Needless,
    };
    let mut pipeline = load(global, &ui)?;
    if let Some(folder) = &args.crops {
        write_crops(folder, &photos, pipeline.size)?;
    }
    if global.model == POCKET && !POCKET_NOUNS.contains(&subject.noun.to_lowercase().as_str()) {
        ui.warn(&format!(
            "model `{POCKET}` is a small one that knows no `{}`: it draws {}; give another with --model",
            subject.noun,
            POCKET_NOUNS.join(", ")
        ));
    }
    let plan = FindPlan {
        method: arguments::method(global, args, &pipeline),
        subject,
        class,
    };
    let budget = Budget::new(global, args.memory.bytes);
    let prepared = plan.prepare(&mut pipeline, &photos, budget.bytes())?;
    let needs = &prepared.memory;
    match args.shards.shard {
        Some(part) if !args.memory.dry_run => {
            if shard::is_there(&output, &prepared.provenance, part, args.force)? {
                return shard::report(global, &ui, &output, part, None);
            }
        }
        Some(_) => {}
        None => {
            let again = outputs::check_free(&output, &prepared.provenance, args.force)?;
            check_scores(args.scores.as_deref(), again || args.force)?;
        }
    }
    budget.check(needs, &ui)?;
    let mut left_out = photos.left_out.clone();
    if let ClassImages::Given(class) = &plan.class {
        left_out.extend_from_slice(&class.left_out);
    }
    if args.memory.dry_run {
        let what = format!(
            "{}: {} of `--method {}` on {}",
            escaped(&name(&output)),
            count(prepared.steps, "step"),
            plan.method,
            count(photos.len(), "photo")
        );
        if let Some(part) = args.shards.shard {
            return array::dry_run(global, args, &ui, &what, part);
        }
        let step = budget.time_find_step(needs, &pipeline, prepared.rows)?;
        let time = match step {
            Some(step) => Some(FindTime::new(
                prepared.steps,
                step,
                pipeline.time_sampling()?,
            )),
            None => None,
        };
        return memory::dry_run(global, &ui, &what, needs, time, &left_out);
    }
    let scores = args.scores.as_deref().filter(|_| !is_part);
    let scores = scores.map(|path| (path, prepared.scores_bytes));
    let files = [(output.as_path(), prepared.output_bytes)];
    outputs::room(files.into_iter().chain(scores))?;
    ui.note(&memory::line(needs));
    for risk in &prepared.risks {
        ui.warn(risk);
    }
    let record = prepared.record(&pipeline)?;
    let most = prepared.state_bytes;
    let unfinished = Unfinished::open(&ui, &output, record, args.restart, most)?;
    class_images::check(&plan.class, &pipeline, &ui)?;
    let meters = Meters::new(
        &ui,
        match args.method {
            Method::Paper => "finding neurons",
            Method::Learned => "learning",
        },
    );
    let mut steps = Steps::open(meters, unfinished, prepared.steps)?;
    if let Some(part) = args.shards.shard {
        let found = find_part(&mut pipeline, plan, photos, &mut steps);
        let (found, unfinished) = steps.end(found)?;
        let mut saved = Saved::default();
        saved.write(&output, &found.to_bytes()?);
        unfinished.finish_unless(saved.is_lost());
        saved.finish()?;
        return shard::report(global, &ui, &output, part, Some(&found));
    }
    let found = find(&mut pipeline, plan, photos, &mut steps);
    let (found, unfinished) = steps.end(found)?;
    let saved = save(args, &ui, &output, &found)?;
    unfinished.finish_unless(saved.is_lost());
    saved.finish()?;
    report(global, &ui, &output, &found, &left_out)
}

/// Writes what the model sees of each photo: `1-NAME.png`.
fn write_crops(folder: &Path, photos: &Photos, size: Size) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("--crops: cannot make the folder `{}`", name(folder)))?;
    for (number, photo) in (1..).zip(photos) {
        let stem = photo.path.file_stem().map(|stem| name(Path::new(stem)));
        let file = folder.join(format!("{number}-{}.png", stem.unwrap_or_default()));
        photo.picture(size)?.write(&file, None).context("--crops")?;
    }
    Ok(())
}

/// That no scores of another run are lost, where they may not be.
fn check_scores(scores: Option<&Path>, may: bool) -> anyhow::Result<()> {
    let holds_something =
        |path: &Path| std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() > 0);
    match scores.filter(|path| holds_something(path)) {
        Some(path) if !may => Err(Advice::error(
            format!(
                "--scores: `{}` is there, and may hold the scores of another run",
                name(path)
            ),
            "give another name, or replace it with `--force`",
        )),
        _ => Ok(()),
    }
}

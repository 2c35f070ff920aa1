//! `cones find`: photos to one concept.

mod arguments;

use std::path::Path;

use anyhow::Context;
use cones::checkpoint::{POCKET, POCKET_NOUNS};
use cones::find::{ClassImages, FindPlan, Found, find, risks, searched};
use cones::index::Subject;
use cones::{LeftOut, Photos, Size, escaped};
use serde_json::json;

use super::class_images;
use super::outputs;
use super::outputs::{Outputs, Saved};
use super::{Advice, count, load, name, thousands};
use crate::cli::{FindArgs, Global, Method};
use crate::report::memory;
use crate::report::memory::Budget;
use crate::report::meters::{Meters, steps};
use crate::report::photos;
use crate::report::ui::{Ui, peak_memory};

pub(crate) fn run(global: &Global, args: &FindArgs) -> anyhow::Result<()> {
    let ui = Ui::new(global);
    let subject = Subject {
        noun: args.subject.clone(),
        token: args.token.clone(),
    };
    let output = args.output();
    let given = args.class_images.iter().filter(|_| args.needs_class());
    let given = given.map(|folder| photos::list(std::slice::from_ref(folder), &ui));
    let class = given.collect::<anyhow::Result<Vec<_>>>()?.pop();
    let photos = photos::list(&args.images, &ui)?;
    let inputs = photos
        .files
        .iter()
        .chain(class.iter().flat_map(|class| &class.files));
    let mut outputs = Outputs::beside(inputs).file("--output", &output);
    if let Some(path) = &args.scores {
        Outputs::beside([]).file("--scores", path).spare_indices()?;
        outputs = outputs.file("--scores", path);
    }
    outputs.check()?;
    let keep = photos::keep(args.memory.bytes) / 2; // of each list
    let class = match class {
        Some(list) => ClassImages::Given(photos::read(list, keep, &ui)?),
        None if args.needs_class() => class_images::drawn(&subject, args.class_count, &output),
        None => ClassImages::Needless,
    };
    let photos = photos::read(photos, keep, &ui)?;
    let mut pipeline = load(global, &ui)?;
    if let Some(folder) = &args.crops {
        write_crops(folder, &photos, pipeline.size())?;
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
    let provenance = plan.provenance(&pipeline, &photos)?;
    let again = outputs::check_free(&output, &provenance, args.force)?;
    check_scores(args, again)?;
    let budget = Budget::new(args.memory.bytes);
    let needs = plan.fit(&mut pipeline, &photos, budget.bytes());
    budget.check(&needs, &ui)?;
    let mut left_out = photos.left_out.clone();
    if let ClassImages::Given(class) = &plan.class {
        left_out.extend_from_slice(&class.left_out);
    }
    if args.memory.dry_run {
        let what = format!(
            "{}: {} of `--method {}` on {}",
            escaped(&name(&output)),
            count(plan.method.steps(), "step"),
            plan.method.name(),
            count(photos.len(), "photo")
        );
        return memory::dry_run(global, &ui, &what, &needs, &left_out);
    }
    let all = searched(&pipeline, args.sites());
    let scores = args.scores.as_deref().map(|path| (path, 4 * all));
    // An index of 3 % of the neurons has this size.
    outputs::room([(output.as_path(), all / 40)].into_iter().chain(scores))?;
    ui.note(&memory::line(&needs));
    for risk in risks(&pipeline, &plan.subject)? {
        ui.warn(&risk);
    }
    class_images::check(&plan.class, &pipeline, &ui)?;
    let mut meters = Meters::new(
        &ui,
        match args.method {
            Method::Paper => "finding neurons",
            Method::Learned => "learning a mask",
        },
    );
    let found = find(&mut pipeline, plan, photos, &mut meters)?;
    meters.finish();
    if let Some(error) = found.rounding_error {
        ui.detail(&format!(
            "rounding the mask changes its effect on the text by {:.2} %",
            100.0 * error
        ));
    }
    let mut saved = Saved::default();
    saved.write(&output, &found.index.to_bytes()?);
    if let Some(path) = &args.scores {
        saved.write(path, &found.scores_file()?);
    }
    saved.finish()?;
    report(global, &ui, &output, &found, &left_out)
}

/// Writes what the model sees of each photo: `1-NAME.png`.
fn write_crops(folder: &Path, photos: &Photos, size: Size) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("--crops: cannot make the folder `{}`", name(folder)))?;
    for (number, photo) in (1..).zip(photos) {
        let stem = photo.path().file_stem().map(|stem| name(Path::new(stem)));
        let file = folder.join(format!("{number}-{}.png", stem.unwrap_or_default()));
        photo
            .at_size(size)?
            .write_png(&file, None)
            .context("--crops")?;
    }
    Ok(())
}

/// That no scores of another run are lost.
fn check_scores(args: &FindArgs, again: bool) -> anyhow::Result<()> {
    let holds_something =
        |path: &Path| std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() > 0);
    match args.scores.as_deref().filter(|path| holds_something(path)) {
        Some(path) if !(again || args.force) => Err(Advice::error(
            format!(
                "--scores: `{}` is there, and may hold the scores of another run",
                name(path)
            ),
            "give another name, or replace it with `--force`",
        )),
        _ => Ok(()),
    }
}

fn report(
    global: &Global,
    ui: &Ui,
    output: &Path,
    found: &Found,
    left_out: &[LeftOut],
) -> anyhow::Result<()> {
    let index = &found.index;
    if index.shut() == 0 {
        ui.warn("no neuron was chosen: lower --threshold or take more --steps");
    }
    let stability = found.stability;
    if global.json {
        let provenance = index.provenance();
        return ui.json(&json!({
                "index": name(output),
                "subject": provenance.subjects[0].noun,
                "token": provenance.subjects[0].token,
                "method": provenance.method,
                "scope": provenance.scope.name(),
                "shut": index.shut(),
                "total": index.total(),
                "density": index.density(),
                "stability": stability.map(|s| json!({"shared": s.shared, "by_chance": s.by_chance})),
                "seed": global.seed,
                "steps": steps(&found.steps),
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
    if let Some(stability) = stability {
        text += &format!(
            "\nthe two halves of the steps agree on {:.0} % of their neurons, by chance {:.0} %",
            100.0 * stability.shared,
            100.0 * stability.by_chance
        );
    }
    ui.result(&text)
}

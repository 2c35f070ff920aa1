//! `cones merge --tune`: trains the values of a union's neurons on the photos of all its subjects.

use std::path::PathBuf;

use anyhow::{Context, bail};
use cones::find::{PRIOR_LOSS_WEIGHT, TunePlan, Tuned, tune, tuning};
use cones::index::{NeuronIndex, Scope, Subject};
use cones::{LeftOut, escaped};

use super::class_images;
use super::outputs;
use super::outputs::Outputs;
use super::unfinished::{Steps, Unfinished};
use super::{count, load, name};
use crate::cli::{Global, MergeArgs, SubjectImages};
use crate::report::memory;
use crate::report::memory::Budget;
use crate::report::meters::Meters;
use crate::report::photos;
use crate::report::ui::Ui;

/// The tuned index, what was left out of the photos, and what was kept of the steps; `None` where it was only to say
/// what it needs.
pub(crate) fn run<'a>(
    global: &Global,
    args: &MergeArgs,
    steps: usize,
    union: &NeuronIndex,
    ui: &'a Ui,
) -> anyhow::Result<Option<(Tuned, Vec<LeftOut>, Unfinished<'a>)>> {
    let subjects = &union.provenance().subjects;
    let scope = union.provenance().scope;
    let folders = images_of(subjects, &args.images, ui)?;
    let given = [
        ("--class-count", args.class_count.is_some()),
        ("--prior-weight", args.prior_weight.is_some()),
    ];
    if let Some((option, _)) = given.iter().find(|(_, given)| *given)
        && scope == Scope::Words
    {
        bail!(
            "{option}: expected indices of scope `prompt`, found some of scope `words`: they leave their \
             classes alone, so that no pictures of these are needed; leave the option out"
        );
    }
    let lists = folders
        .iter()
        .map(|folder| photos::list(std::slice::from_ref(folder), ui))
        .collect::<anyhow::Result<Vec<_>>>()?;
    Outputs::beside(lists.iter().flat_map(|list| &list.files))
        .file("--output", &args.output)
        .check()?;
    let keep = photos::keep(args.memory) / lists.len().max(1) as u64;
    let photos = lists
        .into_iter()
        .map(|list| photos::read(list, keep, ui))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut pipeline = load(global, ui)?;
    union
        .provenance()
        .check_fingerprint(&pipeline.fingerprint()?)
        .context("the indices cannot be tuned on this model")?;
    let plan = TunePlan {
        options: tuning::Options {
            steps,
            batch_size: args.batch,
            learning_rate: args.learning_rate,
            prior_loss_weight: args.prior_weight.unwrap_or(PRIOR_LOSS_WEIGHT),
            scope,
            seed: global.seed,
        },
        dense: args.dense,
        class: match scope {
            Scope::Words => Vec::new(),
            Scope::Prompt => (subjects.iter())
                .map(|of| class_images::drawn(of, args.class_count, &args.output))
                .collect(),
        },
    };
    let budget = Budget::new(global, args.memory);
    let prepared = plan.prepare(&mut pipeline, union, &photos, budget.bytes())?;
    let needs = &prepared.memory;
    outputs::check_free(&args.output, &prepared.provenance, args.force)?;
    budget.check(needs, ui)?;
    let left_out: Vec<LeftOut> = (photos.iter())
        .flat_map(|photos| photos.left_out.clone())
        .collect();
    if args.dry_run {
        let what = format!(
            "{}: {} of tuning",
            escaped(&name(&args.output)),
            count(steps, "step")
        );
        memory::dry_run(global, ui, &what, needs, None, &left_out)?;
        return Ok(None);
    }
    outputs::room([(args.output.as_path(), prepared.output_bytes)])?;
    ui.note(&memory::line(needs));
    for risk in &prepared.risks {
        ui.warn(risk);
    }
    let record = prepared.record(&pipeline)?;
    let most = prepared.state_bytes;
    let unfinished = Unfinished::open(ui, &args.output, record, args.restart, most)?;
    for class in &plan.class {
        class_images::check(class, &pipeline, ui)?;
    }
    let mut steps = Steps::open(Meters::new(ui, "tuning"), unfinished, steps)?;
    let tuned = tune(&mut pipeline, union, plan, photos, &mut steps);
    let (tuned, unfinished) = steps.end(tuned)?;
    Ok(Some((tuned, left_out, unfinished)))
}

/// For each subject the folder that the user gave, by its noun or by token and noun.
fn images_of(
    subjects: &[Subject],
    images: &[SubjectImages],
    ui: &Ui,
) -> anyhow::Result<Vec<PathBuf>> {
    let images: Vec<SubjectImages> = images.iter().map(|i| parted(i, subjects)).collect();
    let names: Vec<&str> = images.iter().map(|image| image.name.as_str()).collect();
    let each = Subject::each_named(subjects, &names).context("--images")?;
    let mut folders: Vec<PathBuf> = Vec::new();
    for (subject, (name, number)) in subjects.iter().zip(each) {
        let Some(number) = number else {
            bail!(
                "--tune needs photos of every subject, found none of `{}`: add --images {name}=DIR",
                subject
            );
        };
        let folder = &images[number].folder;
        let real = |folder: &PathBuf| folder.canonicalize().ok();
        if folders
            .iter()
            .any(|f| real(f).is_some() && real(f) == real(folder))
        {
            ui.warn(&format!(
                "--images: `{}` is given for two subjects, the second is `{}`: its photos should show both",
                folder.display(),
                subject
            ));
        }
        folders.push(folder.clone());
    }
    Ok(folders)
}

/// `NOUN=DIR` parted where a subject's name ends: names and folders may have a `=` of their own.
fn parted(images: &SubjectImages, subjects: &[Subject]) -> SubjectImages {
    let text = format!("{}={}", images.name, images.folder.display());
    let parts = text.match_indices('=').map(|(at, _)| SubjectImages {
        name: text[..at].to_owned(),
        folder: text[at + 1..].into(),
    });
    let named = |part: &SubjectImages| Subject::named(subjects, &part.name).is_ok();
    parts
        .into_iter()
        .find(named)
        .unwrap_or_else(|| images.clone())
}

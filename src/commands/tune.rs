//! `cones merge --tune`: trains the values of a union's neurons on the photos of all its subjects.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, bail};
use cones::find::tuning::TrainableSet;
use cones::find::{DreamBoothData, Step, rows_at_once};
use cones::index::{NeuronIndex, NeuronSet, Provenance, Scope, Site, SiteSelection, Subject};
use cones::nn::Weight;
use cones::pipeline::{marks_of, shut};
use cones::{LeftOut, Pipeline, Size, escaped};
use half::f16;

use super::lesson::{ClassImages, class_count, hashes, of_class, of_subject, prior_weight};
use super::outputs;
use super::outputs::Outputs;
use super::{count, load, name};
use crate::cli::{Global, MergeArgs, SubjectImages};
use crate::report::memory;
use crate::report::memory::Budget;
use crate::report::photos;
use crate::report::ui::Ui;

/// A tuned index and how it came about.
pub(crate) struct Tuned {
    pub(crate) index: NeuronIndex,
    pub(crate) steps: Vec<Step>,
    pub(crate) left_out: Vec<LeftOut>,
}

/// `None` where it was only to say what it needs.
pub(crate) fn run(
    global: &Global,
    args: &MergeArgs,
    steps: usize,
    union: NeuronIndex,
    ui: &Ui,
) -> anyhow::Result<Option<Tuned>> {
    let folders = images_of(&union.provenance().subjects, &args.images, ui)?;
    let given = [
        ("--class-count", args.class_count.is_some()),
        ("--prior-weight", args.prior_weight.is_some()),
    ];
    if let Some((option, _)) = given.iter().find(|(_, given)| *given)
        && union.provenance().scope == Scope::Words
    {
        bail!(
            "{option}: expected indices of scope `prompt`, found some of scope `words`: they leave their classes alone, so that no pictures of these are needed; leave the option out"
        );
    }
    let photos = folders
        .iter()
        .map(|folder| photos::read(std::slice::from_ref(folder), ui))
        .collect::<anyhow::Result<Vec<_>>>()?;
    Outputs::beside(photos.iter().flat_map(|(photos, _)| &photos.files))
        .file("--output", &args.output)
        .check()?;
    let mut pipeline = load(global, ui)?;
    union
        .check_fingerprint(&pipeline.fingerprint()?)
        .context("the indices cannot be tuned on this model")?;
    let options = cones::find::tuning::Options {
        steps,
        half: args.batch,
        rate: args.rate,
        prior_loss_weight: prior_weight(args.prior_weight),
        scope: union.provenance().scope,
        seed: global.seed,
    };
    let mut provenance = provenance(union.provenance(), args, &options);
    for (photos, _) in &photos {
        for hash in hashes(&photos.files, &ClassImages::Needless, ui)? {
            if !provenance.pictures.contains(&hash) {
                provenance.pictures.push(hash);
            }
        }
    }
    NeuronIndex::new(provenance.clone())?; // before the work: as many pictures as a file may name
    outputs::check_free(&args.output, &provenance, args.force)?;
    let open = open(&union, &pipeline, args.all_positions)?;
    let budget = Budget::new(args.memory);
    let numbers: u64 = union.sites().map(|(_, set)| set.weight_count()).sum();
    let subjects = union.provenance().subjects.len();
    let size = Size::square(pipeline.unet().sample_size());
    let kinds = match union.provenance().scope {
        Scope::Prompt => 2,
        Scope::Words => 1,
    };
    let rows = rows_at_once(subjects * kinds * args.batch, size);
    let arrays = cones::find::tuning::arrays(subjects);
    let needs = pipeline.plan_steps(rows, numbers * arrays, budget.bytes());
    let height = pipeline.size().height as u32;
    let largest = photos.iter().map(|(_, read)| read.memory(height)).max();
    let needs = needs.reading(largest.unwrap_or(0));
    let left_out: Vec<LeftOut> = photos
        .iter()
        .flat_map(|(p, _)| p.left_out.clone())
        .collect();
    budget.check(&needs, ui)?;
    if args.dry_run {
        let what = format!(
            "{}: {} of tuning",
            escaped(&name(&args.output)),
            count(steps, "step")
        );
        memory::dry_run(global, ui, &what, &needs, &left_out)?;
        return Ok(None);
    }
    let values: u64 = open.values().map(|open| open.values.len() as u64).sum();
    outputs::room([(args.output.as_path(), 2 * values)])?;
    ui.note(&memory::line(&needs));
    let marks = marks_of(&[&union]);
    // All photos are read before the pictures of any class are drawn, which takes long.
    let examples = provenance
        .subjects
        .iter()
        .zip(&photos)
        .map(|(subject, (photos, _))| of_subject(&pipeline, (subject, &marks), &photos.files, ui))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let class = match provenance.scope {
        Scope::Prompt => ClassImages::Drawn(class_count(args.class_count), &args.output),
        Scope::Words => ClassImages::Needless,
    };
    let lessons = provenance
        .subjects
        .iter()
        .zip(examples)
        .map(|(of, subject)| {
            let class = of_class(&pipeline, (of, &marks), &class, ui)?;
            Ok(DreamBoothData { subject, class })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut done = Vec::with_capacity(steps);
    let mut meter = ui.meter("tuning");
    let (unet, schedule) = pipeline.unet_mut();
    let values =
        cones::find::tuning::values(unet, schedule, &lessons, open.clone(), &options, |step| {
            done.push(step);
            meter.set(step.step + 1, steps, &format!("loss {:.4}", step.loss))
        })?;
    meter.finish();
    pipeline.check_unchanged()?;
    Ok(Some(Tuned {
        index: tuned(provenance, open, &values)?,
        steps: done,
        left_out,
    }))
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
    for ((subject, name), number) in subjects
        .iter()
        .zip(Subject::short_names(subjects))
        .zip(each)
    {
        let Some(number) = number else {
            bail!(
                "--tune needs photos of every subject, found none of `{}`: add --images {name}=DIR",
                subject.phrase()
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
                subject.phrase()
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

/// What to train in each site: the union's neurons from where they are, or every weight from the model's own.
fn open(
    union: &NeuronIndex,
    pipeline: &Pipeline,
    all: bool,
) -> anyhow::Result<BTreeMap<Site, TrainableSet>> {
    let weights = pipeline.unet().site_weights(SiteSelection::All);
    // Also says whether the index fits the model, before anything as large as its shapes claim is made.
    shut(&weights, union)?;
    union
        .sites()
        .map(|(site, set)| {
            let open = match all {
                true => every_weight(set, &weights[site])?,
                false => TrainableSet {
                    neurons: set.clone(),
                    values: match set.values() {
                        Some(values) => {
                            values.iter().map(|&v| f16::from_bits(v).to_f32()).collect()
                        }
                        None => vec![0.0; set.count()],
                    },
                },
            };
            Ok((site.clone(), open))
        })
        .collect()
}

/// All weights of a site, each of all subjects that its neurons have.
fn every_weight(set: &NeuronSet, weight: &Weight) -> anyhow::Result<TrainableSet> {
    let all: Vec<u32> = (0..set.weight_count() as u32).collect();
    let owners = vec![all.clone(); set.owners().len()];
    Ok(TrainableSet {
        neurons: NeuronSet::new(set.shape(), all)?.with_owners(owners)?,
        values: weight.tensor()?.flatten_all()?.to_vec1()?,
    })
}

/// Where the tuned index comes from: the union, and how it was tuned.
fn provenance(
    union: &Provenance,
    args: &MergeArgs,
    options: &cones::find::tuning::Options,
) -> Provenance {
    let mut provenance = union.clone();
    provenance.method = match args.all_positions {
        true => "fine-tuned".to_owned(),
        false => format!("{}+tuned", provenance.method),
    };
    for (key, value) in [
        ("tune_steps", options.steps.to_string()),
        ("tune_batch", options.half.to_string()),
        ("tune_rate", options.rate.to_string()),
        ("tune_prior_weight", options.prior_loss_weight.to_string()),
        ("tune_seed", options.seed.to_string()),
    ] {
        provenance.settings.insert(key.to_owned(), value);
    }
    provenance
}

/// The index of the tuned values.
fn tuned(
    provenance: Provenance,
    open: BTreeMap<Site, TrainableSet>,
    values: &BTreeMap<Site, Vec<f32>>,
) -> anyhow::Result<NeuronIndex> {
    let mut index = NeuronIndex::new(provenance)?;
    for (site, TrainableSet { neurons, .. }) in open {
        let bits = values[&site]
            .iter()
            .map(|&v| f16::from_f32(v).to_bits())
            .collect();
        index.insert(site, neurons.with_values(bits)?)?;
    }
    Ok(index)
}

//! `cones merge --tune`: trains the values of a union's neurons on the photos of all its subjects.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use candle_core::Tensor;
use cones::Pipeline;
use cones::concept::{
    NeuronIndex, Provenance, Site, SiteIndices, SiteSelection, Step, Subject, shut,
};
use cones::list;
use half::f16;

use super::lesson::{ClassImages, prepare};
use super::load;
use super::ui::Ui;
use crate::cli::{Global, MergeArgs, SubjectImages};

/// A tuned index and how it came about.
pub(crate) struct Tuned {
    pub(crate) index: NeuronIndex,
    pub(crate) steps: Vec<Step>,
}

pub(crate) fn run(
    global: &Global,
    args: &MergeArgs,
    steps: usize,
    union: NeuronIndex,
    ui: &Ui,
) -> anyhow::Result<Tuned> {
    let folders = union
        .provenance()
        .subjects
        .iter()
        .map(|subject| images_of(subject, &args.images))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut pipeline = load(global, ui)?;
    union
        .check_fingerprint(&pipeline.fingerprint()?)
        .context("the indices cannot be tuned on this model")?;
    let mut provenance = union.provenance().clone();
    let mut lessons = Vec::new();
    for (subject, folder) in provenance.subjects.clone().iter().zip(folders) {
        let photos = list(std::slice::from_ref(&folder.folder))?;
        let class = ClassImages::Drawn(args.class_count, &args.output);
        let prepared = prepare(&pipeline, subject, &photos, &class, ui)?;
        for hash in prepared.hashes {
            if !provenance.pictures.contains(&hash) {
                provenance.pictures.push(hash);
            }
        }
        lessons.push(prepared.lesson);
    }
    let options = cones::concept::tune::Options {
        steps,
        half: args.batch,
        rate: args.rate,
        prior_weight: args.prior_weight,
        seed: global.seed,
    };
    let scales = scales(&pipeline)?;
    // Also says whether the index fits the model, before anything as large as its shapes claim is made.
    let masked = shut(&pipeline.unet().site_weights(SiteSelection::All), &union)?;
    let open = open(&union, args.all_positions);
    if !args.all_positions {
        pipeline.unet_mut().0.set_site_weights(masked)?;
    }
    let mut done = Vec::with_capacity(steps);
    let mut meter = ui.meter("tuning");
    let (unet, schedule) = pipeline.unet_mut();
    let values = cones::concept::tune::values(
        unet,
        schedule,
        &lessons,
        open.clone(),
        &scales,
        &options,
        |step| {
            done.push(step);
            meter.set(step.step + 1, steps, &format!("loss {:.4}", step.loss))
        },
    )?;
    meter.finish();
    Ok(Tuned {
        index: tuned(&union, provenance, open, &values, args, &options)?,
        steps: done,
    })
}

/// The folder that the user gave for a subject, by its noun or by token and noun.
fn images_of<'a>(
    subject: &Subject,
    images: &'a [SubjectImages],
) -> anyhow::Result<&'a SubjectImages> {
    let phrase = subject.phrase();
    match images
        .iter()
        .find(|i| i.name == phrase)
        .or_else(|| images.iter().find(|i| i.name == subject.noun))
    {
        Some(images) => Ok(images),
        None => bail!(
            "--tune needs photos of every subject, found none of `{phrase}`: add --images {}=DIR",
            subject.noun
        ),
    }
}

/// The positions to train in each site: the union's neurons, or all.
fn open(union: &NeuronIndex, all: bool) -> BTreeMap<Site, Vec<u32>> {
    union
        .sites()
        .map(|(site, set)| {
            let positions = match all {
                true => (0..set.universe() as u32).collect(),
                false => set.indices().to_vec(),
            };
            (site.clone(), positions)
        })
        .collect()
}

/// The root mean square of the weights of each site.
fn scales(pipeline: &Pipeline) -> anyhow::Result<BTreeMap<Site, f64>> {
    let rms = |weight: Tensor| -> anyhow::Result<f64> {
        Ok(f64::from(weight.sqr()?.mean_all()?.to_scalar::<f32>()?).sqrt())
    };
    let weights = pipeline.unet().site_weights(SiteSelection::All);
    weights
        .into_iter()
        .map(|(site, weight)| Ok((site, rms(weight)?)))
        .collect()
}

/// The index of the tuned values.
fn tuned(
    union: &NeuronIndex,
    mut provenance: Provenance,
    open: BTreeMap<Site, Vec<u32>>,
    values: &BTreeMap<Site, Vec<f32>>,
    args: &MergeArgs,
    options: &cones::concept::tune::Options,
) -> anyhow::Result<NeuronIndex> {
    provenance.method = match args.all_positions {
        true => "fine-tuned".to_owned(),
        false => format!("{}+tuned", provenance.method),
    };
    for (key, value) in [
        ("tune_steps", options.steps.to_string()),
        ("tune_batch", options.half.to_string()),
        ("tune_rate", options.rate.to_string()),
        ("tune_prior_weight", options.prior_weight.to_string()),
        ("tune_seed", options.seed.to_string()),
    ] {
        provenance.settings.insert(key.to_owned(), value);
    }
    let mut index = NeuronIndex::new(provenance)?;
    for (site, positions) in open {
        let shape = union.site(&site).map_or([0, 0], SiteIndices::shape);
        let bits = values[&site]
            .iter()
            .map(|&v| f16::from_f32(v).to_bits())
            .collect();
        index.insert(site, SiteIndices::new(shape, positions)?.with_values(bits)?)?;
    }
    Ok(index)
}

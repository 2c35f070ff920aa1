//! Tuning an index: trains the values of its neurons on the photos of all its subjects.

use std::collections::BTreeMap;

use half::f16;

use super::class_images::ClassImages;
use super::data::{of_class, of_instance};
use super::loss::{DreamBoothData, Step};
use super::observer::{Event, Observer};
use super::trainer::Moment;
use super::tuning;
use super::tuning::TrainableSet;
use crate::index::{NeuronIndex, NeuronSet, Provenance, Site, SiteSelection};
use crate::nn::Weight;
use crate::pipeline::{marks_of, shut};
use crate::{Photos, Pipeline, Result};

/// How an index is to be tuned.
#[derive(Debug, Clone)]
pub struct TunePlan {
    /// How values are trained.
    pub options: tuning::Options,
    /// Whether every weight of the sites is trained from the model's own, not only the neurons: dense fine-tuning.
    pub dense: bool,
    /// For each subject pictures of its class, with [`Scope::Prompt`](crate::index::Scope::Prompt); empty where they
    /// are needless.
    pub class: Vec<ClassImages>,
}

/// A tuned index and how it came about.
#[derive(Debug, Clone)]
pub struct Tuned {
    /// The index.
    pub index: NeuronIndex,
    /// What the steps did.
    pub steps: Vec<Step>,
}

impl TunePlan {
    /// What the tuned index will say of where it came from: the union, and how it was tuned.
    ///
    /// # Errors
    /// If there are more photos than a file may name.
    pub(super) fn provenance(&self, union: &NeuronIndex, photos: &[Photos]) -> Result<Provenance> {
        let mut provenance = union.provenance().clone();
        provenance.method = match self.dense {
            true => "fine-tuned".to_owned(),
            false => format!("{}+tuned", provenance.method),
        };
        let options = &self.options;
        for (key, value) in [
            ("tune_steps", options.steps.to_string()),
            ("tune_batch", options.batch_size.to_string()),
            ("tune_rate", options.learning_rate.to_string()),
            ("tune_prior_weight", options.prior_loss_weight.to_string()),
            ("tune_seed", options.seed.to_string()),
        ] {
            provenance.settings.insert(key.to_owned(), value);
        }
        for photo in photos.iter().flatten() {
            if !provenance.pictures.contains(&photo.sha256) {
                provenance.pictures.push(photo.sha256.clone());
            }
        }
        provenance.check()?;
        Ok(provenance)
    }
}

/// Tunes the values of an index's neurons on photos of each of its subjects, in their order.
///
/// The model must be that of the index and have nothing shut, and is given back so.
///
/// # Errors
/// If the index does not fit the model, there are not photos of every subject, a picture cannot be read, numbers are
/// not finite, a file of the model was changed meanwhile; or the error of `observer`.
pub fn tune(
    pipeline: &mut Pipeline,
    union: &NeuronIndex,
    plan: TunePlan,
    photos: Vec<Photos>,
    observer: &mut dyn Observer,
) -> Result<Tuned> {
    let provenance = plan.provenance(union, &photos)?;
    let subjects = &provenance.subjects;
    if photos.len() != subjects.len() {
        let expected = format!("those of {} subjects", subjects.len());
        return Err(crate::Error::value("photos", expected, photos.len()));
    }
    let open = open(union, pipeline, plan.dense)?;
    let marks = marks_of(&[union]);
    // All photos are read before the pictures of any class are drawn, which takes long.
    let instances = (subjects.iter().zip(photos))
        .map(|(subject, photos)| of_instance(pipeline, (subject, &marks), &photos, observer))
        .collect::<Result<Vec<_>>>()?;
    let TunePlan { options, class, .. } = plan;
    let mut class = class.into_iter();
    let data = (subjects.iter().zip(instances))
        .map(|(subject, instance)| {
            let class = class.next().unwrap_or(ClassImages::Needless);
            let class = of_class(pipeline, (subject, &marks), &class, observer)?;
            Ok(DreamBoothData { instance, class })
        })
        .collect::<Result<Vec<_>>>()?;
    let (from, total) = (observer.resume()?, options.steps);
    let from = from.as_ref();
    let mut steps = from.map_or_else(Vec::new, |from| from.steps.clone());
    let after_step = |moment: &Moment| {
        let step = moment.step;
        steps.push(step);
        observer.between_steps(moment)?;
        observer.event(Event::Step { step, total })
    };
    let (unet, schedule) = pipeline.unet_mut();
    let sets = open.clone();
    let values = tuning::values(unet, schedule, &data, sets, &options, from, after_step)?;
    pipeline.check_unchanged()?;
    Ok(Tuned {
        index: tuned(provenance, open, &values)?,
        steps,
    })
}

/// What to train in each site: the union's neurons from where they are, or every weight from the model's own.
fn open(
    union: &NeuronIndex,
    pipeline: &Pipeline,
    all: bool,
) -> Result<BTreeMap<Site, TrainableSet>> {
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
fn every_weight(set: &NeuronSet, weight: &Weight) -> Result<TrainableSet> {
    let all: Vec<u32> = (0..set.weight_count() as u32).collect();
    let owners = vec![all.clone(); set.owners().len()];
    Ok(TrainableSet {
        neurons: NeuronSet::new(set.shape(), all)?.with_owners(owners)?,
        values: weight.tensor()?.flatten_all()?.to_vec1()?,
    })
}

/// The index of the tuned values.
fn tuned(
    provenance: Provenance,
    open: BTreeMap<Site, TrainableSet>,
    values: &BTreeMap<Site, Vec<f32>>,
) -> Result<NeuronIndex> {
    let sites = open
        .into_iter()
        .map(|(site, TrainableSet { neurons, .. })| {
            let bits = values[&site]
                .iter()
                .map(|&v| f16::from_f32(v).to_bits())
                .collect();
            Ok((site, neurons.with_values(bits)?))
        });
    NeuronIndex::new(provenance, sites.collect::<Result<Vec<_>>>()?)
}

//! From photos to a concept: the loss, the two methods, and the choice of neurons.
//!
//! [`find()`] does all of it:
//!
//! ```no_run
//! use cones::checkpoint::Source;
//! use cones::find::{ClassImages, Event, FindPlan, Method, find};
//! use cones::index::Subject;
//! use cones::{Photos, Pipeline, list_images};
//!
//! let mut pipeline = Pipeline::load(&Source::open("pocket")?, &candle_core::Device::Cpu, None)?;
//! let photos = list_images(&["photos".into()])?.read(Photos::KEEP, |_, _| Ok(()))?;
//! let plan = FindPlan {
//!     subject: Subject { noun: "dog".to_owned(), token: "sks".to_owned() },
//!     method: Method::default(),
//!     class: ClassImages::default(),
//! };
//! let found = find(&mut pipeline, plan, photos, &mut |_: Event| Ok(()))?;
//! found.index.write("dog.idx".as_ref())?;
//! # Ok::<(), cones::Error>(())
//! ```

mod adam;
mod architecture;
mod class_images;
mod data;
mod empirical_denoiser;
mod familiarity;
pub mod gram;
mod importance;
mod importance_sampler;
pub mod learned;
pub(crate) mod loss;
mod observer;
pub(crate) mod outputs;
pub mod paper;
mod plan;
mod prepared;
mod prompts;
mod record;
pub mod rounding;
mod scores;
pub mod selection;
mod shard;
mod state;
mod sums;
mod trainer;
mod tune;
pub mod tuning;
mod words;

pub use class_images::{CLASS_COUNT, ClassCache, ClassImages, MissingImages};
pub(crate) use data::encode;
pub use familiarity::{FAMILIARITY_STEPS, Familiarity};
pub(crate) use loss::DreamBoothData;
#[cfg(test)]
pub(crate) use loss::PromptedLatents;
pub use loss::{FIRST_SEED, Step};
pub use observer::{Event, Observer};
pub use plan::{FindPlan, Method, PRIOR_LOSS_WEIGHT};
pub use prepared::Prepared;
pub use record::{Record, record_of};
pub use scores::{Part, Parts, Scores, find_part};
pub use shard::Shard;
pub use state::TrainerState;
pub use trainer::Moment;
pub use tune::{TunePlan, Tuned, tune};

use std::collections::BTreeMap;

use self::familiarity::familiarity;
use self::gram::Seen;
use self::outputs::{Wanted, learn_outputs};
use self::prompts::seen;
use self::rounding::{Rounded, Soft, Target, round};
use self::selection::{Stability, select};
use crate::index::{NeuronIndex, NeuronSet, Provenance, Scope, Site, SiteSelection, Subject};
use crate::prompt::Marks;
use crate::{Error, Photos, Pipeline, Result};

/// What [`find()`] found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The concept.
    pub index: NeuronIndex,
    /// The scores of all neurons, or the soft mask, `[out, in]`; at words what each row should give there: T changes of
    /// its output, and how much the loss minds each, `[out, 2·T]`.
    pub scores: BTreeMap<Site, Vec<f32>>,
    /// What the steps did.
    pub steps: Vec<Step>,
    /// How far the two halves of the steps agree, where the method can say it.
    pub stability: Option<Stability>,
    /// What share of what was learned the whole neurons leave undone, where something was learned.
    pub rounding_error: Option<f64>,
    /// How well the model knows such photos; what is chosen anew is not measured.
    pub familiarity: Option<Familiarity>,
}

impl Found {
    /// The file of the scores, as [`Scores::read`] reads it.
    ///
    /// # Errors
    /// If there are not equally many numbers for each row of a site.
    pub fn scores_file(&self) -> Result<Vec<u8>> {
        let shapes = self.index.sites().map(|(site, set)| {
            let [out, _] = set.shape();
            let found = self.scores.get(site).map_or(0, Vec::len);
            (site.clone(), [out, found as u32 / out.max(1)])
        });
        Scores::to_bytes(&self.scores, &shapes.collect(), self.index.provenance())
    }
}

/// Finds the neurons of a subject in photos of it.
///
/// The model must have nothing shut, and is given back so. The same model, plan and photos give the same index.
///
/// # Errors
/// If a picture cannot be read, the plan is none of this model, numbers are not finite, a file of the model was changed
/// meanwhile; or the error of `observer`.
pub fn find(
    pipeline: &mut Pipeline,
    plan: FindPlan,
    photos: Photos,
    observer: &mut dyn Observer,
) -> Result<Found> {
    let mut provenance = plan.provenance(pipeline, &photos)?;
    let FindPlan {
        subject,
        method,
        class,
    } = plan;
    let marks = marks(method.scope(), &subject);
    let subject = (&subject, &marks);
    let data = encode(pipeline, subject, &photos, &class, observer)?;
    drop((photos, class)); // what they keep of pixels is memory for the steps
    let (from, total) = (observer.resume()?, method.steps());
    let mut steps = from
        .as_ref()
        .map_or_else(Vec::new, |from| from.steps.clone());
    let from = from.as_ref();
    let mut after_step = |moment: &Moment| {
        steps.push(moment.step);
        observer.between_steps(moment)?;
        let step = moment.step;
        observer.event(Event::Step { step, total })
    };
    let (neurons, scores, stability, rounding_error) = match &method {
        Method::Paper(options) => {
            let (unet, schedule) = pipeline.unet_mut();
            let found = paper::algorithm1(unet, schedule, &data, options, from, &mut after_step)?;
            let neurons = select(&found.scores, options.selection)?;
            (neurons, found.scores, found.stability, None)
        }
        Method::Learned { mask, density } => {
            // Before the steps, so that a prompt that cannot be embedded is known then.
            let seen = seen(pipeline, subject, mask.scope)?;
            let (unet, schedule) = pipeline.unet_mut();
            let values = match mask.scope {
                Scope::Prompt => {
                    learned::soft_mask(unet, schedule, &data, mask, from, &mut after_step)?
                }
                Scope::Words => {
                    let wanted = learn_outputs(unet, schedule, &data, mask, from, &mut after_step)?;
                    let words = seen.words().len();
                    wanted
                        .into_iter()
                        .map(|(site, wanted)| (site, wanted.into_values(words)))
                        .collect()
                }
            };
            let rounded = choose(pipeline, mask.sites, mask.scope, &seen, &values, *density)?;
            (rounded.neurons, values, None, Some(rounded.error))
        }
    };
    pipeline.check_unchanged()?;
    let taken = steps.len().to_string();
    provenance.settings.insert("steps".to_owned(), taken);
    let weights = pipeline.unet().site_weights(method.sites());
    let index = assemble(provenance, neurons, |site| {
        let (out, input) = weights[site].shape();
        shape(out, input)
    })?;
    let of = (subject.0, &index);
    let familiarity = familiarity(pipeline, of, data.instance, method.seed(), observer)?;
    Ok(Found {
        index,
        scores,
        steps,
        stability,
        rounding_error,
        familiarity: Some(familiarity),
    })
}

/// What in a prompt are the words of the subject, where neurons are shut at these.
fn marks(scope: Scope, subject: &Subject) -> Marks {
    match scope {
        Scope::Words => Marks::new(vec![subject.to_string()], Vec::new()),
        Scope::Prompt => Marks::default(),
    }
}

/// The neurons that come closest to what was learned of a model's sites, at most so many.
fn choose(
    pipeline: &Pipeline,
    sites: SiteSelection,
    scope: Scope,
    seen: &Seen,
    values: &BTreeMap<Site, Vec<f32>>,
    density: f64,
) -> Result<Rounded> {
    let weights = pipeline.unet().site_weights(sites);
    let soft = values.iter().map(|(site, values)| {
        let weight = weights[site].tensor()?.flatten_all()?.to_vec1()?;
        let target = match scope {
            Scope::Prompt => Target::Mask(values.clone()),
            Scope::Words => Target::Outputs(Wanted::from_values(values, seen.words().len())),
        };
        Ok((site.clone(), Soft { weight, target }))
    });
    round(&soft.collect::<Result<_>>()?, seen, density)
}

/// An index of these neurons, in sites of these shapes.
fn assemble(
    provenance: Provenance,
    neurons: BTreeMap<Site, Vec<u32>>,
    shape: impl Fn(&Site) -> Result<[u32; 2]>,
) -> Result<NeuronIndex> {
    let sites = neurons.into_iter().map(|(site, chosen)| {
        let set = NeuronSet::new(shape(&site)?, chosen)?;
        Ok((site, set))
    });
    NeuronIndex::new(provenance, sites.collect::<Result<Vec<_>>>()?)
}

/// The shape of a matrix as index files have it.
fn shape(out: usize, input: usize) -> Result<[u32; 2]> {
    Ok([side(out)?, side(input)?])
}

/// A side of a matrix as index files have it.
fn side(side: usize) -> Result<u32> {
    u32::try_from(side).map_err(|_| Error::value("a site's shape", "sides below 2^32", side))
}

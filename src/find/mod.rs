//! From photos to a concept: the loss, the two methods, and the choice of neurons.
//!
//! [`find()`] does all of it:
//!
//! ```no_run
//! use cones::checkpoint::Source;
//! use cones::find::{Event, FindPlan, find};
//! use cones::index::Subject;
//! use cones::{Photos, Pipeline, list_images};
//!
//! let mut pipeline = Pipeline::load(&Source::open("pocket")?, &candle_core::Device::Cpu)?;
//! let photos = list_images(&["photos".into()])?.read(Photos::KEEP, |_, _| Ok(()))?;
//! let plan = FindPlan::new(Subject { noun: "dog".to_owned(), token: "sks".to_owned() });
//! let found = find(&mut pipeline, plan, photos, &mut |_: Event| Ok(()))?;
//! found.index.write("dog.idx".as_ref())?;
//! # Ok::<(), cones::Error>(())
//! ```

mod adam;
mod architecture;
mod class_images;
mod data;
mod empirical_denoiser;
pub mod gram;
mod importance;
mod importance_sampler;
pub mod learned;
pub(crate) mod loss;
mod observer;
pub mod paper;
mod plan;
mod prompts;
mod record;
pub mod rounding;
mod scores_file;
pub mod selection;
mod state;
mod sums;
mod trainer;
mod tune;
pub mod tuning;

pub use class_images::{CLASS_COUNT, ClassCache, ClassImages};
pub(crate) use data::encode;
pub(crate) use loss::DreamBoothData;
#[cfg(test)]
pub(crate) use loss::PromptedLatents;
pub use loss::Step;
pub use observer::{Event, Observer};
pub use plan::{FindPlan, Method, PRIOR_LOSS_WEIGHT, searched};
pub use prompts::risks;
pub use record::{ModelIs, Record, record_of};
pub use scores_file::Scores;
pub use state::TrainerState;
pub use trainer::Moment;
pub use tune::{TunePlan, Tuned, tune};

use std::collections::BTreeMap;

use self::prompts::gram;
use self::rounding::{Soft, round};
use self::selection::{Stability, select};
use crate::index::{NeuronIndex, NeuronSet, Scope, Site};
use crate::prompt::Marks;
use crate::{Error, Photos, Pipeline, Result};

/// What [`find()`] found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The concept.
    pub index: NeuronIndex,
    /// The scores of all neurons, or the soft mask, in row-major order of `[out, in]`.
    pub scores: BTreeMap<Site, Vec<f32>>,
    /// What the steps did.
    pub steps: Vec<Step>,
    /// How far the two halves of the steps agree, where the method can say it.
    pub stability: Option<Stability>,
    /// What share of the soft mask's effect on the text its rounding changes, where there was a mask.
    pub rounding_error: Option<f64>,
}

impl Found {
    /// The file of the scores, as [`Scores::read`] reads it.
    ///
    /// # Errors
    /// If there are not as many scores as the index has neurons.
    pub fn scores_file(&self) -> Result<Vec<u8>> {
        let shapes = self
            .index
            .sites()
            .map(|(site, set)| (site.clone(), set.shape()));
        let fingerprint = &self.index.provenance().fingerprint;
        Scores::to_bytes(&self.scores, &shapes.collect(), fingerprint)
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
    let marks = match method.scope() {
        Scope::Words => Marks::new(vec![subject.phrase()], Vec::new()),
        Scope::Prompt => Marks::default(),
    };
    let subject = (&subject, &marks);
    let data = encode(pipeline, subject, &photos, &class, observer)?;
    drop((photos, class)); // what they keep of pixels is memory for the steps
    let (from, total) = (observer.resume()?, method.steps());
    let mut steps = from
        .as_ref()
        .map_or_else(Vec::new, |from| from.steps().to_vec());
    let from = from.as_ref();
    let mut after_step = |moment: &Moment| {
        steps.push(moment.step());
        observer.between_steps(moment)?;
        let step = moment.step();
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
            let gram = gram(pipeline, subject, mask.scope)?;
            let (unet, schedule) = pipeline.unet_mut();
            let masks = learned::soft_mask(unet, schedule, &data, mask, from, &mut after_step)?;
            let weights = pipeline.unet().site_weights(mask.sites);
            let soft = masks.into_iter().map(|(site, mask)| {
                let weight = weights[&site].tensor()?.flatten_all()?.to_vec1()?;
                Ok((site, Soft { weight, mask }))
            });
            let soft = soft.collect::<Result<BTreeMap<Site, Soft>>>()?;
            let rounded = round(&soft, &gram, *density)?;
            let masks = soft.into_iter().map(|(site, soft)| (site, soft.mask));
            (rounded.neurons, masks.collect(), None, Some(rounded.error))
        }
    };
    pipeline.check_unchanged()?;
    let taken = steps.len().to_string();
    provenance.settings.insert("steps".to_owned(), taken);
    let weights = pipeline.unet().site_weights(method.sites());
    let mut index = NeuronIndex::new(provenance)?;
    for (site, chosen) in neurons {
        let (out, input) = weights[&site].shape();
        let shape = [side(out)?, side(input)?];
        index.insert(site, NeuronSet::new(shape, chosen)?)?;
    }
    Ok(Found {
        index,
        scores,
        steps,
        stability,
        rounding_error,
    })
}

/// A side of a matrix as index files have it.
fn side(side: usize) -> Result<u32> {
    u32::try_from(side).map_err(|_| Error::value("a site's shape", "sides below 2^32", side))
}

//! What a find is to do: whose neurons, by which method, with which settings.

use std::collections::BTreeMap;
use std::fmt;

use super::architecture::architecture;
use super::class_images::ClassImages;
use super::paper::BatchSampling;
use super::prompts::prompts;
use super::{learned, paper};
use crate::index::{Provenance, Scope, SiteSelection, Subject};
use crate::{Photos, Pipeline, Result};

/// Weight of the class pictures in the loss, unless told otherwise.
pub const PRIOR_LOSS_WEIGHT: f64 = 1.0;

/// How neurons are found.
#[derive(Debug, Clone)]
pub enum Method {
    /// Algorithm 1 as published.
    Paper(paper::Options),
    /// What is learned first, and then said with whole neurons: outputs at the subject's words, or a soft mask.
    Learned {
        /// How it is learned.
        mask: learned::Options,
        /// The most neurons to shut, as a share of all.
        density: f64,
    },
}

/// A find: everything that its result depends on beside the model and the photos.
#[derive(Debug, Clone)]
pub struct FindPlan {
    /// Whose neurons.
    pub subject: Subject,
    /// How they are found.
    pub method: Method,
    /// Pictures of the class, where the method has them in its loss: as Algorithm 1 always has, and masks that act on
    /// the whole prompt.
    pub class: ClassImages,
}

impl Method {
    /// The most steps that it takes.
    pub fn steps(&self) -> usize {
        match self {
            Self::Paper(options) => options.range().len(),
            Self::Learned { mask, .. } => mask.steps,
        }
    }

    /// Pictures that a step computes with.
    pub fn rows(&self) -> usize {
        match self {
            Self::Paper(options) => options.batch_sampling.rows(),
            Self::Learned { mask, .. } => mask.rows(),
        }
    }

    /// At which tokens the neurons are to be shut.
    pub(crate) fn scope(&self) -> Scope {
        match self {
            Self::Paper(options) => options.scope,
            Self::Learned { mask, .. } => mask.scope,
        }
    }

    /// Where neurons are searched.
    pub(crate) fn sites(&self) -> SiteSelection {
        match self {
            Self::Paper(options) => options.sites,
            Self::Learned { mask, .. } => mask.sites,
        }
    }

    /// The seed of the first step.
    pub(crate) fn seed(&self) -> u64 {
        match self {
            Self::Paper(options) => options.seed,
            Self::Learned { mask, .. } => mask.seed,
        }
    }

    fn prior_loss_weight(&self) -> f64 {
        match self {
            Self::Paper(options) => options.prior_loss_weight,
            Self::Learned { mask, .. } => mask.prior_loss_weight,
        }
    }

    /// The method's own settings, for the file. How many steps there are is open where the choice may settle before.
    fn settings(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Paper(options) => {
                let sampling = match options.batch_sampling {
                    BatchSampling::Pairs => "pairs".to_owned(),
                    BatchSampling::Stratified(batch_size) => format!("strata of {batch_size}"),
                    BatchSampling::Importance => "importance".to_owned(),
                };
                let steps = ("steps", options.steps.to_string());
                let steps = options.until_stable.is_none().then_some(steps);
                let rho = ("rho", options.rho.to_string());
                steps
                    .into_iter()
                    .chain([("draws", sampling), rho, options.selection.setting()])
                    .collect()
            }
            Self::Learned { mask, density } => {
                let keys = (mask.scope, mask.sites) == (Scope::Words, SiteSelection::Cross);
                let key_reach = keys.then(|| ("key_reach", mask.key_reach.to_string()));
                let settings = [
                    ("steps", mask.steps.to_string()),
                    ("batch", mask.batch_size.to_string()),
                    ("rate", mask.learning_rate.to_string()),
                    ("density", density.to_string()),
                ];
                settings.into_iter().chain(key_reach).collect()
            }
        }
    }
}

/// A learned concept, with the defaults of everything.
impl Default for Method {
    fn default() -> Self {
        Self::Learned {
            mask: learned::Options::default(),
            density: learned::Settings::of(Scope::Words).density,
        }
    }
}

/// What files call it.
impl fmt::Display for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Paper(_) => "paper",
            Self::Learned { .. } => "learned",
        })
    }
}

impl FindPlan {
    /// What the index will say of where it came from. How many steps were taken may be open.
    ///
    /// # Errors
    /// If no file could say it: a noun, a token or a prompt that is too long, more photos than a file may name.
    pub(super) fn provenance(&self, pipeline: &Pipeline, photos: &Photos) -> Result<Provenance> {
        let given = match &self.class {
            ClassImages::Given(given) => given.iter(),
            ClassImages::Needless | ClassImages::Drawn(_) => [].iter(),
        };
        let provenance = Provenance {
            model: pipeline.name.clone(),
            fingerprint: pipeline.fingerprint()?,
            architecture: architecture(pipeline),
            prediction_type: Some(pipeline.prediction.to_string()),
            subjects: vec![self.subject.clone()],
            prompts: prompts(&self.subject).to_vec(),
            method: self.method.to_string(),
            scope: self.method.scope(),
            settings: self.settings(),
            seed: Some(self.method.seed()),
            pictures: photos
                .iter()
                .chain(given)
                .map(|photo| photo.sha256.to_owned())
                .collect(),
            merged_from: Vec::new(),
        };
        provenance.check()?;
        Ok(provenance)
    }

    /// Everything that the result depends on beside the pictures, for the file.
    fn settings(&self) -> BTreeMap<String, String> {
        let class = match &self.class {
            ClassImages::Needless => None,
            ClassImages::Given(_) => Some("given".to_owned()),
            ClassImages::Drawn(cache) => Some(format!("{} drawn by the model", cache.count())),
        };
        let weight = self.method.prior_loss_weight().to_string();
        let of_class =
            class.map(|class| [("prior_weight", weight), ("class_images", class)].into_iter());
        [("sites", self.method.sites().to_string())]
            .into_iter()
            .chain(of_class.into_iter().flatten())
            .chain(self.method.settings())
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    }
}

//! What is to be measured, and how.

use super::prompts::Prompt;
use crate::find::Scores;
use crate::index::{LayerSelection, NeuronIndex, Subject};
use crate::model::Clip;
use crate::{Result, SampleOptions};

/// A concept at one density.
#[derive(Debug, Clone)]
pub struct Dose {
    /// The density that was asked for; an index as it is has none.
    pub asked: Option<f64>,
    /// The concept.
    pub index: NeuronIndex,
}

impl Dose {
    /// An index as it is, or with scores the concepts of these densities in its place; in some layers or in all.
    ///
    /// # Errors
    /// If a score is not a number, or a pattern of the layers fits no site.
    pub fn all(
        scores: Option<&Scores>,
        densities: &[f64],
        index: &NeuronIndex,
        layers: Option<&LayerSelection>,
    ) -> Result<Vec<Self>> {
        let one = |asked, index: NeuronIndex| {
            let chosen = layers
                .map(|layers| layers.restrict(&[&index]))
                .transpose()?;
            let index = chosen.and_then(|mut chosen| chosen.pop()).unwrap_or(index);
            Ok(Self { asked, index })
        };
        let Some(scores) = scores else {
            return Ok(vec![one(None, index.clone())?]);
        };
        let dose =
            |&density: &f64| one(Some(density), scores.concept(density, index.provenance())?);
        densities.iter().map(dose).collect()
    }
}

/// What is to be measured, and how.
#[derive(Clone)]
pub struct EvalPlan<'a> {
    /// What measures pictures.
    pub clip: &'a Clip,
    /// Whose index it is.
    pub subject: &'a Subject,
    /// The index.
    pub index: &'a NeuronIndex,
    /// What is shut of it.
    pub doses: Vec<Dose>,
    /// Picture i has prompt i mod n and seed + i.
    pub prompts: &'a [Prompt],
    /// How pictures are sampled.
    pub options: &'a SampleOptions,
    /// Of the first picture, the first random control, the losses' draws and the bootstrap.
    pub seed: u64,
    /// Pictures under each condition.
    pub count: usize,
    /// How many of them are shown afterwards.
    pub shown: usize,
    /// Random controls of each dose.
    pub controls: usize,
    /// Draws of noise for the losses; with none there are no losses.
    pub loss_draws: usize,
}

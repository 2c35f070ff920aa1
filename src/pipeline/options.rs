//! What drawing is told, and what it tells.

use super::attention::Drawing;
use crate::model::Cut;
use crate::prompt::WeightedText;
use crate::sampling::Sampler;
use crate::{Picture, Size};

/// How to draw.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleOptions {
    /// The sampler.
    pub sampler: Sampler,
    /// Its steps.
    pub steps: usize,
    /// Scale of classifier-free guidance (Ho and Salimans 2022); up to 1 there is none.
    pub guidance: f64,
    /// What to steer away from. `None` is zeros, and not the empty text, to a model of Stable Diffusion XL whose
    /// `model_index.json` does not say otherwise (`force_zeros_for_empty_prompt`), as to diffusers.
    pub negative: Option<WeightedText>,
    /// In pixels; `None` is the size that the model was trained on.
    pub size: Option<Size>,
    /// The picture to begin with, in place of noise.
    pub init: Option<Init>,
}

/// A picture to begin with, as in diffusers' `StableDiffusionImg2ImgPipeline`.
#[derive(Debug, Clone, PartialEq)]
pub struct Init {
    /// Of the size that is drawn.
    pub picture: Picture,
    /// The share of the steps that is taken, above 0 and up to 1, from noise of that level on the picture's latents,
    /// which are the mean of its posterior.
    pub strength: f64,
}

impl Default for SampleOptions {
    fn default() -> Self {
        Self {
            sampler: Sampler::DpmPp2M,
            steps: 50,
            guidance: 7.5,
            negative: None,
            size: None,
            init: None,
        }
    }
}

/// What of a prompt changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The phrases of subjects that are shut at their own words, of which the prompt has none.
    pub phrases: Vec<String>,
    /// What does not fit into the model's text length, and is cut.
    pub cut: Option<Cut>,
}

/// How far drawing has come.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Calls of the UNet so far, over all batches.
    pub done: usize,
    /// All calls there will be.
    pub total: usize,
}

/// What drawing gives.
#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    /// What the model sees in the noise of a picture so far.
    Preview {
        /// The picture's number among the seeds.
        number: usize,
        /// As it would be.
        picture: Picture,
    },
    /// A picture that is done, in order of the seeds.
    Done(Drawing),
}

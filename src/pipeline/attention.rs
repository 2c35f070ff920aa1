//! Attention to the words of a prompt while drawing: heat maps of it, and attend-and-excite.

use candle_core::Tensor;

use super::Pipeline;
use crate::model::{AttentionMap, AttentionStore, Conditioning, UNet};
use crate::prompt::{PromptSpec, occurrences, words_of};
use crate::sampling::AttendExcite;
use crate::sampling::Step;
use crate::sampling::attend_excite::{Loss, attention_loss};
use crate::{Error, HeatMap, Picture, Result};

/// What to do with the attention to words of the prompt.
///
/// A word, or several with spaces between, is looked up in the prompt by the rule of [`prompt`](crate::prompt), and
/// stands for all tokens of all its occurrences.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AttentionOptions {
    /// The words to make a heat map of; see [`Drawing::heat`].
    pub heat: Vec<String>,
    /// The words to excite; none is to leave the picture alone. Each of their tokens is a subject of the loss.
    pub excite: Vec<String>,
    /// How to excite them.
    pub settings: AttendExcite,
}

/// A picture, what it was made of, and where it attends to words.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawing {
    /// The picture.
    pub picture: Picture,
    /// What the autoencoder made it of, `[c, h, w]`.
    pub latents: Vec<f32>,
    /// A heat map of each of [`AttentionOptions::heat`]: the probability with which a pixel attends to the word (the
    /// sum over its tokens), averaged over all calls of the model, all cross-attention layers (down, middle and up, at
    /// every resolution) and their heads; of the prompt's half where there is guidance.
    pub heat: Vec<HeatMap>,
}

/// [`AttentionOptions`] with the words as places of tokens.
pub(super) struct Attention {
    /// The tokens of each word.
    pub(super) heat: Vec<Vec<usize>>,
    /// The tokens to excite, of all words.
    excite: Vec<usize>,
    settings: AttendExcite,
}

impl Attention {
    pub(super) fn new(
        pipeline: &Pipeline,
        prompt: &PromptSpec,
        options: &AttentionOptions,
    ) -> Result<Self> {
        let places = |words: &[String]| -> Result<Vec<Vec<usize>>> {
            words
                .iter()
                .map(|word| pipeline.word_tokens(prompt, word))
                .collect()
        };
        let mut excite: Vec<usize> = places(&options.excite)?.concat();
        excite.sort_unstable();
        excite.dedup();
        Ok(Self {
            heat: places(&options.heat)?,
            excite,
            settings: options.settings.clone(),
        })
    }

    /// Adds what was recorded to the heat of each word in each row.
    pub(super) fn collect(&self, store: &AttentionStore, heat: &mut [Vec<HeatMap>]) -> Result<()> {
        for AttentionMap {
            size,
            probabilities,
        } in store.maps()
        {
            let t = probabilities.dim(2)?;
            for (row, heat) in heat.iter_mut().enumerate() {
                let values = probabilities.get(row)?.flatten_all()?.to_vec1::<f32>()?;
                for (tokens, heat) in self.heat.iter().zip(heat) {
                    let of_word = |pixel: &[f32]| tokens.iter().map(|&token| pixel[token]).sum();
                    let map: Vec<f32> = values.chunks_exact(t).map(of_word).collect();
                    heat.add(*size, &map)?;
                }
            }
        }
        Ok(())
    }

    /// Attend-and-excite of one picture at one call of the model: moves its latents of shape `(1, c, h, w)`.
    pub(super) fn excite(
        &self,
        unet: &UNet,
        prompt: &Conditioning,
        shape: (usize, usize, usize, usize),
        step: &Step,
        latents: &mut [f32],
        mut progress: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        if self.excite.is_empty() {
            return Ok(());
        }
        self.settings.update(step, latents, |x| {
            progress()?;
            let x = Tensor::from_slice(x, shape, prompt.device())?;
            latent_loss(unet, &x, step.timestep, prompt, &self.excite)
        })
    }
}

/// The loss of attend-and-excite and its gradient with respect to latents `x: [1, c, h, w]`.
fn latent_loss(
    unet: &UNet,
    x: &Tensor,
    timestep: f32,
    prompt: &Conditioning,
    tokens: &[usize],
) -> Result<Loss> {
    let attended = unet.attend(x, &[timestep], prompt)?;
    let (size, shape) = (attended.size, attended.map.dims().to_vec());
    let map: Vec<f32> = attended.map.flatten_all()?.to_vec1()?;
    unet.check_finite(|| "attention to the words to excite".to_owned(), &map)?;
    let Loss { value, gradient } = attention_loss(&map, size, tokens)?;
    if value <= 0.0 {
        let gradient = vec![0.0; x.elem_count()]; // the map's is zero too
        return Ok(Loss { value, gradient });
    }
    let gradient = Tensor::from_vec(gradient, shape, x.device())?;
    let gradient = unet.latent_gradient(attended, &gradient)?;
    Ok(Loss {
        value,
        gradient: gradient.flatten_all()?.to_vec1()?,
    })
}

impl Pipeline {
    /// The places of a word's tokens in the prompt's ids, which are rows of its embeddings: all tokens of all its
    /// occurrences.
    ///
    /// # Errors
    /// If the prompt has no such word, naming those that it has; or not in the part that fits into the text length.
    pub fn word_tokens(&self, prompt: impl Into<PromptSpec>, word: &str) -> Result<Vec<usize>> {
        let spec = prompt.into();
        let prompt = spec.weighted.text();
        let spans = occurrences(prompt, word);
        if spans.is_empty() {
            let words: Vec<String> = words_of(prompt).iter().map(|w| format!("`{w}`")).collect();
            let expected = match words.is_empty() {
                true => "a prompt with words".to_owned(),
                false => format!("one that is in the prompt ({})", words.join(", ")),
            };
            return Err(Error::value("word", expected, format!("`{word}`")));
        }
        let places = self.text.positions(&spec, &spans)?;
        if places.is_empty() {
            let expected = "one in the part of the prompt that fits into the model's text length";
            return Err(Error::value(
                "word",
                expected,
                format!("`{word}`, which is cut off"),
            ));
        }
        Ok(places)
    }
}

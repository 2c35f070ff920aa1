//! The text encoder of CLIP: Radford et al. 2021, in transformers' form. Forward only: it has no sites.

use candle_core::{Device, Tensor};

use super::super::loader::Weights;
use super::layers::{Stack, StackConfig, causal_mask};
use super::projection::{EndToken, TextProjection};
use crate::checkpoint::TensorFile;
use crate::checkpoint::kinds::described;
use crate::config::ConfigReader;
use crate::nn::LayerNorm;
use crate::{Error, Result};

/// The class of transformers that a text encoder is loaded as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextClass {
    /// An embedding for each token.
    Plain,
    /// And one for the whole text.
    Projected,
}

impl TextClass {
    fn expected(self) -> &'static str {
        match self {
            Self::Plain => "a CLIPTextModel",
            Self::Projected => "a CLIPTextModelWithProjection",
        }
    }
}

/// A text encoder: token ids to one embedding for each token.
#[derive(Debug)]
pub(crate) struct TextEncoder {
    tokens: Tensor,
    positions: Tensor,
    stack: Stack,
    last_norm: LayerNorm,
    /// For the embedding of the whole text, where it was loaded for that.
    projection: Option<TextProjection>,
}

/// What an encoder makes of texts: an embedding `[b, t, e]` of each token, and one `[b, p]` of each whole text.
pub(crate) type TokensAndText = (Tensor, Tensor);

impl TextEncoder {
    /// Builds the encoder from its `config.json` and its weights; with `class` `CLIPTextModelWithProjection` also what
    /// embeds whole texts.
    ///
    /// # Errors
    /// If an option is not supported, or a tensor is missing, unknown or of another shape.
    pub(crate) fn load(
        config_file: &str,
        config: &str,
        file: TensorFile,
        class: TextClass,
        device: &Device,
    ) -> Result<Self> {
        let mut keys = ConfigReader::parse(config_file, config)?;
        let mut weights = Weights::new(file, device);
        if class == TextClass::Plain {
            // As CLIPTextModel does of what holds more: both towers of a CLIP, or a projection behind the text's.
            weights.ignore(&["text_projection."]);
        }
        match keys.word("model_type") {
            Some("clip") => {
                keys = keys.section("text_config")?;
                weights.ignore(&["vision_model.", "visual_projection.", "logit_scale"]);
            }
            Some("clip_text_model") | None => {}
            Some(other) => {
                let name = keys.first_word("architectures").unwrap_or(other);
                let found = format!(
                    "{} (`model_type` {})",
                    described(name),
                    other.escape_debug()
                );
                let hint = "pass a model of Stable Diffusion 1.x, 2.x or XL: others have other text encoders";
                return Err(Error::file(config_file, class.expected(), found, hint));
            }
        }
        // transformers 5 writes the names without the prefix that all earlier files have.
        let root = if weights.has("text_model.final_layer_norm.weight") {
            "text_model."
        } else {
            ""
        };
        let projected = match class {
            TextClass::Plain => None,
            TextClass::Projected => {
                let width = keys.size("projection_dim", 512, 1)?;
                Some((EndToken::take(&mut keys)?, width))
            }
        };
        let mut encoder = Self::build(keys, &mut weights, root)?;
        if let Some((end, width)) = projected {
            let projection = TextProjection::load(&mut weights, end, encoder.width(), width)?;
            encoder.projection = Some(projection);
        }
        weights.finish()?;
        Ok(encoder)
    }

    /// Takes the encoder's weights, which have the prefix `root`, by its configuration.
    pub(in crate::model) fn build(
        mut keys: ConfigReader,
        weights: &mut Weights,
        root: &str,
    ) -> Result<Self> {
        let vocabulary = keys.required("vocab_size")?;
        let vocabulary = keys.check_size("vocab_size", vocabulary, 1)?;
        let length = keys.size("max_position_embeddings", 77, 1)?;
        let config = StackConfig::take(&mut keys, [512, 2048, 8], "clip_text_model")?;
        keys.finish()?;

        let StackConfig { width, epsilon, .. } = config;
        let embeddings = format!("{root}embeddings");
        Ok(Self {
            tokens: weights.take(
                &format!("{embeddings}.token_embedding.weight"),
                &[vocabulary, width],
            )?,
            positions: weights.take(
                &format!("{embeddings}.position_embedding.weight"),
                &[length, width],
            )?,
            stack: Stack::load(weights, root, &config)?,
            last_norm: weights.layer_norm(&format!("{root}final_layer_norm"), width, epsilon)?,
            projection: None,
        })
    }

    /// Most tokens of a prompt.
    pub(crate) fn max_length(&self) -> usize {
        self.positions.dims()[0]
    }

    /// Size of the vocabulary.
    pub(crate) fn vocabulary(&self) -> usize {
        self.tokens.dims()[0]
    }

    /// Width of an embedding.
    pub(crate) fn width(&self) -> usize {
        self.tokens.dims()[1]
    }

    /// Bytes of the embeddings, which are copied from the file.
    pub(crate) fn copied(&self) -> u64 {
        let numbers = self.tokens.elem_count() + self.positions.elem_count();
        (numbers * size_of::<f32>()) as u64
    }

    /// Width of the embedding of a whole text, if it was loaded with the projection.
    pub(crate) fn projection_width(&self) -> Option<usize> {
        self.projection.as_ref().map(TextProjection::width)
    }

    /// Embeds prompts of equal length: the last hidden state behind the final norm, `[b, t, e]`.
    ///
    /// # Errors
    /// If the prompts are not of one length, or an id is not in the vocabulary.
    pub(crate) fn forward(&self, ids: &[Vec<u32>]) -> Result<Tensor> {
        let x = self
            .stack
            .forward(self.enter(ids)?, self.mask(ids)?.as_ref())?;
        self.last_norm.forward(&x)
    }

    /// Embeds prompts of equal length as Stable Diffusion XL does: the hidden state before the last layer, which no
    /// norm has seen, `[b, t, e]`.
    ///
    /// # Errors
    /// As [`TextEncoder::forward`].
    pub(crate) fn penultimate(&self, ids: &[Vec<u32>]) -> Result<Tensor> {
        let mask = self.mask(ids)?;
        self.stack.but_last(self.enter(ids)?, mask.as_ref())
    }

    /// [`TextEncoder::penultimate`], and the embedding of each whole text, `[b, p]`.
    ///
    /// # Errors
    /// As [`TextEncoder::forward`]; or if the encoder was loaded without the projection, or a text has no end.
    pub(crate) fn penultimate_and_text(&self, ids: &[Vec<u32>]) -> Result<TokensAndText> {
        let projection = self.projection.as_ref().ok_or_else(|| {
            Error::value(
                "text encoder",
                TextClass::Projected.expected(),
                "one without",
            )
        })?;
        let tokens = self.penultimate(ids)?;
        let last = self.stack.last(tokens.clone(), self.mask(ids)?.as_ref())?;
        let text = projection.forward(&self.last_norm.forward(&last)?, ids)?;
        Ok((tokens, text))
    }

    /// The mask of prompts of this length.
    fn mask(&self, ids: &[Vec<u32>]) -> Result<Option<Tensor>> {
        let t = ids.first().map_or(0, Vec::len);
        causal_mask(t, self.tokens.device()).map(Some)
    }

    /// What comes before the layers: `[b, t, e]`.
    fn enter(&self, ids: &[Vec<u32>]) -> Result<Tensor> {
        let (b, t) = (ids.len(), ids.first().map_or(0, Vec::len));
        let vocabulary = self.vocabulary();
        if t == 0 || t > self.max_length() || ids.iter().any(|row| row.len() != t) {
            let expected = format!("prompts of one length, 1 to {} tokens", self.max_length());
            return Err(Error::value(
                "token ids",
                expected,
                format!("{b} of {t} tokens"),
            ));
        }
        if let Some(&id) = ids.iter().flatten().find(|&&id| id as usize >= vocabulary) {
            return Err(Error::value(
                "token ids",
                format!("less than the vocabulary's {vocabulary}"),
                id,
            ));
        }
        let device = self.tokens.device();
        let flat = Tensor::from_vec(ids.concat(), b * t, device)?;
        let x = self.tokens.index_select(&flat, 0)?.reshape((b, t, ()))?;
        Ok(x.broadcast_add(&self.positions.narrow(0, 0, t)?)?)
    }
}

//! The text encoder of CLIP: Radford et al. 2021, in transformers' form. Forward only: it has no sites.

use candle_core::{Device, Tensor};

use super::super::loader::Weights;
use super::layers::{Stack, StackConfig, causal_mask};
use crate::checkpoint::TensorFile;
use crate::checkpoint::kinds::described;
use crate::config::ConfigReader;
use crate::nn::LayerNorm;
use crate::{Error, Result};

/// A text encoder: token ids to one embedding for each token.
#[derive(Debug)]
pub struct TextEncoder {
    tokens: Tensor,
    positions: Tensor,
    stack: Stack,
    last_norm: LayerNorm,
}

impl TextEncoder {
    /// Builds the encoder from `text_encoder/config.json` and its weights.
    ///
    /// # Errors
    /// If an option is not supported, or a tensor is missing, unknown or of another shape.
    pub(crate) fn load(
        config_file: &str,
        config: &str,
        file: TensorFile,
        device: &Device,
    ) -> Result<Self> {
        let mut keys = ConfigReader::parse(config_file, config)?;
        let mut weights = Weights::new(file, device);
        // As CLIPTextModel does of what holds more: both towers of a CLIP, or a projection behind the text's.
        weights.ignore(&["text_projection."]);
        match keys.word("model_type") {
            Some("clip") => {
                keys = keys.section("text_config")?;
                weights.ignore(&["vision_model.", "visual_projection.", "logit_scale"]);
            }
            Some("clip_text_model") | None => {}
            Some(other) => {
                let class = keys.first_word("architectures").unwrap_or(other).to_owned();
                let found = format!(
                    "{} (`model_type` {})",
                    described(&class),
                    other.escape_debug()
                );
                let hint =
                    "pass a model of Stable Diffusion 1.x or 2.x: others have other text encoders";
                return Err(Error::file(config_file, "a CLIPTextModel", found, hint));
            }
        }
        // transformers 5 writes the names without the prefix that all earlier files have.
        let root = if weights.has("text_model.final_layer_norm.weight") {
            "text_model."
        } else {
            ""
        };
        let encoder = Self::build(keys, &mut weights, root)?;
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
        })
    }

    /// Most tokens of a prompt.
    pub fn max_length(&self) -> usize {
        self.positions.dims()[0]
    }

    /// Size of the vocabulary.
    pub fn vocabulary(&self) -> usize {
        self.tokens.dims()[0]
    }

    /// Width of an embedding.
    pub fn width(&self) -> usize {
        self.tokens.dims()[1]
    }

    /// Bytes of the embeddings, which are copied from the file.
    pub(crate) fn copied(&self) -> u64 {
        let numbers = self.tokens.elem_count() + self.positions.elem_count();
        (numbers * size_of::<f32>()) as u64
    }

    /// Embeds prompts of equal length: the last hidden state behind the final norm, `[b, t, e]`.
    ///
    /// # Errors
    /// If the prompts are not of one length, or an id is not in the vocabulary.
    pub fn forward(&self, ids: &[Vec<u32>]) -> Result<Tensor> {
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
        let x = x.broadcast_add(&self.positions.narrow(0, 0, t)?)?;
        let x = self.stack.forward(x, Some(&causal_mask(t, device)?))?;
        self.last_norm.forward(&x)
    }
}

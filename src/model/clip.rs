//! The text encoder of CLIP: Radford et al. 2021, in transformers' form. Forward only: it has no sites.

use candle_core::{Device, Tensor};
use candle_nn::ops::softmax_last_dim;
use serde_json::json;

use super::config::Keys;
use super::weights::{TensorFile, Weights};
use crate::autograd::{LayerNorm, Linear, quick_gelu};
use crate::{Error, Result};

/// The activation of the feed-forward layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gelu {
    /// `x·σ(1.702·x)`, Stable Diffusion 1.x.
    Quick,
    /// `x·Φ(x)`, Stable Diffusion 2.x.
    Exact,
}

#[derive(Debug)]
struct Layer {
    norm1: LayerNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

/// A text encoder: token ids to one embedding for each token.
#[derive(Debug)]
pub struct TextEncoder {
    tokens: Tensor,
    positions: Tensor,
    layers: Vec<Layer>,
    last_norm: LayerNorm,
    heads: usize,
    gelu: Gelu,
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
        let mut keys = Keys::parse(config_file, config)?;
        let vocabulary = keys.required("vocab_size")?;
        let vocabulary = keys.check_size("vocab_size", vocabulary, 1)?;
        let width = keys.size("hidden_size", 512, 1)?;
        let inner = keys.size("intermediate_size", 2048, 1)?;
        let depth = keys.size("num_hidden_layers", 12, 1)?;
        let heads = keys.size("num_attention_heads", 8, 1)?;
        let length = keys.size("max_position_embeddings", 77, 1)?;
        let epsilon = keys.or("layer_norm_eps", 1e-5)?;
        if width % heads != 0 {
            return Err(keys.error(
                "num_attention_heads",
                format!("a divisor of hidden_size = {width}"),
                heads,
            ));
        }
        let gelu = match keys.or("hidden_act", "quick_gelu".to_owned())?.as_str() {
            "quick_gelu" => Gelu::Quick,
            "gelu" => Gelu::Exact,
            other => return Err(keys.error("hidden_act", "quick_gelu or gelu", other)),
        };
        keys.only("model_type", &[json!("clip_text_model")])?;
        // Training settings, token ids that only generation or pooling would use, and notes.
        keys.ignore(&[
            "architectures",
            "attention_dropout",
            "bos_token_id",
            "dropout",
            "dtype",
            "eos_token_id",
            "initializer_factor",
            "initializer_range",
            "pad_token_id",
            "projection_dim",
            "torch_dtype",
            "transformers_version",
        ]);
        keys.finish()?;

        let mut weights = Weights::new(file, device);
        // transformers 5 writes the names without the prefix that all earlier files have.
        let root = if weights.has("text_model.final_layer_norm.weight") {
            "text_model."
        } else {
            ""
        };
        let embeddings = format!("{root}embeddings");
        let tokens = weights.take(
            &format!("{embeddings}.token_embedding.weight"),
            &[vocabulary, width],
        )?;
        let positions = weights.take(
            &format!("{embeddings}.position_embedding.weight"),
            &[length, width],
        )?;
        let layers = (0..depth)
            .map(|i| {
                let name = format!("{root}encoder.layers.{i}");
                let attention = format!("{name}.self_attn");
                Ok(Layer {
                    norm1: weights.layer_norm(&format!("{name}.layer_norm1"), width, epsilon)?,
                    q: weights.linear(&format!("{attention}.q_proj"), width, width)?,
                    k: weights.linear(&format!("{attention}.k_proj"), width, width)?,
                    v: weights.linear(&format!("{attention}.v_proj"), width, width)?,
                    out: weights.linear(&format!("{attention}.out_proj"), width, width)?,
                    norm2: weights.layer_norm(&format!("{name}.layer_norm2"), width, epsilon)?,
                    fc1: weights.linear(&format!("{name}.mlp.fc1"), width, inner)?,
                    fc2: weights.linear(&format!("{name}.mlp.fc2"), inner, width)?,
                })
            })
            .collect::<Result<_>>()?;
        let last_norm = weights.layer_norm(&format!("{root}final_layer_norm"), width, epsilon)?;
        weights.finish()?;
        Ok(Self {
            tokens,
            positions,
            layers,
            last_norm,
            heads,
            gelu,
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
        let mut x = self.tokens.index_select(&flat, 0)?.reshape((b, t, ()))?;
        x = x.broadcast_add(&self.positions.narrow(0, 0, t)?)?;
        let mask = causal_mask(t, device)?;
        for layer in &self.layers {
            let y = layer.norm1.forward(&x)?;
            x = (x + self.attention(layer, &y, &mask)?)?;
            let y = layer.fc1.forward(&layer.norm2.forward(&x)?)?;
            let y = match self.gelu {
                Gelu::Quick => quick_gelu(&y)?,
                Gelu::Exact => y.gelu_erf()?,
            };
            x = (x + layer.fc2.forward(&y)?)?;
        }
        self.last_norm.forward(&x)
    }

    /// Self-attention in which a token sees itself and those before it. `x: [b, t, e]`.
    fn attention(&self, layer: &Layer, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let (b, t, e) = x.dims3()?;
        let d = e / self.heads;
        let split = |y: Tensor| -> Result<Tensor> {
            Ok(y.reshape((b, t, self.heads, d))?
                .transpose(1, 2)?
                .contiguous()?) // [b, heads, t, d]
        };
        let q = (split(layer.q.forward(x)?)? * (1.0 / (d as f64).sqrt()))?;
        let k = split(layer.k.forward(x)?)?;
        let v = split(layer.v.forward(x)?)?;
        let scores = q.matmul(&k.transpose(2, 3)?)?.broadcast_add(mask)?;
        let y = softmax_last_dim(&scores)?.matmul(&v)?;
        layer.out.forward(&y.transpose(1, 2)?.reshape((b, t, e))?)
    }
}

/// `[t, t]`, −∞ above the diagonal.
fn causal_mask(t: usize, device: &Device) -> Result<Tensor> {
    let mask = (0..t * t)
        .map(|i| {
            if i % t > i / t {
                f32::NEG_INFINITY
            } else {
                0.0
            }
        })
        .collect();
    Ok(Tensor::from_vec(mask, (t, t), device)?)
}

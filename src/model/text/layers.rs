//! What the text and the picture tower of CLIP have in common: a stack of pre-norm transformer layers.

use candle_core::{Device, Tensor};
use candle_nn::ops::softmax_last_dim;
use serde_json::Value;

use super::super::loader::Weights;
use crate::Result;
use crate::config::ConfigReader;
use crate::nn::{LayerNorm, Linear, gelu, quick_gelu};

/// The activation of the feed-forward layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gelu {
    /// `x·σ(1.702·x)`, OpenAI's models and Stable Diffusion 1.x.
    Quick,
    /// `x·Φ(x)`, OpenCLIP's models and Stable Diffusion 2.x.
    Exact,
}

/// The sizes of a stack.
#[derive(Debug, Clone, Copy)]
pub(in crate::model) struct StackConfig {
    pub(in crate::model) width: usize,
    pub(in crate::model) epsilon: f64,
    inner: usize,
    depth: usize,
    heads: usize,
    gelu: Gelu,
}

impl StackConfig {
    /// Takes the keys of a stack out of a tower's configuration; what is absent is transformers' default for a tower
    /// of this `width`, feed-forward width and number of heads.
    pub(in crate::model) fn take(
        keys: &mut ConfigReader,
        [width, inner, heads]: [usize; 3],
        model_type: &str,
    ) -> Result<Self> {
        let width = keys.size("hidden_size", width, 1)?;
        let inner = keys.size("intermediate_size", inner, 1)?;
        let depth = keys.size("num_hidden_layers", 12, 1)?;
        let heads = keys.size("num_attention_heads", heads, 1)?;
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
        keys.only("model_type", &[model_type.into(), Value::Null])?;
        keys.ignore(&NOTES);
        Ok(Self {
            width,
            epsilon: keys.or("layer_norm_eps", 1e-5)?,
            inner,
            depth,
            heads,
            gelu,
        })
    }
}

/// Training settings, and what `PretrainedConfig` of transformers 4 and 5 has for text generation, classification and
/// the form of what is returned: none of it changes the last hidden state of a tower.
const NOTES: [&str; 66] = [
    "add_cross_attention",
    "architectures",
    "attention_dropout",
    "attn_implementation",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dropout",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "initializer_factor",
    "initializer_range",
    "is_decoder",
    "is_encoder_decoder",
    "label2id",
    "length_penalty",
    "logit_scale_init_value",
    "max_length",
    "min_length",
    "name_or_path",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "prefix",
    "problem_type",
    "projection_dim",
    "pruned_heads",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tie_word_embeddings",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "use_bfloat16",
    "use_cache",
];

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

/// Transformer layers, each `x += attention(norm(x)); x += mlp(norm(x))`.
#[derive(Debug)]
pub(in crate::model) struct Stack {
    layers: Vec<Layer>,
    heads: usize,
    gelu: Gelu,
}

impl Stack {
    /// Takes the weights `{root}encoder.layers.…`.
    pub(in crate::model) fn load(
        weights: &mut Weights,
        root: &str,
        config: &StackConfig,
    ) -> Result<Self> {
        let StackConfig {
            width,
            epsilon,
            inner,
            ..
        } = *config;
        let layers = (0..config.depth)
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
        Ok(Self {
            layers,
            heads: config.heads,
            gelu: config.gelu,
        })
    }

    /// `x: [b, t, e]` to `[b, t, e]`. `mask: [t, t]` is added to the attention's scores.
    pub(in crate::model) fn forward(&self, x: Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        self.run(&self.layers, x, mask)
    }

    /// [`Stack::forward`] up to the last layer.
    pub(in crate::model) fn but_last(&self, x: Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        self.run(&self.layers[..self.layers.len() - 1], x, mask)
    }

    /// The last layer of [`Stack::forward`], which has one at least.
    pub(in crate::model) fn last(&self, x: Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        self.run(&self.layers[self.layers.len() - 1..], x, mask)
    }

    fn run(&self, layers: &[Layer], x: Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        layers.iter().try_fold(x, |x, layer| {
            let y = layer.norm1.forward(&x)?;
            let x = layer
                .out
                .forward_onto(&self.attention(layer, &y, mask)?, &x)?;
            let y = layer.fc1.forward(&layer.norm2.forward(&x)?)?;
            let y = match self.gelu {
                Gelu::Quick => quick_gelu(&y)?,
                Gelu::Exact => gelu(&y)?,
            };
            layer.fc2.forward_onto(&y, &x)
        })
    }

    /// Self-attention before its output layer. `x: [b, t, e]`.
    fn attention(&self, layer: &Layer, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
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
        let scores = q.matmul(&k.transpose(2, 3)?)?;
        let scores = match mask {
            Some(mask) => scores.broadcast_add(mask)?,
            None => scores,
        };
        let y = softmax_last_dim(&scores)?.matmul(&v)?;
        Ok(y.transpose(1, 2)?.reshape((b, t, e))?)
    }
}

/// `[t, t]`, −∞ above the diagonal: a token sees itself and those before it.
pub(in crate::model) fn causal_mask(t: usize, device: &Device) -> Result<Tensor> {
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

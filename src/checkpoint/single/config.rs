//! The configuration files that diffusers has for a single file: sizes as its tensors have them, and what no tensor
//! shows as it is in the family (the repositories that `from_single_file` takes configurations from).

use serde_json::{Value, json};

use super::family::Family;
use crate::checkpoint::tensors::TensorFile;
use crate::sampling::Prediction;
use crate::{Error, Result};

/// Groups of every group norm.
const GROUPS: usize = 32;
/// Width of a head of Stable Diffusion 2 and XL, and of all three text encoders.
const HEAD: usize = 64;
/// Heads of Stable Diffusion 1.
const HEADS: usize = 8;

/// A network's tensors by shape.
struct Shapes<'a>(&'a TensorFile);

impl Shapes<'_> {
    /// Dimension `at` of a tensor, which must be there.
    fn dim(&self, name: &str, at: usize) -> Result<usize> {
        let shape = self.0.get(name).map(|tensor| &tensor.shape[..]);
        shape
            .and_then(|shape| shape.get(at).copied())
            .ok_or_else(|| {
                let expected = format!("tensor `{name}` of at least {} dimensions", at + 1);
                let found = shape.map_or("none".to_owned(), |shape| format!("shape {shape:?}"));
                let hint = "the file is not whole, or of another kind of model: fetch it again";
                Error::file(self.0.label(), expected, found, hint)
            })
    }

    /// How many of `name(0)`, `name(1)`, … some tensor's name begins with.
    fn count(&self, name: impl Fn(usize) -> String) -> usize {
        let there = |n: &usize| self.starts(&format!("{}.", name(*n)));
        (0..1024).take_while(there).count()
    }

    fn starts(&self, prefix: &str) -> bool {
        self.0.names().any(|name| name.starts_with(prefix))
    }
}

/// `unet/config.json`; `pooled` is the width of XL's pooled text embedding.
pub(super) fn unet(
    file: &TensorFile,
    family: Family,
    prediction: Prediction,
    pooled: usize,
) -> Result<Value> {
    let shapes = Shapes(file);
    let n = shapes.count(|i| format!("down_blocks.{i}"));
    let (mut widths, mut layers, mut depths) = (Vec::new(), Vec::new(), Vec::new());
    let (mut down, mut up) = (Vec::new(), Vec::new());
    for i in 0..n {
        let (block, mirror) = (
            format!("down_blocks.{i}"),
            format!("up_blocks.{}", n - 1 - i),
        );
        widths.push(shapes.dim(&format!("{block}.resnets.0.conv1.weight"), 0)?);
        layers.push(shapes.count(|j| format!("{block}.resnets.{j}")));
        let attends = |block: &str| shapes.starts(&format!("{block}.attentions."));
        down.push(if attends(&block) {
            "CrossAttnDownBlock2D"
        } else {
            "DownBlock2D"
        });
        up.insert(
            0,
            if attends(&mirror) {
                "CrossAttnUpBlock2D"
            } else {
                "UpBlock2D"
            },
        );
        let depth =
            |block: &str| shapes.count(|k| format!("{block}.attentions.0.transformer_blocks.{k}"));
        depths.push(depth(&block).max(depth(&mirror)).max(1));
    }
    let attention = file
        .names()
        .find(|name| name.ends_with(".attn2.to_k.weight"));
    let attention =
        attention.unwrap_or("down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight");
    let heads = match family {
        Family::Sd1 => json!(HEADS),
        _ => json!(
            widths
                .iter()
                .map(|width| (width / HEAD).max(1))
                .collect::<Vec<_>>()
        ),
    };
    let middle = shapes
        .starts("mid_block.")
        .then_some("UNetMidBlock2DCrossAttn");
    let mut config = json!({
        "_class_name": "UNet2DConditionModel",
        "act_fn": "silu",
        "attention_head_dim": heads,
        "block_out_channels": widths,
        "cross_attention_dim": shapes.dim(attention, 1)?,
        "down_block_types": down,
        "in_channels": shapes.dim("conv_in.weight", 1)?,
        "layers_per_block": layers,
        "mid_block_type": middle,
        "norm_num_groups": GROUPS,
        "out_channels": shapes.dim("conv_out.weight", 0)?,
        "sample_size": match (family, prediction) {
            (Family::Sd1, _) | (Family::Sd2, Prediction::Epsilon) => 64,
            (Family::Sd2, Prediction::Velocity) => 96,
            (Family::Xl, _) => 128,
        },
        "transformer_layers_per_block": depths,
        "up_block_types": up,
        "use_linear_projection": family != Family::Sd1,
    });
    if family == Family::Xl {
        let all = shapes.dim("add_embedding.linear_1.weight", 1)?;
        config["addition_embed_type"] = "text_time".into();
        // Six numbers for sizes and crops, embedded alike, behind the pooled text.
        config["addition_time_embed_dim"] = (all.saturating_sub(pooled) / 6).into();
        config["projection_class_embeddings_input_dim"] = all.into();
    }
    Ok(config)
}

/// `vae/config.json`.
pub(super) fn vae(file: &TensorFile, family: Family) -> Result<Value> {
    let shapes = Shapes(file);
    let n = shapes.count(|i| format!("encoder.down_blocks.{i}"));
    let width = |i| {
        shapes.dim(
            &format!("encoder.down_blocks.{i}.resnets.0.conv1.weight"),
            0,
        )
    };
    let xl = family == Family::Xl;
    Ok(json!({
        "_class_name": "AutoencoderKL",
        "act_fn": "silu",
        "block_out_channels": (0..n).map(width).collect::<Result<Vec<_>>>()?,
        "down_block_types": vec!["DownEncoderBlock2D"; n],
        "force_upcast": xl,
        "in_channels": shapes.dim("encoder.conv_in.weight", 1)?,
        "latent_channels": shapes.dim("decoder.conv_in.weight", 1)?,
        "layers_per_block": shapes.count(|j| format!("encoder.down_blocks.0.resnets.{j}")),
        "norm_num_groups": GROUPS,
        "out_channels": shapes.dim("decoder.conv_out.weight", 0)?,
        "sample_size": if xl { 1024 } else { 512 },
        "scaling_factor": if xl { 0.13025 } else { 0.18215 },
        "up_block_types": vec!["UpDecoderBlock2D"; n],
    }))
}

/// Which text encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clip {
    /// OpenAI's ViT-L.
    Base,
    /// OpenCLIP's ViT-H.
    Large,
    /// OpenCLIP's bigG, with its projection.
    Projected,
}

/// `text_encoder/config.json` or `text_encoder_2/config.json`.
pub(super) fn text(file: &TensorFile, clip: Clip) -> Result<Value> {
    let shapes = Shapes(file);
    let width = shapes.dim("text_model.final_layer_norm.weight", 0)?;
    let (class, projection) = match clip {
        Clip::Projected => (
            "CLIPTextModelWithProjection",
            shapes.dim("text_projection.weight", 0)?,
        ),
        _ => ("CLIPTextModel", width),
    };
    Ok(json!({
        "architectures": [class],
        "bos_token_id": 0,
        "eos_token_id": 2,
        "hidden_act": if clip == Clip::Base { "quick_gelu" } else { "gelu" },
        "hidden_size": width,
        "intermediate_size": shapes.dim("text_model.encoder.layers.0.mlp.fc1.weight", 0)?,
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": shapes.dim("text_model.embeddings.position_embedding.weight", 0)?,
        "model_type": "clip_text_model",
        "num_attention_heads": (width / HEAD).max(1),
        "num_hidden_layers": shapes.count(|i| format!("text_model.encoder.layers.{i}")),
        "pad_token_id": 1,
        "projection_dim": projection,
        "vocab_size": shapes.dim("text_model.embeddings.token_embedding.weight", 0)?,
    }))
}

/// `scheduler/scheduler_config.json`; `rescaled` is whether the last step's signal is none.
pub(super) fn scheduler(family: Family, prediction: Prediction, rescaled: bool) -> Value {
    let mut config = json!({
        "_class_name": match (family, prediction) {
            (Family::Xl, _) => "EulerDiscreteScheduler",
            (Family::Sd2, Prediction::Velocity) => "DDIMScheduler",
            _ => "PNDMScheduler",
        },
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "clip_sample": false,
        "num_train_timesteps": 1000,
        "prediction_type": prediction_type(prediction),
        "set_alpha_to_one": false,
        "skip_prk_steps": true,
        "steps_offset": 1,
        "trained_betas": null,
    });
    if family == Family::Xl {
        config["interpolation_type"] = "linear".into();
        config["sample_max_value"] = 1.0.into();
        config["timestep_spacing"] = "leading".into();
        config["use_karras_sigmas"] = false.into();
    }
    if rescaled {
        config["rescale_betas_zero_snr"] = true.into();
    }
    config
}

/// The value of the key `prediction_type`.
pub(super) fn prediction_type(prediction: Prediction) -> &'static str {
    match prediction {
        Prediction::Epsilon => "epsilon",
        Prediction::Velocity => "v_prediction",
    }
}

/// `model_index.json`.
pub(super) fn index(family: Family) -> Value {
    let mut index = json!({
        "_class_name": "StableDiffusionPipeline",
        "scheduler": ["diffusers", "PNDMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    });
    if family == Family::Xl {
        index["_class_name"] = "StableDiffusionXLPipeline".into();
        index["force_zeros_for_empty_prompt"] = true.into();
        index["scheduler"][1] = "EulerDiscreteScheduler".into();
        index["text_encoder_2"] = json!(["transformers", "CLIPTextModelWithProjection"]);
        index["tokenizer_2"] = json!(["transformers", "CLIPTokenizer"]);
    }
    index
}

/// `tokenizer_config.json` of a tokenizer that fills up with the token `pad`.
pub(super) fn tokenizer(length: usize, pad: &str) -> Value {
    let token = |content: &str| {
        json!({
            "__type": "AddedToken", "content": content, "lstrip": false, "normalized": true, "rstrip": false,
            "single_word": false,
        })
    };
    json!({
        "add_prefix_space": false,
        "bos_token": token("<|startoftext|>"),
        "do_lower_case": true,
        "eos_token": token("<|endoftext|>"),
        "errors": "replace",
        "model_max_length": length,
        "pad_token": pad,
        "tokenizer_class": "CLIPTokenizer",
        "unk_token": token("<|endoftext|>"),
    })
}

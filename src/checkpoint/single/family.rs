//! Which family a single file is of, and what its UNet predicts: told from its tensors and its notes, never guessed
//! where two of these disagree.

use super::names::UNET;
use crate::checkpoint::header::Header;
use crate::checkpoint::tensors::TensorFile;
use crate::sampling::Prediction;

/// A family of models, whose sizes and options are facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// CLIP's text encoder, eight heads everywhere.
    Sd1,
    /// OpenCLIP's ViT-H, heads of 64.
    Sd2,
    /// Both of CLIP's and OpenCLIP's bigG, heads of 64.
    Xl,
}

/// Width of ViT-H, for files that have it under CLIP's names.
const WIDTH_OF_H: usize = 1024;

impl Family {
    /// The family of a file that is a whole checkpoint.
    pub(super) fn of(header: &Header) -> Self {
        let clip = "cond_stage_model.transformer.";
        let norm = [
            "text_model.final_layer_norm.weight",
            "final_layer_norm.weight",
        ]
        .into_iter()
        .find_map(|name| header.shape(&format!("{clip}{name}")));
        match () {
            () if header.starts("conditioner.embedders.1.") => Self::Xl,
            () if header.starts("cond_stage_model.model.") => Self::Sd2,
            () if norm == Some(&[WIDTH_OF_H]) => Self::Sd2,
            () => Self::Sd1,
        }
    }
}

/// What a file says that its UNet predicts.
#[derive(Debug, PartialEq)]
pub(super) enum Told {
    Prediction(Prediction),
    /// This and that, which contradict each other.
    Both(String, String),
}

/// The keys of ModelSpec that say what a model predicts.
const PREDICTION: &str = "modelspec.prediction_type";
const ARCHITECTURE: &str = "modelspec.architecture";

/// The UNet's prediction as the file tells it. Stable Diffusion 1 and XL predict the noise unless something says
/// otherwise; for Stable Diffusion 2 it is told from a norm, as ComfyUI does (`SD20.model_type` in
/// `supported_models.py`).
pub(super) fn prediction(family: Family, header: &Header, unet: &TensorFile) -> Told {
    let word = |key: &str| {
        header
            .notes
            .get(key)
            .map(|text| text.trim().to_ascii_lowercase())
    };
    let spec = match word(PREDICTION).as_deref() {
        Some("epsilon" | "eps") => Some(Prediction::Epsilon),
        Some("v" | "v_prediction" | "v-prediction") => Some(Prediction::Velocity),
        _ => None,
    };
    if header.has("v_pred") {
        return match spec {
            Some(Prediction::Epsilon) => Told::Both(
                "the tensor `v_pred`".to_owned(),
                format!("`{PREDICTION}` \"epsilon\""),
            ),
            _ => Told::Prediction(Prediction::Velocity),
        };
    }
    if let Some(prediction) = spec {
        return Told::Prediction(prediction);
    }
    Told::Prediction(match (family, word(ARCHITECTURE).as_deref()) {
        (Family::Sd2, Some("stable-diffusion-v2-768-v")) => Prediction::Velocity,
        (Family::Sd2, Some("stable-diffusion-v2-512")) => Prediction::Epsilon,
        (Family::Sd2, _) if spread(unet).is_some_and(|spread| spread > SPREAD) => {
            Prediction::Velocity
        }
        _ => Prediction::Epsilon,
    })
}

/// Beyond it a model of Stable Diffusion 2 predicts the velocity.
const SPREAD: f64 = 0.09;

/// The standard deviation of the biases of the UNet's last attention's first norm.
fn spread(unet: &TensorFile) -> Option<f64> {
    let last = |name: &&str| {
        name.starts_with("up_blocks.") && name.ends_with("transformer_blocks.0.norm1.bias")
    };
    let name = unet.names().filter(last).last()?;
    let values = numbers(unet, name)?;
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let square = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
    Some((square / count).sqrt())
}

/// The numbers of a tensor; `None` if it is of a type that is not supported.
fn numbers(file: &TensorFile, name: &str) -> Option<Vec<f64>> {
    let place = file.get(name)?;
    let bytes = &(**file.bytes(place)).as_ref()[place.range.clone()];
    let two = || bytes.chunks_exact(2).map(|b| [b[0], b[1]]);
    Some(match place.dtype {
        safetensors::Dtype::F32 => bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).into())
            .collect(),
        safetensors::Dtype::F16 => two().map(|b| half::f16::from_le_bytes(b).into()).collect(),
        safetensors::Dtype::BF16 => two().map(|b| half::bf16::from_le_bytes(b).into()).collect(),
        _ => return None,
    })
}

/// What errors call the UNet's prediction of a file.
pub(super) fn about(one: &str, other: &str) -> String {
    format!("what its `{UNET}` predicts is said twice, and not alike: by {one}, and by {other}")
}

//! What a single file is, told from its tensors and its notes, so that what is no whole model of Stable Diffusion is
//! refused for what it is.

use std::path::Path;

use super::few_steps;
use super::header::Header;
use super::kinds::{LORA, WANTED};
use crate::Result;
use crate::files::foreign;

/// How a pickled checkpoint becomes one that can be read.
pub(super) const CONVERT: &str = "write it as safetensors: load it with diffusers, \
    `StableDiffusionPipeline.from_single_file(FILE)`, write it with `save_pretrained(FOLDER)`, and pass the folder";
const WHOLE: &str = "pass the whole model that it belongs to";
const OTHER: &str = "pass a model of Stable Diffusion 1.x, 2.x or XL that draws pictures from text";

/// What a file is by its name alone, where its first bytes say nothing.
///
/// # Errors
/// If it is something else altogether, by its first bytes.
pub(super) fn of_name(path: &Path, bytes: &[u8]) -> Result<Option<(String, String)>> {
    let ending = path.extension().unwrap_or_default();
    let pickled = ["ckpt", "bin", "pt", "pth"]
        .iter()
        .any(|pickled| ending == *pickled);
    if foreign::is_tensors(bytes) {
        return Ok(None);
    }
    let known = |what: &str, hint: &str| Ok(Some((what.to_owned(), hint.to_owned())));
    if pickled && foreign::of(bytes).is_none() {
        return known(
            "a pickled checkpoint by its name, which can run any code when it is read and is refused",
            CONVERT,
        );
    }
    match foreign::of_tensors(bytes) {
        Some(foreign) => Err(foreign.error(&path.display().to_string(), "a model", CONVERT)),
        None => known(
            "a file of an unknown kind",
            "pass a `.safetensors` file, or a folder in the diffusers layout",
        ),
    }
}

/// What a safetensors file is, and what to do, if it is no whole model of Stable Diffusion 1.x, 2.x or XL.
pub(super) fn of_tensors(header: &Header) -> Option<(String, String)> {
    let any = |part: &str| header.any(part);
    let starts = |part: &str| header.starts(part);
    let has = |name: &str| header.has(name);
    let is = |what: &str, hint: &str| Some((what.to_owned(), hint.to_owned()));
    let part = |what: &str| is(what, WHOLE);
    let other = |what: &str| is(what, OTHER);
    let dim = |name: &str, at: usize| header.shape(name).and_then(|shape| shape.get(at).copied());
    let unet = "model.diffusion_model.";
    let transformer = format!("a transformer (Stable Diffusion 3, Flux or another), not {WANTED}");
    // What changes a model, or is part of one.
    match () {
        () if [
            "lora_down",
            "lora_A",
            "lora.down",
            "hada_w1",
            "lokr_w1",
            ".dora_scale",
            "lora_up",
        ]
        .into_iter()
        .any(any) =>
        {
            return is("a LoRA, which changes a model and is none", LORA);
        }
        () if starts("emb_params")
            || starts("string_to_param")
            || (header.tensors.len() <= 2 && (starts("clip_l") || starts("clip_g"))) =>
        {
            return part("an embedding (textual inversion), which is one word for a model");
        }
        () if [
            "control_model.",
            "controlnet_cond_embedding.",
            "input_hint_block.",
            "control_net",
        ]
        .into_iter()
        .any(starts) =>
        {
            return part("a ControlNet, which steers a model and is none");
        }
        () if starts("image_proj.") || starts("ip_adapter.") => {
            return part("an IP-Adapter, which gives a model pictures to follow and is none");
        }
        () if any("motion_modules.") => {
            return part("a motion module, which makes videos with a model and is none");
        }
        () if any("joint_blocks.") => {
            return other(&format!("a Stable Diffusion 3 model, {transformer}"));
        }
        () if any("double_blocks.") || any("single_blocks.") => {
            return other(&format!("a Flux model or one like it, {transformer}"));
        }
        () if starts("transformer_blocks.")
            || any(".blocks.0.")
            || any("diffusion_model.layers.0.") =>
        {
            return other(&transformer);
        }
        () => {}
    }
    if !starts(unet) {
        return match () {
            () if starts("down_blocks.") && any(".attn2.") => part("a UNet alone"),
            () if starts("input_blocks.") => part("a UNet alone, in the original names"),
            () if starts("taesd") || starts("encoder.layers.") || starts("decoder.layers.") => {
                part("a tiny autoencoder alone")
            }
            () if starts("first_stage_model.") || (starts("encoder.") && starts("decoder.")) => {
                part("an autoencoder (VAE) alone")
            }
            () if any("text_model.") && any("vision_model.") => part("a CLIP model"),
            () if any("text_model.") || starts("cond_stage_model.") => part("a text encoder alone"),
            () => is(
                "a safetensors file that is no model of Stable Diffusion",
                "pass a single file of a whole model, or a folder in the diffusers layout",
            ),
        };
    }
    // Models with a UNet in the original names.
    if let Some(what) = few_steps::of_spec(header) {
        return other(&what);
    }
    let text = starts("cond_stage_model.") || starts("conditioner.");
    match () {
        () if has("edm_mean") || has("edm_std") => {
            other("a Playground 2.5 model, whose latents and noise are scaled otherwise")
        }
        () if any("edm_vpred.sigma") => other("a CosXL model, whose noise is scaled otherwise"),
        () if starts("conditioner.embedders.0.model.") && !starts("conditioner.embedders.1.") => {
            other("a Stable Diffusion XL refiner, which goes on with the pictures of another model")
        }
        () if any("time_embed.cond_proj.") => {
            other("a latent consistency model, whose UNet takes the guidance as an input")
        }
        () if !text => part("a UNet alone, in the original names"),
        () if starts("noise_augmentor.") || starts("embedder.") => {
            other("an unCLIP model, which takes picture embeddings")
        }
        () if starts("depth_model.") => other("a depth-to-picture model"),
        () if any("temporal_transformer") || any("time_stack.") => other("a video model"),
        () => match dim("model.diffusion_model.input_blocks.0.0.weight", 1) {
            Some(9) => other("an inpainting model, whose UNet takes 9 channels"),
            Some(8) => {
                other("an InstructPix2Pix model, which edits pictures: its UNet takes 8 channels")
            }
            Some(7) => other("an upscaler, whose UNet takes 7 channels"),
            Some(5) => other("a depth-to-picture model, whose UNet takes 5 channels"),
            _ => None,
        },
    }
}

//! What a model is, told from `model_index.json`, from a folder's files and from the tensors of a file, so that what is
//! not Stable Diffusion 1.x, 2.x or XL is refused for what it is.

use std::path::Path;

use serde_json::Value;

use crate::config::ConfigReader;
use crate::files::regular;
use crate::{Error, Result};

/// What is supported, in errors.
pub(super) const WANTED: &str = "Stable Diffusion 1.x, 2.x or XL for text to picture";

/// Pipelines of the same networks, used alike; what the UNet takes is told from its own configuration.
const PIPELINES: [&str; 8] = [
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
    "StableDiffusionInpaintPipelineLegacy",
    "StableDiffusionPipelineSafe",
    "FlaxStableDiffusionPipeline",
    "StableDiffusionXLPipeline",
    "StableDiffusionXLImg2ImgPipeline",
];

/// Beginnings of the names of other pipelines, the longest of a family first, and what they are.
const OTHERS: &[(&str, &str)] = &[
    (
        "StableDiffusionXLInpaint",
        "an inpainting model of Stable Diffusion XL",
    ),
    (
        "StableDiffusionXLInstructPix2Pix",
        "an InstructPix2Pix model of Stable Diffusion XL, which edits pictures",
    ),
    (
        "StableDiffusionXL",
        "a Stable Diffusion XL model that takes more than text",
    ),
    (
        "StableDiffusion3",
        "a Stable Diffusion 3 model, a transformer",
    ),
    (
        "StableDiffusionInstructPix2Pix",
        "an InstructPix2Pix model, which edits pictures",
    ),
    ("StableDiffusionUpscale", "an upscaler"),
    ("StableDiffusionLatentUpscale", "an upscaler of latents"),
    ("StableDiffusionDepth2Img", "a depth-to-picture model"),
    ("StableDiffusionControlNet", "a model with a ControlNet"),
    ("StableDiffusionAdapter", "a model with a T2I adapter"),
    (
        "StableDiffusionImageVariation",
        "a model that varies pictures, without text",
    ),
    ("StableDiffusionGLIGEN", "a GLIGEN model, which takes boxes"),
    (
        "StableUnCLIP",
        "an unCLIP model, which takes picture embeddings",
    ),
    ("StableVideoDiffusion", "a video model"),
    (
        "LatentConsistencyModel",
        "a latent consistency model, whose UNet takes the guidance as an input",
    ),
    ("StableCascade", "a Stable Cascade model"),
    ("Wuerstchen", "a Würstchen model"),
    ("Kandinsky", "a Kandinsky model"),
    ("Flux", "a Flux model, a transformer"),
    ("PixArt", "a PixArt model, a transformer"),
    ("Hunyuan", "a Hunyuan model, a transformer"),
    ("QwenImage", "a Qwen-Image model, a transformer"),
    ("IF", "a DeepFloyd IF model, which works on pixels"),
    (
        "AltDiffusion",
        "an AltDiffusion model, of another text encoder",
    ),
    ("LDM", "a latent diffusion model of before Stable Diffusion"),
    ("AudioLDM", "a model of sound"),
    ("AnimateDiff", "a video model"),
    ("TextToVideo", "a video model"),
    ("DDPM", "a model without text"),
    ("DDIM", "a model without text"),
    ("UnCLIP", "an unCLIP model"),
];

/// The refiner, wherever it shows itself.
pub(crate) const REFINER: &str =
    "the refiner of Stable Diffusion XL, which goes over pictures of another model";

/// The components of a model, and the classes of each that are supported.
const COMPONENTS: [(&str, &[&str]); 7] = [
    (
        "unet",
        &["UNet2DConditionModel", "FlaxUNet2DConditionModel"],
    ),
    ("vae", &["AutoencoderKL", "FlaxAutoencoderKL"]),
    ("text_encoder", &["CLIPTextModel", "FlaxCLIPTextModel"]),
    ("tokenizer", &["CLIPTokenizer", "CLIPTokenizerFast"]),
    ("text_encoder_2", &["CLIPTextModelWithProjection"]),
    ("tokenizer_2", &["CLIPTokenizer", "CLIPTokenizerFast"]),
    ("scheduler", &[]), // its own file says more
];

/// Checks `model_index.json`: that the pipeline is Stable Diffusion's, and that its components are those of it.
///
/// # Errors
/// If they are not, naming what the model is.
pub(super) fn check_index(file: &str, text: &str) -> Result<()> {
    let mut keys = ConfigReader::parse(file, text)?;
    let hint = "pass a model of Stable Diffusion 1.x, 2.x or XL that draws pictures from text";
    let refuse = |found: String| Err(Error::file(file, WANTED, found, hint));
    match keys.take("_class_name") {
        None => {}
        Some(Value::String(class)) if PIPELINES.contains(&class.as_str()) => {}
        Some(Value::String(class)) => {
            let known = OTHERS.iter().find(|(start, _)| class.starts_with(start));
            return refuse(match known {
                Some((_, what)) => format!("{what} (`{class}`)"),
                None => format!("a model of another kind (`{class}`)"),
            });
        }
        Some(other) => {
            return refuse(format!(
                "a pipeline of its own code (`_class_name`: {other})"
            ));
        }
    }
    if keys.take("requires_aesthetics_score") == Some(Value::Bool(true)) {
        return refuse(REFINER.to_owned());
    }
    for (component, classes) in COMPONENTS {
        let Some(value) = keys.take(component) else {
            continue;
        };
        let class = match &value {
            Value::Array(pair) => pair.last().unwrap_or(&Value::Null),
            other => other,
        };
        let expected = || match classes {
            [] => format!("a class for `{component}`"),
            [class, ..] => format!("`{component}` of the class {class}"),
        };
        match class {
            Value::String(class) if classes.is_empty() || classes.contains(&class.as_str()) => {}
            Value::Null => {
                let found = format!("{value}: the model was saved without it");
                let hint = "save the model with all of its components, or fetch it again";
                return Err(Error::file(file, expected(), found, hint));
            }
            class => {
                let found = class.as_str().map_or_else(|| value.to_string(), described);
                return Err(Error::file(file, expected(), found, hint));
            }
        }
    }
    Ok(())
}

/// A class by its name, with what is to be known about it.
pub(crate) fn described(class: &str) -> String {
    let about = match class {
        "AutoencoderTiny" => ", a tiny autoencoder that only stands in for the model's own",
        "ConsistencyDecoderVAE" => ", a decoder that is a diffusion model",
        "AsymmetricAutoencoderKL" => ", an autoencoder for inpainting",
        "AutoencoderKLTemporalDecoder" => ", an autoencoder of videos",
        "VQModel" => ", an autoencoder of discrete codes",
        "CLIPTextModelWithProjection" => ", which gives one embedding for the whole text",
        "T5EncoderModel" => ", the text encoder of other models",
        "UNet2DModel" => ", a UNet without text",
        "UNet3DConditionModel" | "UNetMotionModel" | "UNetSpatioTemporalConditionModel" => {
            ", a UNet of videos"
        }
        "ControlNetModel" => ", which steers a model and is none",
        _ => "",
    };
    format!("{}{about}", class.escape_debug())
}

/// What a folder is that has no `unet` folder, and what to do.
pub(super) fn of_folder(folder: &Path) -> Result<(String, String)> {
    let index = folder.join("model_index.json");
    if index.is_file() {
        check_index("model_index.json", &text(&index)?)?;
        let hint = "the model is not complete: fetch it again, with its folder `unet`";
        return Ok((
            "a model without its folder `unet`".to_owned(),
            hint.to_owned(),
        ));
    }
    let whole =
        "pass the folder that holds `unet`, `vae`, `text_encoder`, `tokenizer` and `scheduler`";
    let alone = |what: &str| Ok((what.to_owned(), whole.to_owned()));
    let config = folder.join("config.json");
    if config.is_file() {
        let mut keys = ConfigReader::parse("config.json", &text(&config)?)?;
        let first = |value: Value| match value {
            Value::Array(list) => list.first().and_then(Value::as_str).map(str::to_owned),
            Value::String(name) => Some(name),
            _ => None,
        };
        let mut name = |key: &str| keys.take(key).and_then(first);
        let class = name("_class_name");
        let class = class
            .or_else(|| name("architectures"))
            .or_else(|| name("model_type"));
        let what = match class.as_deref() {
            Some("UNet2DConditionModel") => "a UNet alone (UNet2DConditionModel)".to_owned(),
            Some("AutoencoderKL") => "an autoencoder alone (AutoencoderKL)".to_owned(),
            Some(class) => format!("one network, {}", described(class)),
            None => "one network of some kind".to_owned(),
        };
        return alone(&what);
    }
    let has = |name: &str| folder.join(name).is_file();
    if has("pytorch_lora_weights.safetensors")
        || has("pytorch_lora_weights.bin")
        || has("adapter_config.json")
    {
        return Ok((
            "a LoRA, which changes a model and is none".to_owned(),
            LORA.to_owned(),
        ));
    }
    if has("learned_embeds.safetensors") || has("learned_embeds.bin") {
        return alone("an embedding (textual inversion), which is one word for a model");
    }
    if has("scheduler_config.json") {
        return alone("a scheduler alone");
    }
    if folder.join("snapshots").is_dir() {
        let hint = "pass the model's hub id, `owner/name`, or the folder below `snapshots`";
        return Ok((
            "a repository of the hub's cache".to_owned(),
            hint.to_owned(),
        ));
    }
    if folder.join("transformer").is_dir() {
        return alone("a model with a transformer in place of a UNet");
    }
    let entries = std::fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let mut names = entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect::<Vec<_>>();
    names.sort();
    if names.is_empty() {
        return alone("an empty folder");
    }
    let single = |name: &&String| {
        [".safetensors", ".ckpt"]
            .iter()
            .any(|end| name.ends_with(end))
    };
    if let Some(name) = names.iter().find(single) {
        let what = format!(
            "a folder of single files (`{}`), not in the diffusers layout",
            name.escape_debug()
        );
        return Ok((what, "pass the file itself".to_owned()));
    }
    alone("a folder without `unet`: not in the diffusers layout")
}

/// How a LoRA becomes part of a model.
pub(super) const LORA: &str = "load it into its model with diffusers (`load_lora_weights`, \
    `fuse_lora`), write that with `save_pretrained(FOLDER)`, and pass the folder";

fn text(path: &Path) -> Result<String> {
    let label = path.display().to_string();
    super::text_of(&regular::read(path)?, &label)
}

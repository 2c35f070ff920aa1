//! What a model is: each that is not Stable Diffusion 1.x, 2.x or XL is refused in one line for what it is.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, helpers and all"
)]

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use cones::SampleOptions;
use cones::checkpoint::{OpenOptions, Source};
use serde_json::{Value, json};

use super::cli::copy;
use super::cli::{cones, fails, golden, square};
use super::configs::{change, load};
use super::published;
use super::single_file::{single, write};

fn model(dir: &Path) -> PathBuf {
    let folder = dir.join("m");
    if !folder.exists() {
        copy(Path::new(&golden("models/sd1-f16")), &folder);
    }
    folder
}

/// Loads the model with some keys of a file set, which must fail: the error in one line, and its hint.
fn with(folder: &Path, file: &str, keys: &[(&str, Value)]) -> (String, String) {
    let original = fs::read(folder.join(file)).unwrap();
    change(folder, file, |map| {
        for (key, value) in keys {
            map.insert((*key).to_owned(), value.clone());
        }
    });
    let error = load(folder)
        .err()
        .unwrap_or_else(|| panic!("{file}: {keys:?} loads"));
    fs::write(folder.join(file), original).unwrap();
    let (text, hint) = (error.to_string(), error.hint().unwrap().to_owned());
    assert!(!text.contains('\n'), "{text}");
    assert!(
        !hint.contains("fetch it again") && !hint.contains("option"),
        "{text}: {hint}"
    );
    (text, hint)
}

#[test]
fn pipelines_of_other_kinds() {
    let dir = tempfile::tempdir().unwrap();
    let folder = model(dir.path());
    #[rustfmt::skip]
    let rows = [
        ("StableDiffusionXLControlNetPipeline", "a Stable Diffusion XL model that takes more than text"),
        ("StableDiffusionXLInstructPix2PixPipeline", "an InstructPix2Pix model of Stable Diffusion XL"),
        ("StableDiffusionXLInpaintPipeline", "an inpainting model of Stable Diffusion XL"),
        ("StableDiffusion3Pipeline", "a Stable Diffusion 3 model"),
        ("FluxPipeline", "a Flux model"),
        ("PixArtSigmaPipeline", "a PixArt model"),
        ("KandinskyV22Pipeline", "a Kandinsky model"),
        ("LatentConsistencyModelPipeline", "a latent consistency model"),
        ("StableDiffusionUpscalePipeline", "an upscaler"),
        ("StableDiffusionLatentUpscalePipeline", "an upscaler of latents"),
        ("StableDiffusionDepth2ImgPipeline", "a depth-to-picture model"),
        ("StableDiffusionInstructPix2PixPipeline", "an InstructPix2Pix model"),
        ("StableDiffusionControlNetPipeline", "a model with a ControlNet"),
        ("StableDiffusionImageVariationPipeline", "a model that varies pictures"),
        ("StableUnCLIPImg2ImgPipeline", "an unCLIP model"),
        ("StableCascadeDecoderPipeline", "a Stable Cascade model"),
        ("IFPipeline", "a DeepFloyd IF model"),
        ("AltDiffusionPipeline", "an AltDiffusion model"),
        ("StableVideoDiffusionPipeline", "a video model"),
        ("AnimateDiffPipeline", "a video model"),
        ("DDPMPipeline", "a model without text"),
        ("NobodyKnowsPipeline", "a model of another kind (`NobodyKnowsPipeline`)"),
    ];
    for (class, what) in rows {
        let (error, hint) = with(
            &folder,
            "model_index.json",
            &[("_class_name", class.into())],
        );
        assert!(
            error.starts_with("model_index.json: expected Stable Diffusion 1.x, 2.x or XL"),
            "{error}"
        );
        assert!(error.contains(what) && error.contains(class), "{error}");
        assert!(hint.contains("Stable Diffusion 1.x, 2.x or XL"), "{hint}");
    }
    for value in [json!(["pipeline", "Own"]), Value::Null, json!(3)] {
        let (error, _) = with(&folder, "model_index.json", &[("_class_name", value)]);
        assert!(error.contains("a pipeline of its own code"), "{error}");
    }
    for class in [
        "StableDiffusionPipeline",
        "StableDiffusionImg2ImgPipeline",
        "StableDiffusionInpaintPipeline",
        "FlaxStableDiffusionPipeline",
    ] {
        change(&folder, "model_index.json", |map| {
            drop(map.insert("_class_name".to_owned(), class.into()))
        });
        load(&folder).unwrap();
    }
    change(&folder, "model_index.json", |map| {
        drop(map.remove("_class_name"))
    });
    load(&folder).unwrap();
    fs::remove_file(folder.join("model_index.json")).unwrap();
    load(&folder).unwrap();
}

#[test]
fn components_of_other_classes() {
    let dir = tempfile::tempdir().unwrap();
    let folder = model(dir.path());
    #[rustfmt::skip]
    let rows = [
        ("unet", json!(["diffusers", "UNet3DConditionModel"]), "UNet3DConditionModel, a UNet of videos"),
        ("unet", json!(["diffusers", "UNet2DModel"]), "UNet2DModel, a UNet without text"),
        ("unet", json!([null, null]), "[null,null]: the model was saved without it"),
        ("vae", json!(["diffusers", "AutoencoderTiny"]), "AutoencoderTiny, a tiny autoencoder"),
        ("vae", json!(["diffusers", "ConsistencyDecoderVAE"]),
         "ConsistencyDecoderVAE, a decoder that is a diffusion"),
        ("vae", json!([null, null]), "the model was saved without it"),
        ("text_encoder", json!(["transformers", "T5EncoderModel"]),
         "T5EncoderModel, the text encoder of other models"),
        ("text_encoder", json!(["transformers", "CLIPTextModelWithProjection"]),
         "CLIPTextModelWithProjection, which gives one embedding for the whole text"),
        ("text_encoder", json!([null, null]), "the model was saved without it"),
        ("tokenizer", json!(["transformers", "T5Tokenizer"]), "T5Tokenizer"),
        ("tokenizer", json!([null, null]), "the model was saved without it"),
        ("scheduler", json!([null, null]), "the model was saved without it"),
        ("vae", json!(3), "found 3"),
    ];
    for (component, value, what) in rows {
        let original = fs::read(folder.join("model_index.json")).unwrap();
        change(&folder, "model_index.json", |map| {
            drop(map.insert(component.to_owned(), value.clone()))
        });
        let error = load(&folder).err().unwrap().to_string();
        assert!(
            error.contains(&format!("`{component}`")) && error.contains(what),
            "{error}"
        );
        fs::write(folder.join("model_index.json"), original).unwrap();
    }
    // What does not draw may be anything.
    change(&folder, "model_index.json", |map| {
        map.insert("safety_checker".to_owned(), json!(["x", "Y"]));
        map.insert("feature_extractor".to_owned(), json!([null, null]));
        map.insert(
            "tokenizer".to_owned(),
            json!(["transformers", "CLIPTokenizerFast"]),
        );
    });
    load(&folder).unwrap();
}

/// A file, keys that are set in it, and what the error calls the model.
type Row<'a> = (&'a str, &'a [(&'a str, Value)], &'a str);

#[test]
fn networks_of_other_kinds() {
    const UNET: &str = "unet/config.json";
    const VAE: &str = "vae/config.json";
    const TEXT: &str = "text_encoder/config.json";
    const SCHEDULER: &str = "scheduler/scheduler_config.json";
    let dir = tempfile::tempdir().unwrap();
    let folder = model(dir.path());
    #[rustfmt::skip]
    let rows: [Row; 32] = [
        (UNET, &[("in_channels", json!(9))], "an inpainting UNet (9 channels in, 4 out)"),
        (UNET, &[("in_channels", json!(8))], "an InstructPix2Pix UNet"),
        (UNET, &[("in_channels", json!(7)), ("num_class_embeds", json!(1000))],
         "an upscaler's UNet (7 channels in, 4 out)"),
        (UNET, &[("in_channels", json!(5))], "a depth-to-picture UNet"),
        (UNET, &[("in_channels", json!(6))],
         "a UNet that takes something beside latents and text (6 channels in, 4 out)"),
        (UNET, &[("out_channels", json!(8))], "a UNet that predicts variances too (4 channels in, 8 out)"),
        (UNET, &[("addition_embed_type", json!("image"))],
         "embeddings beside the text's (`addition_embed_type` image)"),
        (UNET, &[("encoder_hid_dim_type", json!("text_proj"))], "a projection of its own before it"),
        (UNET, &[("class_embed_type", json!("projection"))], "a UNet that takes a class beside the text"),
        (UNET, &[("num_class_embeds", json!(1000))], "a UNet that takes a class beside the text"),
        (UNET, &[("time_cond_proj_dim", json!(256))], "a latent consistency UNet"),
        (UNET, &[("_class_name", json!("UNet2DModel"))], "UNet2DModel, a UNet without text"),
        (UNET, &[("_class_name", json!("UNetMotionModel"))], "UNetMotionModel, a UNet of videos"),
        (UNET, &[("_class_name", json!("ControlNetModel"))], "ControlNetModel, which steers a model"),
        (UNET, &[("_class_name", json!("SD3Transformer2DModel"))], "SD3Transformer2DModel"),
        (UNET, &[("_class_name", Value::Null)], "found null"),
        (VAE, &[("_class_name", json!("AutoencoderTiny")), ("act_fn", json!("relu"))],
         "AutoencoderTiny, a tiny autoencoder"),
        (VAE, &[("_class_name", json!("ConsistencyDecoderVAE"))], "ConsistencyDecoderVAE"),
        (VAE, &[("_class_name", json!("AsymmetricAutoencoderKL"))],
         "AsymmetricAutoencoderKL, an autoencoder for inpainting"),
        (VAE, &[("_class_name", json!("AutoencoderKLTemporalDecoder"))],
         "AutoencoderKLTemporalDecoder, an autoencoder of videos"),
        (VAE, &[("_class_name", json!("VQModel"))], "VQModel, an autoencoder of discrete codes"),
        (VAE, &[("_class_name", json!("AutoencoderDC"))], "found AutoencoderDC"),
        (TEXT, &[("model_type", json!("t5")), ("architectures", json!(["T5EncoderModel"]))],
         "T5EncoderModel, the text encoder of other models"),
        (TEXT,
         &[("model_type", json!("roberta")), ("architectures", json!(["RobertaSeriesModelWithTransformation"]))],
         "RobertaSeries"),
        (TEXT, &[("model_type", json!("bert")), ("architectures", Value::Null)], "bert (`model_type` bert)"),
        (TEXT, &[("model_type", json!("clip_vision_model"))], "`model_type` clip_vision_model"),
        (SCHEDULER, &[("_class_name", json!("LCMScheduler"))], "LCMScheduler, of a model that was distilled"),
        (SCHEDULER, &[("_class_name", json!("TCDScheduler"))], "TCDScheduler, of a model that was distilled"),
        (SCHEDULER, &[("_class_name", json!("FlowMatchEulerDiscreteScheduler"))],
         "of a model that was trained by flow matching"),
        (SCHEDULER, &[("_class_name", json!("EDMEulerScheduler"))], "of a model of another preconditioning"),
        (SCHEDULER, &[("_class_name", json!("DDPMWuerstchenScheduler"))], "found DDPMWuerstchenScheduler"),
        (SCHEDULER, &[("_class_name", Value::Null)], "`_class_name` null"),
    ];
    for (file, keys, what) in rows {
        let (error, _) = with(&folder, file, keys);
        assert!(
            error.starts_with(&format!("{file}: expected ")) && error.contains(what),
            "{error}"
        );
        // No key is blamed that is right for what the model is.
        assert!(
            !error.contains("`out_channels`: ") && !error.contains("`act_fn`"),
            "{error}"
        );
    }
    for (file, keys) in [
        (
            UNET,
            vec![("_class_name", json!("FlaxUNet2DConditionModel"))],
        ),
        (VAE, vec![("_class_name", json!("FlaxAutoencoderKL"))]),
        (
            TEXT,
            vec![("architectures", json!(["CLIPTextModelWithProjection"]))],
        ),
        (TEXT, vec![("model_type", Value::Null)]),
    ] {
        let original = fs::read(folder.join(file)).unwrap();
        change(&folder, file, |map| {
            map.extend(keys.into_iter().map(|(k, v)| (k.to_owned(), v)))
        });
        load(&folder).unwrap();
        fs::write(folder.join(file), original).unwrap();
    }
    for file in [UNET, VAE, SCHEDULER] {
        change(&folder, file, |map| drop(map.remove("_class_name")));
        load(&folder).unwrap();
    }
}

/// As `CLIPTextModel.from_pretrained` does: of a whole CLIP, or of one with a projection, the text tower is taken.
#[test]
fn text_encoders_that_hold_more() {
    let dir = tempfile::tempdir().unwrap();
    let folder = model(dir.path());
    let file = folder.join("text_encoder/model.fp16.safetensors");
    let drawn = |folder: &Path| {
        let options = SampleOptions {
            steps: 2,
            size: Some(square(16)),
            ..SampleOptions::default()
        };
        let model = load(folder).unwrap();
        model.draw("a red dog", &options, &[1], |_| Ok(())).unwrap()
    };
    let before = drawn(&folder);
    let mut tensors = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
    let extra = Tensor::zeros((32, 32), candle_core::DType::F16, &Device::Cpu).unwrap();
    tensors.insert("text_projection.weight".to_owned(), extra.clone());
    candle_core::safetensors::save(&tensors, &file).unwrap();
    assert_eq!(drawn(&folder), before);
    let text = tensors.keys().next().unwrap().starts_with("text_model.");
    let mut tensors: std::collections::HashMap<String, Tensor> = tensors
        .into_iter()
        .map(
            |(name, tensor)| match text || name.starts_with("text_projection") {
                true => (name, tensor),
                false => (format!("text_model.{name}"), tensor),
            },
        )
        .collect();
    for name in [
        "vision_model.post_layernorm.weight",
        "visual_projection.weight",
        "logit_scale",
    ] {
        tensors.insert(name.to_owned(), extra.clone());
    }
    candle_core::safetensors::save(&tensors, &file).unwrap();
    assert!(
        load(&folder).is_err(),
        "the configuration is of a text model"
    );
    change(&folder, "text_encoder/config.json", |map| {
        let text = std::mem::take(map);
        map.insert("model_type".to_owned(), "clip".into());
        map.insert("text_config".to_owned(), text.into());
        map.insert("vision_config".to_owned(), json!({}));
    });
    assert_eq!(drawn(&folder), before);
}

/// Turbo, LCM and their like have the tensors of other models: what says so in words is refused, a hint is told.
#[test]
fn models_of_few_steps() {
    let dir = tempfile::tempdir().unwrap();
    let folder = model(dir.path());
    let original = fs::read(folder.join("unet/config.json")).unwrap();
    change(&folder, "unet/config.json", |map| {
        drop(map.insert("_name_or_path".to_owned(), json!("stabilityai/sd-turbo")))
    });
    let error = load(&folder).err().unwrap();
    assert!(
        error.to_string().contains("this is a turbo model"),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("distilled from"), "{error}");
    fs::write(folder.join("unet/config.json"), original).unwrap();
    assert_eq!(Source::open(folder.to_str().unwrap()).unwrap().doubt, None);
    change(&folder, "scheduler/scheduler_config.json", |map| {
        drop(map.insert("_class_name".to_owned(), json!("LCMScheduler")))
    });
    let source = Source::open(folder.to_str().unwrap()).unwrap();
    assert!(source.doubt.unwrap().contains("`LCMScheduler`"));
    let args = ["generate", "--model", "stabilityai/sdxl-turbo", "a dog"];
    let told = fails(dir.path(), &args, 1);
    assert!(
        told.contains("this is a turbo model") && !told.contains("--download"),
        "{told}"
    );

    let turbo = dir.path().join("tiny-turbo");
    copy(Path::new(&golden("models/sd1-f16")), &turbo);
    let args = ["generate", "--model", "tiny-turbo", "--steps", "1", "a dog"];
    let output = cones(dir.path(), &args);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    assert!(
        told.contains("`tiny-turbo`, is that of a turbo model"),
        "{told}"
    );

    let whole = published::assemble("sd15", &published::cases()["sd15"]);
    let tensors = single(whole.path(), "sd1");
    let file = dir.path().join("m.safetensors");
    let open = |notes: &[(&str, &str)]| {
        write(&file, &tensors, DType::F16, notes);
        let options = OpenOptions {
            config: Some(whole.path().display().to_string()), // of another vocabulary than CLIP's own
            ..OpenOptions::default()
        };
        options.open(file.to_str().unwrap())
    };
    let error = open(&[("modelspec.architecture", "stable-diffusion-xl-turbo-v1")]).unwrap_err();
    assert!(
        error.to_string().contains("this is a turbo model"),
        "{error}"
    );
    let doubt = open(&[("modelspec.title", "Dog Lightning")]).unwrap().doubt;
    assert!(doubt.unwrap().contains("its title, `Dog Lightning`"));
    assert_eq!(open(&[]).unwrap().doubt, None);
}

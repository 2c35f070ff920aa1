//! Folders and files that are given as models and are none: each is called what it is.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, helpers and all"
)]

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::cli::program;

/// The error of `cones generate --model MODEL`.
fn refused(dir: &Path, model: &Path) -> String {
    let mut command = program(dir);
    command.args(["generate", "a dog", "--model"]).arg(model);
    let output = command.output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.starts_with("error: ") && error.contains("\nhint: "),
        "{error}"
    );
    assert_eq!(
        error.lines().filter(|line| !line.is_empty()).count(),
        2,
        "{error}"
    );
    error
}

/// A folder's name, its files and their text, what the error calls it, and a part of the hint.
type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, &'a str);

#[test]
fn folders_that_are_no_model() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    #[rustfmt::skip]
    let rows: [Row; 18] = [
        ("unet", &[("config.json", r#"{"_class_name": "UNet2DConditionModel"}"#)], "a UNet alone",
         "pass the folder that holds"),
        ("vae", &[("config.json", r#"{"_class_name": "AutoencoderKL"}"#)], "an autoencoder alone",
         "pass the folder that holds"),
        ("taesd", &[("config.json", r#"{"_class_name": "AutoencoderTiny"}"#)], "AutoencoderTiny, a tiny",
         "pass the folder that holds"),
        ("controlnet", &[("config.json", r#"{"_class_name": "ControlNetModel"}"#)],
         "ControlNetModel, which steers a model", "pass the folder that holds"),
        ("clip", &[("config.json", r#"{"architectures": ["CLIPModel"], "model_type": "clip"}"#)],
         "one network, CLIPModel", "pass the folder that holds"),
        ("llama", &[("config.json", r#"{"model_type": "llama"}"#)], "one network, llama",
         "pass the folder that holds"),
        ("other", &[("config.json", "{}")], "one network of some kind", "pass the folder that holds"),
        ("lora", &[("pytorch_lora_weights.safetensors", "")], "a LoRA, which changes a model", "fuse_lora"),
        ("peft", &[("adapter_config.json", "{}"), ("adapter_model.safetensors", "")], "a LoRA", "fuse_lora"),
        ("embedding", &[("learned_embeds.safetensors", "")], "an embedding (textual inversion)",
         "pass the folder that holds"),
        ("scheduler", &[("scheduler_config.json", "{}")], "a scheduler alone", "pass the folder that holds"),
        ("cache", &[("snapshots/x", ""), ("refs/main", "")], "a repository of the hub's cache", "owner/name"),
        ("sd3", &[("model_index.json", r#"{"_class_name": "StableDiffusion3Pipeline"}"#), ("transformer/x", "")],
         "a Stable Diffusion 3 model", "1.x, 2.x or XL"),
        ("flux", &[("transformer/config.json", "{}")], "a transformer in place of a UNet",
         "pass the folder that holds"),
        ("half", &[("model_index.json", r#"{"_class_name": "StableDiffusionPipeline"}"#), ("vae/x", "")],
         "a model without its folder `unet`", "fetch it again"),
        ("single", &[("v1-5.safetensors", ""), ("README.md", "")], "a folder of single files (`v1-5.safetensors`)",
         "pass the file itself"),
        ("empty", &[], "an empty folder", "pass the folder that holds"),
        ("photos", &[("a.png", ""), ("b.png", "")], "not in the diffusers layout", "pass the folder that holds"),
    ];
    for (name, files, what, hint) in rows {
        let folder = dir.join(name);
        fs::create_dir_all(&folder).unwrap();
        for (file, text) in files {
            fs::create_dir_all(folder.join(file).parent().unwrap()).unwrap();
            fs::write(folder.join(file), text).unwrap();
        }
        let error = refused(dir, &folder);
        assert!(error.contains(what) && error.contains(hint), "{error}");
        assert!(
            hint == "fetch it again" || !error.contains("fetch it again"),
            "{error}"
        );
    }
}

/// A safetensors file of empty tensors.
fn tensors(names: &[&str]) -> Vec<u8> {
    let entry = json!({"dtype": "F32", "shape": [0], "data_offsets": [0, 0]});
    let header: serde_json::Map<String, Value> = names
        .iter()
        .map(|name| ((*name).to_owned(), entry.clone()))
        .collect();
    let header = serde_json::to_vec(&header).unwrap();
    [&(header.len() as u64).to_le_bytes(), header.as_slice()].concat()
}

#[test]
fn files_that_are_no_model() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    #[rustfmt::skip]
    let rows: [(Vec<u8>, &str, &str); 20] = [
        (tensors(&["lora_unet_x.lora_down.weight", "lora_unet_x.lora_up.weight"]), "a LoRA", "fuse_lora"),
        (tensors(&["unet.down_blocks.0.attn2.to_k.lora_A.weight"]), "a LoRA", "fuse_lora"),
        (tensors(&["lora_te_x.hada_w1_a", "lora_te_x.hada_w1_b"]), "a LoRA", "fuse_lora"),
        (tensors(&["emb_params"]), "an embedding (textual inversion)", "whole model"),
        (tensors(&["clip_g", "clip_l"]), "an embedding (textual inversion)", "whole model"),
        (tensors(&["control_model.input_blocks.0.0.weight"]), "a ControlNet", "whole model"),
        (tensors(&["controlnet_cond_embedding.conv_in.weight", "down_blocks.0.attn2.to_k.weight"]), "a ControlNet",
         "whole model"),
        (tensors(&["conditioner.embedders.1.model.x", "model.diffusion_model.x", "first_stage_model.x"]),
         "tensor `conditioner.embedders.1.model.x`", "plain checkpoint"),
        (tensors(&["cond_stage_model.x", "model.diffusion_model.x", "first_stage_model.x"]),
         "tensor `cond_stage_model.x`", "plain checkpoint"),
        (tensors(&["model.diffusion_model.x"]), "a UNet alone, in the original names", "whole model"),
        (tensors(&["down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"]), "a UNet alone",
         "whole model"),
        (tensors(&["encoder.conv_in.weight", "decoder.conv_in.weight"]), "an autoencoder (VAE) alone", "whole model"),
        (tensors(&["first_stage_model.encoder.x"]), "an autoencoder (VAE) alone", "whole model"),
        (tensors(&["decoder.layers.0.weight", "encoder.layers.0.weight"]), "a tiny autoencoder", "whole model"),
        (tensors(&["text_model.encoder.x", "vision_model.encoder.x"]), "a CLIP model", "whole model"),
        (tensors(&["text_model.encoder.x"]), "a text encoder alone", "whole model"),
        (tensors(&["model.diffusion_model.joint_blocks.0.x"]), "a transformer (Stable Diffusion 3, Flux or another)",
         "1.x, 2.x or XL"),
        (tensors(&["model.embed_tokens.weight"]), "no model of Stable Diffusion", "diffusers layout"),
        (b"\x80\x02}q\0.".to_vec(), "pickled data", "from_single_file"),
        (b"version https://git-lfs.github.com/spec/v1\n".to_vec(), "a Git LFS pointer", "git lfs pull"),
    ];
    for (bytes, what, hint) in rows {
        for name in ["model.safetensors", "model.ckpt", "model"] {
            let path = dir.join(name);
            fs::write(&path, &bytes).unwrap();
            let error = refused(dir, &path);
            assert!(error.contains(what) && error.contains(hint), "{error}");
        }
    }
}

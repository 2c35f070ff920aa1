//! Keys of configuration files: what diffusers draws is drawn alike, what it refuses is refused, `null` is a value.
//!
//! `tests/golden/configs.json` says what diffusers does with each value; `tests/golden/make_configs.py` asked it.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, helpers and all"
)]

use std::path::{Path, PathBuf};

use candle_core::Device;
use cones::checkpoint::Source;
use cones::model::Clip;
use cones::{Error, Pipeline, SampleOptions};
use serde_json::{Map, Value};

use crate::cli::{copy, square};

pub(super) fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// A model with one of its configuration files changed.
pub(super) fn change(folder: &Path, file: &str, change: impl FnOnce(&mut Map<String, Value>)) {
    let path = folder.join(file);
    let mut map = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut map);
    std::fs::write(path, serde_json::to_string(&map).unwrap()).unwrap();
}

pub(super) fn load(folder: &Path) -> cones::Result<Pipeline> {
    Pipeline::load(&Source::open(folder.to_str().unwrap())?, &Device::Cpu, None)
}

struct Variants {
    dir: tempfile::TempDir,
}

impl Variants {
    /// The picture of the model with `key` of `file` changed, or absent.
    fn draw(
        &self,
        file: &str,
        key: &str,
        value: Option<&Value>,
        sampler: &str,
    ) -> Result<Vec<u8>, String> {
        let folder = self.dir.path().join("m");
        if !folder.exists() {
            copy(&golden().join("models/sd1-f16"), &folder);
        }
        let original = std::fs::read(folder.join(file)).unwrap();
        change(&folder, file, |map| {
            map.remove(key);
            value.map(|value| map.insert(key.to_owned(), value.clone()));
        });
        let options = SampleOptions {
            sampler: sampler.parse().unwrap(),
            steps: 2,
            guidance: 7.5,
            size: Some(square(16)),
            ..SampleOptions::default()
        };
        let drawn =
            load(&folder).and_then(|model| model.draw("a red dog", &options, &[1], |_| Ok(())));
        std::fs::write(folder.join(file), original).unwrap();
        match drawn {
            Ok(pictures) => Ok(pictures[0].rgb().to_vec()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Drawn here although diffusers does not: the value changes nothing.
const HARMLESS: [&str; 4] = [
    "initializer_factor",
    "initializer_range",
    "use_linear_projection",
    "eos_token_id",
];
/// Drawn here and by diffusers as no other value of the table is; other tests hold these against diffusers.
const OTHER: [&str; 6] = [
    "_diffusers_version",
    "attention_head_dim",
    "layer_norm_eps",
    "mid_block_type",
    "norm_eps",
    "sample_size",
];
/// Refused here although diffusers draws: values other than null that no published model has.
const REFUSED: [&str; 9] = [
    "attention_type",
    "center_input_sample",
    "downsample_padding",
    "latents_mean",
    "latents_std",
    "mid_block_type",
    "model_type",
    "sample_size",
    "shift_factor",
];

#[test]
fn every_key_does_what_it_does_in_diffusers() {
    let text = std::fs::read_to_string(golden().join("configs.json")).unwrap();
    let rows: Vec<(String, String, Value, String, Value)> = serde_json::from_str(&text).unwrap();
    let variants = Variants {
        dir: tempfile::tempdir().unwrap(),
    };
    let (mut wrong, mut drawn, mut refused) = (Vec::new(), 0, 0);
    for (file, key, value, sampler, outcome) in &rows {
        let got = variants.draw(file, key, Some(value), sampler);
        let row = format!("{file}: {key} = {value} with {sampler}: diffusers {outcome}; here");
        let key = key.as_str();
        match (&got, outcome) {
            (Ok(_), Value::String(word)) if word == "refused" => {
                if !HARMLESS.contains(&key) {
                    wrong.push(format!("{row} drawn"));
                }
            }
            (Ok(_), Value::String(_)) => {
                if !OTHER.contains(&key) {
                    wrong.push(format!("{row} drawn"));
                }
            }
            (Ok(picture), like) => {
                let like = variants.draw(file, key, like["like"].get(0), sampler);
                let near =
                    |other: &Vec<u8>| picture.iter().zip(other).all(|(a, b)| a.abs_diff(*b) <= 1);
                if !like.as_ref().is_ok_and(near) {
                    wrong.push(format!("{row} another picture ({:?})", like.err()));
                }
                drawn += 1;
            }
            (Err(error), outcome) => {
                // A refusal names the key, or the tensors that the value asks for.
                let named = error.contains(&format!("`{key}`")) || error.contains("tensor `");
                let meant = outcome.is_string()
                    || REFUSED.contains(&key)
                    || value.is_null() && file.starts_with("sched");
                // Where the value that it is like is refused for the same tensors.
                let alike = || {
                    let like = variants.draw(file, key, outcome["like"].get(0), sampler);
                    like.is_err_and(|like| like == *error)
                };
                if !named || !(meant || alike()) {
                    wrong.push(format!("{row} {error}"));
                }
                refused += 1;
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        rows.len(),
        wrong.join("\n")
    );
    assert!(
        drawn > 150 && refused > 60,
        "{drawn} drawn, {refused} refused"
    );
}

/// Encoders of other kinds are called what they are.
#[test]
fn encoders_of_other_kinds() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("clip");
    copy(&golden().join("clip/new"), &folder);
    for (kind, class, what) in [
        ("siglip", "SiglipModel", "SiglipModel (`model_type` siglip)"),
        (
            "clip_text_model",
            "CLIPTextModel",
            "CLIPTextModel (`model_type` clip_text_model)",
        ),
        (
            "clip_text_model",
            "CLIPTextModelWithProjection",
            "which gives one embedding for the whole text",
        ),
        ("clip_vision_model", "CLIPVisionModel", "CLIPVisionModel"),
        ("chinese_clip", "ChineseCLIPModel", "ChineseCLIPModel"),
        ("blip", "BlipModel", "BlipModel"),
        ("llama", "LlamaForCausalLM", "LlamaForCausalLM"),
    ] {
        change(&folder, "config.json", |map| {
            map.insert("model_type".to_owned(), kind.into());
            map.insert("architectures".to_owned(), vec![class].into());
        });
        let source = Source::encoder(folder.to_str().unwrap()).unwrap();
        let error = Clip::load(&source, &Device::Cpu).err().unwrap();
        let text = error.to_string();
        assert!(
            text.starts_with("config.json: expected a CLIPModel, found") && text.contains(what),
            "{text}"
        );
        assert!(error.hint().unwrap().contains("pass a CLIP"), "{text}");
    }
}

/// Null in the configuration of an encoder for pictures and text, as transformers 5 has it.
#[test]
fn null_in_the_configuration_of_a_clip() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("clip");
    copy(&golden().join("clip/new"), &folder);
    let load = || {
        let source = Source::encoder(folder.to_str().unwrap()).unwrap();
        Clip::load(&source, &Device::Cpu)
    };
    for (section, key, refused) in [
        ("", "projection_dim", true),
        ("", "model_type", true),
        ("", "logit_scale_init_value", false),
        ("", "initializer_factor", false),
        ("text_config", "vocab_size", true),
        ("text_config", "hidden_size", true),
        ("text_config", "intermediate_size", true),
        ("text_config", "num_hidden_layers", true),
        ("text_config", "num_attention_heads", true),
        ("text_config", "max_position_embeddings", true),
        ("text_config", "hidden_act", true),
        ("text_config", "layer_norm_eps", true),
        ("text_config", "eos_token_id", true),
        ("text_config", "pad_token_id", false),
        ("text_config", "bos_token_id", false),
        ("text_config", "attention_dropout", false),
        ("text_config", "projection_dim", false),
        ("vision_config", "hidden_size", true),
        ("vision_config", "image_size", true),
        ("vision_config", "patch_size", true),
        ("vision_config", "num_channels", true),
        ("vision_config", "hidden_act", true),
        ("vision_config", "layer_norm_eps", true),
        ("vision_config", "output_hidden_states", false),
    ] {
        let original = std::fs::read(folder.join("config.json")).unwrap();
        change(&folder, "config.json", |map| {
            let map = match section {
                "" => map,
                section => map[section].as_object_mut().unwrap(),
            };
            map.insert(key.to_owned(), Value::Null);
        });
        match load() {
            Ok(_) => assert!(!refused, "{section}: {key}"),
            Err(error) => {
                let text = error.to_string();
                assert!(
                    refused
                        && text.contains(&format!("`{key}`: expected"))
                        && text.ends_with("found null"),
                    "{text}"
                );
            }
        }
        std::fs::write(folder.join("config.json"), original).unwrap();
    }
    load().unwrap();
}

#[test]
fn sizes_as_stable_diffusion_pipeline_has_them() {
    let dir = tempfile::tempdir().unwrap();
    // sample_size, version of diffusers, pixels at a factor of 2.
    for (i, (size, version, pixels)) in [
        (serde_json::json!(16), "0.42.1", 32),
        (serde_json::json!([16, 16]), "0.6.0", 32),
        (serde_json::json!(16), "0.6.0", 128),
        (serde_json::json!(16), "0.8.1", 128),
        (serde_json::json!(16), "0.9.0.dev0", 32),
        (serde_json::json!(16), "0.10.2", 32),
        (serde_json::json!(96), "0.8.0", 192),
    ]
    .into_iter()
    .enumerate()
    {
        let folder = dir.path().join(i.to_string());
        copy(&golden().join("models/sd1-f16"), &folder);
        change(&folder, "unet/config.json", |map| {
            map.insert("sample_size".to_owned(), size.clone());
            map.insert("_diffusers_version".to_owned(), version.into());
        });
        assert_eq!(
            load(&folder).unwrap().size,
            square(pixels),
            "{size} of {version}"
        );
    }
}

#[test]
fn what_a_file_calls_defaults_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    for (file, key, value) in [
        ("unet/config.json", "act_fn", "gelu"),
        ("unet/config.json", "mid_block_type", "UNetMidBlock2D"),
        ("unet/config.json", "time_embedding_type", "fourier"),
        ("vae/config.json", "act_fn", "relu"),
        ("vae/config.json", "shift_factor", "x"),
        (
            "scheduler/scheduler_config.json",
            "prediction_type",
            "sample",
        ),
    ] {
        let folder = dir.path().join(key).join(file.split('/').next().unwrap());
        copy(&golden().join("models/sd1-f16"), &folder);
        change(&folder, file, |map| {
            drop(map.insert(key.to_owned(), value.into()))
        });
        assert!(load(&folder).is_err(), "{file}: {key}");
        change(&folder, file, |map| {
            map.insert("_use_default_values".to_owned(), vec![key].into());
        });
        load(&folder).unwrap();
    }
}

#[test]
fn settings_of_cones_json_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("m");
    copy(&golden().join("models/sd1-f16"), &folder);
    for (key, value) in [
        ("steps", "0"),
        ("steps", "1000001"),
        ("steps", "-1"),
        ("steps", "1.5"),
        ("steps", "\"20\""),
        ("steps", "null"),
        ("guidance", "-0.5"),
        ("guidance", "NaN"),
        ("guidance", "Infinity"),
        ("guidance", "1e300"),
        ("find_steps", "0"),
        ("find_steps", "1000000000000"),
        ("find_steps", "18446744073709551615"),
        ("find_steps", "18446744073709551616"),
        ("find_steps", "NaN"),
    ] {
        std::fs::write(folder.join("cones.json"), format!("{{\"{key}\": {value}}}")).unwrap();
        let error = load(&folder).err().unwrap();
        let text = error.to_string();
        assert!(matches!(error, Error::File { .. }), "{text}");
        assert!(
            text.starts_with(&format!("cones.json: `{key}`: expected a number from")),
            "{text}"
        );
        assert!(!error.hint().unwrap().contains("option"), "{text}");
    }
    std::fs::write(
        folder.join("cones.json"),
        r#"{"steps": 1, "guidance": 0, "find_steps": 1000000}"#,
    )
    .unwrap();
    let defaults = load(&folder).unwrap().defaults;
    assert_eq!(
        (defaults.steps, defaults.find_steps),
        (Some(1), Some(1_000_000))
    );
}

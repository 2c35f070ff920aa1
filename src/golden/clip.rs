//! Equality with transformers' CLIP, on values that `tests/golden/make_clip.py` wrote.
#![expect(clippy::print_stdout, reason = "a comparison tells how near it came")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::checkpoint::Source;
use crate::eval::cosine;
use crate::model::Clip;
use crate::{Picture, list_images};
use candle_core::Tensor;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{device, golden_dir};

/// Unit vectors out of small f32 networks, and their cosines: measured 4.5e-7. A wrong rule shows at 1e-2 and more.
const FEATURE: f32 = 4e-6;
/// Pillow's bytes are met exactly, and measured is 0; one unit in the last place of what lies between 1 and 2 is left
/// to the order of two f32 operations.
const PIXEL: f32 = 1.2e-7;

const MODELS: [&str; 2] = ["new", "legacy"];

fn golden(path: &str) -> PathBuf {
    golden_dir().join("clip").join(path)
}

fn load(folder: &Path) -> crate::Result<Clip> {
    Clip::load(&Source::encoder(folder.to_str().unwrap())?, &device())
}

#[track_caller]
fn close(name: &str, got: &[f32], want: &Tensor, tolerance: f32) {
    let want = want.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(got.len(), want.len(), "{name}");
    let distances = got.iter().zip(&want).map(|(g, w)| (g - w).abs());
    let worst = distances.fold(0f32, |worst, d| if d.is_nan() { d } else { worst.max(d) });
    println!("{name}: {worst:.1e}");
    assert!(worst <= tolerance, "{name}: {worst:.2e}");
}

#[test]
fn pixels_and_features_are_transformers() {
    let want: HashMap<String, Tensor> =
        candle_core::safetensors::load(golden("golden.safetensors"), &device()).unwrap();
    let cases: Value =
        serde_json::from_str(&std::fs::read_to_string(golden("cases.json")).unwrap()).unwrap();
    let prompts: Vec<String> = serde_json::from_value(cases["prompts"].clone()).unwrap();
    let prompts: Vec<&str> = prompts.iter().map(String::as_str).collect();
    let photos = list_images(&[golden("photos")]).unwrap().files;
    let pictures: Vec<Picture> = photos
        .iter()
        .map(|path| Picture::read(path, None).unwrap())
        .collect();
    for model in MODELS {
        let clip = load(&golden(model)).unwrap();
        for (path, picture) in photos.iter().zip(&pictures) {
            let photo = path.file_stem().unwrap().to_string_lossy();
            let name = format!("{model}.pixels.{photo}");
            let pixels = clip.preprocessing.pixels(picture).unwrap();
            close(&name, &pixels, &want[&name], PIXEL);
        }
        let images = clip
            .embed_pictures(pictures.iter().map(Ok::<_, crate::Error>))
            .unwrap();
        let name = format!("{model}.images");
        close(&name, &images.concat(), &want[&name], FEATURE);
        let texts = clip.embed_texts(&prompts).unwrap();
        let name_of_texts = format!("{model}.texts");
        close(
            &name_of_texts,
            &texts.concat(),
            &want[&name_of_texts],
            FEATURE,
        );

        let cosines = want[&name]
            .matmul(&want[&name_of_texts].t().unwrap())
            .unwrap();
        let got: Vec<f32> = images
            .iter()
            .flat_map(|a| texts.iter().map(move |b| (a, b)))
            .map(|(a, b)| cosine(a, b) as f32)
            .collect();
        close(&format!("{model}.cosines"), &got, &cosines, FEATURE);
        assert_eq!(clip.name, model);
        let weights = std::fs::read(golden(model).join("model.safetensors")).unwrap();
        assert_eq!(clip.sha256, crate::files::hex(&Sha256::digest(weights)));
    }
}

/// A copy of a golden model with one file edited.
fn edited(model: &str, file: &str, edit: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(golden(model)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = dir.path().join(file);
    let mut value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    edit(&mut value);
    std::fs::write(&path, value.to_string()).unwrap();
    dir
}

#[test]
fn what_would_change_the_numbers_is_refused() {
    const CONFIG: &str = "config.json";
    const PREPROCESSOR: &str = "preprocessor_config.json";
    let cases: [(&str, &str, Value, &str); 9] = [
        (
            CONFIG,
            "/vision_config/hidden_act",
            "relu".into(),
            "hidden_act",
        ),
        (
            CONFIG,
            "/vision_config/num_attention_heads",
            5.into(),
            "a divisor",
        ),
        (CONFIG, "/vision_config/patch_size", 31.into(), "patch_size"),
        (
            CONFIG,
            "/vision_config/num_channels",
            4.into(),
            "num_channels",
        ),
        (
            CONFIG,
            "/vision_config/image_size",
            60000.into(),
            "image_size",
        ),
        (
            CONFIG,
            "/text_config/num_hidden_layers",
            3.into(),
            "layers.2",
        ),
        (CONFIG, "/projection_dim", 21.into(), "visual_projection"),
        (CONFIG, "/model_type", "siglip".into(), "model_type"),
        (PREPROCESSOR, "/resample", 2.into(), "resample"),
    ];
    for (file, pointer, value, part) in cases {
        let dir = edited("new", file, |v| *v.pointer_mut(pointer).unwrap() = value);
        let error = load(dir.path()).err().unwrap().to_string();
        assert!(error.contains(part), "{pointer}: {error}");
    }
    let dir = edited("new", CONFIG, |v| {
        v["vision_config"]["use_rotary"] = true.into()
    });
    let error = load(dir.path()).err().unwrap().to_string();
    assert!(error.contains("use_rotary"), "{error}");
    let dir = edited("new", CONFIG, |v| {
        v["text_config"]["eos_token_id"] = 3.into()
    });
    let clip = load(dir.path()).unwrap();
    assert!(clip.embed_texts(&["a dog"]).is_err());
}

#[test]
fn missing_files_are_named() {
    for file in [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
    ] {
        let dir = edited("new", "config.json", |_| ());
        std::fs::remove_file(dir.path().join(file)).unwrap();
        let error = load(dir.path()).err().unwrap().to_string();
        let named = file.replace("tokenizer.json", "vocab.json");
        assert!(error.contains(&named), "{file}: {error}");
    }
    assert!(load(Path::new("no/such/folder")).is_err());
}

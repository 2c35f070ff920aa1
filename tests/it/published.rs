//! Models in the shapes in which the hub publishes them, against diffusers: see `tests/golden/make_published.py`.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, helpers and all, and tells how near it came"
)]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use cones::checkpoint::Source;
use cones::model::Clip;
use cones::{Pipeline, SampleOptions};
use serde_json::Value;
use tempfile::TempDir;

use crate::cli::square;

/// The last rounding is to 8 bits, and the steps before it amplify rounding.
const PIXEL: u8 = 2;

/// The shapes that can be drawn.
const DRAWN: [&str; 7] = [
    "sd14",
    "sd15",
    "sd20",
    "sd21",
    "sd21-base",
    "sd-turbo",
    "tiny-sd",
];

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/published")
        .join(file)
}

fn json<T: serde::de::DeserializeOwned>(file: &str) -> T {
    serde_json::from_str(&std::fs::read_to_string(golden(file)).unwrap()).unwrap()
}

/// Numbers that follow from a tensor's name, by the rule of `make_published.py`.
fn tensor(name: &str, shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    if name.ends_with("position_ids") {
        let positions: Vec<i64> = (0..count as i64).collect();
        return Tensor::from_vec(positions, shape, &Device::Cpu).unwrap();
    }
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let inputs: usize = shape[1..].iter().product();
    let halvings = (0..).find(|&k| 3 * 4usize.pow(k) >= inputs).unwrap();
    let number = |i: u64| {
        let mut z = seed.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let value = (2.0 * (z >> 53) as f32 - 2047.0) / 2048.0;
        match shape {
            [_] if name.ends_with(".weight") => 1.0 + value / 8.0,
            [_] => value / 8.0,
            _ => value / 2f32.powi(halvings as i32),
        }
    };
    Tensor::from_vec(
        (1..=count as u64).map(number).collect(),
        shape,
        &Device::Cpu,
    )
    .unwrap()
}

pub(super) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, name) = (entry.as_ref().unwrap().path(), entry.unwrap().file_name());
        match path.is_dir() {
            true => copy(&path, &to.join(name)),
            false => drop(std::fs::copy(&path, to.join(name)).unwrap()),
        }
    }
}

/// A model as it lies on a disk: its JSON files, the common vocabulary, and weights.
pub(super) fn assemble(shape: &str, case: &Value) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy(&golden(shape), dir.path());
    for file in ["vocab.json", "merges.txt"] {
        std::fs::copy(golden(file), dir.path().join("tokenizer").join(file)).unwrap();
    }
    for (file, kind) in case["weights"].as_object().unwrap() {
        let shapes: BTreeMap<String, Vec<usize>> =
            json(&format!("weights/{}", kind.as_str().unwrap()));
        let tensors: HashMap<String, Tensor> = shapes
            .iter()
            .map(|(name, shape)| (name.clone(), tensor(name, shape)))
            .collect();
        candle_core::safetensors::save(&tensors, dir.path().join(file)).unwrap();
    }
    dir
}

/// What diffusers made of each shape.
pub(super) fn cases() -> Value {
    json("cases.json")
}

fn load(folder: &Path) -> cones::Result<Pipeline> {
    Pipeline::load(&Source::open(folder.to_str().unwrap())?, &Device::Cpu, None)
}

#[test]
fn a_picture_of_each_published_shape_is_that_of_diffusers() {
    let cases: Value = json("cases.json");
    let pictures =
        candle_core::safetensors::load(golden("pictures.safetensors"), &Device::Cpu).unwrap();
    for shape in DRAWN {
        let case = &cases[shape];
        let dir = assemble(shape, case);
        let pipeline = load(dir.path()).unwrap_or_else(|error| panic!("{shape}: {error}"));
        let settings = &case["picture"];
        let number = |key: &str| settings[key].as_u64().unwrap();
        let text = |key: &str| settings[key].as_str().unwrap();
        let options = SampleOptions {
            sampler: text("sampler").parse().unwrap(),
            steps: number("steps") as usize,
            guidance: settings["guidance"].as_f64().unwrap(),
            negative: Some(text("negative").into()),
            size: Some(square(number("size") as usize)),
            ..SampleOptions::default()
        };
        let drawn = pipeline
            .draw(text("prompt"), &options, &[number("seed")], |_| Ok(()))
            .unwrap();
        let want: Vec<u8> = pictures[shape].flatten_all().unwrap().to_vec1().unwrap();
        let got = drawn[0].rgb();
        assert_eq!(got.len(), want.len(), "{shape}");
        let worst = got.iter().zip(&want).map(|(a, b)| a.abs_diff(*b)).max();
        println!("{shape}: {}", worst.unwrap());
        assert!(
            worst.unwrap() <= PIXEL,
            "{shape}: off by {}",
            worst.unwrap()
        );
    }
}

#[test]
fn an_inpainting_model_is_refused_by_name() {
    let cases: Value = json("cases.json");
    let dir = assemble("sd15-inpainting", &cases["sd15-inpainting"]);
    let error = load(dir.path()).err().unwrap().to_string();
    assert!(error.contains("inpaint"), "{error}");
}

/// What transformers 5 saves of a CLIP: `processor_config.json`, and no `preprocessor_config.json`.
#[test]
fn a_clip_that_transformers_5_saved_gives_the_same_embeddings() {
    let clip = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/clip");
    let open = |dir: &Path| Clip::load(&Source::encoder(dir.to_str().unwrap())?, &Device::Cpu);
    for model in ["new", "legacy"] {
        let plain = open(&clip.join(model)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        copy(&clip.join(model), dir.path());
        let [old, new] =
            ["preprocessor_config.json", "processor_config.json"].map(|file| dir.path().join(file));
        let inner: Value = serde_json::from_str(&std::fs::read_to_string(&old).unwrap()).unwrap();
        let outer =
            serde_json::json!({"image_processor": inner, "processor_class": "CLIPProcessor"});
        std::fs::write(&new, outer.to_string()).unwrap();
        std::fs::remove_file(&old).unwrap();
        let saved = open(dir.path()).unwrap();
        assert_eq!(saved.preprocessing, plain.preprocessing, "{model}");
        let texts = ["a photo of a dog", ""];
        assert_eq!(
            saved.embed_texts(&texts).unwrap(),
            plain.embed_texts(&texts).unwrap(),
            "{model}"
        );
        std::fs::remove_file(&new).unwrap();
        let error = open(dir.path()).err().unwrap();
        let (told, hint) = (error.to_string(), error.hint().unwrap_or_default());
        assert!(told.contains("processor_config.json"), "{told}");
        assert!(hint.contains("CLIPImageProcessor"), "{hint}");
    }
}

/// A pickled encoder is told what works for it: diffusers cannot load a CLIP.
#[test]
fn a_pickled_clip_is_told_how_transformers_writes_it() {
    let clip = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/clip/new");
    let dir = tempfile::tempdir().unwrap();
    copy(&clip, dir.path());
    let weights = dir.path().join("model.safetensors");
    std::fs::rename(weights, dir.path().join("pytorch_model.bin")).unwrap();
    let source = Source::encoder(dir.path().to_str().unwrap()).unwrap();
    let error = Clip::load(&source, &Device::Cpu).err().unwrap();
    let hint = error.hint().unwrap_or_default();
    assert!(
        hint.contains("CLIPModel.from_pretrained(") && hint.contains(".save_pretrained("),
        "{error}: {hint}"
    );
}

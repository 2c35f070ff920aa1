//! One model as a folder, in shards and as a single file, in all types: the same fingerprint and the same pictures.
//!
//! The names in a single file are those that diffusers' own converters read: see `tests/golden/make_single.py`.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, helpers and all"
)]

mod full_size;

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use cones::checkpoint::{OpenOptions, Source};
use cones::sampling::Prediction;
use cones::{Pipeline, SampleOptions};
use flate2::read::GzDecoder;
use serde_json::{Value, json};

use super::alloc::peak_of;
use super::cli::{golden, ok, square};
use super::configs::change;
use super::{changed, published};

/// The weights of a model's networks.
pub(super) const NETWORKS: [(&str, &str); 3] = [
    ("unet", "unet/diffusion_pytorch_model.safetensors"),
    ("vae", "vae/diffusion_pytorch_model.safetensors"),
    ("text_encoder", "text_encoder/model.safetensors"),
];

/// A file that `make_single.py` wrote.
fn unpacked(file: &str) -> String {
    let packed = File::open(golden(&format!("single/{file}"))).unwrap();
    let mut text = String::new();
    GzDecoder::new(packed).read_to_string(&mut text).unwrap();
    text
}

/// For each tensor of a family's file its name, its shape in a model of full size, and what diffusers makes of it:
/// network and name, and which third it is.
fn rows(family: &str) -> Vec<[String; 5]> {
    let text = unpacked("names.tsv.gz");
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix(&format!("{family}\t")));
    lines
        .map(|line| {
            let cells: Vec<String> = line.split('\t').map(str::to_owned).collect();
            cells.try_into().unwrap()
        })
        .collect()
}

/// A tensor's name in a folder, whatever version wrote it, as diffusers has it today.
fn today(name: &str) -> String {
    let old = [
        (".query.", ".to_q."),
        (".key.", ".to_k."),
        (".value.", ".to_v."),
        (".proj_attn.", ".to_out.0."),
    ];
    old.iter()
        .fold(name.to_owned(), |name, (old, new)| name.replace(old, new))
}

/// The tensors of a folder's model under the names of a family's single files.
pub(super) fn single(folder: &Path, family: &str) -> BTreeMap<String, Tensor> {
    let mut tensors: HashMap<(String, String), Tensor> = HashMap::new();
    for (network, file) in NETWORKS {
        for (name, tensor) in
            candle_core::safetensors::load(folder.join(file), &Device::Cpu).unwrap()
        {
            if !name.ends_with("position_ids") {
                tensors.insert((network.to_owned(), today(&name)), tensor);
            }
        }
    }
    let (mut all, mut thirds) = (
        BTreeMap::new(),
        BTreeMap::<String, BTreeMap<String, Tensor>>::new(),
    );
    for [stored, _, network, name, part] in rows(family) {
        let Some(mut tensor) = tensors.remove(&(network, name)) else {
            continue; // of a deeper model
        };
        if stored.contains(".attn_1.") && tensor.rank() == 2 {
            tensor = tensor.unsqueeze(2).unwrap().unsqueeze(3).unwrap();
        }
        match part.as_str() {
            "-" => drop(all.insert(stored, tensor)),
            part => drop(
                thirds
                    .entry(stored)
                    .or_default()
                    .insert(part.to_owned(), tensor),
            ),
        }
    }
    assert!(tensors.is_empty(), "not in the table: {:?}", tensors.keys());
    for (stored, parts) in thirds {
        let parts: Vec<Tensor> = parts.into_values().collect();
        assert_eq!(parts.len(), 3, "{stored}");
        all.insert(stored, Tensor::cat(&parts, 0).unwrap());
    }
    all
}

/// Writes tensors in a type, in order of their names, with notes.
pub(super) fn write(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    dtype: DType,
    notes: &[(&str, &str)],
) {
    let of = |(name, tensor): (&String, &Tensor)| {
        // Counters, and what is there to be refused, stay what they are.
        let tensor = match tensor.dtype() {
            DType::F32 => tensor.to_dtype(dtype).unwrap(),
            _ => tensor.clone(),
        };
        (name.clone(), tensor)
    };
    let tensors: BTreeMap<String, Tensor> = tensors.iter().map(of).collect();
    let notes = notes
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    safetensors::serialize_to_file(&tensors, Some(notes.collect()), path).unwrap();
}

/// A folder in another type, its networks in shards of some tensors if wanted, by one of diffusers' namings.
fn rewrite(from: &Path, to: &Path, dtype: DType, shards: Option<&str>) {
    published::copy(from, to);
    for (_, file) in NETWORKS {
        let tensors: BTreeMap<String, Tensor> =
            candle_core::safetensors::load(from.join(file), &Device::Cpu)
                .unwrap()
                .into_iter()
                .collect();
        let Some(variant) = shards else {
            write(&to.join(file), &tensors, dtype, &[]);
            continue;
        };
        fs::remove_file(to.join(file)).unwrap();
        let stem = file.strip_suffix(".safetensors").unwrap();
        let mut map = BTreeMap::new();
        let mut parts: BTreeMap<String, BTreeMap<String, Tensor>> = BTreeMap::new();
        for (i, (name, tensor)) in tensors.into_iter().enumerate() {
            let (before, after) = match variant {
                "old fp16" => ("", ".fp16"),
                variant => (variant, ""),
            };
            let number = format!("{:05}-of-00003", i % 3 + 1);
            let shard = format!("{stem}{before}-{number}{after}.safetensors");
            let own = Path::new(&shard).file_name().unwrap();
            map.insert(name.clone(), own.to_str().unwrap().to_owned());
            parts.entry(shard).or_default().insert(name, tensor);
        }
        for (shard, tensors) in parts {
            write(&to.join(shard), &tensors, dtype, &[]);
        }
        let index = match variant {
            "" => format!("{stem}.safetensors.index.json"),
            "old fp16" => format!("{stem}.safetensors.fp16.index.json"),
            variant => format!("{stem}.safetensors.index{variant}.json"),
        };
        let text = json!({"metadata": {"total_size": 1}, "weight_map": map}).to_string();
        fs::write(to.join(index), text).unwrap();
    }
}

fn load(model: &Path, options: &OpenOptions) -> Pipeline {
    let source = options.open(model.to_str().unwrap()).unwrap();
    Pipeline::load(&source, &Device::Cpu, None)
        .unwrap_or_else(|error| panic!("{}: {error}", model.display()))
}

/// What two copies of a model must agree in.
fn drawn(pipeline: &Pipeline) -> Vec<u8> {
    let options = SampleOptions {
        steps: 3,
        size: Some(square(64)),
        ..SampleOptions::default()
    };
    pipeline
        .draw("a photo of a dog", &options, &[7], |_| Ok(()))
        .unwrap()[0]
        .rgb()
        .to_vec()
}

#[test]
fn folder_shards_and_single_file_are_one_model() {
    let cases = published::cases();
    for (shape, family, prediction) in [("sd15", "sd1", "epsilon"), ("sd21", "sd2", "v")] {
        let whole = published::assemble(shape, &cases[shape]);
        let dir = tempfile::tempdir().unwrap();
        let configured = |folder: &Path| OpenOptions {
            config: Some(folder.display().to_string()),
            ..OpenOptions::default()
        };
        let tensors = single(whole.path(), family);
        for (dtype, name) in [
            (DType::F32, "f32"),
            (DType::F16, "f16"),
            (DType::BF16, "bf16"),
        ] {
            let folder = dir.path().join(name);
            rewrite(whole.path(), &folder, dtype, None);
            let plain = load(&folder, &OpenOptions::default());
            let (fingerprint, picture) = (plain.fingerprint().unwrap(), drawn(&plain));
            let same = |what: &str, other: &Pipeline| {
                assert_eq!(
                    other.fingerprint().unwrap(),
                    fingerprint,
                    "{shape} {name} {what}"
                );
                assert_eq!(
                    changed::identity(other),
                    changed::identity(&plain),
                    "{what}"
                );
                assert!(
                    drawn(other) == picture,
                    "{shape} {name} {what}: another picture"
                );
                assert_eq!(other.prediction.to_string(), prediction);
            };
            let file = dir.path().join(format!("{name}.safetensors"));
            write(&file, &tensors, dtype, &[]);
            same("single file", &load(&file, &configured(&folder)));
            if dtype == DType::F32 {
                continue;
            }
            for (i, naming) in ["", ".fp16", "old fp16"].into_iter().enumerate() {
                let shards = dir.path().join(format!("{name}-{i}"));
                rewrite(whole.path(), &shards, dtype, Some(naming));
                same(
                    &format!("shards{naming}"),
                    &load(&shards, &OpenOptions::default()),
                );
            }
        }
    }
}

/// What files from model sites have besides: averages, counters, names of other versions, markers, an autoencoder of
/// their own.
#[test]
fn what_does_not_matter_changes_nothing() {
    let whole = published::assemble("sd15", &published::cases()["sd15"]);
    let config = whole.path().display().to_string();
    let dir = tempfile::tempdir().unwrap();
    let plain = load(whole.path(), &OpenOptions::default());
    let picture = drawn(&plain);
    let mut tensors = single(whole.path(), "sd1");
    let zero = Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap();
    for name in [
        "model_ema.decay",
        "model_ema.diffusion_modelout0bias",
        "betas",
        "cond_stage_model.logit_scale",
        "first_stage_model.loss.logvar",
        "ztsnr",
    ] {
        tensors.insert(name.to_owned(), zero.clone());
    }
    let counters = Tensor::arange(0i64, 77, &Device::Cpu).unwrap();
    let name = "cond_stage_model.transformer.text_model.embeddings.position_ids";
    tensors.insert(name.to_owned(), counters);
    let text: Vec<String> = tensors
        .keys()
        .filter(|name| name.contains(".text_model."))
        .cloned()
        .collect();
    for name in text {
        let tensor = tensors.remove(&name).unwrap();
        tensors.insert(name.replace(".text_model.", "."), tensor);
    }
    let file = dir.path().join("a.safetensors");
    write(&file, &tensors, DType::F32, &[]);
    let options = |vae: Option<PathBuf>| OpenOptions {
        config: Some(config.clone()),
        vae,
        ..OpenOptions::default()
    };
    assert!(drawn(&load(&file, &options(None))) == picture);

    // The autoencoder elsewhere: with original names, with and without their root, and with diffusers'.
    let (vae, rest): (BTreeMap<_, _>, BTreeMap<_, _>) = tensors
        .into_iter()
        .partition(|(name, _)| name.starts_with("first_stage_model."));
    write(&file, &rest, DType::F32, &[]);
    let error = options(None).open(file.to_str().unwrap()).unwrap_err();
    assert!(
        error.to_string().contains("no autoencoder (VAE) in it"),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("beside it"), "{error}");
    let (rooted, bare) = (
        dir.path().join("rooted.safetensors"),
        dir.path().join("bare.safetensors"),
    );
    write(&rooted, &vae, DType::F32, &[]);
    let strip = |(name, tensor): (String, Tensor)| (name.replace("first_stage_model.", ""), tensor);
    write(
        &bare,
        &vae.into_iter().map(strip).collect(),
        DType::F32,
        &[],
    );
    for vae in [
        rooted,
        bare,
        whole.path().join("vae"),
        whole.path().join(NETWORKS[1].1),
    ] {
        assert!(
            drawn(&load(&file, &options(Some(vae.clone())))) == picture,
            "{}",
            vae.display()
        );
    }
}

/// The program on a folder and on a single file: the same pictures, the same index.
#[test]
fn the_program_finds_and_draws_with_a_single_file() {
    let whole = published::assemble("sd15", &published::cases()["sd15"]);
    // Else it would be drawn at 512 pixels, as diffusers does for so old a version.
    change(whole.path(), "unet/config.json", |map| {
        map.insert("_diffusers_version".to_owned(), "0.30.0".into());
    });
    let dir = tempfile::tempdir().unwrap();
    let (dir, folder) = (dir.path(), whole.path().to_str().unwrap());
    write(
        &dir.join("m.safetensors"),
        &single(whole.path(), "sd1"),
        DType::F32,
        &[],
    );
    let (photos, class) = (golden("photos/subject"), golden("photos/class"));
    let mut outputs = Vec::new();
    for (name, model) in [
        ("folder", vec![folder]),
        ("single", vec!["m.safetensors", "--config", folder]),
    ] {
        let model = [&["--model"], &model[..]].concat();
        let run = |args: &[&str]| ok(dir, &[args, &model].concat());
        let (index, picture) = (format!("{name}.idx"), format!("{name}.png"));
        run(&[
            "find",
            "--subject",
            "dog",
            &photos,
            "--method",
            "paper",
            "--class-images",
            &class,
            "--steps",
            "2",
            "--density",
            "5%",
            "-o",
            &index,
        ]);
        run(&[
            "generate",
            "a dog",
            "--concepts",
            &index,
            "--steps",
            "2",
            "--no-metadata",
            "-o",
            &picture,
        ]);
        let shown = ok(dir, &["inspect", &index, "--json"]);
        let shown: Value = serde_json::from_str(&shown).unwrap();
        outputs.push((
            fs::read(dir.join(picture)).unwrap(),
            shown["indices"][0]["fingerprint"].clone(),
            shown,
        ));
    }
    assert!(outputs[0].0 == outputs[1].0, "other pictures");
    assert_eq!(outputs[0].1.as_str().map(str::len), Some(64));
    assert_eq!(
        outputs[0].2["indices"][0]["sites"],
        outputs[1].2["indices"][0]["sites"]
    );
    assert_eq!(outputs[0].1, outputs[1].1);
}

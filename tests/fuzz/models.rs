//! The readers of models: single files, configurations, tokenizers.

use std::fs;
use std::io::Read;
use std::path::Path;

use candle_core::Device;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use super::targets::{contents, files, repository, unsealed};
use super::{run, run_refused};
use crate::Pipeline;
use crate::checkpoint::Source;
use crate::model::{Tokenizer, UNetConfig};
use crate::sampling::ScheduleConfig;

/// A file of tensors of two bytes each, with these names.
fn named(names: &[&str], notes: &[(&str, &str)]) -> Vec<u8> {
    let bytes = [0_u8; 2];
    let tensor = |name: &&str| {
        (
            name.to_string(),
            TensorView::new(Dtype::F16, vec![1], &bytes).unwrap(),
        )
    };
    let notes = notes
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    safetensors::serialize(names.iter().map(tensor), Some(notes.collect())).unwrap()
}

/// Headers and names: whether it is a model, of which family, what it predicts; and what is none.
#[test]
fn single_files() {
    let unet = "model.diffusion_model.input_blocks.0.0.weight";
    let vae = "first_stage_model.decoder.conv_in.weight";
    let corpus = [
        named(
            &[
                unet,
                vae,
                "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
                "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight",
                "first_stage_model.decoder.mid.attn_1.q.weight",
                "model_ema.decay",
                "alphas_cumprod",
            ],
            &[
                ("modelspec.architecture", "stable-diffusion-v1"),
                ("modelspec.prediction_type", "epsilon"),
            ],
        ),
        named(
            &[
                unet,
                vae,
                "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight",
                "model.diffusion_model.out.2.weight",
            ],
            &[],
        ),
        named(
            &[
                unet,
                vae,
                "conditioner.embedders.0.transformer.text_model.final_layer_norm.bias",
                "conditioner.embedders.1.model.text_projection",
                "v_pred",
                "ztsnr",
            ],
            &[],
        ),
        named(
            &[
                "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight",
                "emb_params",
                "string_to_param",
            ],
            &[],
        ),
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    // All names of a whole model, so that what is behind their sorting is reached.
    let packed = fs::File::open(repository().join("tests/golden/single/names.tsv.gz")).unwrap();
    let mut table = String::new();
    flate2::read::GzDecoder::new(packed)
        .read_to_string(&mut table)
        .unwrap();
    let names = table
        .lines()
        .filter_map(|line| line.strip_prefix("sd1\t")?.split('\t').next());
    let whole = named(&names.collect::<Vec<_>>(), &[]);
    run_refused("whole_single_files", &[whole], 50, |bytes| {
        fs::write(&path, bytes).unwrap();
        Source::open(path.to_str().unwrap()).is_ok()
    });
    run_refused("single_files", &corpus, 1000, |bytes| {
        fs::write(&path, bytes).unwrap();
        Source::open(path.to_str().unwrap()).is_ok()
    });
}

/// Configurations of all published UNets and schedulers, read as what each is and as what it is not; some are of models
/// that are not supported.
#[test]
fn configurations() {
    let endings = ["unet/config.json", "scheduler_config.json"];
    let corpus = contents(&files("tests/golden/published", &endings));
    run_refused("configurations", &corpus, 2000, |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return false;
        };
        let unet = UNetConfig::parse("unet/config.json", text);
        let schedule = ScheduleConfig::parse("scheduler/scheduler_config.json", text);
        unet.is_ok() || schedule.is_ok()
    });
}

/// One file of a whole model changed, and the model loaded.
fn changed_model(name: &str, wanted: &[&str], usually: usize, read: impl Fn(&Source) -> bool) {
    let good = repository().join("tests/golden/models/sd1-f32");
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    let all = files("tests/golden/models/sd1-f32", &[""]);
    let inside = |path: &Path| model.join(path.strip_prefix(&good).unwrap());
    for path in &all {
        fs::create_dir_all(inside(path).parent().unwrap()).unwrap();
        fs::copy(path, inside(path)).unwrap();
    }
    let opened = || Source::open(model.to_str().unwrap());
    for path in all
        .iter()
        .filter(|path| wanted.iter().any(|ending| path.ends_with(ending)))
    {
        let corpus = contents(std::slice::from_ref(path));
        let file = path
            .strip_prefix(&good)
            .unwrap()
            .display()
            .to_string()
            .replace('/', "-");
        run(
            &format!("{name}-{file}"),
            &corpus,
            usually,
            unsealed,
            |bytes| {
                fs::write(inside(path), bytes).unwrap();
                opened().is_ok_and(|source| read(&source))
            },
        );
        fs::copy(path, inside(path)).unwrap();
    }
}

#[test]
fn tokenizers() {
    let wanted = [
        "merges.txt",
        "vocab.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
    ];
    changed_model("tokenizers", &wanted, 50, |source| {
        Tokenizer::load(source, "tokenizer", 77).is_ok_and(|tokenizer| {
            let _ = tokenizer
                .encode("a photo of a sks dog, \u{1f436} (d\u{e9}j\u{e0} vu)")
                .map(|ids| ids.len());
            true
        })
    });
}

/// `tokenizer.json` with what the golden file leaves out: the common vocabulary and merges.
fn completed(mut json: Value) -> Value {
    let text =
        |file| fs::read_to_string(repository().join("tests/golden/published").join(file)).unwrap();
    if json["model"]["vocab"].is_null() {
        json["model"]["vocab"] = serde_json::from_str(&text("vocab.json")).unwrap();
    }
    if json["model"]["merges"].is_null() {
        let merges = text("merges.txt");
        let pairs = merges
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(' '));
        json["model"]["merges"] = pairs.map(|(a, b)| json!([a, b])).collect();
    }
    json
}

/// Every golden `tokenizer.json`, each a folder's only file.
#[test]
fn tokenizer_json() {
    let text = fs::read(repository().join("tests/golden/published/tokenizers.json")).unwrap();
    let golden: Value = serde_json::from_slice(&text).unwrap();
    let cases = golden["cases"].as_object().unwrap().values();
    let corpus: Vec<Vec<u8>> = cases
        .map(|case| &case["files"]["tokenizer.json"])
        .filter(|file| file.is_object())
        .map(|file| completed(file.clone()).to_string().into_bytes())
        .collect();
    let dir = tempfile::tempdir().unwrap();
    for folder in ["unet", "tokenizer"] {
        fs::create_dir_all(dir.path().join(folder)).unwrap();
    }
    for file in ["vocab.json", "merges.txt"] {
        let golden = repository().join("tests/golden/published").join(file);
        fs::copy(golden, dir.path().join("tokenizer").join(file)).unwrap();
    }
    for file in ["tokenizer_config.json", "special_tokens_map.json"] {
        let text = golden["base"][file].to_string();
        fs::write(dir.path().join("tokenizer").join(file), text).unwrap();
    }
    let source = Source::open(dir.path().to_str().unwrap()).unwrap();
    let mut taken = 0;
    run_refused("tokenizer_json", &corpus, 100, |bytes| {
        fs::write(dir.path().join("tokenizer/tokenizer.json"), bytes).unwrap();
        let loaded = Tokenizer::load(&source, "tokenizer", 77).is_ok();
        taken += usize::from(loaded);
        loaded
    });
    assert!(taken > 0, "none was ever taken");
}

#[test]
fn models() {
    let wanted = [
        "text_encoder/config.json",
        "vae/config.json",
        "unet/config.json",
        "model_index.json",
        "scheduler/scheduler_config.json",
    ];
    changed_model("models", &wanted, 20, |source| {
        Pipeline::load(source, &Device::Cpu, None).is_ok()
    });
}

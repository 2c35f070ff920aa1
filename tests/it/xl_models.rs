//! Stable Diffusion XL as a user has it: every command takes it, and what is like it is refused for what it is.

use std::collections::BTreeSet;
use std::path::Path;

use candle_core::Device;
use cones::index::{NeuronIndex, Site};
use serde_json::json;

use super::cli;
use super::cli::copy;
use super::cli::ok;
use super::configs::{change, golden as golden_dir, load};

/// What is of XL's family and cannot be computed right is refused by what it is.
#[test]
fn relatives_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let fresh = |name: &str| {
        let folder = dir.path().join(name);
        copy(&golden_dir().join("xl/a"), &folder);
        folder
    };
    let folder = fresh("keys");
    #[rustfmt::skip]
    let rows = [
        ("model_index.json", "requires_aesthetics_score", json!(true), "the refiner of Stable Diffusion XL"),
        ("model_index.json", "text_encoder_2", json!([null, null]), "saved without it"),
        ("vae/config.json", "latents_mean", json!([0.1, 0.2, 0.3, 0.4]), "Playground v2.5"),
        ("scheduler/scheduler_config.json", "_class_name", json!("EDMEulerScheduler"), "CosXL"),
        ("unet/config.json", "in_channels", json!(9), "an inpainting UNet"),
        ("unet/config.json", "in_channels", json!(8), "an InstructPix2Pix UNet"),
        ("unet/config.json", "time_cond_proj_dim", json!(256), "a latent consistency UNet"),
        ("unet/config.json", "addition_embed_type", json!("text_image"), "`addition_embed_type` text_image"),
        ("unet/config.json", "projection_class_embeddings_input_dim", json!(48), "more than 6 times"),
        ("tokenizer_2/tokenizer_config.json", "model_max_length", json!(20), "24, that of `tokenizer`"),
    ];
    for (file, key, value, what) in rows {
        let original = std::fs::read(folder.join(file)).unwrap();
        change(&folder, file, |map| drop(map.insert(key.to_owned(), value)));
        let error = load(&folder).err().unwrap_or_else(|| panic!("{key} loads"));
        assert!(error.to_string().contains(what), "{error}");
        std::fs::write(folder.join(file), original).unwrap();
    }
    load(&folder).unwrap();

    let folder = fresh("no-first-encoder");
    std::fs::remove_dir_all(folder.join("text_encoder")).unwrap();
    let error = load(&folder).err().unwrap().to_string();
    assert!(error.contains("the refiner"), "{error}");

    let folder = fresh("one-encoder");
    std::fs::remove_dir_all(folder.join("text_encoder_2")).unwrap();
    let error = load(&folder).err().unwrap().to_string();
    assert!(error.contains("no `text_encoder_2`"), "{error}");

    // A UNet that has room for five numbers: the refiner's.
    let folder = fresh("refiner-unet");
    let file = folder.join("unet/diffusion_pytorch_model.fp16.safetensors");
    let mut tensors = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
    let weight = tensors.get_mut("add_embedding.linear_1.weight").unwrap();
    *weight = weight
        .narrow(1, 0, 24 + 5 * 8)
        .unwrap()
        .contiguous()
        .unwrap();
    candle_core::safetensors::save(&tensors, &file).unwrap();
    change(&folder, "unet/config.json", |map| {
        let width = json!(24 + 5 * 8);
        map.insert("projection_class_embeddings_input_dim".to_owned(), width);
    });
    let error = load(&folder).err().unwrap().to_string();
    assert!(error.contains("the refiner"), "{error}");
}

/// Photos to concepts to pictures, as a user does it, at words and in the whole prompt.
#[test]
fn every_command_takes_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let [model, photos, class] = ["xl/a", "photos/subject", "photos/class"].map(cli::golden);
    let run = |args: &[&str]| ok(dir, args);
    for (noun, seed) in [("dog", "1"), ("cat", "2")] {
        let index = format!("{noun}.idx");
        let few = [
            "--steps", "3", "--batch", "2", "--rate", "0.5", "--seed", seed,
        ];
        let find = ["find", "--model", &model, "--subject", noun, "-o", &index];
        run(&[&find, &few[..], &[&photos]].concat());
    }
    let whole = [
        "--method",
        "paper",
        "--scope",
        "prompt",
        "--steps",
        "2",
        "--density",
        "20%",
    ];
    let find = [
        "find",
        "--model",
        &model,
        "--subject",
        "hat",
        "-o",
        "hat.idx",
    ];
    run(&[&find, &whole[..], &["--class-images", &class, &photos]].concat());
    run(&["merge", "dog.idx", "cat.idx", "-o", "pair.idx"]);
    // Every transformer block of every attention has sites.
    let index = NeuronIndex::read(&dir.join("hat.idx")).unwrap();
    let sites: Vec<&Site> = index.sites().map(|(site, _)| site).collect();
    let weights = Path::new(&model).join("unet/diffusion_pytorch_model.fp16.safetensors");
    let weights = candle_core::safetensors::load(weights, &Device::Cpu).unwrap();
    let stored: BTreeSet<Site> = weights
        .keys()
        .filter_map(|name| name.parse().ok())
        .collect();
    let is_cross = |site: &&Site| site.to_string().contains(".attn2.");
    assert!(stored.iter().filter(is_cross).eq(sites));
    let shown = run(&["inspect", "--dump", "hat.idx"]);
    assert!(shown.contains("transformer_blocks.2.attn2"), "{shown}");
    run(&["inspect", "dog.idx", "cat.idx"]);

    let draw = |concepts: &str, prompt: &str| {
        let mut args = vec!["generate", "--model", &model, "--steps", "2"];
        args.extend(["--raw-prompt", "--no-metadata", prompt]);
        if !concepts.is_empty() {
            args.extend(["--concepts", concepts]);
        }
        run(&args);
        std::fs::read(dir.join("out.png")).unwrap()
    };
    let (dog, both, plain) = (
        "a photo of a sks dog",
        "a sks dog and a sks cat",
        "a photo of a dog",
    );
    assert_ne!(draw("dog.idx", dog), draw("", dog));
    assert_eq!(
        draw("dog.idx", plain),
        draw("", plain),
        "no word of the subject"
    );
    assert_ne!(draw("hat.idx", plain), draw("", plain), "the whole prompt");
    assert_eq!(draw("pair.idx", both), draw("dog.idx,cat.idx", both));
    let encoder = cli::golden("clip/new");
    let eval = [
        "eval", "dog.idx", "--model", &model, "--images", &photos, "--json",
    ];
    let few = [
        "--count",
        "2",
        "--steps",
        "2",
        "--controls",
        "1",
        "--loss-draws",
        "2",
    ];
    let with = ["--encoder", &encoder, "--class-images", &class];
    let output = cli::cones(dir, &[&eval[..], &few, &with].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.stdout.is_empty(), "{stderr}");
    cli::json(&String::from_utf8(output.stdout).unwrap());
}

//! `cones export`: what other programs load is the model as `generate` draws with it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use candle_core::DType;

use super::published;
use super::single_file::{single, write};
use crate::cli::{fails, find, find_learned, golden, json, ok};

fn drawn(dir: &Path, model: &str, more: &[&str]) -> Vec<u8> {
    let args = [
        "generate",
        "a sks dog and a sks cat",
        "--raw-prompt",
        "--no-metadata",
        "--steps",
        "2",
        "--model",
        model,
    ];
    ok(dir, &[&args, more].concat());
    fs::read(dir.join("out.png")).unwrap()
}

/// Copies a folder but for what is in `unet`.
fn copied(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copied(&path, &target),
            false => drop(fs::copy(&path, target).unwrap()),
        }
    }
}

/// Folders of SD 1, 2 and XL, in f32 and f16: the exported UNet in the model's place draws the same picture.
#[test]
fn an_exported_unet_draws_what_the_concept_draws() {
    for (folder, whole) in [
        ("models/sd1-f32", true),
        ("models/sd2-f16", false),
        ("xl/a", false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let model = golden(folder);
        let class = golden("photos/class");
        let photos = golden("photos/subject");
        for noun in ["dog", "cat"] {
            ok(
                dir,
                &[
                    "find",
                    "--model",
                    &model,
                    "--subject",
                    noun,
                    "--method",
                    "paper",
                    "--class-images",
                    &class,
                    "--steps",
                    "1",
                    "--seed",
                    if noun == "dog" { "1" } else { "2" },
                    &photos,
                ],
            );
        }
        let plain = drawn(dir, &model, &[]);
        let shut = drawn(dir, &model, &["--concepts", "dog.idx,cat.idx"]);
        assert_ne!(plain, shut, "{folder}");
        let report = ok(
            dir,
            &[
                "export",
                "dog.idx",
                "cat.idx",
                "--model",
                &model,
                "--as",
                "diffusers",
                "-o",
                "unet",
                "--json",
            ],
        );
        let report = json(&report);
        assert!(report["shut"].as_u64().unwrap() > 0);
        copied(Path::new(&model), &dir.join("other"));
        fs::remove_dir_all(dir.join("other/unet")).unwrap();
        fs::rename(dir.join("unet"), dir.join("other/unet")).unwrap();
        assert_eq!(drawn(dir, "other", &[]), shut, "{folder}");
        // As a file alone, and by a half.
        ok(
            dir,
            &[
                "export",
                "dog.idx",
                "--model",
                &model,
                "--as",
                "diffusers",
                "-o",
                "u.safetensors",
                "--strength",
                "0.5",
            ],
        );
        fs::copy(
            dir.join("u.safetensors"),
            dir.join("other/unet/diffusion_pytorch_model.safetensors"),
        )
        .unwrap();
        let half = drawn(dir, &model, &["--concepts", "dog.idx", "--strength", "0.5"]);
        // Halves of f16 weights are rounded to f16.
        let exported = drawn(dir, "other", &[]);
        assert!(exported == half || !whole && exported != plain, "{folder}");
    }
}

/// A model of published shapes as one file in f16, and the folder with its configuration.
pub(super) fn single_file(dir: &Path, shape: &str, family: &str) -> (String, tempfile::TempDir) {
    let whole = published::assemble(shape, &published::cases()[shape]);
    let file = dir.join(format!("{shape}.safetensors"));
    let notes = [
        ("modelspec.hash_sha256", "0x1"),
        ("modelspec.title", "mine"),
    ];
    write(&file, &single(whole.path(), family), DType::F16, &notes);
    (file.to_str().unwrap().to_owned(), whole)
}

/// A single file keeps everything but the weights that are changed, and its header's other notes.
#[test]
fn an_exported_checkpoint_is_the_file_with_other_weights() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (shape, family) in [("sd15", "sd1"), ("sd21", "sd2")] {
        let (model, config) = single_file(dir, shape, family);
        let (model, config) = (model.as_str(), config.path().to_str().unwrap());
        let (photos, class) = (golden("photos/subject"), golden("photos/class"));
        ok(
            dir,
            &[
                "find",
                "--model",
                model,
                "--config",
                config,
                "--subject",
                "dog",
                "--method",
                "paper",
                "--class-images",
                &class,
                "--steps",
                "1",
                "--force",
                &photos,
            ],
        );
        let export = |kind: &str, output: &str| {
            let model = ["--model", model, "--config", config];
            let rest = ["--as", kind, "-o", output];
            ok(dir, &[&["export", "dog.idx"], &model[..], &rest].concat())
        };
        export("checkpoint", "new.safetensors");
        let size = ["--size", "64", "--config", config];
        let shut = drawn(
            dir,
            model,
            &[&["--concepts", "dog.idx"], &size[..]].concat(),
        );
        assert_eq!(drawn(dir, "new.safetensors", &size), shut, "{shape}");
        assert_ne!(drawn(dir, model, &size), shut, "{shape}");
        let (old, new) = (
            fs::read(model).unwrap(),
            fs::read(dir.join("new.safetensors")).unwrap(),
        );
        let (old, new) = [&old, &new]
            .map(|b| safetensors::SafeTensors::deserialize(b).unwrap())
            .into();
        let changed: Vec<String> = old
            .names()
            .into_iter()
            .filter(|name| old.tensor(name).unwrap().data() != new.tensor(name).unwrap().data())
            .map(str::to_owned)
            .collect();
        assert_eq!(old.len(), new.len());
        let notes = |path: &Path| {
            let bytes = fs::read(path).unwrap();
            let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
            header.metadata().clone().unwrap()
        };
        let notes = notes(&dir.join("new.safetensors"));
        assert_eq!(notes["modelspec.title"], "mine");
        assert_eq!(notes["cones.subjects"], "sks dog");
        assert!(
            !notes.contains_key("modelspec.hash_sha256"),
            "a hash that is true no more"
        );
        assert!(
            !changed.is_empty() && changed.iter().all(|name| name.contains("attn2.to_")),
            "{changed:?}"
        );
        // The changes alone, applied by hand, are the same file.
        export("delta", "delta.safetensors");
        let bytes = fs::read(dir.join("delta.safetensors")).unwrap();
        let delta = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(delta.len(), 2 * changed.len());
        export("diffusers", "u.safetensors");
        let bytes = fs::read(dir.join("u.safetensors")).unwrap();
        let unet = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        for name in delta
            .names()
            .into_iter()
            .filter_map(|name| name.strip_suffix(".indices"))
        {
            let (places, values) = (
                delta.tensor(&format!("{name}.indices")).unwrap(),
                delta.tensor(&format!("{name}.values")).unwrap(),
            );
            let (weight, each) = (
                unet.tensor(name).unwrap(),
                values.data().len() / values.shape()[0],
            );
            for (place, value) in places
                .data()
                .chunks_exact(4)
                .zip(values.data().chunks_exact(each))
            {
                let at = u32::from_le_bytes(place.try_into().unwrap()) as usize * each;
                assert_eq!(&weight.data()[at..at + each], value, "{name}");
            }
        }
    }
}

#[test]
fn what_cannot_be_exported_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let model = golden("models/sd1-f32");
    find_learned(dir, "cat", "1", &[]);
    find(dir, "dog", "1", &[]);
    fs::write(dir.join("file"), b"x").unwrap();
    for (args, code, parts) in [
        (
            &["cat.idx", "--as", "diffusers", "-o", "x"][..],
            1,
            &["scope `words`", "examples/diffusers", "hint:"][..],
        ),
        (
            &["dog.idx", "--as", "checkpoint", "-o", "x.safetensors"],
            1,
            &["no single file", "--as diffusers"],
        ),
        (
            &["dog.idx", "--as", "checkpoint", "-o", "x"],
            2,
            &[".safetensors"],
        ),
        (
            &["dog.idx", "--as", "delta", "-o", "no/x.safetensors"],
            1,
            &["no folder `no`"],
        ),
        (
            &["dog.idx", "--as", "diffusers", "-o", "no/x"],
            1,
            &["no folder `no`"],
        ),
        (
            &["dog.idx", "--as", "diffusers", "-o", "file"],
            1,
            &["expected a folder"],
        ),
        (
            &[
                "dog.idx",
                "--as",
                "diffusers",
                "-o",
                "x",
                "--model",
                "pocket",
            ],
            1,
            &["--force"],
        ),
        (&["dog.idx", "-o", "x"], 2, &["--as"]),
    ] {
        let error = fails(
            dir,
            &[
                &["export"],
                args,
                &["--model", &model][..if args.contains(&"--model") { 0 } else { 2 }],
            ]
            .concat(),
            code,
        );
        for part in parts {
            assert!(error.contains(part), "{args:?}: {error}");
        }
    }
    assert!(!dir.join("x").exists() && !dir.join("x.safetensors").exists());
}

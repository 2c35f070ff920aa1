//! The program as a user runs it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output};

use cones::Size;
use serde_json::Value;

pub(super) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(super) fn golden(path: &str) -> String {
    repository()
        .join("tests/golden")
        .join(path)
        .display()
        .to_string()
}

/// The program in `dir`.
pub(super) fn program(dir: &Path) -> Command {
    command(dir, env!("CARGO_BIN_EXE_cones"))
}

/// A command in `dir`, in which the program has one thread: as many tests run at once as there are cores.
pub(super) fn command(dir: &Path, name: &str) -> Command {
    let mut command = Command::new(name);
    command.current_dir(dir).env_remove("CONES_MODEL");
    command.env("RAYON_NUM_THREADS", "1");
    command
}

pub(super) fn cones(dir: &Path, args: &[&str]) -> Output {
    program(dir).args(args).output().unwrap()
}

pub(super) fn ok(dir: &Path, args: &[&str]) -> String {
    let output = cones(dir, args);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "cones {args:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

pub(super) fn fails(dir: &Path, args: &[&str], code: i32) -> String {
    let output = cones(dir, args);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "cones {args:?}: {stderr}");
    // With --json an error is an object too.
    match args.contains(&"--json") {
        true => {
            let told = String::from_utf8_lossy(&output.stdout);
            assert!(
                json(&told)["error"]["message"].is_string(),
                "cones {args:?}: {told}"
            );
        }
        false => assert!(output.stdout.is_empty(), "cones {args:?} wrote to stdout"),
    }
    assert!(!stderr.contains("panicked"), "cones {args:?}: {stderr}");
    stderr
}

/// As wide as high.
pub(super) fn square(side: usize) -> Size {
    Size {
        width: side,
        height: side,
    }
}

pub(super) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Finds a concept by Algorithm 1 on a miniature model.
pub(super) fn find(dir: &Path, noun: &str, seed: &str, extra: &[&str]) -> Value {
    let class = golden("photos/class");
    let paper = ["--method", "paper", "--class-images", &class];
    find_learned(dir, noun, seed, &[&paper, extra].concat())
}

/// Learns a concept on a miniature model.
pub(super) fn find_learned(dir: &Path, noun: &str, seed: &str, extra: &[&str]) -> Value {
    let (model, photos) = (golden("models/sd1-f32"), golden("photos/subject"));
    let output = format!("{noun}.idx");
    // Tests find one concept in several ways; that an index is not replaced by chance is tested on its own.
    let mut args = vec![
        "find",
        "--force",
        "--model",
        &model,
        "--subject",
        noun,
        "--steps",
        "3",
        "--seed",
        seed,
        "--json",
    ];
    args.extend(["-o", &output]);
    args.extend(extra);
    args.push(&photos);
    json(&ok(dir, &args))
}

/// A concept `dog.idx` of this density, with all scores.
pub(super) fn find_scored(dir: &Path, density: &str) {
    let extra = ["--density", density, "--scores", "dog.scores"];
    find(dir, "dog", "1", &extra);
}

/// `cones eval` of a miniature model, whose figures say nothing but are soon there.
pub(super) fn quick_eval(model: &str, encoder: &str) -> Vec<&'static str> {
    let path = |path: &str| -> &'static str { golden(path).leak() };
    let inputs = [
        ["--model", path(model)],
        ["--images", path("photos/subject")],
        ["--encoder", path(encoder)],
        ["--class-images", path("photos/class")],
        ["--steps", "2"],
    ];
    [&["eval"], &inputs.concat()[..]].concat()
}

/// What `eval` prints, and whether its answer is yes.
pub(super) fn answer(dir: &Path, args: &[&str]) -> (String, bool) {
    let output = cones(dir, args);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.stdout.is_empty(), "cones {args:?}: {stderr}");
    let code = output.status.code().unwrap();
    assert!(code < 2, "cones {args:?}: {stderr}");
    (String::from_utf8(output.stdout).unwrap(), code == 0)
}

#[test]
fn bad_input_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("junk.idx"), b"junk").unwrap();
    std::fs::write(dir.join("junk.png"), b"junk").unwrap();
    std::fs::write(dir.join("model.ckpt"), b"junk").unwrap();
    std::fs::write(dir.join("model.safetensors"), b"junk").unwrap();
    std::fs::create_dir(dir.join("empty")).unwrap();
    let cases: &[(&[&str], i32, &[&str])] = &[
        (&["inspect", "missing.idx"], 1, &["missing.idx"]),
        (
            &["inspect", "junk.idx"],
            1,
            &["junk.idx", "expected", "hint:"],
        ),
        (&["merge", "junk.idx", "-o", "x.idx"], 1, &["junk.idx"]),
        (
            &["find", "--subject", "dog", "missing.png"],
            1,
            &["missing.png"],
        ),
        (
            &["find", "--subject", "dog", "empty"],
            1,
            &["empty", "no pictures", "hint:"],
        ),
        (
            &[
                "find",
                "--subject",
                "dog",
                "--scope",
                "prompt",
                "--class-images",
                "empty",
                "junk.png",
            ],
            1,
            &["empty", "no pictures"],
        ),
        (
            &["find", "--subject", "dog", "--density", "200%", "junk.png"],
            2,
            &["--density"],
        ),
        (
            &[
                "find",
                "--subject",
                "dog",
                "--density",
                "1%",
                "--threshold",
                "1",
                "junk.png",
            ],
            2,
            &["--threshold"],
        ),
        (
            &["generate", "a dog", "--model", "model.ckpt"],
            1,
            &["model.ckpt", "pickled", "hint:"],
        ),
        (
            &["generate", "a dog", "--model", "model.safetensors"],
            1,
            &["model.safetensors", "found 4 bytes", "hint:"],
        ),
        (
            &["generate", "a dog", "--model", "owner/name"],
            1,
            &["owner/name", "not in the hub's cache", "hf download"],
        ),
        (
            &["generate", "a dog", "--model", "empty"],
            1,
            &["empty", "unet"],
        ),
        (
            &["generate", "a dog", "--size", "63"],
            1,
            &["size", "63x63", "multiples of"],
        ),
        (
            &["generate", "a dog", "--sampler", "magic"],
            2,
            &["magic", "euler-a"],
        ),
        (&["generate", "a dog", "--steps", "5000"], 1, &["5000"]),
        (
            &["generate", "a dog", "-o", "no/such/out.png"],
            1,
            &["no/such"],
        ),
        (
            &["generate", "a dog", "-o", "out.gif"],
            2,
            &["out.gif", ".png"],
        ),
        (
            &["generate", "a dog", "--device", "tpu"],
            2,
            &["tpu", "cpu"],
        ),
        (&["generate"], 2, &["PROMPT"]),
    ];
    for (args, code, parts) in cases {
        let error = fails(dir, args, *code);
        for part in *parts {
            assert!(error.contains(part), "{args:?}: no {part:?} in:\n{error}");
        }
    }
    for file in ["x.idx", "out.png", "dog.idx"] {
        assert!(!dir.join(file).exists(), "{file} was left behind");
    }
}

/// Configurations that were changed by hand give errors that name the key; none gives a panic.
#[test]
fn damaged_models_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let original = golden("models/sd1-f16");
    let cases: &[(&str, &str, &str, &str)] = &[
        (
            "unet/config.json",
            "\"act_fn\": \"silu\"",
            "\"act_fn\": \"relu\"",
            "act_fn",
        ),
        (
            "unet/config.json",
            "\"norm_num_groups\": 8",
            "\"norm_num_groups\": 0",
            "norm_num_groups",
        ),
        (
            "unet/config.json",
            "\"norm_num_groups\": 8",
            "\"norm_num_groups\": 7",
            "norm_num_groups",
        ),
        (
            "unet/config.json",
            "\"layers_per_block\": 1",
            "\"layers_per_block\": 2",
            "tensor",
        ),
        (
            "unet/config.json",
            "\"layers_per_block\": 1",
            "\"layers_per_block\": -1",
            "layers_per_block",
        ),
        (
            "unet/config.json",
            "\"cross_attention_dim\": 32",
            "\"cross_attention_dim\": 31",
            "expected shape",
        ),
        (
            "unet/config.json",
            "\"attention_head_dim\": 4",
            "\"attention_head_dim\": 5",
            "attention_head_dim",
        ),
        ("unet/config.json", "{", "{\"surprise\": 3, ", "surprise"),
        ("unet/config.json", "{", "[", "unet/config.json"),
        (
            "vae/config.json",
            "\"latent_channels\": 4",
            "\"latent_channels\": 3",
            "tensor",
        ),
        (
            "text_encoder/config.json",
            "quick_gelu",
            "tanh",
            "hidden_act",
        ),
        (
            "text_encoder/config.json",
            "\"num_attention_heads\": 4",
            "\"num_attention_heads\": 3",
            "num_attention_heads",
        ),
        (
            "scheduler/scheduler_config.json",
            "scaled_linear",
            "wavy",
            "beta_schedule",
        ),
    ];
    for (i, (file, from, to, part)) in cases.iter().enumerate() {
        let model = dir.path().join(format!("model{i}"));
        copy(Path::new(&original), &model);
        let path = model.join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let error = fails(
            dir.path(),
            &["generate", "a dog", "--model", model.to_str().unwrap()],
            1,
        );
        assert!(
            error.contains(part),
            "{file}, {to}: no {part:?} in:\n{error}"
        );
    }
    // Weights cut short, and a tensor file that is none.
    let weights = "unet/diffusion_pytorch_model.fp16.safetensors";
    let bytes = std::fs::read(Path::new(&original).join(weights)).unwrap();
    for (i, cut) in [0, 7, 100, bytes.len() / 2, bytes.len() - 1]
        .into_iter()
        .enumerate()
    {
        let model = dir.path().join(format!("cut{i}"));
        copy(Path::new(&original), &model);
        std::fs::write(model.join(weights), &bytes[..cut]).unwrap();
        let error = fails(
            dir.path(),
            &["generate", "a dog", "--model", model.to_str().unwrap()],
            1,
        );
        assert!(error.contains("diffusion_pytorch_model"), "{error}");
    }
}

/// A copy of a folder.
pub(super) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

//! Devices that a build or a machine does not have.

use super::cli::{cones, fails, json};

#[test]
fn devices_that_are_not_there_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |options: &[&str], named: &str| {
        let args = [&["generate"], options, &["a dog"]].concat();
        let message = fails(dir.path(), &args, 2);
        assert!(message.contains(named), "{message}");
    };
    refused(&["--device", "abacus"], "cpu");
    refused(&["--device", "cuda:x"], "cuda");
    refused(&["--dtype", "f16"], "--device");
    if !cfg!(feature = "cuda") {
        refused(&["--device", "cuda"], "--features cuda");
        refused(&["--device", "cuda:1"], "--features cuda");
    }
    if !cfg!(feature = "metal") {
        refused(&["--device", "metal"], "--features metal");
    }
}

/// In bf16 pictures are those of f32 but for rounding, where the processor has the instructions; elsewhere it is
/// refused, and nothing is written.
#[test]
fn bf16_is_for_processors_that_have_it() {
    let dir = tempfile::tempdir().unwrap();
    let draw = |dtype: &str, file: &str| {
        let options = ["--json", "--seed", "3", "--dtype", dtype, "-o", file];
        cones(
            dir.path(),
            &[&["generate", "a photo of a dog in the snow"], &options[..]].concat(),
        )
    };
    let output = draw("bf16", "bf16.png");
    if !output.status.success() {
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(
            message.contains("dtype") && message.contains("AMX"),
            "{message}"
        );
        assert!(!dir.path().join("bf16.png").exists());
        return;
    }
    json(&String::from_utf8(output.stdout).unwrap());
    assert!(draw("f32", "f32.png").status.success());
    let [got, want] =
        ["bf16.png", "f32.png"].map(|file| image::open(dir.path().join(file)).unwrap().to_rgb8());
    let differences = got
        .iter()
        .zip(want.iter())
        .map(|(a, b)| u64::from(a.abs_diff(*b)));
    let mean = differences.sum::<u64>() as f64 / got.len() as f64;
    assert!((1e-3..8.0).contains(&mean), "{mean} of 255");
}

//! `find` says when a model does not know what it is shown.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, helpers and all"
)]

use std::path::Path;

use image::RgbImage;

use super::cli::{cones, json, repository};

/// The error on photos over that on the model's own pictures, and whether there was a warning.
fn found(dir: &Path, noun: &str, photos: &Path) -> (f64, bool) {
    let photos = photos.to_str().unwrap();
    let options = ["--steps", "20", "--force", "--json", "-o", "x.idx"];
    let output = cones(
        dir,
        &[&["find", "--subject", noun, photos], &options[..]].concat(),
    );
    let held_out = &json(&String::from_utf8(output.stdout).unwrap())["held_out"];
    let error = |of: &str| held_out[of].as_f64().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (
        error("photos") / error("own"),
        said.contains("does not know such photos"),
    )
}

#[test]
fn photos_that_a_model_does_not_know_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let noise = dir.path().join("noise");
    std::fs::create_dir(&noise).unwrap();
    for seed in 0..3u32 {
        let value = |i: u32| (i.wrapping_mul(2_654_435_761).wrapping_add(seed * 97) >> 13) as u8;
        let pixel = |x, y| image::Rgb([0, 1, 2].map(|c| value(3 * (64 * y + x) + c)));
        let picture = RgbImage::from_fn(64, 64, pixel);
        picture.save(noise.join(format!("{seed}.png"))).unwrap();
    }
    let (ratio, told) = found(dir.path(), "dog", &noise);
    assert!(told && ratio > 3.0, "{ratio}");
    // A colour that training never saw of an animal that it did.
    let panda = repository().join("examples/pocket/subjects/purple-panda");
    let (ratio, told) = found(dir.path(), "bear", &panda);
    assert!(!told && ratio < 1.5, "{ratio}");
    // None of the shape, either.
    let rose = repository().join("examples/pocket/subjects/rose");
    let (ratio, told) = found(dir.path(), "flower", &rose);
    assert!(told, "{ratio}");
}

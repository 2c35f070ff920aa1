//! What is fetched for a single file, and what is left where the disk has no room for all of it.

use super::*;
use crate::configs::change;
use crate::hub_fetch::{incomplete, starts};
use crate::published;
use crate::single_file::{single, write};

/// A single file whose configuration is another model's: of that one no weights are fetched.
#[test]
fn a_configuration_is_fetched_without_weights() {
    let whole = published::assemble("sd15", &published::cases()["sd15"]);
    // Else it would be drawn at 512 pixels, as diffusers does for so old a version.
    change(whole.path(), "unet/config.json", |map| {
        map.insert("_diffusers_version".to_owned(), "0.30.0".into());
    });
    let hub = Hub::start(files_of(whole.path()), |_, reply| reply);
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let tensors = single(whole.path(), "sd1");
    let file = dir.join("m.safetensors");
    write(&file, &tensors, candle_core::DType::F32, &[]);
    let draw = |config: &str, more: &[&str]| {
        let model = ["generate", "--model", "m.safetensors", "--config", config];
        let few = ["--steps", "1", "--no-metadata", "a dog"];
        let output = command(&hub, dir, &[&model[..], &few, more].concat());
        { output }.output().unwrap()
    };
    let output = draw(ID, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("--download"), "{}", text(&output));
    assert_eq!(hub.count(), 0);
    let output = draw(ID, &["--download"]);
    assert!(output.status.success(), "{}", text(&output));
    let picture = std::fs::read(dir.join("out.png")).unwrap();
    let weights = |path: &str| path.ends_with(".safetensors");
    let hubs = hub.hub.requests();
    assert!(hubs.len() > 5 && !hubs.iter().any(|request| weights(&request.path)));
    assert_eq!(hub.cdn.requests().len(), 0);

    let before = hub.count();
    assert!(draw(whole.path().to_str().unwrap(), &[]).status.success());
    assert!(std::fs::read(dir.join("out.png")).unwrap() == picture);
    // It is here now.
    assert!(draw(ID, &[]).status.success());
    assert!(std::fs::read(dir.join("out.png")).unwrap() == picture);
    assert_eq!(hub.count(), before);
}

/// As a disk that fills up: the error says so, and the next run asks for the rest only.
#[test]
fn a_full_disk_keeps_what_has_come() {
    let hub = Hub::start(files(), |_, reply| reply);
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let size = files()[UNET].len() as u64;
    let line = DRAW.map(|argument| format!("'{argument}'")).join(" ");
    let script = format!(
        "ulimit -f {}; exec '{}' {line}",
        size / 2048, // of 1024 bytes
        env!("CARGO_BIN_EXE_cones")
    );
    let mut limited = within(&command(&hub, dir, &[]), "bash");
    let output = limited.args(["-c", &script]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    for part in ["the disk is full, or the limit for files", "make room"] {
        assert!(text(&output).contains(part), "{}", text(&output));
    }
    let part = std::fs::metadata(incomplete(&dir.join("hub"), UNET)).unwrap();
    assert!((1..size).contains(&part.len()), "{} of {size}", part.len());
    let output = command(&hub, dir, &DRAW).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(starts(&hub), [None, Some(part.len())]);
}

//! Hub ids, of models that lie in the hub's cache as its own tools put them there.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output};

use super::cli::golden;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A cache with a model under `main`, `v1` and its commit.
fn cached(home: &Path, id: &str, model: &str) {
    let repo = home.join(format!("hub/models--{}", id.replace('/', "--")));
    let snapshot = repo.join("snapshots").join(COMMIT);
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(repo.join("refs")).unwrap();
    for name in ["main", "v1"] {
        std::fs::write(repo.join("refs").join(name), COMMIT).unwrap();
    }
    for entry in std::fs::read_dir(golden(model)).unwrap() {
        let entry = entry.unwrap();
        std::os::unix::fs::symlink(entry.path(), snapshot.join(entry.file_name())).unwrap();
    }
    let index = snapshot.join("model_index.json");
    if !index.exists() {
        std::fs::write(index, "{}").unwrap();
    }
}

fn cones(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cones"));
    let command = command.args(args).current_dir(dir).env("HF_HOME", dir);
    command.env_remove("CONES_MODEL").output().unwrap()
}

#[test]
fn models_and_encoders_in_the_cache_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    cached(dir, "owner/tiny", "models/sd1-f32");
    cached(dir, "owner/clip", "clip/new");
    let draw = |model: &str| {
        let args = [
            "generate",
            "--model",
            model,
            "--steps",
            "1",
            "--no-metadata",
            "a dog",
        ];
        let output = cones(dir, &args);
        assert!(output.status.success(), "{output:?}");
        std::fs::read(dir.join("out.png")).unwrap()
    };
    let expected = draw(&golden("models/sd1-f32"));
    for revision in ["", "@main", "@v1", &format!("@{COMMIT}")] {
        assert!(
            draw(&format!("owner/tiny{revision}")) == expected,
            "{revision}"
        );
    }
    let (photos, class) = (golden("photos/subject"), golden("photos/class"));
    let mut find = vec!["find", "--model", "owner/tiny", "--subject", "dog"];
    find.extend(["--steps", "1", &photos]);
    assert!(cones(dir, &find).status.success());
    let mut eval = vec!["eval", "dog.idx", "--model", "owner/tiny", "--json"];
    eval.extend(["--encoder", "owner/clip", "--images", &photos]);
    eval.extend(["--class-images", &class, "--count", "1", "--steps", "1"]);
    eval.extend(["--loss-draws", "0"]);
    let report = String::from_utf8(cones(dir, &eval).stdout).unwrap();
    assert!(report.contains("owner/clip"), "{report}");
}

#[test]
fn what_is_not_in_the_cache_is_to_be_fetched_first() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    cached(dir, "owner/tiny", "models/sd1-f32");
    for (model, hint) in [
        ("owner/other", "hf download owner/other`"),
        ("owner/tiny@v2", "hf download owner/tiny --revision v2`"),
        ("owner/tiny@../../../..", "hf download"),
        ("owner/../tiny", "pass `pocket`"),
    ] {
        let output = cones(dir, &["generate", "--model", model, "a dog"]);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains(hint), "{message}");
    }
    assert!(!dir.join("out.png").exists());
}

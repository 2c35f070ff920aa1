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
    for name in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"] {
        command.env_remove(name);
    }
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
    // A commit needs no branch that is it.
    let refs = dir.join("hub/models--owner--tiny/refs");
    std::fs::rename(&refs, dir.join("refs")).unwrap();
    assert!(draw(&format!("owner/tiny@{COMMIT}")) == expected);
    std::fs::rename(dir.join("refs"), &refs).unwrap();
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

#[test]
fn where_the_cache_is() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    cached(dir, "owner/tiny", "models/sd1-f32");
    let home = dir.join("home/.cache");
    std::fs::create_dir_all(&home).unwrap();
    std::os::unix::fs::symlink(dir, home.join("huggingface")).unwrap();
    let path = |part: &str| dir.join(part).display().to_string();
    let rows: [(&[(&str, String)], bool); 9] = [
        (
            &[("HF_HOME", "$HERE/".to_owned()), ("HERE", path(""))],
            true,
        ),
        (&[("HF_HUB_CACHE", path("hub"))], true),
        (&[("HUGGINGFACE_HUB_CACHE", path("hub"))], true),
        (&[("HF_HOME", path("")), ("HOME", path("nowhere"))], true),
        (&[("XDG_CACHE_HOME", path("home/.cache"))], true),
        (&[("HOME", path("home"))], true),
        (
            &[
                ("HF_HOME", "~/.cache/huggingface".to_owned()),
                ("HOME", path("home")),
            ],
            true,
        ),
        (
            &[("HF_HUB_CACHE", path("other")), ("HF_HOME", path(""))],
            false,
        ),
        (
            &[("HF_HOME", String::new()), ("HOME", path("nowhere"))],
            false,
        ),
    ];
    for (variables, found) in rows {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cones"));
        let command = command.args(["generate", "--model", "owner/tiny", "--steps", "1", "a dog"]);
        for name in [
            "HF_HUB_CACHE",
            "HUGGINGFACE_HUB_CACHE",
            "HF_HOME",
            "XDG_CACHE_HOME",
            "HOME",
            "CONES_MODEL",
        ] {
            command.env_remove(name);
        }
        let output = command
            .envs(variables.iter().cloned())
            .current_dir(dir)
            .output()
            .unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            output.status.code(),
            Some(i32::from(!found)),
            "{variables:?}: {message}"
        );
        assert!(
            found || message.contains("not in the hub's cache on this machine"),
            "{message}"
        );
    }
}

/// A user who is not in the system's list has no home at all, which only root can try.
#[test]
fn a_user_without_a_home() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let open = std::fs::Permissions::from_mode(0o777); // for the picture, which is looked at first
    std::fs::set_permissions(dir.path(), open).unwrap();
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid",
        "4242",
        "--regid",
        "4242",
        "--clear-groups",
        "env",
        "-u",
        "HOME",
        "-u",
        "HF_HOME",
    ]);
    command.args([
        "-u",
        "XDG_CACHE_HOME",
        "-u",
        "HF_HUB_CACHE",
        env!("CARGO_BIN_EXE_cones"),
        "generate",
        "x",
    ]);
    let Ok(output) = command
        .args(["--model", "owner/name"])
        .current_dir(dir.path())
        .output()
    else {
        return; // no such program
    };
    let message = String::from_utf8(output.stderr).unwrap();
    if message.contains("setpriv") || message.contains("Permission denied") {
        return; // not root, or the program lies where that user cannot reach it
    }
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(
        message.contains("no home folder") && message.contains("set HF_HOME"),
        "{message}"
    );
}

#[test]
fn references_that_lead_out_of_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    cached(dir, "owner/tiny", "models/sd1-f32");
    let refs = dir.join("hub/models--owner--tiny/refs");
    let outside = golden("models/sd1-f32");
    let up = format!("{}{}", "../".repeat(40), outside.trim_start_matches('/'));
    let long = "x".repeat(1 << 20);
    for text in [
        outside.as_str(),
        &up,
        "../snapshots/0123",
        "",
        "main",
        ".",
        "..",
        "0123",
        &long,
        "\u{1b}[2J",
        "a/b",
    ] {
        std::fs::write(refs.join("main"), text).unwrap();
        let output = cones(dir, &["generate", "--model", "owner/tiny", "a dog"]);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text:.40}: {message}");
        assert!(
            message.contains("refs/main: expected the commit that the revision is"),
            "{message}"
        );
        assert!(
            message.contains("hf download owner/tiny")
                && message.len() < 1000
                && !message.contains('\u{1b}')
        );
    }
    std::fs::write(refs.join("main"), format!("{COMMIT}\n")).unwrap();
    let fine = ["generate", "--model", "owner/tiny", "--steps", "1", "a dog"];
    assert!(cones(dir, &fine).status.success());
    for revision in ["/etc/passwd", "../refs/main", "a/../../refs/main", "."] {
        let model = format!("owner/tiny@{revision}");
        let output = cones(dir, &["generate", "--model", &model, "a dog"]);
        assert_eq!(output.status.code(), Some(1), "{revision}");
    }
}

//! What the commands say: counts, warnings, hints, reports.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::cli::{cones, fails, find_learned, json, ok};
use crate::outputs::ready;

#[test]
fn one_of_a_thing_is_one() {
    let dir = ready();
    let dir = dir.path();
    let texts = [
        ok(
            dir,
            &[
                "find",
                "--subject",
                "dog",
                "--steps",
                "1",
                "--batch",
                "1",
                "p/0.png",
            ],
        ),
        ok(
            dir,
            &[
                "find",
                "--subject",
                "dog",
                "--steps",
                "1",
                "--batch",
                "1",
                "--dry-run",
                "p/0.png",
            ],
        ),
        ok(dir, &["generate", "dog", "--steps", "1", "--dry-run"]),
        ok(
            dir,
            &[
                "merge",
                "a.idx",
                "--tune",
                "1",
                "--images",
                "dog=p/0.png",
                "-o",
                "t.idx",
                "--dry-run",
            ],
        ),
        String::from_utf8(
            cones(
                dir,
                &[
                    "eval",
                    "a.idx",
                    "--images",
                    "p/0.png",
                    "--count",
                    "1",
                    "--steps",
                    "1",
                    "--loss-draws",
                    "0",
                ],
            )
            .stdout,
        )
        .unwrap(),
        fails(dir, &["find", "--subject", "dog", "--seed", "2", "p"], 1),
    ];
    for text in &texts {
        for wrong in [
            "1 steps",
            "1 photos",
            "1 pictures",
            "1 prompts",
            "1 neurons",
        ] {
            let wrong_alone = text
                .match_indices(wrong)
                .any(|(at, _)| !text[..at].ends_with(|c: char| c.is_ascii_digit() || c == ','));
            assert!(!wrong_alone, "{text}");
        }
    }
    for (text, part) in texts.iter().zip([
        "1 step in",
        "1 step of",
        "1 picture, 1 step",
        "1 step",
        "1 photo; 1 picture",
        "1 picture,",
    ]) {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}

#[test]
fn reports_say_what_is_needed_elsewhere() {
    let dir = ready();
    let dir = dir.path();
    ok(
        dir,
        &[
            "find",
            "--subject",
            "dog",
            "--method",
            "paper",
            "--steps",
            "1",
            "--class-images",
            "q",
            "-o",
            "w.idx",
            "p",
        ],
    );
    for (index, scope) in [("a.idx", "words"), ("w.idx", "prompt")] {
        let text = ok(dir, &["inspect", index]);
        assert!(text.contains(&format!("scope        {scope}")), "{text}");
        assert_eq!(
            json(&ok(dir, &["inspect", index, "--json"]))["indices"][0]["scope"],
            scope
        );
    }
    let drawn = json(&ok(
        dir,
        &[
            "generate",
            "dog",
            "--steps",
            "1",
            "--concepts",
            "a.idx",
            "--size",
            "64x32",
            "--json",
        ],
    ));
    assert_eq!(drawn["size"], "64x32");
    assert_eq!(drawn["model"], "pocket");
    assert_eq!(drawn["concepts"][0]["index"], "a.idx");
    assert_eq!(drawn["concepts"][0]["sha256"].as_str().unwrap().len(), 64);
}

#[test]
fn warnings_of_what_a_model_does_not_know() {
    let dir = ready();
    let dir = dir.path();
    let said = |args: &[&str]| {
        let output = cones(dir, args);
        String::from_utf8(output.stderr).unwrap()
    };
    for (noun, known) in [
        ("dog", true),
        ("Dog", true),
        ("cup", true),
        ("person", false),
        ("owl", false),
        ("sks", false),
    ] {
        let text = said(&[
            "find",
            "--subject",
            noun,
            "--steps",
            "1",
            "--batch",
            "1",
            "--force",
            "p",
        ]);
        assert_eq!(
            text.matches("dog, cat, bear").count(),
            usize::from(!known),
            "{noun}: {text}"
        );
    }
    let owl = find_learned(dir, "owl", "1", &[]);
    assert_eq!(owl["subject"], "owl");
    for (size, far) in [
        ("64", false),
        ("96", false),
        ("64x96", false),
        ("48", false),
        ("128", true),
        ("64x512", true),
        ("32", true),
    ] {
        let text = said(&["generate", "dog", "--size", size, "--dry-run"]);
        assert_eq!(text.contains("64x64"), far, "{size}: {text}");
    }
}

/// More threads than there can be are an error, whoever asks for them. That a user may have no more is tried as a user
/// with none but these, so by tests that run as root alone.
#[test]
fn threads_that_cannot_be_are_an_error() {
    let dir = ready();
    let dir = dir.path();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).unwrap();
    let root = fs::metadata(dir).unwrap().uid() == 0;
    let few = "cannot start";
    for (limit, before, command, code, part) in [
        ("3", "", "generate dog --steps 1 --threads 8", 1, few),
        (
            "3",
            "",
            "find --subject dog --steps 1 --threads 8 p",
            1,
            few,
        ),
        ("3", "", "eval a.idx --images p --threads 8", 1, few),
        (
            "3",
            "",
            "merge a.idx --tune 1 --images dog=p -o t.idx --threads 8",
            1,
            few,
        ),
        ("3", "RAYON_NUM_THREADS=8", "generate dog --steps 1", 1, few),
        ("1", "", "generate dog --steps 1", 1, few),
        ("3", "RAYON_NUM_THREADS=8", "inspect a.idx", 0, ""),
        (
            "",
            "RAYON_NUM_THREADS=100000",
            "generate dog --steps 1",
            1,
            "RAYON_NUM_THREADS",
        ),
        ("", "RAYON_NUM_THREADS=x", "generate dog --steps 1", 0, ""),
        (
            "",
            "",
            "generate dog --steps 1 --threads 100000",
            2,
            "--threads",
        ),
        ("", "", "generate dog --steps 1 --threads 0", 2, "--threads"),
    ] {
        let limited = match limit {
            "" => String::new(),
            most => format!("ulimit -u {most};"),
        };
        let cones = env!("CARGO_BIN_EXE_cones");
        let script = format!("{limited} {before} exec '{cones}' {command}");
        let mut shell = Command::new("bash");
        shell.args(["-c", &script]).current_dir(dir);
        match (limit, root) {
            ("", _) => {}
            (_, false) => continue,
            (_, true) => drop(shell.uid(64_321).gid(64_321)),
        }
        let output = shell.output().unwrap();
        if output.status.code() == Some(126) {
            continue; // the other user cannot see this build
        }
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{script}: {error}");
        assert!(
            error.contains(part) && !error.contains("panicked"),
            "{script}: {error}"
        );
    }
}

#[test]
fn hints_name_options_that_are_there() {
    let dir = ready();
    let dir = dir.path();
    let other = crate::cli::golden("models/sd1-f32");
    let photos = "dog=p";
    let tune = [
        "merge", "a.idx", "--tune", "1", "--images", photos, "-o", "t.idx", "--model", &other,
    ];
    let error = fails(dir, &tune, 1);
    assert!(
        error.contains("give that model") && !error.contains("--force"),
        "{error}"
    );
    let error = fails(
        dir,
        &["generate", "dog", "--concepts", "a.idx", "--model", &other],
        1,
    );
    assert!(error.contains("--force"), "{error}");
}

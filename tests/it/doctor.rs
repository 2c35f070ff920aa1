//! Manners: the doctor, completions and manual pages, variables of the environment, errors as JSON; crops of photos.

use crate::cli::{cones, fails, golden, json, ok, program};
use crate::outputs::ready;

#[test]
fn the_doctor_says_what_there_is_and_how_long_it_takes() {
    let dir = tempfile::tempdir().unwrap();
    let text = ok(dir.path(), &["doctor"]);
    for part in [
        "version",
        "device     cpu",
        "memory",
        "cache",
        "hub",
        "model      pocket: 64x64 pixels",
        "a picture of",
        "125 steps",
        "of memory",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    let report = json(&ok(
        dir.path(),
        &[
            "doctor",
            "--json",
            "--threads",
            "1",
            "--model",
            &golden("models/sd2-f16"),
        ],
    ));
    assert_eq!(
        (&report["threads"], &report["prediction"]),
        (&1.into(), &"v".into())
    );
    for key in [
        "seconds_per_sampling_step",
        "seconds_per_find_step",
        "memory_bytes",
        "free_memory_bytes",
        "find_memory_bytes",
        "cores",
    ] {
        assert!(report[key].as_f64().unwrap() > 0.0, "{key}");
    }
    let [find, step, sampling] = [
        "seconds_per_find",
        "seconds_per_find_step",
        "seconds_per_sampling_step",
    ]
    .map(|key| report[key].as_f64().unwrap());
    // The steps, then two pictures of ten steps and 64 passes, to see whether the model knows the photos.
    let expected = 125.0 * step + (2 * 10 + 64 / 2) as f64 * sampling;
    assert!((find / expected - 1.0).abs() < 1e-6, "{report}");
}

#[test]
fn shells_and_man_are_told_of_every_command() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = ok(dir.path(), &["completions", shell]);
        for word in ["generate", "attend-excite", "export", "doctor"] {
            assert!(text.contains(word), "{shell}: no {word}");
        }
    }
    let page = ok(dir.path(), &["man"]);
    assert!(
        page.starts_with(".ie") || page.contains(".TH cones"),
        "{page}"
    );
    let page = ok(dir.path(), &["man", "find"]);
    assert!(
        page.contains("cones-find") && page.contains("subject"),
        "{page}"
    );
    let error = fails(dir.path(), &["man", "fly"], 1);
    assert!(error.contains("`fly`"), "{error}");
}

#[test]
fn variables_say_where_to_compute_and_keep() {
    let dir = tempfile::tempdir().unwrap();
    let run = |name: &str, value: &str, args: &[&str]| {
        let mut command = program(dir.path());
        let output = command.args(args).env(name, value).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let (code, _, error) = run("CONES_DEVICE", "toaster", &["doctor"]);
    assert!(code == Some(2) && error.contains("expected cpu"), "{error}");
    let (code, _, error) = run("CONES_DTYPE", "f16", &["doctor"]);
    assert!(code == Some(2) && error.contains("--dtype"), "{error}");
    let (code, text, _) = run("CONES_CACHE", "/nowhere/at/all", &["doctor"]);
    assert!(
        code == Some(0) && text.contains("/nowhere/at/all, which is not there yet"),
        "{text}"
    );
}

#[test]
fn errors_are_json_where_results_are() {
    let dir = ready();
    let dir = dir.path();
    let cases: &[(&[&str], i32, &str, bool)] = &[
        (&["inspect", "none.idx", "--json"], 1, "none.idx", false),
        (&["generate", "<lora:x:1>", "--json"], 1, "<lora:x:1>", true),
        // What is wrong with the command line: said by clap, by a value, by us, and of a picture's own options.
        (&["--json"], 2, "subcommand", true),
        (
            &["generate", "--json", "dog", "--stepps=3"],
            2,
            "'--stepps' found",
            true,
        ),
        (&["find", "--json"], 2, "--subject <NOUN>", true),
        (
            &["find", "p", "--json", "--subject", "\u{1b}[2J\n"],
            2,
            "expected a word",
            true,
        ),
        (
            &["generate", "dog", "--json", "-o", "x.gif"],
            2,
            "found `x.gif`",
            true,
        ),
        (
            &["generate", "--from", "none.png", "--json"],
            1,
            "none.png",
            false,
        ),
    ];
    for &(args, code, part, hint) in cases {
        let output = cones(dir, args);
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        let said = json(&String::from_utf8(output.stdout).unwrap());
        let message = said["error"]["message"].as_str().unwrap();
        let causes = said["error"]["causes"].to_string();
        let told = cones::escaped(message);
        assert!(told.contains(part) || causes.contains(part), "{said}");
        assert_eq!(message.lines().count(), 1, "{said}");
        assert_eq!(said["error"]["hint"].is_string(), hint, "{said}");
        assert!(
            String::from_utf8(output.stderr)
                .unwrap()
                .contains("error: ")
        );
    }
    for args in [
        &["inspect", "none.idx"][..],
        &["generate", "--stepps"],
        &["generate", "--stepps", "--", "--json"],
    ] {
        assert!(cones(dir, args).stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn crops_are_what_the_model_sees() {
    let dir = ready();
    let dir = dir.path();
    ok(
        dir,
        &[
            "find",
            "--subject",
            "dog",
            "--dry-run",
            "--force",
            "--crops",
            "seen",
            "p",
        ],
    );
    let mut crops: Vec<_> = std::fs::read_dir(dir.join("seen"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    crops.sort();
    let photos = std::fs::read_dir(dir.join("p")).unwrap().count();
    assert_eq!(crops.len(), photos);
    for crop in crops {
        let picture = image::open(&crop).unwrap();
        assert_eq!(
            (picture.width(), picture.height()),
            (64, 64),
            "{}",
            crop.display()
        );
    }
    std::fs::write(dir.join("file"), b"x").unwrap();
    let error = fails(
        dir,
        &[
            "find",
            "--subject",
            "dog",
            "--dry-run",
            "--force",
            "--crops",
            "file",
            "p",
        ],
        1,
    );
    assert!(error.contains("--crops"), "{error}");
}

//! How the commands treat what people type.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use crate::cli::{cones, fails, find_learned, json, ok};
use crate::outputs::ready;

#[test]
fn concepts_are_files_whatever_their_names() {
    let dir = ready();
    let dir = dir.path();
    fs::copy(dir.join("a.idx"), dir.join("my dog, v2.idx")).unwrap();
    fs::copy(dir.join("b.idx"), dir.join("cat, black, old.idx")).unwrap();
    let draw = |extra: &[&str]| {
        let args = ["generate", "a photo", "--steps", "1", "--json"];
        json(&ok(dir, &[&args[..], extra].concat()))
    };
    for concepts in [
        &["--concepts", "a.idx,b.idx"][..],
        &["--concepts", "a.idx, b.idx"],
        &["--concepts", " a.idx ,b.idx "],
        &["--concepts", "a.idx", "--concepts", "b.idx"],
        &["--concepts", "my dog, v2.idx,b.idx"],
        &["--concepts", "my dog, v2.idx", "--concepts", "b.idx"],
        &["--concepts", "my dog, v2.idx, cat, black, old.idx"],
        &["--concepts", "a.idx,cat, black, old.idx"],
    ] {
        let drawn = draw(concepts);
        assert_eq!(
            drawn["prompt"], "a photo of a sks dog and a zwx cat",
            "{concepts:?}"
        );
        assert_eq!(drawn["concepts"].as_array().unwrap().len(), 2);
    }
    for (wrong, part) in [
        ("a.idx,no.idx", "no.idx"),
        ("a.idx b.idx", "a.idx b.idx"),
        ("no, v2.idx", "`no`"),
    ] {
        let error = fails(dir, &["generate", "dog", "--concepts", wrong], 1);
        assert!(error.contains(part), "{error}");
    }
    for wrong in ["", "a.idx,", ",", " , "] {
        let error = fails(dir, &["generate", "dog", "--concepts", wrong], 2);
        assert!(error.contains("--concepts"), "{error}");
    }
}

#[test]
fn a_seed_of_minus_one_is_drawn_and_told() {
    let dir = ready();
    let dir = dir.path();
    let draw = |seed: &str, output: &str| {
        let args = [
            "generate", "a dog", "--steps", "1", "--json", "--seed", seed, "-o", output,
        ];
        let output = cones(dir, &args);
        let report = json(&String::from_utf8(output.stdout).unwrap());
        (
            report["images"][0]["seed"].as_u64().unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (first, told) = draw("-1", "first.png");
    assert!(told.contains(&format!("seed {first}")), "{told}");
    assert_ne!(draw("-1", "second.png").0, first);
    draw(&first.to_string(), "again.png");
    assert_eq!(
        fs::read(dir.join("first.png")).unwrap(),
        fs::read(dir.join("again.png")).unwrap()
    );
    let find = [
        "find",
        "--subject",
        "dog",
        "--steps",
        "1",
        "--batch",
        "1",
        "--json",
        "--seed=-1",
        "p",
    ];
    let found = json(&ok(dir, &find));
    let inspected = json(&ok(dir, &["inspect", "dog.idx", "--json"]));
    assert_eq!(inspected["indices"][0]["seed"], found["seed"]);
    for wrong in ["-2", "x", "1.5"] {
        let error = fails(dir, &["generate", "dog", "--seed", wrong], 2);
        assert!(error.contains("-1"), "{error}");
    }
}

#[test]
fn names_of_pictures_are_as_given() {
    let dir = ready();
    let dir = dir.path();
    for (output, count, names) in [
        ("X.PNG", "1", &["X.PNG"][..]),
        ("x.Png", "2", &["x-0.Png", "x-1.Png"]),
        ("a.b.png", "1", &["a.b.png"]),
        (".hidden.png", "1", &[".hidden.png"]),
        ("with space.png", "1", &["with space.png"]),
        ("p/../up.png", "1", &["up.png"]),
    ] {
        ok(
            dir,
            &[
                "generate", "dog", "--steps", "1", "-o", output, "--count", count,
            ],
        );
        for name in names {
            image::load_from_memory(&fs::read(dir.join(name)).unwrap()).unwrap();
        }
    }
    for wrong in ["x.jpg", "x.webp", "x", "png", ".png", "x.png.txt"] {
        let error = fails(dir, &["generate", "dog", "-o", wrong], 2);
        assert!(error.contains(".png"), "{error}");
        let error = fails(
            dir,
            &["eval", "a.idx", "--images", "p", "--sheet", wrong],
            2,
        );
        assert!(error.contains("--sheet"), "{error}");
    }
}

#[test]
fn a_noun_is_no_path() {
    let dir = ready();
    let dir = dir.path();
    fs::create_dir(dir.join("in")).unwrap();
    for noun in ["../x", "/tmp/x", "cat/dog", "x/", "..", ".hidden", "c:\\x"] {
        let error = fails(&dir.join("in"), &["find", "--subject", noun, "../p"], 2);
        assert!(
            error.contains("--subject") && error.contains("--output"),
            "{error}"
        );
    }
    assert_eq!(fs::read_dir(dir.join("in")).unwrap().count(), 0);
}

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
    assert_eq!(
        (&drawn["width"], &drawn["height"]),
        (&64.into(), &32.into())
    );
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

#[test]
fn articles_fit_in_the_prompts_of_find() {
    let dir = tempfile::tempdir().unwrap();
    for (noun, token, prompts) in [
        (
            "dog",
            "sks",
            r#"["a photo of a sks dog","a photo of a dog"]"#,
        ),
        (
            "owl",
            "sks",
            r#"["a photo of a sks owl","a photo of an owl"]"#,
        ),
        (
            "dog",
            "ohwx",
            r#"["a photo of an ohwx dog","a photo of a dog"]"#,
        ),
        (
            "Elephant",
            "a",
            r#"["a photo of an a Elephant","a photo of an Elephant"]"#,
        ),
        (
            "ice cream",
            "zwx",
            r#"["a photo of a zwx ice cream","a photo of an ice cream"]"#,
        ),
    ] {
        find_learned(
            dir.path(),
            noun,
            "1",
            &["--token", token, "-o", "x.idx", "--steps", "1"],
        );
        let bytes = fs::read(dir.path().join("x.idx")).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header = json(std::str::from_utf8(&bytes[8..8 + length]).unwrap());
        assert_eq!(header["__metadata__"]["prompts"], prompts);
    }
}

/// More threads than there can be are an error, whoever asks for them.
#[cfg(target_os = "linux")]
#[test]
fn threads_that_cannot_be_are_an_error() {
    let dir = ready();
    let dir = dir.path();
    for (script, code, part) in [
        (
            "ulimit -v 600000; exec CONES generate dog --steps 1 --threads 1000",
            1,
            "cannot start 1000 threads",
        ),
        (
            "ulimit -v 600000; RAYON_NUM_THREADS=1000 exec CONES generate dog --steps 1",
            1,
            "cannot start 1000 threads",
        ),
        (
            "RAYON_NUM_THREADS=100000 exec CONES generate dog --steps 1",
            1,
            "RAYON_NUM_THREADS",
        ),
        (
            "exec CONES generate dog --steps 1 --threads 100000",
            2,
            "--threads",
        ),
        (
            "exec CONES generate dog --steps 1 --threads 0",
            2,
            "--threads",
        ),
        (
            "ulimit -v 600000; RAYON_NUM_THREADS=1000 exec CONES inspect a.idx",
            0,
            "",
        ),
        (
            "RAYON_NUM_THREADS=x exec CONES generate dog --steps 1",
            0,
            "",
        ),
    ] {
        let script = script.replace("CONES", &format!("'{}'", env!("CARGO_BIN_EXE_cones")));
        let output = std::process::Command::new("bash")
            .args(["-c", &script])
            .current_dir(dir)
            .output()
            .unwrap();
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

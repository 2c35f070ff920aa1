//! Prompts on the command line: weights, files, chunks, what is refused; and how far a concept is shut.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::cli::{cones, fails, json, ok, program};
use crate::outputs::ready;

const QUICK: [&str; 4] = ["--steps", "1", "--size", "16"];

fn drawn(dir: &Path, args: &[&str]) -> Value {
    let args = [&["generate", "--json"], args, &QUICK].concat();
    json(&ok(dir, &args))
}

#[test]
fn weights_change_the_picture_and_are_told() {
    let dir = ready();
    let dir = dir.path();
    let picture = |prompt: &str, more: &[&str]| {
        let report = drawn(dir, &[&[prompt], more].concat());
        (
            std::fs::read(dir.join("out.png")).unwrap(),
            report["prompt"].as_str().unwrap().to_owned(),
        )
    };
    let (plain, _) = picture("a dog in the snow", &["--no-metadata"]);
    for (prompt, used, more) in [
        (
            "a (dog:1.6) in the snow",
            "a (dog:1.6) in the snow",
            &[][..],
        ),
        ("a ((dog)) in the snow", "a (dog:1.21) in the snow", &[]),
        ("a (dog:1.6)", "a (sks dog:1.6)", &["--concepts", "a.idx"]),
        (r"a \(dog\)", r"a \(dog\)", &[]),
        ("a (dog)", r"a \(dog\)", &["--no-weights"]),
    ] {
        let (bytes, said) = picture(prompt, &[more, &["--no-metadata"]].concat());
        assert_eq!(said, used, "{prompt}");
        assert_ne!(bytes, plain, "{prompt}");
    }
    let (same, said) = picture("a (dog:1.0) in the snow", &["--no-metadata"]);
    assert_eq!((same, said.as_str()), (plain, "a dog in the snow"));
}

#[test]
fn what_a_prompt_names_and_is_not_read_is_refused() {
    let dir = ready();
    let dir = dir.path();
    for (prompt, part) in [
        (
            "a dog <lora:foo:0.8>",
            "`<lora:foo:0.8>`: a LoRA is not read",
        ),
        ("<hypernet:x>", "hypernetwork"),
        ("embedding:easynegative, a dog", "`embedding:easynegative`"),
        ("a (dog:1.2.3)", "`1.2.3`"),
    ] {
        let error = fails(dir, &["generate", prompt], 1);
        assert!(error.contains(part), "{prompt}: {error}");
        ok(
            dir,
            &[&["generate", prompt, "--no-weights"], &QUICK[..]].concat(),
        );
    }
}

#[test]
fn every_prompt_of_a_file_is_drawn_with_every_seed() {
    let dir = ready();
    let dir = dir.path();
    let text = "# scenes\n\na dog\n  a (cat:1.2)  \n";
    std::fs::write(dir.join("scenes.txt"), text).unwrap();
    let two = ["--count", "2", "--seed", "3", "-o", "x.png"];
    let report = drawn(dir, &[&["--prompts", "scenes.txt"], &two[..]].concat());
    let images: Vec<(&str, u64, &str)> = report["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| {
            let text = |key: &str| image[key].as_str().unwrap();
            (
                text("path"),
                image["seed"].as_u64().unwrap(),
                text("prompt"),
            )
        })
        .collect();
    assert_eq!(
        images,
        [
            ("x-1-3.png", 3, "a dog"),
            ("x-1-4.png", 4, "a dog"),
            ("x-2-3.png", 3, "a (cat:1.2)"),
            ("x-2-4.png", 4, "a (cat:1.2)"),
        ]
    );
    // Each is the picture of its prompt and seed alone.
    drawn(dir, &["a (cat:1.2)", "--seed", "4", "-o", "y.png"]);
    let bytes = |name: &str| std::fs::read(dir.join(name)).unwrap();
    assert_eq!(bytes("x-2-4.png"), bytes("y.png"));
    // The same from stdin.
    let mut child = program(dir)
        .args(["generate", "-", "-o", "z.png", "-q"])
        .args(QUICK)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"a (cat:1.2)\n")
        .unwrap();
    assert!(child.wait().unwrap().success());
    std::fs::write(dir.join("none.txt"), "# nothing\n").unwrap();
    let error = fails(dir, &["generate", "--prompts", "none.txt"], 1);
    assert!(error.contains("found none"), "{error}");
    fails(dir, &["generate"], 2);
    fails(dir, &["generate", "a dog", "--prompts", "scenes.txt"], 2);
}

#[test]
fn what_does_not_fit_is_cut_and_told_or_comes_in_chunks() {
    let dir = ready();
    let dir = dir.path();
    let long = "a red dog, ".repeat(40) + "a green cat in the snow";
    let run = |more: &[&str]| {
        let args = [&["generate", &long, "--no-metadata"], more, &QUICK].concat();
        let output = cones(dir, &args);
        assert!(output.status.success());
        (
            String::from_utf8(output.stderr).unwrap(),
            std::fs::read(dir.join("out.png")).unwrap(),
        )
    };
    let (said, cut) = run(&[]);
    assert!(
        said.contains("a green cat in the snow\"; --long-prompt"),
        "{said}"
    );
    let (said, whole) = run(&["--long-prompt"]);
    assert!(!said.contains("cut"), "{said}");
    assert_ne!(cut, whole);
    // A prompt that fits is the same either way.
    let fits = |more: &[&str]| {
        drawn(dir, &[&["a dog", "--no-metadata"], more].concat());
        std::fs::read(dir.join("out.png")).unwrap()
    };
    assert_eq!(fits(&[]), fits(&["--long-prompt"]));
}

#[test]
fn strength_goes_from_nothing_to_shut() {
    let dir = ready();
    let dir = dir.path();
    for index in ["a.idx", "b.idx"] {
        let draw = |more: &[&str]| {
            let args = [
                &["a sks dog and a zwx cat", "--raw-prompt", "--no-metadata"],
                more,
            ]
            .concat();
            drawn(dir, &args);
            std::fs::read(dir.join("out.png")).unwrap()
        };
        let with = |strength| draw(&["--concepts", index, "--strength", strength]);
        let shut = draw(&["--concepts", index]);
        assert_eq!(with("0"), draw(&[]), "{index}");
        assert_eq!(with("1"), shut, "{index}");
        let half = with("0.5");
        assert!(half != shut && half != with("0"), "{index}");
    }
    for wrong in ["-1", "1.5", "x"] {
        let strength = format!("--strength={wrong}");
        let error = fails(
            dir,
            &["generate", "dog", "--concepts", "a.idx", &strength],
            2,
        );
        assert!(error.contains("a number from 0 to 1"), "{error}");
    }
    fails(dir, &["generate", "dog", "--strength", "0.5"], 2);
}

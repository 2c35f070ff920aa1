//! Names of files, nouns and seeds, as people type them.
#![cfg(unix)]

use std::fs;

use crate::cli::{cones, fails, find_learned, json, ok};
use crate::outputs::{photos, ready};

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
    for wrong in ["x.gif", "x", "png", ".png", "x.png.txt"] {
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
        find_learned(dir.path(), noun, "1", &["--token", token]);
        let bytes = fs::read(dir.path().join(format!("{noun}.idx"))).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header = json(std::str::from_utf8(&bytes[8..8 + length]).unwrap());
        assert_eq!(header["__metadata__"]["prompts"], prompts);
    }
}

/// Names that an option had before are still taken, and are not in the help.
#[test]
fn former_names_of_options_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    for (command, now, before) in [
        ("generate", "--negative-prompt", "--negative"),
        ("generate", "--guidance-scale", "--guidance"),
        ("eval", "--guidance-scale", "--guidance"),
        ("find", "--learning-rate", "--rate"),
        ("find", "--importance-sampling", "--accelerated"),
        ("merge", "--learning-rate", "--rate"),
        ("merge", "--dense", "--all-positions"),
    ] {
        let help = ok(dir.path(), &[command, "--help"]);
        let names: Vec<&str> = help.split([' ', '\n']).collect();
        assert!(
            names.contains(&now) && !names.contains(&before),
            "{command} {now}"
        );
    }
    let draw = |options: [&str; 4], file: &str| {
        let args = [
            &[
                "generate",
                "a dog",
                "--steps",
                "2",
                "--no-metadata",
                "-o",
                file,
            ],
            &options[..],
        ]
        .concat();
        ok(dir.path(), &args);
        std::fs::read(dir.path().join(file)).unwrap()
    };
    let now = draw(
        ["--negative-prompt", "blue", "--guidance-scale", "3"],
        "now.png",
    );
    assert_eq!(
        now,
        draw(["--negative", "blue", "--guidance", "3"], "before.png")
    );
}

#[test]
fn another_subject_of_a_noun_takes_the_next_token() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let subjects = ["poodle", "blue-guide-dog", "green-tabby", "koala", "rose"];
    for (name, folder) in subjects.iter().zip(["p", "q", "r", "s", "t"]) {
        photos(dir, name, folder);
    }
    let find = |photos: &str, output: &str| {
        let command =
            format!("find --subject dog --steps 1 --batch 1 -o {output} --force --json {photos}");
        cones(dir, &command.split(' ').collect::<Vec<_>>())
    };
    let token = |photos: &str, output: &str| {
        let found = find(photos, output);
        let said = String::from_utf8(found.stderr).unwrap();
        assert!(found.status.success(), "{said}");
        let report = json(&String::from_utf8(found.stdout).unwrap());
        (report["token"].as_str().unwrap().to_owned(), said)
    };
    // What cannot be read and what is of another noun takes none.
    fs::write(dir.join("broken.idx"), "x").unwrap();
    find_learned(dir, "cat", "1", &[]);
    assert_eq!(token("p", "a.idx").0, "sks");
    let (second, said) = token("q", "b.idx");
    assert_eq!(second, "zwx");
    assert!(
        said.contains("this is `zwx dog`: `a.idx` has other photos of a `sks dog`"),
        "{said}"
    );
    // Photos of the same subject keep its token, whatever else is found of them.
    assert_eq!(token("p", "a2.idx").0, "sks");
    assert_eq!(token("q", "b2.idx").0, "zwx");
    // The file that is written does not count.
    assert_eq!(token("q", "b.idx").0, "zwx");
    assert_eq!(token("r", "c.idx").0, "ohwx");
    assert_eq!(token("s", "d.idx").0, "qev");
    let error = String::from_utf8(find("t", "e.idx").stderr).unwrap();
    assert!(
        error.contains("--token") && error.contains("sks, zwx, ohwx, qev"),
        "{error}"
    );
    assert!(!dir.join("e.idx").exists());
}

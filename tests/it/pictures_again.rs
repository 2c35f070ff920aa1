//! Pictures that say how they were drawn, and are drawn again; other formats, sizes and sheets of them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use crate::cli::{fails, golden, json, ok};
use crate::outputs::ready;

const QUICK: [&str; 4] = ["--steps", "2", "--size", "32x16"];

fn bytes(dir: &Path, name: &str) -> Vec<u8> {
    fs::read(dir.join(name)).unwrap()
}

/// Whatever a picture was drawn with, `--from` gives the same bytes; and an option beside it is changed alone.
#[test]
fn a_picture_is_drawn_again_from_what_it_says() {
    let dir = ready();
    let dir = dir.path();
    let photo = fs::read_dir(dir.join("p"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let photo = photo.to_str().unwrap();
    let long = "a red dog, ".repeat(20);
    let rows: &[(&[&str], &[&str])] = &[
        (&["a dog"], &[]),
        (
            &[
                "a (dog:1.3) \\(x\\)",
                "--negative-prompt",
                "(blue:0.5), bad",
                "--guidance-scale",
                "3.25",
            ],
            &[],
        ),
        (
            &[
                "a (dog)",
                "--no-weights",
                "--seed",
                "7",
                "--sampler",
                "euler-a",
            ],
            &[],
        ),
        (
            &["a photo", "--concepts", "a.idx,b.idx", "--strength", "0.75"],
            &[],
        ),
        (
            &[
                "a photo",
                "--concepts",
                "a.idx",
                "--layers",
                "up_blocks.*",
                "--zoom",
                "3",
            ],
            &[],
        ),
        (
            &["a dog", "--init", photo, "--init-strength", "0.5"],
            &["--init", photo],
        ),
        (&[&long, "--long-prompt", "--raw-prompt"], &[]),
        (&["--", "-dog"], &[]),
    ];
    for (n, (args, again)) in rows.iter().enumerate() {
        for ending in ["png", "webp", "jpg"]
            .iter()
            .take(if n < 2 { 3 } else { 1 })
        {
            let (first, second) = (format!("x{n}.{ending}"), format!("y{n}.{ending}"));
            ok(
                dir,
                &[&["generate", "-o", &first], &QUICK[..], args].concat(),
            );
            ok(
                dir,
                &[&["generate", "--from", &first, "-o", &second][..], again].concat(),
            );
            assert_eq!(bytes(dir, &first), bytes(dir, &second), "{args:?} {ending}");
        }
    }
    ok(
        dir,
        &["generate", "--from", "x3.png", "--seed", "5", "-o", "z.png"],
    );
    ok(
        dir,
        &[
            &[
                "generate",
                "a photo",
                "--concepts",
                "a.idx,b.idx",
                "--strength",
                "0.75",
                "--seed",
                "5",
                "-o",
                "w.png",
            ],
            &QUICK[..],
        ]
        .concat(),
    );
    assert_eq!(bytes(dir, "z.png"), bytes(dir, "w.png"));
    ok(
        dir,
        &["generate", "--from", "x0.png", "a cat", "-o", "z.png"],
    );
    ok(
        dir,
        &[&["generate", "a cat", "-o", "w.png"], &QUICK[..]].concat(),
    );
    assert_eq!(bytes(dir, "z.png"), bytes(dir, "w.png"));

    // What is not there any more is asked for.
    for (args, part) in [
        (&["--from", "x5.png"][..], "give it with --init"),
        (
            &["--from", "x0.png", "-o", "x0.png"],
            "is one of the files that are read",
        ),
        (&["--from", "none.png"], "none.png"),
        (&["--from", photo], "says how `cones` drew it"),
    ] {
        let error = fails(dir, &[&["generate"], args].concat(), 1);
        assert!(error.contains(part), "{args:?}: {error}");
    }
    fs::rename(dir.join("b.idx"), dir.join("c.idx")).unwrap();
    let error = fails(dir, &["generate", "--from", "x3.png"], 1);
    assert!(
        error.contains("`b.idx`") && error.contains("--concepts"),
        "{error}"
    );
    let sd = golden("models/sd1-f32");
    ok(
        dir,
        &[
            "generate", "a dog", "--model", &sd, "--steps", "1", "-o", "sd.png",
        ],
    );
    let error = fails(dir, &["generate", "--from", "sd.png", "-o", "t.png"], 1);
    assert!(
        error.contains("sd1-f32") && error.contains("--model"),
        "{error}"
    );
    ok(
        dir,
        &[
            "generate", "--from", "sd.png", "--model", &sd, "-o", "t.png",
        ],
    );
    assert_eq!(bytes(dir, "sd.png"), bytes(dir, "t.png"));
}

#[test]
fn inspect_says_what_a_picture_says() {
    let dir = ready();
    let dir = dir.path();
    for name in ["a.png", "b.webp", "c.jpg"] {
        ok(
            dir,
            &[
                &["generate", "a (dog:1.3)", "--concepts", "a.idx", "-o", name],
                &QUICK[..],
            ]
            .concat(),
        );
        let text = ok(dir, &["inspect", name]);
        for part in ["a (sks dog:1.3)", "a@", "dpm++2m", "32", "pocket"] {
            assert!(text.contains(part), "{name}: no {part} in {text}");
        }
        let said = &json(&ok(dir, &["inspect", name, "a.idx", "--json"]));
        assert_eq!(said["pictures"][0]["cones"]["steps"], 2);
        assert_eq!(said["indices"][0]["index"], "a.idx");
        let parameters = said["pictures"][0]["parameters"].as_str().unwrap();
        for part in [
            "a (sks dog:1.3)\nSteps: 2, Sampler: DPM++ 2M, CFG scale: ",
            "Size: 32x16, Model: pocket",
            "Seed: 0",
        ] {
            assert!(
                parameters.contains(part),
                "{name}: no {part} in {parameters}"
            );
        }
    }
    ok(
        dir,
        &[&["generate", "a dog", "--no-metadata"], &QUICK[..]].concat(),
    );
    assert!(ok(dir, &["inspect", "out.png"]).contains("says nothing"));
}

#[test]
fn a_single_files_hash_is_in_its_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (model, config) = super::export::single_file(dir, "sd15", "sd1");
    let hash = cones::file_sha256(Path::new(&model)).unwrap();
    let config = config.path().to_str().unwrap();
    ok(
        dir,
        &[
            "generate", "a dog", "--model", &model, "--config", config, "--steps", "1", "--size",
            "64",
        ],
    );
    let said = json(&ok(dir, &["inspect", "out.png", "--json"]));
    let parameters = said["pictures"][0]["parameters"].as_str().unwrap();
    assert!(
        parameters.contains(&format!("Model hash: {}, Model: sd15", &hash[..10])),
        "{parameters}"
    );
}

#[test]
fn pictures_are_enlarged_shown_and_put_on_a_sheet() {
    let dir = ready();
    let dir = dir.path();
    fs::write(dir.join("two.txt"), "a dog\na cat\n").unwrap();
    let args = [
        "generate",
        "--prompts",
        "two.txt",
        "--count",
        "3",
        "--seed",
        "9",
        "--grid",
        "--preview",
        "1",
        "-o",
        "x.png",
    ];
    let report = json(&ok(dir, &[&args[..], &["--json"], &QUICK].concat()));
    assert_eq!(report["grid"], "x-grid.png");
    assert!(
        !dir.join("x-1-9-preview.png").exists(),
        "previews go when the picture is there"
    );
    let size = |name: &str| {
        image::load_from_memory(&bytes(dir, name))
            .unwrap()
            .into_rgb8()
    };
    let grid = size("x-grid.png");
    assert!(
        grid.width() > 3 * 128 && grid.height() > 2 * 64,
        "{:?}",
        grid.dimensions()
    );
    // The labels are black on white, and nothing is written over them.
    let black = grid
        .enumerate_pixels()
        .filter(|(x, y, p)| p.0 == [0; 3] && (*y < 14 || *x < 12));
    assert!(black.count() > 50);
    let small = size("x-1-9.png");
    ok(
        dir,
        &[
            &[
                "generate", "a dog", "--seed", "9", "--zoom", "4", "-o", "z.png",
            ],
            &QUICK[..],
        ]
        .concat(),
    );
    let large = size("z.png");
    assert_eq!(large.dimensions(), (128, 64));
    assert!(
        large
            .enumerate_pixels()
            .all(|(x, y, pixel)| small.get_pixel(x / 4, y / 4) == pixel)
    );
    fails(dir, &["generate", "a dog", "--zoom", "0"], 2);
    let error = fails(dir, &["generate", "a dog", "--count", "2000", "--grid"], 1);
    assert!(error.contains("--grid: expected at most"), "{error}");
}

/// A chosen seed draws what it draws without a choice; which ones are chosen depends on the prompt alone.
#[test]
fn the_best_of_several_seeds_is_drawn() {
    let dir = ready();
    let dir = dir.path();
    let drawn = |extra: &[&str]| {
        let args = [
            "generate",
            "a photo",
            "--concepts",
            "a.idx,b.idx",
            "--steps",
            "4",
            "--json",
        ];
        let report = json(&ok(dir, &[&args[..], extra].concat()));
        let pictures = report["images"].as_array().unwrap().clone();
        let one = |picture: &serde_json::Value| {
            let path = picture["path"].as_str().unwrap().to_owned();
            (path, picture["seed"].as_u64().unwrap())
        };
        pictures.iter().map(one).collect::<Vec<_>>()
    };
    let several = drawn(&[
        "--seed",
        "10",
        "--best-of",
        "3",
        "--count",
        "3",
        "-o",
        "x.png",
    ]);
    assert_eq!(several.len(), 3);
    for ((path, seed), first) in several.iter().zip([10, 13, 16]) {
        assert!((first..first + 3).contains(seed), "{several:?}");
        assert_eq!(*path, format!("x-{seed}.png"));
        drawn(&["--seed", &seed.to_string(), "-o", "again.png"]);
        assert_eq!(bytes(dir, path), bytes(dir, "again.png"));
    }
    // Not always the first, or the last.
    assert!(
        several
            .iter()
            .zip([10, 13, 16])
            .any(|((_, seed), first)| *seed != first)
    );
    assert!(
        several
            .iter()
            .zip([12, 15, 18])
            .any(|((_, seed), last)| *seed != last)
    );
    let one = drawn(&["--seed", "10", "--best-of", "3", "-o", "y.png"]);
    assert_eq!(one, [("y.png".to_owned(), several[0].1)]);
    let files = fs::read_dir(dir).unwrap().filter(|file| {
        let name = file.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with(['x', 'y'])
    });
    assert_eq!(files.count(), 4);
    for (wrong, code, part) in [
        (&["a dog", "--best-of", "2"][..], 2, "--concepts"),
        (
            &["a dog", "--best-of", "1", "--concepts", "a.idx"],
            2,
            "--best-of",
        ),
        (
            &[
                "a park",
                "--raw-prompt",
                "--best-of",
                "2",
                "--concepts",
                "a.idx",
            ],
            1,
            "`sks dog`",
        ),
    ] {
        let error = fails(dir, &[&["generate"], wrong].concat(), code);
        assert!(error.contains(part), "{error}");
    }
}

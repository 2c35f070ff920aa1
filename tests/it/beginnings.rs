//! Pictures that begin with another, and pictures on their way.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use crate::cli::{cones, fails, ok};
use crate::outputs::ready;

fn bytes(dir: &Path, name: &str) -> Vec<u8> {
    fs::read(dir.join(name)).unwrap()
}

/// The last preview is near the picture; it is there while the picture is not.
#[test]
fn previews_come_near_the_picture() {
    let dir = ready();
    let dir = dir.path();
    // A folder in the way of the picture's own name is made only when drawing has begun, so that the preview stays.
    let args = [
        "generate",
        "a dog in the snow",
        "--steps",
        "10",
        "--preview",
        "3",
        "--sampler",
    ];
    for sampler in ["ddim", "euler", "dpm++2m"] {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_cones"))
            .args(args)
            .args([
                sampler,
                "-q",
                "--threads",
                "1",
                "-o",
                &format!("{}.png", &sampler[..3]),
            ])
            .current_dir(dir)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let (preview, picture) = (
            format!("{}-preview.png", &sampler[..3]),
            format!("{}.png", &sampler[..3]),
        );
        let mut last = None;
        while child.try_wait().unwrap().is_none() {
            last = fs::read(dir.join(&preview)).ok().or(last);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let last = image::load_from_memory(&last.expect("a preview was seen"))
            .unwrap()
            .into_rgb8();
        let done = image::load_from_memory(&bytes(dir, &picture))
            .unwrap()
            .into_rgb8();
        let apart = last
            .iter()
            .zip(done.iter())
            .map(|(a, b)| f64::from(a.abs_diff(*b)));
        let apart = apart.sum::<f64>() / done.len() as f64;
        assert!(apart < 12.0, "{sampler}: {apart} of 255 on average");
    }
}

#[test]
fn a_picture_to_begin_with_shows_through() {
    let dir = ready();
    let dir = dir.path();
    ok(
        dir,
        &[
            "generate",
            "a dog in the snow",
            "--seed",
            "3",
            "-o",
            "first.png",
        ],
    );
    let read = |name: &str| {
        image::load_from_memory(&bytes(dir, name))
            .unwrap()
            .into_rgb8()
    };
    let first = read("first.png");
    let mut apart = Vec::new();
    for strength in ["0.2", "0.5", "0.9"] {
        ok(
            dir,
            &[
                "generate",
                "a cat on the beach",
                "--init",
                "first.png",
                "--init-strength",
                strength,
            ],
        );
        let gaps = read("out.png")
            .iter()
            .zip(first.iter())
            .map(|(a, b)| u64::from(a.abs_diff(*b)))
            .collect::<Vec<_>>();
        apart.push(gaps.iter().sum::<u64>());
    }
    assert!(apart.is_sorted() && apart[0] < apart[2], "{apart:?}");
    for (args, code, part) in [
        (&["--init-strength", "0.5"][..], 2, "--init"),
        (&["--init", "no.png"], 1, "no.png"),
        (
            &["--init", "first.png", "--init-strength", "0"],
            1,
            "strength",
        ),
        (
            &["--init", "first.png", "-o", "first.png"],
            1,
            "is one of the files that are read",
        ),
    ] {
        let error = fails(dir, &[&["generate", "a dog"], args].concat(), code);
        assert!(error.contains(part), "{args:?}: {error}");
    }
    let output = cones(
        dir,
        &[
            "generate",
            "a dog",
            "--init",
            "first.png",
            "--sampler",
            "pndm",
            "--steps",
            "4",
        ],
    );
    assert!(!output.status.success() || dir.join("out.png").exists());
}

//! What a browser shows of a page; where one is installed.

use std::path::Path;
use std::process::Command;

use super::{COLOURS, DRAWN, between, plot, run};
use crate::cli::find_scored;

/// A headless browser; none where none is installed.
fn browser() -> Option<&'static str> {
    let folders = std::env::var("PATH").unwrap_or_default();
    let installed = |name: &&str| {
        folders
            .split(':')
            .any(|folder| Path::new(folder).join(name).exists())
    };
    let found = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| installed(name));
    if found.is_none() {
        eprintln!("skipped: no `chromium` here (apt-get install chromium)");
    }
    found
}

/// What a browser shows of a page in a window of this size.
fn screenshot(browser: &str, page: &Path, (width, height): (u32, u32)) -> image::RgbImage {
    let file = page.with_extension("png");
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
        ])
        .arg("--force-device-scale-factor=1")
        .arg(format!(
            "--user-data-dir={}",
            page.with_extension("profile").display()
        ))
        .arg(format!("--window-size={width},{height}"))
        .arg(format!("--screenshot={}", file.display()))
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    image::open(file)
        .unwrap_or_else(|error| panic!("{error}: {stderr}"))
        .into_rgb8()
}

fn count(picture: &image::RgbImage, colour: [u8; 3]) -> usize {
    let near = |pixel: &&image::Rgb<u8>| pixel.0.iter().zip(colour).all(|(a, b)| a.abs_diff(b) < 6);
    picture.pixels().filter(near).count()
}

/// The arms of a plot of which a browser shows nothing, looking at the plot alone.
fn unseen(browser: &str, dir: &Path, page: &str, id: &str, plot: &str) -> Vec<&'static str> {
    let style = between(page, "<style>", "</style>").unwrap();
    let alone = format!(
        "<!DOCTYPE html><style>{style}</style><figure class=\"plot\"><svg id=\"{id}\"{plot}</svg></figure>"
    );
    let file = dir.join("alone.html");
    std::fs::write(&file, alone).unwrap();
    let shown = screenshot(browser, &file, (500, 400));
    let empty =
        |(arm, colour): (&'static str, [u8; 3])| (count(&shown, colour) < 20).then_some(arm);
    COLOURS.into_iter().filter_map(empty).collect()
}

#[test]
fn a_browser_shows_every_plot() {
    let Some(browser) = browser() else { return };
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    find_scored(dir, "2%");
    let sweep = ["--scores", "dog.scores", "--sweep", "1%,5%,20%"];
    let (_, swept) = run(dir, &["dog.idx"], &sweep);
    let (_, page) = run(dir, &["dog.idx"], &[]);
    for metric in DRAWN {
        let id = format!("plot-{metric}");
        let marks = plot(&page, &id);
        // Only likeness and class are measured of photos.
        let without: &[&str] = match metric {
            "clip_i" | "class_margin" => &[],
            _ => &["photos"],
        };
        assert_eq!(unseen(browser, dir, &page, &id, marks), without, "{id}");
        let id = format!("plot-dose-{metric}");
        assert_eq!(
            unseen(browser, dir, &swept, &id, plot(&swept, &id)),
            ["photos"],
            "{id}"
        );
    }
    // An empty plot is seen: the axis alone is none.
    let id = "plot-clip_i";
    let marks = plot(&page, id);
    let bare = marks.split("<g ").next().unwrap();
    assert!(bare.contains("grid"));
    assert_eq!(unseen(browser, dir, &page, id, bare).len(), COLOURS.len());

    // On a phone nothing sticks out to the right, and the plots are there.
    let phone = screenshot(browser, &dir.join("page.html"), (390, 6000));
    for (arm, colour) in COLOURS {
        assert!(count(&phone, colour) > 50, "{arm}");
    }
    let edge = phone
        .enumerate_pixels()
        .filter(|(x, _, pixel)| *x > 384 && pixel.0 != [255; 3]);
    assert_eq!(edge.count(), 0);
}

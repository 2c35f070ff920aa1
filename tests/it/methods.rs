//! Learned concepts, tuned merges and `cones eval`, as a user runs them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;

use super::cli::{fails, find, golden, json, ok, repository};

fn losses(report: &Value) -> Vec<f64> {
    let steps = report["steps"].as_array().unwrap();
    steps.iter().map(|s| s["loss"].as_f64().unwrap()).collect()
}

#[test]
fn a_learned_concept_is_within_its_density_and_repeatable() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let learned = |density: &str| {
        let extra = ["--method", "learned", "--batch", "2", "--density", density];
        let report = find(dir, "dog", "1", &extra);
        (report, std::fs::read(dir.join("dog.idx")).unwrap())
    };
    let (first, bytes) = learned("2%");
    assert_eq!(first["method"], "learned");
    let density = first["density"].as_f64().unwrap();
    assert!(density > 0.0 && density <= 0.02, "{density}");
    assert_eq!(losses(&first).len(), 3);
    assert_eq!(learned("2%").1, bytes);
    assert!(learned("100%").0["shut"].as_u64() > first["shut"].as_u64());
}

#[test]
fn options_of_one_method_are_refused_for_the_other() {
    let dir = tempfile::tempdir().unwrap();
    for (option, value) in [
        ("--rho", "1"),
        ("--threshold", "0.1"),
        ("--until-stable", "50%"),
        ("--sites", "all"),
    ] {
        let args = [
            "find",
            "--subject",
            "dog",
            "--method",
            "learned",
            option,
            value,
            "photos",
        ];
        let message = fails(dir.path(), &args, 2);
        assert!(
            message.contains(option) && message.contains("--method"),
            "{message}"
        );
    }
}

#[test]
fn the_paper_method_stops_when_it_is_stable() {
    let dir = tempfile::tempdir().unwrap();
    let (model, photos, class) = (
        golden("models/sd1-f32"),
        golden("photos/subject"),
        golden("photos/class"),
    );
    let mut args = vec!["find", "--json", "--subject", "dog", "--model", &model];
    args.extend(["--class-images", &class, "--steps", "60"]);
    args.extend(["--until-stable", "1%", &photos]);
    let report = json(&ok(dir.path(), &args));
    assert_eq!(
        losses(&report).len(),
        20,
        "the first look is after 20 steps"
    );
    let stability = &report["stability"];
    let shared = stability["shared"].as_f64().unwrap();
    assert!((0.01..=1.0).contains(&shared), "{shared}");
    assert!(stability["by_chance"].as_f64().unwrap() < 0.2);
}

#[test]
fn a_tuned_merge_keeps_its_neurons_and_lowers_the_loss() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (model, photos) = (golden("models/sd1-f32"), golden("photos/subject"));
    find(dir, "dog", "1", &["--density", "20%"]);
    find(dir, "cat", "2", &["--density", "20%"]);
    let merge = |steps: &str, extra: &[&str]| {
        let images = [format!("dog={photos}"), format!("sks cat={photos}")];
        let mut args = vec![
            "merge", "dog.idx", "cat.idx", "-o", "pair.idx", "--json", "--model", &model,
        ];
        args.extend([
            "--tune",
            steps,
            "--batch",
            "2",
            "--class-count",
            "2",
            "--rate",
            "0.1",
        ]);
        args.extend(images.iter().flat_map(|i| ["--images", i]));
        args.extend(extra);
        json(&ok(dir, &args))
    };
    let tuned = merge("30", &[]);
    assert_eq!(tuned["tuned"], true);
    assert!(tuned["bytes"].as_u64() > tuned["bytes_untuned"].as_u64());
    // Each loss is of other noise: compare tenths of the run, with a clear margin from the first.
    let losses = losses(&tuned);
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    assert!(mean(&losses[20..]) < mean(&losses[..10]), "{losses:?}");
    let inspected = json(&ok(dir, &["inspect", "pair.idx", "--json"]));
    assert_eq!(inspected["indices"][0]["shut"], tuned["shut"]);
    ok(
        dir,
        &[
            "generate",
            "--model",
            &model,
            "--concepts",
            "pair.idx",
            "--steps",
            "2",
            "a photo",
        ],
    );

    let dense = merge("1", &["--all-positions"]);
    let inspected = json(&ok(dir, &["inspect", "pair.idx", "--json"]));
    assert_eq!(inspected["indices"][0]["shut"], dense["total"]);

    let missing = format!("dog={photos}");
    let args = [
        "merge", "dog.idx", "cat.idx", "-o", "x.idx", "--model", &model, "--tune", "1", "--images",
        &missing,
    ];
    let message = fails(dir, &args, 1);
    assert!(message.contains("--images cat=DIR"), "{message}");
    assert!(!dir.join("x.idx").exists());
}

#[test]
fn eval_measures_a_concept_against_plain_and_random() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let photos = repository().join("examples/pocket/subjects/blue-guide-dog");
    let photos = photos.display().to_string();
    ok(
        dir,
        &[
            "find",
            "--subject",
            "dog",
            "--steps",
            "4",
            "--class-images",
            &photos,
            "--scores",
            "s.safetensors",
            &photos,
        ],
    );
    let common = [
        "--images",
        &photos,
        "--count",
        "2",
        "--steps",
        "2",
        "--loss-draws",
        "2",
        "--class-images",
        &photos,
        "--json",
    ];
    let mut args = vec!["eval", "dog.idx", "--sheet", "sheet.png"];
    args.extend(common);
    let report = json(&ok(dir, &args));
    assert!(dir.join("sheet.png").is_file());
    assert!(
        report["encoder"].is_object() && report.to_string().contains("clip_i"),
        "{report}"
    );
    args = vec![
        "eval",
        "dog.idx",
        "--scores",
        "s.safetensors",
        "--sweep",
        "1%,5%",
    ];
    args.extend(common);
    let report = json(&ok(dir, &args));
    assert!(report.to_string().contains("0.05"), "{report}");
}

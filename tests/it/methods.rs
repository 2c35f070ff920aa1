//! Learned concepts, tuned merges and `cones eval`, as a user runs them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;

use cones::index::{NeuronIndex, NeuronSet, Site};
use serde_json::Value;

use super::cli::{answer, fails, find, find_learned, golden, json, ok, repository};

/// The shape and the neurons of every site, by name.
type Sets = BTreeMap<String, ([u32; 2], Vec<u32>)>;

fn sets(dir: &Path, index: &str) -> Sets {
    let index = NeuronIndex::read(&dir.join(index)).unwrap();
    let site = |(site, set): (&Site, &NeuronSet)| {
        (site.to_string(), (set.shape(), set.indices().to_vec()))
    };
    index.sites().map(site).collect()
}

fn losses(report: &Value) -> Vec<f64> {
    let steps = report["steps"].as_array().unwrap();
    steps.iter().map(|s| s["loss"].as_f64().unwrap()).collect()
}

#[test]
fn a_learned_concept_is_within_its_density_and_repeatable() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let learned = |density: &str| {
        let report = find_learned(dir, "dog", "1", &["--batch", "2", "--density", density]);
        (report, std::fs::read(dir.join("dog.idx")).unwrap())
    };
    let (first, bytes) = learned("2%");
    assert_eq!(
        (&first["method"], &first["scope"]),
        (&"learned".into(), &"words".into())
    );
    let density = first["density"].as_f64().unwrap();
    assert!(density > 0.0 && density <= 0.02, "{density}");
    assert_eq!(losses(&first).len(), 3);
    assert_eq!(learned("2%").1, bytes);
    let threads = ["--batch", "2", "--density", "2%", "--threads", "3"];
    find_learned(dir, "dog", "1", &threads);
    let again = std::fs::read(dir.join("dog.idx")).unwrap();
    assert_eq!(again, bytes, "threads make no difference");
    assert!(learned("100%").0["shut"].as_u64() > first["shut"].as_u64());
    let class = golden("photos/class");
    let whole = ["--scope", "prompt", "--class-images", &class];
    let whole = find_learned(dir, "dog", "1", &whole);
    assert_eq!(whole["scope"], "prompt");
}

/// What is shut at the subject's words changes nothing where these are not, and two subjects do not meet.
#[test]
fn words_bind_what_is_shut() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let model = golden("models/sd1-f32");
    for (noun, seed) in [("dog", "1"), ("cat", "2")] {
        let few = ["--batch", "2", "--rate", "0.5"];
        find_learned(dir, noun, seed, &few);
    }
    ok(dir, &["merge", "dog.idx", "cat.idx", "-o", "pair.idx"]);
    let draw = |concepts: &str, prompt: &str| {
        let mut args = vec!["generate", "--model", &model, "--steps", "2"];
        args.extend(["--raw-prompt", "--no-metadata", prompt]);
        if !concepts.is_empty() {
            args.extend(["--concepts", concepts]);
        }
        ok(dir, &args);
        std::fs::read(dir.join("out.png")).unwrap()
    };
    let (dog, both) = ("a photo of a sks dog", "a sks dog and a sks cat");
    let steps = ["generate", "--model", &model, "--steps", "2"];
    let threads = ["--threads", "3", "--no-metadata", dog];
    ok(dir, &[&steps[..], &threads].concat());
    let drawn = std::fs::read(dir.join("out.png")).unwrap();
    assert_eq!(draw("", dog), drawn, "threads make no difference");
    assert_ne!(draw("dog.idx", dog), draw("", dog));
    assert_eq!(
        draw("dog.idx", "a photo of a dog"),
        draw("", "a photo of a dog")
    );
    assert_eq!(draw("pair.idx", dog), draw("dog.idx", dog));
    assert_eq!(draw("pair.idx", both), draw("dog.idx,cat.idx", both));
    assert_ne!(draw("pair.idx", both), draw("dog.idx", both));

    let whole = ["--density", "20%"];
    find(dir, "hat", "3", &whole);
    let message = fails(dir, &["merge", "dog.idx", "hat.idx", "-o", "x.idx"], 1);
    assert!(message.contains("--concepts"), "{message}");
    assert_ne!(draw("dog.idx,hat.idx", dog), draw("dog.idx", dog));
    assert_eq!(draw("dog.idx,hat.idx", dog), draw("hat.idx,dog.idx", dog));
}

#[test]
fn options_of_one_method_are_refused_for_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |options: &[&str], named: &[&str]| {
        let args = [&["find", "--subject", "dog"], options, &["photos"]].concat();
        let message = fails(dir.path(), &args, 2);
        assert!(named.iter().all(|n| message.contains(n)), "{message}");
    };
    for (option, value) in [
        ("--rho", "1"),
        ("--threshold", "0.1"),
        ("--until-stable", "50%"),
        ("--sites", "all"),
    ] {
        refused(&["--scope", "prompt", option, value], &[option, "--method"]);
    }
    for (option, value) in [
        ("--sites", "all"),
        ("--class-images", "photos"),
        ("--class-count", "3"),
        ("--prior-weight", "1"),
    ] {
        refused(&[option, value], &[option, "--scope"]);
    }
    for other in [
        ["--method", "paper"],
        ["--scope", "prompt"],
        ["--sites", "cross:v"],
    ] {
        let options = [&["--key-reach", "20%"][..], &other].concat();
        refused(&options, &["--key-reach", other[0]]);
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
    let mut args = vec!["find", "--json", "--method", "paper", "--subject", "dog"];
    args.extend(["--model", &model]);
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
            "merge", "dog.idx", "cat.idx", "-o", "pair.idx", "--json", "--force", "--model", &model,
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
    ok(dir, &["merge", "dog.idx", "cat.idx", "-o", "union.idx"]);
    let (union, values) = (sets(dir, "union.idx"), sets(dir, "pair.idx"));
    assert_eq!(values, union);
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

    merge("1", &["--all-positions"]);
    let every = |(site, (shape, _)): (&String, &([u32; 2], Vec<u32>))| {
        let all = (0..shape[0] * shape[1]).collect();
        (site.clone(), (*shape, all))
    };
    let dense: Sets = union.iter().map(every).collect();
    assert_eq!(sets(dir, "pair.idx"), dense);

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
            "--method",
            "paper",
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
    let report = json(&answer(dir, &args).0);
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
    let doses = report["doses"].as_array().unwrap();
    let asked: Vec<f64> = doses
        .iter()
        .map(|d| d["asked_density"].as_f64().unwrap())
        .collect();
    assert_eq!(asked, [0.01, 0.05]);
    for (dose, asked) in doses.iter().zip(asked) {
        let [shut, total, density] =
            ["shut", "total", "density"].map(|key| dose[key].as_f64().unwrap());
        assert_eq!(density, shut / total);
        assert!((density - asked).abs() < 1e-3, "{density} {asked}");
    }
}

/// Importance sampling has the expectation of even sampling: with other noise it comes to the same scores.
#[test]
fn accelerated_scores_are_those_of_algorithm_1() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let scores = |steps: &str, seed: &str, extra: &[&str]| -> Vec<f64> {
        let file = format!("{steps}.{seed}.{}.scores", extra.len());
        let (model, photos) = (golden("models/sd1-f32"), golden("photos/subject"));
        let class = golden("photos/class");
        let mut args = vec![
            "find",
            "--subject",
            "dog",
            "--method",
            "paper",
            "--force",
            &photos,
        ];
        args.extend([
            "--model",
            &model,
            "--class-images",
            &class,
            "--scores",
            &file,
        ]);
        args.extend(["--steps", steps, "--seed", seed]);
        args.extend(extra);
        ok(dir, &args);
        let bytes = std::fs::read(dir.join(file)).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut names = tensors.names();
        names.sort();
        let numbers = names
            .iter()
            .flat_map(|name| tensors.tensor(name).unwrap().data().chunks(4));
        let number = |b: &[u8]| f64::from(f32::from_le_bytes(b.try_into().unwrap()));
        numbers.map(number).collect()
    };
    let likeness = |a: &[f64], b: &[f64]| {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    };
    let published = scores("300", "1000", &[]);
    let accelerated = scores("150", "5000", &["--accelerated"]);
    let size = |x: &[f64]| x.iter().map(|v| v * v).sum::<f64>().sqrt();
    assert!(likeness(&published, &accelerated) > 0.99);
    let ratio = size(&accelerated) / size(&published);
    assert!((0.95..1.05).contains(&ratio), "{ratio}");
}

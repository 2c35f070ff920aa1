//! `--memory` and `--dry-run`: less memory, the same numbers, and nothing begun that cannot be finished.

use super::cli::{cones, fails, find_learned, golden, json, ok};

#[test]
fn layers_that_are_computed_twice_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (sites, model) in [
        ("all", "sd1-f32"),
        ("self", "sd1-f32"),
        ("cross", "sd2-f16"),
    ] {
        let model = golden(&format!("models/{model}"));
        let (photos, class) = (golden("photos/subject"), golden("photos/class"));
        let run = |output: &str, extra: &[&str]| {
            let mut args = vec!["find", "--json", "--subject", "dog", "--method", "paper"];
            args.extend(["--model", &model, "--class-images", &class, "--steps", "2"]);
            args.extend([
                "--rho", "0.1", "--sites", sites, "--force", "-o", output, &photos,
            ]);
            args.extend(extra);
            cones(dir, &args)
        };
        assert!(run("all.idx", &[]).status.success());
        // Asks for one byte less than is needed, until nothing is left to compute twice: first what products give,
        // then whole layers.
        let (mut budget, mut layers) = (u64::MAX, 0);
        loop {
            let memory = (budget - 1).to_string();
            let output = run("none.idx", &["--dry-run", "--memory", &memory]);
            if !output.status.success() {
                break;
            }
            let report = json(&String::from_utf8(output.stdout).unwrap());
            let needed = report["memory_bytes"].as_u64().unwrap();
            let recomputed = report["recomputed_layers"].as_u64().unwrap();
            assert!(needed < budget, "{report}");
            assert!(recomputed > layers || layers == 0, "{report}");
            (budget, layers) = (needed, recomputed);
        }
        assert!(layers > 0);
        let least = run("least.idx", &["--memory", &budget.to_string()]);
        assert!(least.status.success());
        let bytes = |name: &str| std::fs::read(dir.join(name)).unwrap();
        assert!(bytes("all.idx") == bytes("least.idx"), "{sites}");
        assert!(!dir.join("none.idx").exists());
    }
}

#[test]
fn too_little_memory_is_refused_before_anything_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let photos = golden("photos/subject");
    let args = [
        "find",
        "--subject",
        "dog",
        "--method",
        "paper",
        "--memory",
        "1MB",
        &photos,
    ];
    let message = fails(dir, &args, 1);
    assert!(message.contains("memory: expected at least"), "{message}");
    assert!(message.contains("found 0.001 GB"), "{message}");
    let message = fails(dir, &["generate", "--memory", "2M", "a dog"], 1);
    assert!(message.contains("memory: expected at least"), "{message}");
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), 0);
    for memory in ["0", "-1", "six", "1XB", "inf"] {
        let option = format!("--memory={memory}");
        let message = fails(dir, &["generate", &option, "a dog"], 2);
        assert!(message.contains("amount of memory"), "{message}");
    }
}

#[test]
fn dry_runs_say_what_would_be_done_and_do_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let photos = golden("photos/subject");
    let text = ok(dir, &["find", "--dry-run", "--subject", "dog", &photos]);
    assert!(
        text.starts_with("dog.idx: 125 steps")
            && text.contains("a step takes")
            && text.contains("the whole find about"),
        "{text}"
    );
    let text = ok(dir, &["generate", "--dry-run", "--count", "3", "a dog"]);
    assert!(
        text.contains("3 pictures") && text.contains(" MB"),
        "{text}"
    );
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), 0);

    find_learned(dir, "dog", "1", &["--batch", "2"]);
    let (model, images) = (golden("models/sd1-f32"), format!("dog={photos}"));
    let mut args = vec!["merge", "dog.idx", "-o", "tuned.idx", "--model", &model];
    args.extend(["--tune", "5", "--images", &images, "--json", "--dry-run"]);
    let report = json(&ok(dir, &args));
    assert_eq!(report["dry_run"], true);
    let parts = ["weights_bytes", "layers_bytes", "method_bytes"];
    let sum: u64 = parts.iter().map(|p| report[p].as_u64().unwrap()).sum();
    assert!(sum <= report["memory_bytes"].as_u64().unwrap(), "{report}");
    assert!(!dir.join("tuned.idx").exists());
    let message = fails(dir, &["merge", "dog.idx", "-o", "x.idx", "--dry-run"], 2);
    assert!(message.contains("--tune"), "{message}");
}

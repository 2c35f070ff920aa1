//! A find in parts gives the bytes of one in a piece, and scores give other choices without a second run.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, helpers and all"
)]

use std::fs;
use std::path::Path;

use super::cli::{cones, fails, golden, json, ok};

/// The words of a find by Algorithm 1 on a miniature model.
fn paper(steps: &str, extra: &[&str]) -> Vec<String> {
    let (model, class, photos) = (
        golden("models/sd1-f32"),
        golden("photos/class"),
        golden("photos/subject"),
    );
    let mut words = vec![
        "find",
        "--model",
        &model,
        "--subject",
        "dog",
        "--steps",
        steps,
    ];
    words.extend(["--method", "paper", "--class-images", &class]);
    // The weights of this model are so few that the published step size does reach some.
    if !extra.contains(&"--rho") && !extra.contains(&"--importance-sampling") {
        words.extend(["--rho", "0"]);
    }
    words.extend(extra);
    words.push(&photos);
    words.into_iter().map(str::to_owned).collect()
}

fn run(dir: &Path, words: &[String]) -> String {
    ok(dir, &words.iter().map(String::as_str).collect::<Vec<_>>())
}

fn refused(dir: &Path, words: &[String], code: i32, parts: &[&str]) {
    let error = fails(
        dir,
        &words.iter().map(String::as_str).collect::<Vec<_>>(),
        code,
    );
    for part in parts {
        assert!(error.contains(part), "{part}: {error}");
    }
}

fn same(dir: &Path, a: &str, b: &str) {
    let read = |name: &str| fs::read(dir.join(name)).unwrap();
    assert!(read(a) == read(b), "{a} and {b} are other bytes");
}

#[test]
fn parts_add_up_to_the_bytes_of_a_whole_run() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    // Blocks of two steps, and one of one; at words, where a run's first step is computed another way than its others.
    for (name, extra) in [
        ("prompt", &[][..]),
        ("words", &["--scope", "words", "--batch", "2"]),
    ] {
        let with = |more: &[&str]| paper("35", &[extra, more].concat());
        run(dir, &with(&["-o", "whole.idx", "--scores", "whole"]));
        for of in [3, 7] {
            let file = |i: usize| format!("{name}-{of}-{i}");
            for i in (1..=of).rev() {
                let shard = format!("{i}/{of}");
                run(dir, &with(&["--shard", &shard, "--scores", &file(i)]));
            }
            let mut words = vec!["find".to_owned(), "--from-scores".to_owned()];
            words.extend((1..=of).map(|i| file(1 + i * 2 % of)));
            words.extend(
                ["-o", "sum.idx", "--scores", "sum", "--force", "--json"].map(str::to_owned),
            );
            let report = json(&run(dir, &words));
            assert!(report["stability"]["shared"].as_f64().unwrap() > 0.0);
            same(dir, "sum.idx", "whole.idx");
            same(dir, "sum", "whole");
        }
        fs::remove_file(dir.join("whole.idx")).unwrap();
        fs::remove_file(dir.join("whole")).unwrap();
    }
}

#[test]
fn parts_that_are_missing_double_or_foreign_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let part = |shard: &str, file: &str, extra: &[&str]| {
        paper(
            "4",
            &[&["--shard", shard, "--scores", file], extra].concat(),
        )
    };
    run(dir, &part("1/2", "a", &[]));
    run(dir, &part("2/2", "b", &[]));
    run(dir, &part("2/2", "seed", &["--seed", "9"]));
    run(dir, &part("1/3", "third", &[]));
    let sum = |files: &str| -> Vec<String> {
        let words = format!("find --from-scores {files} -o dog.idx");
        words.split(' ').map(str::to_owned).collect()
    };
    refused(dir, &sum("a"), 1, &["parts", "no 2/2"]);
    refused(
        dir,
        &sum("a b a"),
        1,
        &["a: expected another part", "1/2 again"],
    );
    refused(
        dir,
        &sum("a seed"),
        1,
        &["seed: expected a part of the run that `a`", "another seed"],
    );
    refused(
        dir,
        &sum("a third"),
        1,
        &["third", "1/3 instead of one of 2"],
    );
    let bytes = fs::read(dir.join("b")).unwrap();
    fs::write(dir.join("cut"), &bytes[..bytes.len() - 1]).unwrap();
    refused(dir, &sum("a cut"), 1, &["cut"]);
    let mut changed = bytes.clone();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(dir.join("changed"), &changed).unwrap();
    refused(dir, &sum("a changed"), 1, &["changed", "SHA-256"]);
    assert!(!dir.join("dog.idx").exists());

    // What is there is not computed again; what else has the name is not replaced.
    let before = fs::metadata(dir.join("b")).unwrap().modified().unwrap();
    let again = run(dir, &part("2/2", "b", &[]));
    assert!(again.contains("was there already"), "{again}");
    assert_eq!(
        json(&run(dir, &part("2/2", "b", &["--json"])))["computed"],
        false
    );
    assert_eq!(
        fs::metadata(dir.join("b")).unwrap().modified().unwrap(),
        before
    );
    refused(dir, &part("1/2", "b", &[]), 1, &["part 2/2", "--force"]);
    refused(
        dir,
        &part("2/2", "b", &["--seed", "1"]),
        1,
        &["another seed"],
    );
    refused(dir, &part("2/2", "cut", &[]), 1, &["cannot be read"]);
    run(dir, &part("2/2", "cut", &["--force"]));
    same(dir, "b", "cut");
    run(dir, &sum("b a"));
}

/// Where steps need the ones before them, there are no parts; an update that reaches a weight is seen.
#[test]
fn steps_that_hang_together_are_not_taken_apart() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let shard = ["--shard", "1/2", "--scores", "a"];
    refused(
        dir,
        &paper("4", &[&shard[..], &["--rho", "2e-5"]].concat()),
        1,
        &["rho", "--rho 0", "step 1"],
    );
    run(dir, &paper("4", &[&shard[..], &["--rho", "0"]].concat()));
    refused(
        dir,
        &paper("4", &["--shard", "1/5", "--scores", "b"]),
        1,
        &["at most 4 parts"],
    );
    for (extra, word) in [
        (&["--until-stable", "50%"][..], "--until-stable"),
        (&["--importance-sampling"], "--importance-sampling"),
        (&["--seed", "-1"], "--seed"),
        (&["-o", "dog.idx"], "--output"),
    ] {
        refused(dir, &paper("4", &[&shard[..], extra].concat()), 2, &[word]);
    }
    refused(dir, &paper("4", &["--shard", "1/2"]), 2, &["--scores"]);
    refused(
        dir,
        &paper("4", &["--shard", "3/2", "--scores", "a"]),
        2,
        &["i/n"],
    );
    let (model, photos) = (golden("models/sd1-f32"), golden("photos/subject"));
    let learned = [
        "find",
        "--model",
        &model,
        "--subject",
        "dog",
        "--shard",
        "1/2",
        "--scores",
        "a",
        &photos,
    ];
    assert!(fails(dir, &learned, 2).contains("--method paper"));
}

/// Another choice from the scores is that of another run; of both methods, and of scores without a plan none.
#[test]
fn scores_give_other_choices() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (model, photos) = (golden("models/sd1-f32"), golden("photos/subject"));
    let learned = |extra: &[&str]| {
        let mut words = vec![
            "find",
            "--model",
            &model,
            "--subject",
            "dog",
            "--steps",
            "3",
        ];
        words.extend(extra);
        words.push(&photos);
        words.into_iter().map(str::to_owned).collect()
    };
    let words: &dyn Fn(&[&str]) -> Vec<String> = &learned;
    let whole = |extra: &[&str]| {
        learned(&[&["--scope", "prompt", "--class-images", &photos], extra].concat())
    };
    let in_parts = |extra: &[&str]| paper("3", extra);
    for (name, find) in [("learned", words), ("prompt", &whole), ("paper", &in_parts)] {
        let (scores, first) = (format!("{name}.scores"), format!("{name}.idx"));
        run(dir, &find(&["-o", &first, "--scores", &scores]));
        let from = ["find", "--model", &model, "--from-scores", &scores];
        ok(
            dir,
            &[
                &from[..],
                &["-o", "same.idx", "--scores", "same", "--force"],
            ]
            .concat(),
        );
        same(dir, &first, "same.idx");
        same(dir, &scores, "same");
        run(dir, &find(&["-o", "one.idx", "--density", "1%", "--force"]));
        let again = ok(
            dir,
            &[
                &from[..],
                &["-o", "again.idx", "--density", "1%", "--force"],
            ]
            .concat(),
        );
        assert!(again.contains("chosen from scores"), "{again}");
        same(dir, "one.idx", "again.idx");
    }
    run(dir, &paper("3", &["-o", "tau.idx", "--threshold", "0"]));
    ok(
        dir,
        &[
            "find",
            "--from-scores",
            "paper.scores",
            "--threshold",
            "0",
            "-o",
            "tau2.idx",
        ],
    );
    same(dir, "tau.idx", "tau2.idx");
    // The name is the noun's unless told otherwise.
    ok(
        dir,
        &["find", "--from-scores", "paper.scores", "--density", "2%"],
    );
    assert!(dir.join("dog.idx").exists());

    for (command, words) in [
        (
            "--from-scores learned.scores -o x.idx",
            "give it with `--model`",
        ),
        (
            "--from-scores learned.scores --threshold 1 -o x.idx",
            "--threshold belongs to",
        ),
        (
            "--from-scores paper.scores -o paper.scores",
            "one of the files that are read",
        ),
        ("--from-scores paper.idx -o x.idx", "paper.idx"),
        ("--from-scores missing -o x.idx", "missing"),
        (
            "--from-scores paper.scores --density 3% -o dog.idx",
            "density 0.02 instead of 0.03",
        ),
        (
            "--from-scores paper.scores learned.scores -o x.idx",
            "paper.scores: scores: expected a part",
        ),
    ] {
        let args: Vec<&str> = ["find"].into_iter().chain(command.split(' ')).collect();
        let error = fails(dir, &args, 1);
        assert!(error.contains(words), "{command}: {error}");
    }
    for command in [
        "--subject dog",
        "--method paper",
        "--steps 3",
        "--shard 1/2",
        "--dry-run",
        "--memory 1GB",
    ] {
        let from = ["find", "--scores", "x", "--from-scores", "paper.scores"];
        let args: Vec<&str> = from.into_iter().chain(command.split(' ')).collect();
        fails(dir, &args, 2);
    }
}

/// The command lines that a dry run prints make the index.
#[test]
#[cfg(unix)]
fn a_dry_run_prints_the_commands_of_an_array_job() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let words = paper(
        "4",
        &["--shard", "2/3", "--scores=it's 2", "--dry-run", "--json"],
    );
    let plan = json(&run(dir, &words));
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let shell = |command: &str| {
        let status = std::process::Command::new("sh")
            .args(["-ec", command])
            .current_dir(dir)
            .output()
            .unwrap();
        assert!(
            status.status.success(),
            "{command}: {}",
            String::from_utf8_lossy(&status.stderr)
        );
    };
    let parts: Vec<String> = plan["parts"].as_array().unwrap().iter().map(text).collect();
    assert_eq!(parts.len(), 3);
    let slurm = text(&plan["slurm"]);
    assert!(slurm.starts_with("sbatch --array=1-3 --wrap "), "{slurm}");
    // The job's line is the part's, with the number put in by its shell.
    shell(&parts[2]);
    let job = format!(
        "export SLURM_ARRAY_TASK_ID=1; {}",
        slurm.replace("sbatch --array=1-3 --wrap ", "sh -ec ")
    );
    shell(&job);
    shell(&job.replace("ID=1", "ID=2"));
    for i in 1..=3 {
        assert!(dir.join(format!("it's {i}")).exists(), "{slurm}");
    }
    shell(&text(&plan["combine"]));
    run(dir, &paper("4", &["-o", "whole.idx"]));
    same(dir, "dog.idx", "whole.idx");
    let printed = run(
        dir,
        &paper("4", &["--shard", "1/2", "--scores", "part", "--dry-run"]),
    );
    assert!(
        printed.contains("--scores part-2") && printed.contains("${SLURM_ARRAY_TASK_ID}"),
        "{printed}"
    );
    assert!(cones(dir, &["inspect", "dog.idx"]).status.success());
}

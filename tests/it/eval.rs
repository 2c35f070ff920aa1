//! `cones eval`, as a user runs it and as a library.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;

use crate::cli::{answer, fails, find, find_scored, golden, json, ok, quick_eval, repository};

const FEW: [&str; 4] = ["--count", "3", "--loss-draws", "2"];

fn without_memory(mut report: Value) -> Value {
    report["peak_memory_bytes"] = Value::Null;
    report
}

fn numbers(value: &Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn figures_are_paired_and_repeatable() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    find_scored(dir, "20%");
    std::fs::write(
        dir.join("prompts.txt"),
        "a {} on a street\n\na photo at night\n",
    )
    .unwrap();
    let base = quick_eval("models/sd1-f32", "clip/new");
    let run = |extra: &[&str]| {
        let args = [&base[..], &FEW, &["dog.idx", "--json"], extra].concat();
        let (report, yes) = answer(dir, &args);
        let report = json(&report);
        let above_zero = |other: &str| {
            let interval = &report["differences"][other]["clip_i"]["interval"];
            numbers(interval)[0] > 0.0
        };
        // Three pictures are too few for an answer, but each check has its own.
        let verdict = &report["verdict"];
        assert_eq!(verdict["answer"], "cannot tell", "{verdict}");
        assert!(verdict["sentence"].as_str().unwrap().contains("3 pictures"));
        assert!(report["brings_out_subject"] == false && !yes);
        let check = |of: &str| {
            let checks = verdict["checks"].as_array().unwrap();
            checks.iter().find(|check| check["check"] == of).unwrap()["answer"] == "yes"
        };
        assert_eq!(check("likeness"), above_zero("shut_minus_plain"));
        assert_eq!(check("chance"), above_zero("shut_minus_control"));
        report
    };
    let extra = [
        "--prompts",
        "prompts.txt",
        "--controls",
        "2",
        "--seed",
        "5",
        "--sheet",
        "s.png",
    ];
    let report = run(&extra);
    assert_eq!(without_memory(report.clone()), without_memory(run(&extra)));

    assert_eq!(report["prompts"][0]["used"], "a sks dog on a street");
    assert_eq!(
        report["prompts"][1]["described"],
        "a photo of a dog at night"
    );
    assert_eq!(report["encoder"]["name"], "new");
    assert_eq!(report["encoder"]["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(report["encoder"]["preprocessing"]["resampling"], "bicubic");
    let (conditions, differences) = (&report["conditions"], &report["differences"]);
    let values = |condition: &Value, metric: &str| numbers(&condition[metric]["values"]);
    for (metric, count) in [
        ("clip_i", 3),
        ("clip_t", 3),
        ("clip_score", 3),
        ("class_margin", 3),
        ("scene_margin", 3),
        ("l_con", 2),
        ("prior_drift", 2),
    ] {
        let [plain, shut, control] =
            ["plain", "shut", "control"].map(|c| values(&conditions[c], metric));
        let against = |name: &str| values(&differences[name], metric);
        let (plainly, randomly) = (against("shut_minus_plain"), against("shut_minus_control"));
        let sets = conditions["control_sets"].as_array().unwrap();
        assert_eq!((sets.len(), plain.len()), (2, count), "{metric}");
        for i in 0..count {
            assert!((shut[i] - plain[i] - plainly[i]).abs() < 1e-12, "{metric}");
            assert!(
                (shut[i] - control[i] - randomly[i]).abs() < 1e-12,
                "{metric}"
            );
            let mean = sets.iter().map(|s| values(s, metric)[i]).sum::<f64>() / 2.0;
            assert!((control[i] - mean).abs() < 1e-12, "{metric}");
        }
        let summary = &conditions["shut"][metric];
        let interval = numbers(&summary["interval"]);
        let mean = summary["mean"].as_f64().unwrap();
        assert!(
            interval[0] <= mean && mean <= interval[1],
            "{metric}: {summary}"
        );
    }
    let drift = |condition: &str| {
        conditions[condition]["prior_drift"]["mean"]
            .as_f64()
            .unwrap()
    };
    assert!(drift("plain").abs() < 1e-12 && drift("shut") > 0.0 && drift("control") > 0.0);
    // Photos, plain, shut and two controls; three columns at 4 times 32 pixels.
    let sheet = image::open(dir.join("s.png")).unwrap();
    assert_eq!((sheet.width(), sheet.height()), (3 * 132 + 4, 5 * 132 + 4));

    // What is drawn is what `generate` draws, shut or not.
    let generate = |output: &str, concepts: &[&str]| {
        let args = [
            "generate",
            "--model",
            &golden("models/sd1-f32"),
            "--steps",
            "2",
            "--seed",
            "5",
            "-o",
            output,
        ];
        let prompt = ["a sks dog on a street", "--raw-prompt"];
        ok(dir, &[&args[..], &prompt, concepts].concat());
        image::open(dir.join(output)).unwrap().into_rgb8()
    };
    let sheet = sheet.into_rgb8();
    for (row, picture) in [
        (1, generate("plain.png", &[])),
        (2, generate("shut.png", &["--concepts", "dog.idx"])),
    ] {
        for (x, y, pixel) in picture.enumerate_pixels() {
            assert_eq!(sheet.get_pixel(4 + 4 * x, 4 + 132 * row + 4 * y), pixel);
        }
    }

    let (table, _) = answer(
        dir,
        &[
            &base[..],
            &[
                "dog.idx",
                "--count",
                "3",
                "--controls",
                "0",
                "--loss-draws",
                "0",
            ],
        ]
        .concat(),
    );
    assert!(
        table.contains("CLIP-I") && table.contains("shut - plain"),
        "{table}"
    );
    assert!(
        !table.contains("random") && !table.contains("L_con"),
        "{table}"
    );
}

#[test]
fn a_sweep_has_a_row_for_each_dose() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    find_scored(dir, "2%");
    let base = quick_eval("models/sd1-f32", "clip/legacy");
    let sweep = [
        "dog.idx",
        "--scores",
        "dog.scores",
        "--sweep",
        "2%,0.2",
        "--sheet",
        "s.png",
    ];
    let report = json(&ok(dir, &[&base[..], &FEW, &sweep, &["--json"]].concat()));
    let doses = report["doses"].as_array().unwrap();
    assert_eq!(doses.len(), 2);
    assert!((doses[1]["density"].as_f64().unwrap() - 0.2).abs() < 1e-3);
    // The dose that the index has gives the index's figures.
    let args = [&base[..], &FEW, &["dog.idx", "--json"]].concat();
    let single = json(&answer(dir, &args).0);
    assert_eq!(doses[0]["conditions"]["shut"], single["conditions"]["shut"]);
    assert_eq!(
        doses[0]["conditions"]["control"],
        single["conditions"]["control"]
    );
    assert_eq!(report["conditions"]["plain"], single["conditions"]["plain"]);
    let values = |of: &Value| numbers(&of["clip_i"]["values"]);
    let [first, second] = [0, 1].map(|dose| values(&doses[dose]["conditions"]["shut"]));
    let grown = values(&doses[1]["differences"]["shut_minus_previous"]);
    assert!(doses[0]["differences"]["shut_minus_previous"].is_null());
    for (i, grown) in grown.iter().enumerate() {
        assert!((second[i] - first[i] - grown).abs() < 1e-12);
    }
    assert!(report["verdict"].is_null() && report["brings_out_subject"].is_null());
    let sheet = image::open(dir.join("s.png")).unwrap();
    assert_eq!(sheet.height(), 4 * 132 + 4);
    let table = ok(dir, &[&base[..], &FEW, &sweep].concat());
    assert!(
        table.contains("2.00 %") && table.contains("20.00 %") && table.contains("- the line above"),
        "{table}"
    );
}

#[test]
fn mistakes_are_told_before_anything_is_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    find(dir, "dog", "1", &["--scores", "dog.scores"]);
    find(dir, "cat", "2", &["--token", "zwx"]);
    ok(dir, &["merge", "dog.idx", "cat.idx", "-o", "pair.idx"]);
    std::fs::write(dir.join("empty.txt"), "\n").unwrap();
    let base = quick_eval("models/sd1-f32", "clip/new");
    let refused = |extra: &[&str], code: i32, part: &str| {
        let error = fails(dir, &[&base[..], extra].concat(), code);
        assert!(error.contains(part), "{extra:?}: {error}");
    };
    refused(&["pair.idx"], 1, "--subject NOUN");
    refused(&["pair.idx", "--subject", "owl"], 1, "sks dog, zwx cat");
    refused(&["dog.idx", "--prompts", "empty.txt"], 1, "found none");
    refused(&["dog.idx", "--sheet", "sheet.jpg"], 2, ".png");
    refused(&["dog.idx", "--sheet", "no/sheet.png"], 1, "no folder");
    refused(&["dog.idx", "--sweep", "1%"], 2, "--scores");
    refused(&["dog.idx", "--scores", "dog.scores"], 2, "--sweep");
    refused(
        &["dog.idx", "--scores", "dog.idx", "--sweep", "1%"],
        1,
        "failed to read scores",
    );
    refused(&["dog.idx", "--report", "page.pdf"], 2, ".html");
    refused(&["dog.idx", "--csv", "table.txt"], 2, ".csv");
    refused(&["dog.idx", "--report", "no/page.html"], 1, "no folder");
    std::fs::copy(dir.join("dog.idx"), dir.join("dog.html")).unwrap();
    refused(&["cat.idx", "--report", "dog.html"], 1, "is an index");
    refused(&["dog.html", "--report", "dog.html"], 1, "read here");
    refused(&["dog.idx", "dog.idx"], 1, "each index once");
    refused(&["dog.idx", "--images", "owl=p"], 1, "--images owl=DIR");
    refused(&["dog.idx", "--layers", "*.attn1"], 1, "`*.attn1`");
    let several = [
        "dog.idx",
        "cat.idx",
        "--scores",
        "dog.scores",
        "--sweep",
        "1%",
    ];
    refused(&several, 2, "--sweep");
    refused(&["dog.idx", "--count", "0"], 2, "--count");
    refused(&["dog.idx", "--seed", "18446744073709551615"], 1, "seed");
    let pair = [
        &base[..],
        &[
            "pair.idx",
            "--subject",
            "cat",
            "--count",
            "1",
            "--loss-draws",
            "0",
            "--json",
        ],
    ]
    .concat();
    assert_eq!(json(&answer(dir, &pair).0)["token"], "zwx");

    let (model, photos) = (golden("models/sd1-f32"), golden("photos/subject"));
    let bare = ["eval", "--model", &model, "--images", &photos, "dog.idx"];
    let error = fails(dir, &bare, 1);
    assert!(error.contains("--encoder DIR"), "{error}");
    let error = fails(
        dir,
        &quick_eval("models/sd1-f16", "clip/new")
            .into_iter()
            .chain(["dog.idx"])
            .collect::<Vec<_>>(),
        1,
    );
    assert!(error.contains("index of another model"), "{error}");
}

/// Photos that are for one of several indices alone.
#[test]
fn an_index_without_photos_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    find(dir, "dog", "1", &[]);
    find(dir, "cat", "2", &["--token", "zwx"]);
    let photos = format!("dog={}", golden("photos/subject"));
    let error = fails(dir, &["eval", "dog.idx", "cat.idx", "--images", &photos], 1);
    assert!(
        error.contains("`cat.idx`") && error.contains("--images cat=DIR"),
        "{error}"
    );
}

/// The pocket model brings its own encoder, which shares the model's tokenizer.
#[test]
fn the_pocket_model_measures_itself() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let photos = repository().join("examples/pocket/subjects/blue-guide-dog");
    let photos = photos.display().to_string();
    let find = ["find", "--subject", "dog", "--steps", "2", &photos];
    ok(dir, &find);
    let eval = [
        "eval", "dog.idx", "--images", &photos, "--count", "2", "--steps", "2",
    ];
    let fast = [
        "--loss-draws",
        "1",
        "--controls",
        "0",
        "--class-images",
        &photos,
        "--json",
    ];
    let report = json(&answer(dir, &[&eval[..], &fast].concat()).0);
    assert_eq!(report["encoder"]["name"], "pocket/clip");
    assert!(report["conditions"]["shut"]["clip_i"]["mean"].is_f64());
}

//! The commands together, as a user runs them.

use serde_json::Value;

use crate::cli::{fails, find, golden, json, ok, repository};

#[test]
fn find_generate_merge_inspect() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let model = golden("models/sd1-f32");
    let dog = find(dir, "dog", "1", &["--density", "5%"]);
    let share = dog["density"].as_f64().unwrap();
    assert!((share - 0.05).abs() < 1e-3, "{share}");
    assert_eq!(dog["steps"].as_array().unwrap().len(), 3);
    for key in ["index", "shut", "total", "peak_memory_bytes"] {
        assert!(!dog[key].is_null(), "{key}");
    }
    let cat = find(dir, "cat", "2", &["--token", "zwx"]);

    // The same inputs give the same bytes.
    let first = std::fs::read(dir.join("dog.idx")).unwrap();
    find(dir, "dog", "1", &["--density", "5%"]);
    assert_eq!(std::fs::read(dir.join("dog.idx")).unwrap(), first);

    let merged = json(&ok(
        dir,
        &["merge", "dog.idx", "cat.idx", "-o", "pair.idx", "--json"],
    ));
    let shut = |v: &Value| v["shut"].as_u64().unwrap();
    assert_eq!(
        shut(&merged),
        shut(&dog) + shut(&cat) - merged["shared"].as_u64().unwrap()
    );

    let inspected = json(&ok(dir, &["inspect", "dog.idx", "cat.idx", "--json"]));
    assert_eq!(
        inspected["overlaps"][0]["total"]["shared"],
        merged["shared"]
    );
    assert!(ok(dir, &["inspect", "pair.idx"]).contains("sks dog, zwx cat"));
    ok(
        dir,
        &["inspect", "dog.idx", "--indices", "plain.safetensors"],
    );
    let plain =
        candle_core::safetensors::load(dir.join("plain.safetensors"), &candle_core::Device::Cpu)
            .unwrap();
    let count: usize = plain.values().map(|t| t.elem_count()).sum();
    assert_eq!(count as u64, shut(&dog));
    let dumped = ok(dir, &["inspect", "dog.idx", "--dump"]);
    let numbers = dumped
        .split(|c: char| c.is_whitespace())
        .filter(|w| w.parse::<u32>().is_ok())
        .count();
    assert_eq!(numbers as u64, shut(&dog));

    let draw = [
        "generate",
        "--model",
        &model,
        "--steps",
        "2",
        "--json",
        "a photo in a park",
    ];
    let with = |extra: &[&str]| json(&ok(dir, &[&draw[..], extra].concat()));
    let both = with(&["--concepts", "dog.idx,cat.idx", "-o", "both.png"]);
    assert_eq!(
        both["prompt"],
        "a photo of a sks dog and a zwx cat in a park"
    );
    let union = with(&["--concepts", "pair.idx", "-o", "union.png"]);
    assert_eq!(union["prompt"], both["prompt"]);
    with(&["--raw-prompt", "-o", "raw.png"]);
    with(&["--concepts", "pair.idx", "--layers", "*", "-o", "every.png"]);
    let part = ["--concepts", "pair.idx", "--layers", "up_blocks.*:v"];
    with(&[&part[..], &["-o", "part.png"]].concat());
    let pixels = |name: &str| image::open(dir.join(name)).unwrap().into_rgb8();
    assert_eq!(pixels("both.png"), pixels("union.png"));
    assert_ne!(pixels("both.png"), pixels("raw.png"));
    assert_eq!(pixels("union.png"), pixels("every.png"));
    assert_ne!(pixels("union.png"), pixels("part.png"));
    let text = cones::read_metadata(&dir.join("part.png"))
        .unwrap()
        .cones
        .unwrap();
    assert_eq!(json(&text)["layers"], "up_blocks.*:v");
    let error = fails(
        dir,
        &[
            &draw[..],
            &["--concepts", "dog.idx", "--layers", "*.attn1:k"],
        ]
        .concat(),
        1,
    );
    for part in ["`*.attn1:k`", "hint: there are", "mid_block.attentions.0"] {
        assert!(error.contains(part), "{error}");
    }

    // A picture names the model as it is without the concept.
    let fingerprint = |name: &str| {
        let text = cones::read_metadata(&dir.join(name))
            .unwrap()
            .cones
            .unwrap();
        json(&text)["fingerprint"].as_str().unwrap().to_owned()
    };
    assert_eq!(fingerprint("both.png"), fingerprint("raw.png"));

    // Pictures of one run are those of single runs with their seeds.
    let several = with(&["--count", "3", "--seed", "7", "-o", "many.png"]);
    assert_eq!(several["images"][2]["seed"], 9);
    with(&["--seed", "9", "-o", "single.png"]);
    assert_eq!(pixels("many-9.png"), pixels("single.png"));

    // Heat maps lie beside each picture, and leave it as it is.
    let heat = [
        "--count",
        "2",
        "--seed",
        "7",
        "-o",
        "hot.png",
        "--heatmap",
        "Park,a photo",
    ];
    let hot = with(&heat);
    assert_eq!(pixels("hot-7.png"), pixels("many-7.png"));
    let maps = hot["images"][1]["heatmaps"].as_array().unwrap();
    assert_eq!(maps[0]["word"], "Park");
    assert_eq!(maps[1]["path"], "hot-8-heat-a-photo.png");
    assert!(maps[0]["low"].as_f64() < maps[0]["high"].as_f64());
    assert_eq!(pixels("hot-8-heat-park.png").dimensions(), (32, 32));
    assert_ne!(pixels("hot-8-heat-park.png"), pixels("hot-7-heat-park.png"));

    // Attend-and-excite takes the subjects, or the words that it is given.
    let pair = ["--concepts", "pair.idx", "--sampler", "ddim"];
    let calm = with(&[&pair[..], &["-o", "calm.png"]].concat());
    assert_eq!(calm["attend_excite"], serde_json::json!([]));
    let excited = with(&[&pair[..], &["-o", "excited.png", "--attend-excite"]].concat());
    assert_eq!(
        excited["attend_excite"],
        serde_json::json!(["sks dog", "zwx cat"])
    );
    assert_ne!(pixels("excited.png"), pixels("calm.png"));
    let text = cones::read_metadata(&dir.join("excited.png"))
        .unwrap()
        .cones
        .unwrap();
    assert_eq!(json(&text)["attend_excite"], excited["attend_excite"]);
    let named = with(&[
        "--attend-excite=park",
        "--sampler",
        "ddim",
        "-o",
        "park.png",
    ]);
    assert_eq!(named["attend_excite"], serde_json::json!(["park"]));
    for (wrong, parts) in [
        (
            &["--heatmap", "cat"][..],
            &["--heatmap", "`photo`", "found `cat`"][..],
        ),
        (&["--heatmap", "park,Park"], &["--heatmap", "`Park` twice"]),
        (
            &["--attend-excite=bird"],
            &["--attend-excite", "found `bird`"],
        ),
        (
            &["--attend-excite"],
            &["--attend-excite=dog,cat", "--concepts"],
        ),
        (
            &["--attend-excite", "--concepts", "dog.idx", "--raw-prompt"],
            &["`sks dog` or `dog`", "--raw-prompt"],
        ),
    ] {
        let error = fails(dir, &[&draw[..], wrong].concat(), 1);
        for part in parts {
            assert!(error.contains(part), "{wrong:?}: {error}");
        }
    }

    // Another model is refused, and let through by --force.
    let other = golden("models/sd1-f16");
    let error = fails(
        dir,
        &[
            "generate",
            "--model",
            &other,
            "--concepts",
            "dog.idx",
            "--steps",
            "1",
            "a dog",
        ],
        1,
    );
    assert!(error.contains("fingerprint"), "{error}");
    ok(
        dir,
        &[
            "generate",
            "--model",
            &other,
            "--concepts",
            "dog.idx",
            "--steps",
            "1",
            "a dog",
            "--force",
        ],
    );
    let leftovers = std::fs::read_dir(dir).unwrap().filter(|e| {
        e.as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with('.')
    });
    assert_eq!(leftovers.count(), 0, "temporary files stay behind");
}

/// `--scores` writes what the reference writes.
#[test]
fn scores_are_written_as_the_reference_writes_them() {
    let dir = tempfile::tempdir().unwrap();
    let cases = json(&std::fs::read_to_string(golden("cases.json")).unwrap());
    let want =
        candle_core::safetensors::load(golden("sd1-f32.safetensors"), &candle_core::Device::Cpu)
            .unwrap();
    for case in ["cross", "cross-rho", "all"] {
        let settings = &cases["models"]["sd1-f32"]["find"][case];
        let text = |key: &str| settings[key].to_string();
        let (steps, rho, seed) = (text("steps"), text("rho"), text("seed"));
        let sites = settings["sites"].as_str().unwrap();
        let extra = [
            "--scores",
            "scores.safetensors",
            "--steps",
            &steps,
            "--rho",
            &rho,
            "--sites",
            sites,
        ];
        let model = golden("models/sd1-f32");
        let (photos, class) = (golden("photos/subject"), golden("photos/class"));
        let args = [
            "find",
            "--force",
            "--method",
            "paper",
            "--model",
            &model,
            "--subject",
            "dog",
            "--seed",
            &seed,
            "--class-images",
            &class,
            &photos,
        ];
        ok(dir.path(), &[&args[..], &extra].concat());
        let file = dir.path().join("scores.safetensors");
        let got = candle_core::safetensors::load(file, &candle_core::Device::Cpu).unwrap();
        let prefix = format!("find.{case}.");
        assert_eq!(
            got.len(),
            want.keys().filter(|k| k.starts_with(&prefix)).count()
        );
        for (name, got) in got {
            let want = &want[&format!("{prefix}{name}")];
            assert_eq!(got.dims(), want.dims());
            let norm = |t: &candle_core::Tensor| {
                t.sqr()
                    .unwrap()
                    .sum_all()
                    .unwrap()
                    .to_scalar::<f32>()
                    .unwrap()
                    .sqrt()
            };
            assert!(
                norm(&(got - want).unwrap()) <= 1e-3 * norm(want),
                "{case}: {name}"
            );
        }
    }
}

/// The pocket model: find draws its own class pictures, keeps them, and uses them again.
#[test]
fn the_pocket_model_finds_and_draws() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let photos = std::fs::read_dir(repository().join("examples/pocket/subjects")).unwrap();
    let mut subjects: Vec<_> = photos
        .map(|e| e.unwrap().path())
        .filter(|p| p.is_dir())
        .collect();
    subjects.sort();
    let photos = subjects
        .iter()
        .find(|p| p.ends_with("blue-guide-dog"))
        .unwrap()
        .display()
        .to_string();
    let args = [
        "find",
        "--subject",
        "dog",
        "--method",
        "paper",
        "--steps",
        "4",
        "--class-count",
        "2",
        "--json",
        &photos,
    ];
    let found = json(&ok(dir, &args));
    assert_eq!(found["index"], "dog.idx");
    let class_folder = || {
        let entry = |e: std::io::Result<std::fs::DirEntry>| e.unwrap().path();
        std::fs::read_dir(dir)
            .unwrap()
            .map(entry)
            .find(|p| p.is_dir())
            .unwrap()
    };
    let picture = class_folder().join("seed-00000.png");
    let drawn = picture.metadata().unwrap().modified().unwrap();
    let first = std::fs::read(dir.join("dog.idx")).unwrap();
    ok(dir, &args);
    assert_eq!(
        picture.metadata().unwrap().modified().unwrap(),
        drawn,
        "class pictures were drawn again"
    );
    assert_eq!(std::fs::read(dir.join("dog.idx")).unwrap(), first);
    let drawn = json(&ok(
        dir,
        &[
            "generate",
            "--concepts",
            "dog.idx",
            "a photo in the snow",
            "--json",
            "--steps",
            "4",
        ],
    ));
    assert_eq!(drawn["prompt"], "a photo of a sks dog in the snow");
    assert!(dir.join("out.png").is_file());
}

/// The README's Python reader is the one that the tests run.
#[test]
fn the_readme_has_the_tested_reader() {
    let read = |file: &str| std::fs::read_to_string(repository().join(file)).unwrap();
    assert!(
        read("README.md").contains(&read("tests/read_index.py")),
        "README.md has another reader"
    );
    assert!(read("tests/read_index.py").lines().count() <= 20);
}

//! What the files say, against transformers; and what is refused.

use std::path::Path;

use super::*;

fn parse(text: &str) -> Result<Preprocessing> {
    Preprocessing::parse(ConfigReader::parse("preprocessor_config.json", text)?, 30)
}

/// `tests/golden/make_rules.py` makes the same picture, and says what transformers makes of it by each set of files.
#[test]
fn of_files_that_disagree_the_one_holds_that_transformers_believes() {
    let golden =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/published/processors.json");
    let cases: Value = serde_json::from_str(&std::fs::read_to_string(golden).unwrap()).unwrap();
    let rgb = (0..47u32).flat_map(|y| (0..58).flat_map(move |x| [x * 4, y * 5, x * y]));
    let picture = Picture::new(58, 47, rgb.map(|v| v as u8).collect()).unwrap();
    let cases = cases.as_object().unwrap();
    assert!(cases.len() > 30, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for (name, case) in cases {
        let dir = tempfile::tempdir().unwrap();
        for (file, value) in case["files"].as_object().unwrap() {
            std::fs::write(dir.path().join(file), value.to_string()).unwrap();
        }
        let source = Source::encoder(dir.path().to_str().unwrap()).unwrap();
        let made = Preprocessing::load(&source, "", 30);
        let (made, want) = match (made, case["pixels"].as_array()) {
            (Ok(made), Some(want)) => (made.pixels(&picture).unwrap(), want),
            (Err(error), Some(_)) => {
                wrong.push(format!("{name}: {error}"));
                continue;
            }
            (Ok(_), None) => {
                wrong.push(format!("{name}: taken, but {}", case["error"]));
                continue;
            }
            (Err(_), None) => continue,
        };
        assert_eq!(case["shape"], json!([3, 30, 30]), "{name}");
        let got = made.iter().step_by(61).map(|v| f64::from(*v));
        let worst = got
            .zip(want)
            .map(|(got, want)| (got - want.as_f64().unwrap()).abs());
        let worst = worst.fold(0.0, f64::max);
        let sum: f64 = made.iter().map(|v| f64::from(*v)).sum();
        let want = case["sum"].as_f64().unwrap();
        if worst > 1e-6 * want.abs().max(1.0) || (sum - want).abs() > 1e-6 * want.abs().max(1000.0)
        {
            wrong.push(format!(
                "{name}: off by {worst:e}, sum {sum}, expected {want}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_form_of_a_size_is_read() {
    let new = r#"{"size": {"shortest_edge": 33}, "crop_size": {"height": 30, "width": 30}}"#;
    let old = r#"{"size": 33, "crop_size": 30}"#;
    let full = r#"{"size": {"shortest_edge": 33, "height": null}, "crop_size": 30, "resample": 3}"#;
    assert_eq!(parse(new).unwrap(), parse(old).unwrap());
    assert_eq!(parse(new).unwrap(), parse(full).unwrap());
    let exact = r#"{"size": {"height": 30, "width": 30}, "do_center_crop": false}"#;
    assert!(parse(exact).is_ok());
}

#[test]
fn what_would_change_the_numbers_is_refused() {
    for text in [
        r#"{"size": 33, "crop_size": 30, "resample": 2}"#,
        r#"{"size": 33, "crop_size": 30, "resample": "bicubic"}"#,
        r#"{"size": 33, "crop_size": 30, "do_resize": false}"#,
        r#"{"size": 33, "crop_size": 30, "do_resize": null}"#,
        r#"{"size": 33, "crop_size": 30, "image_processor_type": "ViTImageProcessor"}"#,
        r#"{"size": 33, "crop_size": 30, "image_processor_type": "SiglipImageProcessor"}"#,
        r#"{"size": 33, "crop_size": 30, "image_processor_type": "BitImageProcessor"}"#,
        r#"{"size": 33, "crop_size": 30, "feature_extractor_type": "ViTFeatureExtractor"}"#,
        r#"{"size": 33, "crop_size": 30, "use_square_size": true}"#,
        r#"{"size": 33, "crop_size": 30, "do_rescale": "yes"}"#,
        r#"{"size": 33, "crop_size": 30, "image_mean": [0.5, 0.5]}"#,
        r#"{"size": {"shortest_edge": 33, "longest_edge": 40}, "crop_size": 30}"#,
        r#"{"size": {"max_height": 33, "max_width": 33}, "crop_size": 30}"#,
        r#"{"size": 33, "crop_size": 30, "do_pad": true}"#,
        r#"{"size": 33, "crop_size": 30, "image_std": [1, 0, 1]}"#,
        r#"{"size": 33, "crop_size": 31}"#,
        r#"{"size": 29, "crop_size": 30}"#,
        r#"{"size": 33, "do_center_crop": false}"#,
        r#"{"size": {"longest_edge": 33}, "crop_size": 30}"#,
        r#"{"size": -1, "crop_size": 30}"#,
        "{}",
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains("expected"), "{text}: {error}");
    }
}

#[test]
fn long_pictures_take_no_memory() {
    let thin = Picture::new(1, 30_000, vec![7; 90_000]).unwrap();
    let made = parse(r#"{"size": 33, "crop_size": 30}"#).unwrap();
    assert_eq!(made.pixels(&thin).unwrap().len(), 3 * 30 * 30);
    assert_eq!(shortest_edge((1, 30_000), 33), (33, 990_000));
    assert_eq!(shortest_edge((50, 37), 33), (44, 33));
}

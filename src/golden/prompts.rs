//! Weighted prompts, prompts in chunks, and pictures from pictures: equal to what `tests/golden/make_prompts.py` wrote.
#![expect(clippy::print_stdout, reason = "a comparison tells how near it came")]

use std::collections::HashMap;

use crate::prompt::{Marks, PromptSpec, WeightedText};
use crate::{Init, Picture, SampleOptions, Size};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use super::{golden_dir, load};

/// Embeddings, of the largest value: measured 7.0e-7.
const EMBEDDING: f64 = 5e-6;
/// Pictures: measured 0.
const PIXEL: u8 = 2;

struct Golden {
    tensors: HashMap<String, Tensor>,
    cases: Value,
}

const MODELS: [(&str, &str); 3] = [
    ("sd1-f32", "models/sd1-f32"),
    ("sd2-f16", "models/sd2-f16"),
    ("xl", "xl/a"),
];

impl Golden {
    fn open() -> Self {
        let file = golden_dir().join("prompts.safetensors");
        let cases = std::fs::read_to_string(golden_dir().join("prompts.json")).unwrap();
        Self {
            tensors: candle_core::safetensors::load(file, &Device::Cpu).unwrap(),
            cases: serde_json::from_str(&cases).unwrap(),
        }
    }

    fn close(&self, name: &str, got: &Tensor) {
        let flat = |x: &Tensor| -> Vec<f64> {
            let wide = x.to_dtype(DType::F64).unwrap();
            wide.flatten_all().unwrap().to_vec1().unwrap()
        };
        let (got, want) = (flat(got), flat(&self.tensors[name]));
        assert_eq!(got.len(), want.len(), "{name}");
        let largest = want.iter().fold(0f64, |m, v| m.max(v.abs()));
        let worst = got.iter().zip(&want).map(|(g, w)| (g - w).abs());
        let worst = worst.fold(0f64, |m, d| if d.is_nan() { d } else { m.max(d) }) / largest;
        println!("{name}: {worst:.1e}");
        assert!(worst <= EMBEDDING, "{name}: {worst:.2e}");
    }
}

#[test]
fn weighted_and_long_prompts_are_embedded_as_in_the_web_ui() {
    let golden = Golden::open();
    for (name, folder) in MODELS {
        let pipeline = load(&golden_dir().join(folder)).unwrap();
        let mut prompts = Vec::new();
        for (case, marked) in golden.cases["cases"].as_object().unwrap() {
            let text: WeightedText = marked.as_str().unwrap().parse().unwrap();
            let prompt = PromptSpec {
                in_chunks: case == "long",
                ..text.into()
            };
            let context = pipeline.embed(std::slice::from_ref(&prompt)).unwrap();
            golden.close(&format!("{name}.{case}"), context.embedding());
            if let Some((pooled, _)) = context.pooled() {
                golden.close(&format!("{name}.{case}.pooled"), pooled);
            }
            prompts.push((case, prompt));
        }
        // Beside a longer one each is the same, and goes on with empty chunks.
        let (cases, all): (Vec<_>, Vec<PromptSpec>) = prompts.into_iter().unzip();
        let together = pipeline.embed(&all).unwrap();
        let empty = pipeline.embed(&["".into()]).unwrap();
        for (row, case) in cases.into_iter().enumerate() {
            let t = golden.tensors[&format!("{name}.{case}")].dim(0).unwrap();
            let row = together.embedding().narrow(0, row, 1).unwrap();
            golden.close(&format!("{name}.{case}"), &row.narrow(1, 0, t).unwrap());
            let rest = row.dim(1).unwrap() - t;
            let filled = row.narrow(1, t, rest).unwrap();
            let length = empty.embedding().dim(1).unwrap();
            for at in (0..rest).step_by(length) {
                let part = filled.narrow(1, at, length).unwrap();
                let gap = (part - empty.embedding()).unwrap().abs().unwrap();
                assert!(gap.max_all().unwrap().to_scalar::<f32>().unwrap() < 1e-5);
            }
        }
    }
}

/// Words are marked wherever they stand, in later chunks too, and weights leave them where they are.
#[test]
fn words_are_found_among_weights_and_in_chunks() {
    let pipeline = load(&golden_dir().join("models/sd1-f32")).unwrap();
    let marks = Marks::new(vec!["sks dog".to_owned()], Vec::new());
    let plain = "a red hat and a sks dog in the snow";
    let ids = pipeline.token_ids(plain).unwrap();
    for marked in [
        plain,
        "a red hat and a (sks dog:1.5) in the snow",
        "a (red hat) and a (sks) [dog] in the snow",
    ] {
        let text: WeightedText = marked.parse().unwrap();
        let spec = marks.prompt(text);
        assert_eq!(
            pipeline.word_tokens(spec.clone(), "sks dog").unwrap(),
            pipeline.word_tokens(plain, "sks dog").unwrap(),
            "{marked}"
        );
        let context = pipeline.embed(&[spec]).unwrap();
        let words: Vec<u8> = context.words()[0].flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(
            words.iter().filter(|&&word| word == 1).count(),
            2,
            "{marked}"
        );
        assert_eq!(words.len(), ids.len());
    }
    let long = "a red hat, ".repeat(20) + "a sks dog";
    assert!(pipeline.word_tokens(&long, "sks dog").is_err());
    let spec = PromptSpec {
        in_chunks: true,
        ..marks.prompt(&long)
    };
    let places = pipeline.word_tokens(spec.clone(), "sks dog").unwrap();
    let context = pipeline.embed(&[spec]).unwrap();
    let words: Vec<u8> = context.words()[0].flatten_all().unwrap().to_vec1().unwrap();
    let marked: Vec<usize> = (0..words.len()).filter(|&at| words[at] == 1).collect();
    assert_eq!(places, marked);
    assert!(places.len() == 2 && places[0] > ids.len(), "{places:?}");
}

#[test]
fn pictures_from_a_picture_are_equal() {
    let golden = Golden::open();
    for (name, folder) in MODELS {
        let pipeline = load(&golden_dir().join(folder)).unwrap();
        let photo = golden_dir().join("photos/subject/a.png");
        let picture = Picture::read(&photo, pipeline.size).unwrap();
        for (case, settings) in golden.cases["img2img"].as_object().unwrap() {
            let number = |key: &str| settings[key].as_f64().unwrap();
            let options = SampleOptions {
                sampler: settings["sampler"].as_str().unwrap().parse().unwrap(),
                steps: number("steps") as usize,
                guidance: number("guidance"),
                negative: golden.cases["negative"].as_str().map(Into::into),
                init: Some(Init {
                    picture: picture.clone(),
                    strength: number("strength"),
                }),
                ..SampleOptions::default()
            };
            let prompt = golden.cases["prompt"].as_str().unwrap();
            let seeds = [settings["seed"].as_u64().unwrap(), 99];
            let drawn = pipeline.draw(prompt, &options, &seeds, |_| Ok(())).unwrap();
            let want = &golden.tensors[&format!("{name}.img2img.{case}")];
            let want: Vec<u8> = want.flatten_all().unwrap().to_vec1().unwrap();
            let got = drawn[0].rgb();
            assert_eq!(got.len(), want.len(), "{name}: {case}");
            let worst = got
                .iter()
                .zip(&want)
                .map(|(g, w)| g.abs_diff(*w))
                .max()
                .unwrap();
            println!("{name}: img2img {case}: worst pixel differs by {worst}");
            assert!(worst <= PIXEL, "{name}: {case}: {worst}");
            assert_ne!(drawn[0], drawn[1]);
        }
        let init = Init {
            picture,
            strength: 0.5,
        };
        let other = SampleOptions {
            size: Some(Size::square(16)),
            init: Some(init),
            ..SampleOptions::default()
        };
        let error = pipeline
            .draw("a dog", &other, &[1], |_| Ok(()))
            .unwrap_err();
        assert!(error.to_string().contains("16x16"), "{error}");
    }
}

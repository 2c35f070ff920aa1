//! Attention maps, heat maps and attend-and-excite, against what `tests/golden/make_attend.py` wrote with diffusers,
//! and gradients against finite differences.
#![expect(clippy::print_stdout, reason = "a comparison tells how near it came")]

use std::collections::HashMap;

use crate::sampling::AttendExcite;
use crate::sampling::attend_excite::attention_loss;
use crate::sampling::{Generator, Step};
use crate::{AttentionOptions, Pipeline, SampleOptions, Size};
use candle_core::Tensor;
use serde_json::Value;

use super::{device, golden_dir, load};

// What is allowed is at most ten times the worst that was measured, by the kernels and by candle's operations: another
// processor sums in another order. A wrong layer or token shows at 1e-1.

/// Attention maps, heat maps, losses and latents after one step: measured 1.2e-6.
const FORWARD: f64 = 1e-5;
/// Gradients pass through twice as many sums, and through a softmax that is sharpened a hundred times: measured 6.5e-6.
const GRADIENT: f64 = 5e-5;
/// Latents of whole runs carry the rounding of many steps: measured 7.9e-6.
const RUN: f64 = 5e-5;
/// A last rounding to 8 bits can fall to either side: measured 0.
const PIXEL: u8 = 1;

fn pipeline(name: &str) -> Pipeline {
    load(&golden_dir().join("models").join(name)).unwrap()
}

struct Golden {
    tensors: HashMap<String, Tensor>,
    cases: Value,
}

impl Golden {
    fn open() -> Self {
        let json = std::fs::read_to_string(golden_dir().join("attend.json")).unwrap();
        let file = golden_dir().join("attend.safetensors");
        Self {
            tensors: candle_core::safetensors::load(file, &device()).unwrap(),
            cases: serde_json::from_str(&json).unwrap(),
        }
    }

    fn prompt(&self) -> &str {
        self.cases["prompt"].as_str().unwrap()
    }

    /// The name, the settings and the model of each of a kind of case.
    fn each(&self, kind: &str) -> impl Iterator<Item = (&str, &Value, Pipeline)> {
        let cases = self.cases[kind].as_object().unwrap();
        assert!(!cases.is_empty(), "{kind}");
        cases.iter().map(|(name, case)| {
            let model = case["model"].as_str().unwrap_or(name);
            (name.as_str(), case, pipeline(model))
        })
    }

    /// ‖got − want‖ / ‖want‖ is at most `tolerance`.
    fn close(&self, name: &str, got: &[f32], tolerance: f64) {
        let want: Vec<f32> = flat(&self.tensors[name]);
        assert_eq!(got.len(), want.len(), "{name}");
        let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
        let size = norm(&mut want.iter().map(|w| f64::from(*w)));
        let error = norm(&mut got.iter().zip(&want).map(|(g, w)| f64::from(g - w)));
        println!("{name}: {:.1e}", error / size);
        assert!(error <= tolerance * size, "{name}: {:.2e}", error / size);
    }

    fn options(&self, case: &Value) -> SampleOptions {
        SampleOptions {
            sampler: case["sampler"].as_str().unwrap().parse().unwrap(),
            steps: case["steps"].as_u64().unwrap() as usize,
            guidance: case["guidance"].as_f64().unwrap(),
            negative: Some(self.cases["negative"].as_str().unwrap().into()),
            ..SampleOptions::default()
        }
    }

    fn picture(&self, name: &str, got: &[u8]) {
        let want: Vec<u8> = self.tensors[name].flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(got.len(), want.len(), "{name}");
        let worst = got.iter().zip(&want).map(|(g, w)| g.abs_diff(*w)).max();
        println!("{name}: worst pixel differs by {}", worst.unwrap());
        assert!(worst.unwrap() <= PIXEL, "{name}: {worst:?}");
    }
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn words(case: &Value) -> Vec<String> {
    serde_json::from_value(case["words"].clone()).unwrap()
}

/// The tokens of a case by our own look-up, equal to those that the generator found.
fn tokens(pipeline: &Pipeline, prompt: &str, case: &Value) -> Vec<usize> {
    let places = |word: &String| pipeline.word_tokens(prompt, word).unwrap();
    let tokens = words(case).iter().map(places).collect::<Vec<_>>().concat();
    let want: Vec<usize> = serde_json::from_value(case["tokens"].clone()).unwrap();
    assert_eq!(tokens, want);
    tokens
}

#[test]
pub(super) fn maps_losses_gradients_and_updates_are_equal() {
    let golden = Golden::open();
    for (name, case, pipeline) in golden.each("cases") {
        let tokens = tokens(&pipeline, golden.prompt(), case);
        let (unet, context) = (
            pipeline.unet(),
            pipeline.embed(&[golden.prompt().into()]).unwrap(),
        );
        let x = &golden.tensors[&format!("{name}.x")];
        let timestep = case["timestep"].as_f64().unwrap() as f32;
        let evaluate = |x: &Tensor| {
            let attended = unet.attend(x, &[timestep], &context).unwrap();
            let size = attended.size;
            assert_eq!(size, Size::square(8));
            let map = flat(&attended.map);
            let mut loss = attention_loss(&map, size, &tokens).unwrap();
            let grad = Tensor::from_slice(&loss.gradient, attended.map.shape(), x.device());
            let grad = unet.latent_gradient(attended, &grad.unwrap()).unwrap();
            assert_eq!(grad.dims(), x.dims());
            loss.gradient = flat(&grad);
            (map, loss)
        };
        let (map, loss) = evaluate(x);
        golden.close(&format!("{name}.map"), &map, FORWARD);
        let want = case["loss"].as_f64().unwrap();
        let error = (f64::from(loss.value) - want).abs() / want;
        println!("{name}: loss: {error:.1e}");
        assert!(error <= FORWARD, "{name}: {} {want}", loss.value);
        golden.close(&format!("{name}.gradient"), &loss.gradient, GRADIENT);
        let mut latents = flat(x);
        let step = Step {
            index: 0,
            total: 50,
            timestep,
            signal: 1.0,
            noise: 0.0,
        };
        let once = AttendExcite {
            thresholds: Vec::new(),
            ..AttendExcite::default()
        };
        once.update(&step, &mut latents, |now| {
            let now = Tensor::from_slice(now, x.shape(), x.device())?;
            Ok::<_, candle_core::Error>(evaluate(&now).1)
        })
        .unwrap();
        golden.close(&format!("{name}.updated"), &latents, FORWARD);
    }
}

#[test]
fn whole_runs_are_equal() {
    let golden = Golden::open();
    for (name, case, pipeline) in golden.each("runs") {
        tokens(&pipeline, golden.prompt(), case);
        let thresholds = case["thresholds"].as_object().unwrap().iter();
        let attention = AttentionOptions {
            excite: words(case),
            settings: AttendExcite {
                thresholds: thresholds
                    .map(|(step, t)| (step.parse().unwrap(), t.as_f64().unwrap()))
                    .collect(),
                scale_factor: case["scale_factor"].as_f64().unwrap(),
                max_iterations: case["max_iterations"].as_u64().unwrap() as usize,
                ..AttendExcite::default()
            },
            ..AttentionOptions::default()
        };
        // The generator states by how much the run differs from one that is left alone.
        assert!(case["moved"].as_f64().unwrap() > 0.05, "{name}");
        let seed = case["seed"].as_u64().unwrap();
        let options = golden.options(case);
        // The second picture of a batch is excited by itself.
        let drawings = pipeline
            .draw_attending(
                golden.prompt(),
                &options,
                &attention,
                &[9, seed],
                |_| Ok(()),
            )
            .unwrap();
        golden.close(&format!("{name}.latents"), &drawings[1].latents, RUN);
        golden.picture(&format!("{name}.picture"), drawings[1].picture.rgb());
    }
}

#[test]
fn heat_maps_are_equal_and_change_no_picture() {
    let golden = Golden::open();
    for (name, case, pipeline) in golden.each("heat") {
        let attention = AttentionOptions {
            heat: words(case),
            ..AttentionOptions::default()
        };
        let (options, seed) = (golden.options(case), case["seed"].as_u64().unwrap());
        let prompt = golden.prompt();
        let draw = |seeds: &[u64]| {
            pipeline
                .draw_attending(prompt, &options, &attention, seeds, |_| Ok(()))
                .unwrap()
        };
        let drawings = draw(&[8, seed]);
        let plain = pipeline
            .draw(prompt, &options, &[seed], |_| Ok(()))
            .unwrap();
        assert_eq!(draw(&[seed])[0].picture, plain[0]);
        golden.picture(&format!("heat.{name}.picture"), drawings[1].picture.rgb());
        for (word, heat) in words(case).iter().zip(&drawings[1].heat) {
            let Size {
                width: w,
                height: h,
            } = plain[0].size();
            golden.close(&format!("heat.{name}.{word}"), &heat.spread(h, w), FORWARD);
        }
    }
}

/// Of a random linear functional of the map, along random directions; at sizes that halve evenly and that do not.
#[test]
fn latent_gradients_equal_finite_differences() {
    for name in ["sd1-f32", "sd2-f16"] {
        let pipeline = pipeline(name);
        let unet = pipeline.unet();
        let context = pipeline
            .embed(&["a red dog".into(), "a cat in the snow".into()])
            .unwrap();
        for (h, w) in [(16, 16), (12, 20), (11, 15)] {
            let random = |shape: &[usize], seed| {
                let values = Generator::new(seed).randn(shape.iter().product());
                Tensor::from_vec(values, shape, &device()).unwrap()
            };
            let dot = |a: &Tensor, b: &Tensor| {
                let pairs = flat(a).into_iter().zip(flat(b));
                pairs.map(|(a, b)| f64::from(a) * f64::from(b)).sum::<f64>()
            };
            let x = random(&[2, 4, h, w], 61);
            let attend = |x: &Tensor| unet.attend(x, &[701.0, 301.0], &context).unwrap();
            let attended = attend(&x);
            assert_eq!(attended.size, Size::new(w.div_ceil(2), h.div_ceil(2)));
            let g = random(attended.map.dims(), 62);
            let gradient = unet.latent_gradient(attended, &g).unwrap();
            for seed in 63..66 {
                let along = random(x.dims(), seed);
                let at = |e: f64| dot(&attend(&(&x + (&along * e).unwrap()).unwrap()).map, &g);
                let (got, want) = (dot(&gradient, &along), (at(0.01) - at(-0.01)) / 0.02);
                let size = dot(&gradient, &gradient).sqrt() * dot(&along, &along).sqrt();
                // Of a difference over 0.02 in f32; measured 7.5e-5.
                let error = (got - want).abs() / size;
                println!("{name}: {h}x{w}: {got:.5} {want:.5}: {error:.1e}");
                assert!(error < 2e-4, "{name}: {got} {want} of {size}");
            }
        }
    }
}

#[test]
fn words_are_found_or_named() {
    let pipeline = pipeline("sd1-f32");
    let prompt = "A red dog, a Cat and a red hat";
    // "cat" is two tokens to this tokenizer.
    assert_eq!(pipeline.word_tokens(prompt, "dog").unwrap(), [3]);
    assert_eq!(pipeline.word_tokens(prompt, "cat").unwrap(), [6, 7]);
    assert_eq!(pipeline.word_tokens(prompt, "red").unwrap(), [2, 10]);
    assert_eq!(pipeline.word_tokens(prompt, "red  hat").unwrap()[0], 10);
    let error = pipeline.word_tokens(prompt, "do").unwrap_err().to_string();
    assert!(
        error.contains("`A`, `red`, `dog`, `Cat`, `and`, `hat`"),
        "{error}"
    );
    assert!(error.ends_with("found `do`"), "{error}");
    assert!(pipeline.word_tokens("", "dog").is_err());
    let long = format!("{}dog", "red ".repeat(100));
    let error = pipeline.word_tokens(&long, "dog").unwrap_err().to_string();
    assert!(error.contains("cut off"), "{error}");
}

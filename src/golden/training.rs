//! Soft masks, outputs at words and tuned values equal PyTorch's, as `tests/golden/make_training.py` wrote them.
#![expect(clippy::print_stdout, reason = "a comparison tells how near it came")]

use std::collections::{BTreeMap, HashMap};

use crate::find::outputs::{self, Wanted};
use crate::find::tuning::TrainableSet;
use crate::find::{DreamBoothData, PromptedLatents, learned, tuning};
use crate::index::{NeuronSet, Scope, Site, SiteSelection};
use crate::prompt::Marks;
use crate::{Picture, Pipeline, list_images};
use candle_core::Tensor;
use serde_json::Value;

use super::{device, golden_dir, load};

/// What is allowed of each kind, as a relative norm of the worst site: at most ten times what was measured. Several
/// steps, each of which goes on from what the last one's rounding left; Adam divides by gradients, also by small ones.
const ALLOWED: [(&str, f64); 6] = [
    ("outputs", 3e-4), // measured 3.6e-5
    ("importance", 3e-4),
    ("mask", 5e-4),         // measured 6.3e-5
    ("mask-words", 2e-4),   // measured 2.2e-5
    ("values", 1e-4),       // measured 1.9e-5
    ("values-words", 1e-3), // measured 3.3e-4, by one site whose first gradients are nearly nothing
];
/// Of the losses of the steps, relative: measured 1.8e-7.
const LOSS: f64 = 1e-6;
const MODELS: [&str; 2] = ["sd1-f32", "sd2-f16b"];

struct Golden {
    cases: Value,
    tensors: HashMap<String, Tensor>,
}

impl Golden {
    fn open() -> Self {
        Self {
            cases: serde_json::from_str(
                &std::fs::read_to_string(golden_dir().join("training.json")).unwrap(),
            )
            .unwrap(),
            tensors: candle_core::safetensors::load(
                golden_dir().join("training.safetensors"),
                &device(),
            )
            .unwrap(),
        }
    }

    /// Compares every site, and the losses of the steps.
    fn compare(&self, kind: &str, model: &str, found: &BTreeMap<Site, Vec<f32>>, losses: &[f32]) {
        let run = if kind == "importance" {
            "outputs"
        } else {
            kind
        };
        let want = self.cases["losses"][format!("{run}.{model}")]
            .as_array()
            .unwrap();
        assert_eq!(losses.len(), want.len());
        for (got, want) in losses.iter().zip(want) {
            let want = want.as_f64().unwrap();
            let error = (f64::from(*got) - want).abs() / want;
            println!("{kind} {model}: loss {error:.1e}");
            assert!(error < LOSS, "{kind} {model}: loss {got}, expected {want}");
        }
        let prefix = format!("{kind}.{model}.");
        let sites = self.tensors.keys().filter(|name| name.starts_with(&prefix));
        assert_eq!(sites.count(), found.len());
        let (mut worst, mut moved) = (0f64, 0f64);
        for (site, got) in found {
            let want: Vec<f32> = self.tensors[&format!("{prefix}{site}")]
                .flatten_all()
                .unwrap()
                .to_vec1()
                .unwrap();
            assert_eq!(got.len(), want.len(), "{site}");
            let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|v| v * v).sum::<f64>().sqrt();
            let size = norm(&mut want.iter().map(|&w| f64::from(w)));
            let error = norm(&mut got.iter().zip(&want).map(|(g, w)| f64::from(g - w)));
            worst = worst.max(error / size);
            moved += size;
        }
        println!("{kind} {model}: worst site {worst:.1e}");
        let (_, allowed) = ALLOWED.iter().find(|(name, _)| *name == kind).unwrap();
        assert!(moved > 0.0 && worst < *allowed, "{kind} {model}: {worst}");
    }
}

fn data_of(pipeline: &Pipeline, marks: &Marks, settings: &Value) -> Vec<DreamBoothData> {
    let examples = |folder: &str, prompt: &Value| PromptedLatents {
        latents: list_images(&[golden_dir().join("photos").join(folder)])
            .unwrap()
            .files
            .iter()
            .map(|path| pipeline.latents(&Picture::read(path, pipeline.size).unwrap()))
            .collect::<crate::Result<_>>()
            .unwrap(),
        context: pipeline
            .embed(&[marks.prompt(prompt.as_str().unwrap())])
            .unwrap(),
    };
    let listed = settings["lessons"].as_array().unwrap().iter();
    listed
        .map(|prompts| DreamBoothData {
            instance: examples("subject", &prompts[0]),
            class: prompts.get(1).map(|prompt| examples("class", prompt)),
        })
        .collect()
}

/// The marks of the subjects that the settings name, and where weights act.
fn marks(settings: &Value) -> (Marks, Scope) {
    let Some(phrases) = settings.get("phrases") else {
        return (Marks::default(), Scope::Prompt);
    };
    let phrase = |phrase: &Value| phrase.as_str().unwrap().to_owned();
    let phrases = phrases.as_array().unwrap().iter().map(phrase).collect();
    (Marks::new(phrases, Vec::new()), Scope::Words)
}

fn learned_options(settings: &Value, scope: Scope) -> learned::Options {
    let number = |key: &str| settings[key].as_f64().unwrap();
    learned::Options {
        steps: number("steps") as usize,
        batch_size: number("half") as usize,
        learning_rate: number("rate"),
        prior_loss_weight: number("prior_weight"),
        sites: SiteSelection::Cross,
        key_reach: settings["key_reach"].as_f64().unwrap_or(1.0),
        scope,
        seed: number("seed") as u64,
    }
}

fn pipeline(model: &str) -> Pipeline {
    load(&golden_dir().join("models").join(model)).unwrap()
}

#[test]
fn soft_masks_are_equal() {
    soft_masks("mask");
}

#[test]
fn soft_masks_at_words_are_equal() {
    soft_masks("mask-words");
}

/// A model, and what is learned on it from a single subject.
fn lesson(model: &str, settings: &Value) -> (Pipeline, DreamBoothData, learned::Options) {
    let pipeline = pipeline(model);
    let (marks, scope) = marks(settings);
    let data = data_of(&pipeline, &marks, settings).remove(0);
    (pipeline, data, learned_options(settings, scope))
}

fn soft_masks(kind: &str) {
    let golden = Golden::open();
    for model in MODELS {
        let (mut pipeline, data, options) = lesson(model, &golden.cases[kind]);
        let mut losses = Vec::new();
        let (unet, schedule) = pipeline.unet_mut();
        let masks = learned::soft_mask(unet, schedule, &data, &options, None, |at| {
            losses.push(at.step.loss);
            Ok(())
        })
        .unwrap();
        golden.compare(kind, model, &masks, &losses);
    }
}

#[test]
fn outputs_at_words_are_equal() {
    let golden = Golden::open();
    for model in MODELS {
        let (mut pipeline, data, options) = lesson(model, &golden.cases["outputs"]);
        let mut losses = Vec::new();
        let (unet, schedule) = pipeline.unet_mut();
        let wanted = outputs::learn_outputs(unet, schedule, &data, &options, None, |at| {
            losses.push(at.step.loss);
            Ok(())
        })
        .unwrap();
        let of = |values: fn(&Wanted) -> &Vec<f32>| {
            wanted
                .iter()
                .map(|(site, wanted)| (site.clone(), values(wanted).clone()))
                .collect()
        };
        golden.compare("outputs", model, &of(|wanted| &wanted.changes), &losses);
        golden.compare(
            "importance",
            model,
            &of(|wanted| &wanted.importance),
            &losses,
        );
    }
}

#[test]
fn tuned_values_are_equal() {
    tuned_values("values");
}

#[test]
fn tuned_values_at_words_are_equal() {
    tuned_values("values-words");
}

/// Every weight from the model's own; or at the words of two subjects every third and every fourth, from zero.
fn tuned_values(kind: &str) {
    let golden = Golden::open();
    let settings = &golden.cases[kind];
    let number = |key: &str| settings[key].as_f64().unwrap();
    for model in MODELS {
        let mut pipeline = pipeline(model);
        let (marks, scope) = marks(settings);
        let data = data_of(&pipeline, &marks, settings);
        let options = tuning::Options {
            steps: number("steps") as usize,
            batch_size: number("half") as usize,
            learning_rate: number("rate"),
            prior_loss_weight: number("prior_weight"),
            scope,
            seed: number("seed") as u64,
        };
        let weights = pipeline.unet().site_tensors(SiteSelection::Cross).unwrap();
        let open: BTreeMap<Site, TrainableSet> = weights
            .into_iter()
            .map(|(site, weight)| (site, open(&weight, scope)))
            .collect();
        let before = open.clone();
        let mut losses = Vec::new();
        let (unet, schedule) = pipeline.unet_mut();
        let values = tuning::values(unet, schedule, &data, open, &options, None, |at| {
            losses.push(at.step.loss);
            Ok(())
        })
        .unwrap();
        let change = values
            .iter()
            .map(|(site, now)| {
                let pairs = now.iter().zip(&before[site].values);
                (site.clone(), pairs.map(|(n, b)| n - b).collect())
            })
            .collect();
        golden.compare(kind, model, &change, &losses);
    }
}

fn open(weight: &Tensor, scope: Scope) -> TrainableSet {
    let (rows, columns) = weight.dims2().unwrap();
    let values: Vec<f32> = weight.flatten_all().unwrap().to_vec1().unwrap();
    let shape = [rows as u32, columns as u32];
    let all = 0..values.len() as u32;
    if scope == Scope::Prompt {
        let neurons = NeuronSet::new(shape, all.collect()).unwrap();
        return TrainableSet { neurons, values };
    }
    let union: Vec<u32> = all.filter(|i| i % 3 == 0 || i % 4 == 0).collect();
    let every = |n| {
        let places = (0u32..).zip(&union);
        places
            .filter(|(_, i)| *i % n == 0)
            .map(|(p, _)| p)
            .collect()
    };
    let owners = vec![every(3), every(4)];
    TrainableSet {
        values: vec![0.0; union.len()],
        neurons: NeuronSet::new(shape, union)
            .and_then(|set| set.with_owners(owners))
            .unwrap(),
    }
}

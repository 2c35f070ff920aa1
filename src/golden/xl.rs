//! Stable Diffusion XL, on values that `tests/golden/make_xl.py` wrote with diffusers.
#![expect(clippy::print_stdout, reason = "a comparison tells how near it came")]

use std::collections::{BTreeMap, HashMap};

use crate::find::paper::{BatchSampling, Options, algorithm1};
use crate::find::selection::Selection;
use crate::find::{DreamBoothData, PromptedLatents};
use crate::index::{Scope, Site, SiteSelection};
use crate::model::{Conditioning, SizeIds};
use crate::prompt::{Marks, PromptSpec};
use crate::{Picture, Pipeline, SampleOptions, Size, list_images};
use candle_core::Tensor;
use serde_json::Value;

use super::{copy, device, golden_dir, load};

// As in golden/: at most ten times what was measured.

/// Embeddings of tokens and whole texts, of the largest value.
const EMBEDDING: f64 = 5e-6;
/// Outputs of the UNet and the autoencoder, of the largest value.
const OUTPUT: f64 = 1e-5;
/// Gradients and scores, relative norm of each site.
const GRADIENT: f64 = 5e-5;
/// Losses, relative.
const LOSS: f64 = 1e-6;
/// Pictures.
const PIXEL: u8 = 2;

struct Golden {
    name: &'static str,
    tensors: HashMap<String, Tensor>,
    case: Value,
    prompts: Vec<String>,
    pipeline: Pipeline,
}

/// The two models: `b` differs from `a` in all that a configuration may say otherwise.
fn models() -> impl Iterator<Item = Golden> {
    let cases = std::fs::read_to_string(golden_dir().join("xl.json")).unwrap();
    let cases: Value = serde_json::from_str(&cases).unwrap();
    ["a", "b"].into_iter().map(move |name| {
        let file = golden_dir().join(format!("xl-{name}.safetensors"));
        let folder = golden_dir().join("xl").join(name);
        Golden {
            name,
            tensors: candle_core::safetensors::load(file, &device()).unwrap(),
            case: cases["models"][name].clone(),
            prompts: serde_json::from_value(cases["prompts"].clone()).unwrap(),
            pipeline: load(&folder).unwrap(),
        }
    })
}

fn flat(tensor: &Tensor) -> Vec<f64> {
    let wide = tensor.to_dtype(candle_core::DType::F64).unwrap();
    wide.flatten_all().unwrap().to_vec1().unwrap()
}

fn numbers<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

fn sizes(numbers: &Value) -> SizeIds {
    let [height, width, top, left, to_height, to_width]: [usize; 6] = self::numbers(numbers);
    SizeIds {
        original: Size::new(width, height),
        top,
        left,
        target: Size::new(to_width, to_height),
    }
}

impl Golden {
    fn tensor(&self, name: &str) -> &Tensor {
        &self.tensors[name]
    }

    /// The worst difference, as a share of the largest value.
    fn close(&self, name: &str, got: &Tensor, tolerance: f64) {
        let want = self.tensor(name);
        assert_eq!(got.dims(), want.dims(), "{}: {name}", self.name);
        let (got, want) = (flat(got), flat(want));
        let scale = want.iter().fold(0f64, |m, v| m.max(v.abs()));
        let differences = got.iter().zip(&want).map(|(g, w)| (g - w).abs());
        let worst = differences.fold(0f64, |m, d| if d.is_nan() { d } else { m.max(d) }) / scale;
        println!("xl {}: {name}: {worst:.1e}", self.name);
        assert!(worst <= tolerance, "{}: {name}: {worst:.2e}", self.name);
    }

    /// ‖got − want‖ / ‖want‖ of each site; there must be all that the prefix has.
    fn sites_close(&self, prefix: &str, got: &BTreeMap<Site, Vec<f32>>) {
        let expected = self.tensors.keys().filter(|k| k.starts_with(prefix));
        assert_eq!(expected.count(), got.len(), "{}: {prefix}", self.name);
        let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
        let mut worst = 0f64;
        for (site, got) in got {
            let want = flat(self.tensor(&format!("{prefix}{site}")));
            assert_eq!(got.len(), want.len(), "{}: {site}", self.name);
            let size = norm(&mut want.iter().copied());
            let error = norm(&mut got.iter().zip(&want).map(|(g, w)| f64::from(*g) - w)) / size;
            assert!(
                error <= GRADIENT && size > 0.0,
                "{}: {prefix}{site}: {error:.2e} of {size:.2e}",
                self.name
            );
            worst = worst.max(error);
        }
        println!("xl {}: {prefix}*: worst {worst:.1e}", self.name);
    }

    fn loss_close(&self, what: &str, got: f32, want: &Value) {
        let want = want.as_f64().unwrap();
        let error = (f64::from(got) - want).abs() / want;
        println!("xl {}: loss of {what}: {error:.1e}", self.name);
        assert!(
            error <= LOSS,
            "{}: {what}: {got}, expected {want}",
            self.name
        );
    }

    fn latents(&self, folder: &str) -> Vec<Tensor> {
        let files = list_images(&[golden_dir().join("photos").join(folder)]).unwrap();
        let size = self.pipeline.size;
        let latents = |file| self.pipeline.latents(&Picture::read(file, size).unwrap());
        let all: crate::Result<Vec<Tensor>> = files.files.iter().map(|f| latents(f)).collect();
        all.unwrap()
    }
}

fn vectors(gradients: BTreeMap<Site, Tensor>) -> BTreeMap<Site, Vec<f32>> {
    let flat = |g: Tensor| g.flatten_all().unwrap().to_vec1().unwrap();
    let all = gradients.into_iter();
    all.map(|(site, gradient)| (site, flat(gradient))).collect()
}

#[test]
pub(super) fn texts_are_equal() {
    for golden in models() {
        for (number, tokenizer) in golden.pipeline.tokenizers().enumerate() {
            let want: Vec<Vec<u32>> = golden
                .tensor(&format!("ids.{}", number + 1))
                .to_vec2()
                .unwrap();
            for (prompt, want) in golden.prompts.iter().zip(want) {
                let got = tokenizer.encode(prompt).unwrap();
                assert_eq!(got, want, "{}: {number}: {prompt:?}", golden.name);
            }
        }
        let prompts: Vec<PromptSpec> = golden.prompts.iter().map(PromptSpec::from).collect();
        let context = golden.pipeline.embed(&prompts).unwrap();
        golden.close("embeddings", context.embedding(), EMBEDDING);
        golden.close("pooled", context.pooled().unwrap().0, EMBEDDING);
    }
}

/// At other sizes than the model's own, with cuts, which the UNet is told of.
#[test]
pub(super) fn networks_are_equal() {
    for golden in models() {
        let unet = golden.pipeline.unet();
        for (case, settings) in golden.case["unet"].as_object().unwrap() {
            let [x, context, pooled] = ["x", "context", "pooled"]
                .map(|part| golden.tensor(&format!("unet.{case}.{part}")).clone());
            let timesteps: Vec<f32> = numbers(&settings["timesteps"]);
            let plain = Conditioning::from(context);
            let context = plain.clone().with_pooled(pooled, sizes(&settings["sizes"]));
            let context = context.unwrap();
            let output = unet.forward(&x, &timesteps, &context).unwrap();
            golden.close(&format!("unet.{case}.output"), &output, OUTPUT);
            let projected = unet.precompute_kv(&context).unwrap();
            let again = unet.forward(&x, &timesteps, &projected).unwrap();
            assert_eq!(flat(&again), flat(&output), "{}: {case}", golden.name);
            // Without what XL is told besides there is an error, and nothing worse.
            let error = unet
                .forward(&x, &timesteps, &plain)
                .unwrap_err()
                .to_string();
            assert!(error.contains("Stable Diffusion XL"), "{error}");
        }
        let vae = golden.pipeline.vae();
        let means = vae.encode(golden.tensor("vae.picture")).unwrap();
        golden.close("vae.mean", &means, OUTPUT);
        let decoded = vae.decode(golden.tensor("vae.latents")).unwrap();
        golden.close("vae.decoded", &decoded, OUTPUT);
        assert!((vae.scaling_factor() - 0.13025).abs() < 1e-12);
    }
}

/// Of every site, and of weights at a subject's own words alone, which both tokenizers place.
#[test]
pub(super) fn gradients_of_every_site_are_equal() {
    for golden in models() {
        let unet = golden.pipeline.unet();
        let settings = &golden.case["grad"];
        let prompts: Vec<String> = numbers(&settings["prompts"]);
        let timesteps: Vec<f32> = numbers(&settings["timesteps"]);
        let marks = Marks::new(vec![numbers(&settings["words"])], Vec::new());
        let prompts: Vec<PromptSpec> = prompts.into_iter().map(|p| marks.prompt(p)).collect();
        let context = golden.pipeline.embed(&prompts).unwrap();
        let (x, target) = (golden.tensor("grad.x"), golden.tensor("grad.target"));
        let pass = || {
            let (output, saved) = unet.forward_saving(x, &timesteps, &context).unwrap();
            let error = (&output - target).unwrap();
            let loss = error.sqr().unwrap().mean_all().unwrap();
            let loss = loss.to_scalar::<f32>().unwrap();
            golden.loss_close("the gradients", loss, &settings["loss"]);
            ((error * (2.0 / output.elem_count() as f64)).unwrap(), saved)
        };
        let (grad, saved) = pass();
        let found = unet.backward(saved, &grad, SiteSelection::All).unwrap();
        golden.sites_close("grad.prompt.", &vectors(found));
        // The pass ends elsewhere where only some sites are asked for.
        let (grad, saved) = pass();
        let found = unet.backward(saved, &grad, SiteSelection::Cross).unwrap();
        let cross = unet.site_weights(SiteSelection::Cross);
        assert!(found.keys().eq(cross.keys()) && !cross.is_empty());
        let (grad, saved) = pass();
        let mut found = unet
            .backward_at_words(saved, &grad, SiteSelection::Cross)
            .unwrap();
        assert_eq!(found.len(), 1);
        golden.sites_close("grad.words.", &vectors(found.remove(0)));
    }
}

#[test]
pub(super) fn scores_of_algorithm_1_are_equal() {
    for mut golden in models() {
        for (case, settings) in golden.case["find"].as_object().unwrap().clone() {
            let text = |key: &str| settings[key].as_str().unwrap();
            let examples = |folder: &str, prompt: String| PromptedLatents {
                latents: golden.latents(folder),
                context: golden.pipeline.embed(&[(&prompt).into()]).unwrap(),
            };
            let (noun, token) = (text("noun"), text("token"));
            let lesson = DreamBoothData {
                instance: examples("subject", format!("a photo of a {token} {noun}")),
                class: Some(examples("class", format!("a photo of a {noun}"))),
            };
            let options = Options {
                steps: numbers(&settings["steps"]),
                batch_sampling: BatchSampling::Pairs,
                rho: numbers(&settings["rho"]),
                prior_loss_weight: numbers(&settings["prior_weight"]),
                sites: SiteSelection::Cross,
                scope: Scope::Prompt,
                seed: numbers(&settings["seed"]),
                selection: Selection::Density(0.03),
                until_stable: None,
                shard: None,
            };
            let mut losses = Vec::new();
            let (unet, schedule) = golden.pipeline.unet_mut();
            let scores = algorithm1(unet, schedule, &lesson, &options, None, |at| {
                losses.push(at.step.loss);
                Ok(())
            });
            golden.sites_close(&format!("find.{case}."), &scores.unwrap().scores);
            let wanted = settings["losses"].as_array().unwrap();
            assert_eq!(losses.len(), wanted.len());
            for (got, want) in losses.into_iter().zip(wanted) {
                golden.loss_close(&case, got, want);
            }
        }
    }
}

/// Five samplers, another shape, no guidance; no negative prompt, which is zeros to `a` and the empty text
/// to `b`; and the empty text, which is itself to both.
#[test]
pub(super) fn whole_pictures_are_equal() {
    for golden in models() {
        for (case, settings) in golden.case["picture"].as_object().unwrap() {
            let options = SampleOptions {
                sampler: settings["sampler"].as_str().unwrap().parse().unwrap(),
                steps: numbers(&settings["steps"]),
                guidance: numbers(&settings["guidance"]),
                negative: settings["negative"].as_str().map(Into::into),
                size: Some(Size::new(
                    numbers(&settings["width"]),
                    numbers(&settings["height"]),
                )),
                ..SampleOptions::default()
            };
            let (prompt, seed) = (
                settings["prompt"].as_str().unwrap(),
                numbers(&settings["seed"]),
            );
            let drawn = golden.pipeline.draw(prompt, &options, &[seed], |_| Ok(()));
            let want = golden
                .tensor(&format!("picture.{case}"))
                .flatten_all()
                .unwrap();
            let want: Vec<u8> = want.to_vec1().unwrap();
            let got = drawn.unwrap().remove(0);
            assert_eq!(got.rgb().len(), want.len(), "{}: {case}", golden.name);
            let differences = got.rgb().iter().zip(&want).map(|(g, w)| g.abs_diff(*w));
            let worst = differences.max().unwrap();
            println!("xl {}: {case}: worst pixel differs by {worst}", golden.name);
            assert!(worst <= PIXEL, "{}: {case}: {worst}", golden.name);
        }
    }
}

/// A token's embeddings by both encoders are side by side, so that words must be at the same places for both.
#[test]
fn tokenizers_that_place_words_apart_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("m");
    copy(&golden_dir().join("xl/a"), &folder);
    std::fs::write(folder.join("tokenizer_2/merges.txt"), "#version: 0.2\n").unwrap();
    let model = load(&folder).unwrap();
    let marks = Marks::new(vec!["sks dog".to_owned()], Vec::new());
    model.embed(&["a sks dog".into()]).unwrap();
    let error = model.embed(&[marks.prompt("a sks dog")]).unwrap_err();
    assert!(error.to_string().contains("tokenizer_2"), "{error}");
    assert!(model.word_tokens("a sks dog", "dog").is_err());
}

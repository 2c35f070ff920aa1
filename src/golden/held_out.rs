//! The loss of `eval` on held-out noise.

use serde_json::Value;

use super::{golden_dir, load};
use crate::eval::HeldOut;
use crate::find::FIRST_SEED;
use crate::find::{DreamBoothData, PromptedLatents};
use crate::{Picture, list_images};

/// The loss on held-out noise is that of `find`'s steps, where the seeds are made to meet.
#[test]
fn held_out_losses_are_those_of_find() {
    let cases = std::fs::read_to_string(golden_dir().join("cases.json")).unwrap();
    let cases: Value = serde_json::from_str(&cases).unwrap();
    for model in ["sd1-f32", "sd2-f16"] {
        let settings = &cases["models"][model]["find"]["cross"];
        let want = settings["losses"].as_array().unwrap();
        let pipeline = load(&golden_dir().join("models").join(model)).unwrap();
        let examples = |folder: &str, prompt: &str| PromptedLatents {
            latents: list_images(&[golden_dir().join(folder)])
                .unwrap()
                .files
                .iter()
                .map(|path| pipeline.latents(&Picture::read(path, pipeline.size).unwrap()))
                .collect::<crate::Result<_>>()
                .unwrap(),
            context: pipeline.embed(&[prompt.into()]).unwrap(),
        };
        let data = DreamBoothData {
            instance: examples("photos/subject", "a photo of a sks dog"),
            class: Some(examples("photos/class", "a photo of a dog")),
        };
        // A generator takes the low 32 bits of a seed.
        let seed = (1 << 32) - FIRST_SEED + settings["seed"].as_u64().unwrap();
        let held_out = HeldOut::of(pipeline.schedule(), &data, want.len(), seed).unwrap();
        let predictions = held_out.predict(pipeline.unet(), |_, _| Ok(())).unwrap();
        let losses = held_out.losses(&predictions, &predictions).unwrap();
        let weight = settings["prior_weight"].as_f64().unwrap();
        for (k, want) in want.iter().enumerate() {
            let want = want.as_f64().unwrap();
            let got = losses.subject[k] + weight * losses.class[k];
            assert!(
                (got - want).abs() < 1e-4 * want,
                "{model}, step {k}: {got}, {want}"
            );
        }
        assert!(losses.drift.iter().all(|d| d.abs() < 1e-12));
    }
}

//! How a picture was drawn, for the picture's own file.

use serde_json::json;

use super::Pipeline;
use super::concept::Concept;
use super::options::SampleOptions;
use crate::index::LayerSelection;
use crate::picture::a1111_parameters;
use crate::prompt::{PromptSpec, WeightedText};
use crate::{Metadata, Picture, Result};

/// How a picture was drawn: enough to draw it again.
pub struct Drawn<'a> {
    /// The model.
    pub pipeline: &'a Pipeline,
    /// The prompt as it was used.
    pub prompt: &'a PromptSpec,
    /// How it was sampled.
    pub options: &'a SampleOptions,
    /// The picture's own seed.
    pub seed: u64,
    /// Whose neurons were shut.
    pub concepts: &'a [Concept],
    /// How far.
    pub strength: f64,
    /// In which layers; `None` is in all of them.
    pub layers: Option<&'a LayerSelection>,
    /// The words of attend-and-excite.
    pub excited: &'a [String],
    /// The SHA-256 of the picture that it began with, if it did.
    pub init: Option<&'a str>,
    /// How much larger its pixels are written.
    pub zoom: u32,
    /// Fields of the A1111 web UI on the model: hashes of its file.
    pub hashes: &'a [(&'static str, String)],
}

impl Drawn<'_> {
    /// What the picture's file says: for people and other programs, and for this one.
    ///
    /// # Errors
    /// If a weight cannot be read back from the device.
    pub fn metadata(&self, picture: &Picture) -> Result<Metadata> {
        let Self {
            pipeline,
            prompt,
            options,
            seed,
            concepts,
            strength,
            layers,
            excited,
            init,
            zoom,
            hashes,
        } = self;
        let began = options.init.as_ref().map(|init| init.strength);
        let text = prompt.weighted.to_string();
        let negative = options.negative.as_ref().map(WeightedText::to_string);
        let size = picture.size();
        let names: Vec<String> = concepts
            .iter()
            .map(|c| format!("{}@{}", c.name, &c.sha256[..10]))
            .collect();
        let mut fields = vec![
            ("Steps", options.steps.to_string()),
            ("Sampler", options.sampler.label().to_owned()),
            ("CFG scale", options.guidance.to_string()),
            ("Seed", seed.to_string()),
            ("Size", size.to_string()),
        ];
        fields.extend(hashes.iter().cloned());
        fields.push(("Model", pipeline.name.clone()));
        if let Some(strength) = began {
            fields.push(("Denoising strength", strength.to_string()));
        }
        fields.extend([("Version", format!("cones {}", env!("CARGO_PKG_VERSION")))]);
        if !names.is_empty() {
            fields.push(("Cones", names.join(", ")));
            fields.push(("Cones strength", strength.to_string()));
        }
        if let Some(layers) = layers {
            fields.push(("Cones layers", layers.to_string()));
        }
        if !excited.is_empty() {
            fields.push(("Attend-and-excite", excited.join(", ")));
        }
        let fields: Vec<(&str, &str)> = fields
            .iter()
            .map(|(key, value)| (*key, value.as_str()))
            .collect();
        let concepts: Vec<_> = concepts
            .iter()
            .map(|c| json!({"name": c.name, "sha256": c.sha256}))
            .collect();
        let cones = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "model": pipeline.name,
            "fingerprint": pipeline.fingerprint()?,
            "prompt": text,
            "negative": negative,
            "long_prompt": prompt.in_chunks,
            "sampler": options.sampler.to_string(),
            "steps": options.steps,
            "guidance": options.guidance,
            "seed": seed,
            "width": size.width,
            "height": size.height,
            "concepts": concepts,
            "strength": strength,
            "layers": layers.map(LayerSelection::to_string),
            "attend_excite": excited,
            "init": began.map(|strength| json!({"sha256": init, "strength": strength})),
            "zoom": zoom,
        });
        Ok(Metadata {
            parameters: a1111_parameters(&text, negative.as_deref().unwrap_or_default(), &fields),
            cones: cones.to_string(),
        })
    }
}

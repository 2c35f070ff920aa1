//! How a picture was drawn, for the picture's own file.

use std::path::{Path, PathBuf};

use cones::index::{LayerSelection, NeuronIndex};
use cones::{Metadata, Picture, Pipeline, SampleOptions, a1111_parameters};
use serde_json::json;

use super::read_index;

/// A concept with the name of its file.
pub(crate) struct Concept {
    pub(super) path: PathBuf,
    pub(super) name: String,
    pub(super) index: NeuronIndex,
    pub(super) sha256: String,
}

impl Concept {
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let index = read_index(path)?;
        let name = path
            .file_stem()
            .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        Ok(Self {
            path: path.to_owned(),
            name,
            sha256: index.sha256(),
            index,
        })
    }
}

/// How a picture was drawn: enough to draw it again.
pub(crate) struct Drawn<'a> {
    pub(crate) pipeline: &'a Pipeline,
    pub(crate) prompt: &'a str,
    pub(crate) options: &'a SampleOptions,
    pub(crate) seed: u64,
    pub(crate) concepts: &'a [Concept],
    pub(crate) layers: Option<&'a LayerSelection>,
    /// The words of attend-and-excite.
    pub(crate) excited: &'a [String],
}

impl Drawn<'_> {
    pub(crate) fn metadata(&self, picture: &Picture) -> cones::Result<Metadata> {
        let Self {
            pipeline,
            prompt,
            options,
            seed,
            concepts,
            layers,
            excited,
        } = self;
        let size = format!("{}x{}", picture.width(), picture.height());
        let names: Vec<String> = concepts
            .iter()
            .map(|c| format!("{}@{}", c.name, &c.sha256[..10]))
            .collect();
        let mut fields = vec![
            ("Steps", options.steps.to_string()),
            ("Sampler", options.sampler.label().to_owned()),
            ("CFG scale", options.guidance.to_string()),
            ("Seed", seed.to_string()),
            ("Size", size),
            ("Model", pipeline.name().to_owned()),
            ("Version", format!("cones {}", env!("CARGO_PKG_VERSION"))),
        ];
        if !names.is_empty() {
            fields.push(("Cones", names.join(", ")));
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
            "model": pipeline.name(),
            "fingerprint": pipeline.fingerprint()?,
            "prompt": prompt,
            "negative": options.negative,
            "sampler": options.sampler.to_string(),
            "steps": options.steps,
            "guidance": options.guidance,
            "seed": seed,
            "width": picture.width(),
            "height": picture.height(),
            "concepts": concepts,
            "layers": layers.map(LayerSelection::to_string),
            "attend_excite": excited,
        });
        Ok(Metadata {
            parameters: a1111_parameters(prompt, &options.negative, &fields),
            cones: cones.to_string(),
        })
    }
}

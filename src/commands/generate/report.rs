//! What `cones generate` says of the pictures that it drew.

use std::path::PathBuf;

use cones::pipeline::Concept;
use cones::{SampleOptions, Size, escaped};
use serde_json::{Value, json};

use super::super::outputs::Saved;
use super::super::{count, name};
use super::attention::Heat;
use crate::report::ui::peak_memory;

/// Pictures, and how they were drawn.
pub(super) struct Report<'a> {
    pub(super) model: &'a str,
    pub(super) files: &'a [PathBuf],
    pub(super) concepts: &'a [Concept],
    pub(super) prompt: &'a str,
    pub(super) options: &'a SampleOptions,
    pub(super) size: Size,
    /// The words of attend-and-excite.
    pub(super) excited: &'a [String],
    /// The seed and the file of each.
    pub(super) pictures: &'a [(u64, PathBuf)],
    /// The heat maps of each.
    pub(super) heat: &'a [Vec<Heat>],
    pub(super) seconds_per_step: f64,
}

impl Report<'_> {
    pub(super) fn json(&self) -> Value {
        let images: Vec<_> = self
            .pictures
            .iter()
            .zip(self.heat)
            .map(|((seed, path), heat)| {
                let heat: Vec<_> = heat.iter().map(Heat::json).collect();
                json!({"path": name(path), "seed": seed, "heatmaps": heat})
            })
            .collect();
        let concepts: Vec<_> = self
            .files
            .iter()
            .zip(self.concepts)
            .map(|(path, c)| json!({"index": name(path), "sha256": c.sha256}))
            .collect();
        json!({
            "images": images,
            "model": self.model,
            "concepts": concepts,
            "prompt": self.prompt,
            "negative": self.options.negative,
            "sampler": self.options.sampler.to_string(),
            "steps": self.options.steps,
            "guidance": self.options.guidance,
            "size": self.size.to_string(),
            "attend_excite": self.excited,
            "seconds_per_step": self.seconds_per_step,
            "peak_memory_bytes": peak_memory(),
        })
    }

    pub(super) fn text(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        for ((seed, path), heat) in self.pictures.iter().zip(self.heat) {
            lines.push(format!("{} (seed {seed})", escaped(&name(path))));
            lines.extend(heat.iter().map(Heat::line));
        }
        lines.join("\n")
    }
}

/// What there is of an interrupted run.
pub(super) fn kept(saved: &Saved, all: usize) -> String {
    const MORE: &str = "; the same command draws the others";
    match saved.written() {
        [] => "no picture was finished".to_owned(),
        [one] => format!(
            "1 file is kept, `{}`, of {}{}",
            name(one),
            count(all, "picture"),
            if all > 1 { MORE } else { "" }
        ),
        [first, .., last] => format!(
            "{} files are kept, `{}` to `{}`, of {}{MORE}",
            saved.written().len(),
            name(first),
            name(last),
            count(all, "picture")
        ),
    }
}

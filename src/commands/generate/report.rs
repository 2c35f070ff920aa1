//! What `cones generate` says of the pictures that it drew.

use std::path::{Path, PathBuf};

use cones::pipeline::Concept;
use cones::prompt::PromptSpec;
use cones::{AttentionOptions, SampleOptions, Size, escaped};
use serde_json::{Value, json};

use super::super::outputs::Saved;
use super::super::{count, name};
use super::attention::Heat;
use super::pictures::Drawing;
use crate::report::ui::peak_memory;

/// Pictures, and how they were drawn.
pub(super) struct Report<'a> {
    pub(super) model: &'a str,
    pub(super) files: &'a [PathBuf],
    pub(super) concepts: &'a [Concept],
    pub(super) prompts: &'a [PromptSpec],
    pub(super) options: &'a SampleOptions,
    pub(super) strength: f64,
    pub(super) size: Size,
    /// The words of attend-and-excite, for each prompt.
    pub(super) excited: &'a [AttentionOptions],
    pub(super) pictures: &'a [Drawing],
    pub(super) grid: Option<&'a Path>,
    pub(super) seconds_per_step: f64,
}

impl Report<'_> {
    fn prompt(&self, number: usize) -> String {
        self.prompts[number].weighted.to_string()
    }

    pub(super) fn json(&self) -> Value {
        let images: Vec<_> = self
            .pictures
            .iter()
            .map(|picture| {
                let heat: Vec<_> = picture.heat.iter().map(Heat::json).collect();
                let prompt = self.prompt(picture.prompt);
                json!({"path": name(&picture.path), "seed": picture.seed, "prompt": prompt, "heatmaps": heat})
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
            "grid": self.grid.map(name),
            "model": self.model,
            "concepts": concepts,
            "prompt": self.prompt(0),
            "negative": self.options.negative.as_ref().map(ToString::to_string),
            "strength": self.strength,
            "sampler": self.options.sampler.to_string(),
            "steps": self.options.steps,
            "guidance": self.options.guidance,
            "size": self.size.to_string(),
            "attend_excite": self.excited[0].excite,
            "seconds_per_step": self.seconds_per_step,
            "peak_memory_bytes": peak_memory(),
        })
    }

    pub(super) fn text(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        for Drawing {
            seed, path, heat, ..
        } in self.pictures
        {
            lines.push(format!("{} (seed {seed})", escaped(&name(path))));
            lines.extend(heat.iter().map(Heat::line));
        }
        lines.extend(self.grid.map(|path| escaped(&name(path))));
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

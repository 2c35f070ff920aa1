//! The part of `cones generate` that is about attention: `--heatmap` and `--attend-excite`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use cones::pipeline::Concept;
use cones::prompt::{PromptSpec, fold};
use cones::{AttentionOptions, Drawing, Pipeline, escaped};
use serde_json::{Value, json};

use super::super::outputs::Saved;
use super::super::{name, with_suffix};
use crate::cli::GenerateArgs;
use crate::report::ui::Ui;

/// What was asked for of each prompt as used.
pub(super) fn of_prompts(
    args: &GenerateArgs,
    pipeline: &Pipeline,
    prompts: &[PromptSpec],
    concepts: &[Concept],
    ui: &Ui,
) -> anyhow::Result<Vec<AttentionOptions>> {
    let all = prompts
        .iter()
        .map(|prompt| options(args, pipeline, prompt, concepts));
    let all = all.collect::<anyhow::Result<Vec<_>>>()?;
    for attention in all.iter().filter(|attention| !attention.excite.is_empty()) {
        ui.detail(&format!(
            "attend-and-excite: {}",
            attention.excite.join(", ")
        ));
    }
    Ok(all)
}

/// What was asked for, with words that the prompt as used has.
fn options(
    args: &GenerateArgs,
    pipeline: &Pipeline,
    prompt: &PromptSpec,
    concepts: &[Concept],
) -> anyhow::Result<AttentionOptions> {
    let mut names = HashSet::new();
    for word in &args.heatmap {
        pipeline.word_tokens(prompt, word).context("--heatmap")?;
        if !names.insert(file_part(&fold(word))) {
            bail!(
                "--heatmap: expected words that give different files, found `{word}` twice or a word like it"
            );
        }
    }
    let excite = match &args.attend_excite {
        None => Vec::new(),
        Some(words) if words.is_empty() => subjects("--attend-excite", prompt, concepts)?,
        Some(words) => words.clone(),
    };
    if args.attend_excite.is_some() && excite.is_empty() {
        bail!(
            "--attend-excite: expected words, as in --attend-excite=dog,cat, or --concepts, found neither"
        );
    }
    let mut excited = HashSet::new();
    for word in &excite {
        pipeline
            .word_tokens(prompt, word)
            .context("--attend-excite")?;
        if !excited.insert(fold(word)) && args.attend_excite.as_ref().is_some_and(|w| !w.is_empty())
        {
            bail!("--attend-excite: expected each word once, found `{word}` twice");
        }
    }
    Ok(AttentionOptions {
        heat: args.heatmap.clone(),
        excite,
        ..AttentionOptions::default()
    })
}

/// What the prompt calls the subjects of concepts.
///
/// # Errors
/// If it does not name one of them.
pub(super) fn subjects(
    option: &str,
    prompt: &PromptSpec,
    concepts: &[Concept],
) -> anyhow::Result<Vec<String>> {
    Concept::names_in(prompt.weighted.text(), concepts).map_err(|subject| {
        anyhow!(
            "{option}: expected `{}` or `{}` in the prompt, found neither; leave out --raw-prompt",
            subject,
            subject.noun
        )
    })
}

/// A heat map that was written.
#[derive(Debug)]
pub(super) struct Heat {
    word: String,
    path: PathBuf,
    /// The lowest and the highest probability with which a pixel attends to the word.
    low: f32,
    high: f32,
}

impl Heat {
    pub(super) fn new(word: &str, path: PathBuf, (low, high): (f32, f32)) -> Self {
        Self {
            word: word.to_owned(),
            path,
            low,
            high,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The lowest and the highest probability.
    pub(super) fn range(&self) -> (f32, f32) {
        (self.low, self.high)
    }

    /// The result in words.
    pub(super) fn line(&self) -> String {
        let Self {
            word,
            path,
            low,
            high,
        } = self;
        escaped(&format!(
            "{} (attention to `{word}`: {low:.3} to {high:.3})",
            name(path)
        ))
    }

    /// The result as JSON.
    pub(super) fn json(&self) -> Value {
        json!({"word": self.word, "path": name(&self.path), "low": self.low, "high": self.high})
    }
}

/// Writes the heat maps of a picture beside it.
pub(super) fn write_heat(
    path: &Path,
    words: &[String],
    drawing: &Drawing,
    saved: &mut Saved,
) -> cones::Result<Vec<Heat>> {
    let written = words.iter().zip(&drawing.heat).map(|(word, heat)| {
        let path = heat_path(path, word);
        let (picture, range) = heat.over(&drawing.picture);
        saved.write(&path, &picture.to_file(&path, None)?);
        Ok(Heat::new(word, path, range))
    });
    written.collect()
}

/// `out-heat-WORD.png` for `out.png`.
pub(super) fn heat_path(path: &Path, word: &str) -> PathBuf {
    with_suffix(path, &format!("-heat-{}", file_part(word)))
}

/// A word as part of a file's name, which some systems compare without regard to case.
fn file_part(word: &str) -> String {
    let letter = |c: char| if c.is_alphanumeric() { c } else { '-' };
    word.to_lowercase().chars().map(letter).collect()
}

//! What `cones eval` reads beside photos: scores, prompts, an encoder.

use std::path::Path;

use anyhow::{Context, bail};
use cones::Error;
use cones::checkpoint::Source;
use cones::checkpoint::hub::Layout;
use cones::eval::Prompt;
use cones::find::Scores;
use cones::index::{NeuronIndex, Subject};
use cones::model::Clip;

use super::super::download::ensure;
use super::super::{device, name, source};
use crate::cli::{EvalArgs, Global};
use crate::report::ui::Ui;

pub(super) fn read_scores(path: &Path) -> anyhow::Result<Scores> {
    Scores::read(path).with_context(|| format!("failed to read scores `{}`", name(path)))
}

/// The subject that the photos show.
pub(super) fn subject(index: &NeuronIndex, name: Option<&str>) -> anyhow::Result<Subject> {
    let subjects = &index.provenance().subjects;
    match (name, subjects.as_slice()) {
        (Some(name), _) => {
            Ok(subjects[Subject::named(subjects, name).context("--subject")?].clone())
        }
        (None, [one]) => Ok(one.clone()),
        (None, _) => bail!(
            "it holds several subjects, {}: say with --subject NOUN which one the photos \
             show, or give its own index",
            Subject::phrases(subjects)
        ),
    }
}

pub(super) fn prompts(file: Option<&Path>, subject: &Subject) -> anyhow::Result<Vec<Prompt>> {
    Prompt::read(file, subject).with_context(|| {
        format!(
            "failed to read prompts `{}`",
            file.map(name).unwrap_or_default()
        )
    })
}

/// The encoder that the user named, or that the model brings along.
pub(super) fn encoder(global: &Global, args: &EvalArgs, ui: &Ui) -> anyhow::Result<Clip> {
    let device = device(global)?;
    if let Some(encoder) = &args.encoder {
        ensure(encoder, Layout::Encoder, global, ui)?;
        return Source::encoder(encoder)
            .and_then(|source| Clip::load(&source, &device))
            .with_context(|| format!("failed to load encoder `{encoder}`"));
    }
    let own = Clip::of_model(&source(global)?, &device)
        .with_context(|| format!("failed to load the encoder of model `{}`", global.model))?;
    Ok(own.ok_or_else(|| Error::Model {
        model: global.model.clone(),
        problem: "no encoder to measure pictures with: there is no folder `clip` in it".to_owned(),
        hint: "give one with `--encoder DIR`: a CLIP model in the transformers layout, such as \
               `--encoder openai/clip-vit-base-patch32 --download`"
            .to_owned(),
    })?)
}

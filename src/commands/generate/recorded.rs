//! What a picture says of how it was drawn, and whether that is there: its model, its concepts.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cones::index::NeuronIndex;
use serde_json::Value;

use super::super::{Advice, name};

/// What a picture says of how it was drawn.
pub(super) fn read(path: &Path) -> anyhow::Result<Value> {
    let texts = cones::read_metadata(path).context("--from")?;
    let Some(text) = texts.cones else {
        return Err(Advice::error(
            format!(
                "--from: expected a picture that says how `cones` drew it, found `{}` without",
                name(path)
            ),
            "a picture that was saved again, or drawn with --no-metadata, says nothing: give the options themselves",
        ));
    };
    let known: Value =
        serde_json::from_str(&text).context("--from: the picture's text is damaged")?;
    match known["prompt"].is_string() {
        true => Ok(known),
        false => bail!(
            "--from: expected a prompt in what `{}` says, found none",
            name(path)
        ),
    }
}

/// The file of a concept: of its name, beside the picture or here, with the same neurons.
pub(super) fn concept(concept: &Value, picture: &Path) -> anyhow::Result<PathBuf> {
    let stem = concept["name"].as_str().unwrap_or_default();
    let file = Path::new(stem).file_name().map(|file| {
        let mut file = file.to_owned();
        file.push(".idx");
        file
    });
    let places = file
        .iter()
        .flat_map(|file| [picture.with_file_name(file), PathBuf::from(file)]);
    let same = |path: &PathBuf| {
        let index = NeuronIndex::read(path);
        index.is_ok_and(|index| Some(index.sha256().as_str()) == concept["sha256"].as_str())
    };
    places.into_iter().find(same).ok_or_else(|| {
        Advice::error(
            format!(
                "--from: expected the concept `{stem}` as `{stem}.idx` beside the picture or here, found none of the \
                 same neurons"
            ),
            "give the files of all concepts with --concepts",
        )
    })
}

/// That the model is the one that the picture was drawn with, unless the command line names one.
pub(super) fn check_model(drawn: &Value, fingerprint: &str, model: &str) -> anyhow::Result<()> {
    match drawn["fingerprint"].as_str() {
        Some(wanted) if wanted != fingerprint => Err(Advice::error(
            format!(
                "--from: the picture was drawn with the model `{}` ({}…), found `{model}` ({}…)",
                drawn["model"].as_str().unwrap_or_default(),
                wanted.get(..10).unwrap_or(wanted),
                fingerprint.get(..10).unwrap_or(fingerprint)
            ),
            "give that model with --model; --force draws with this one",
        )),
        _ => Ok(()),
    }
}

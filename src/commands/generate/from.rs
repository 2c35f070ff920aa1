//! `cones generate --from PICTURE`: the options that the picture was drawn with, in place of those that are not given.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::ArgMatches;
use clap::parser::ValueSource;
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

/// What a command line with `--from` has beside what was given.
pub(crate) struct Added {
    options: Vec<OsString>,
    prompt: Option<OsString>,
}

impl Added {
    /// The whole command line: options behind the word `generate`, and the prompt last, behind what ends options.
    pub(crate) fn completed(self, given: impl Iterator<Item = OsString>) -> Vec<OsString> {
        let mut all: Vec<OsString> = given.collect();
        let at = all.iter().skip(1).position(|word| word == "generate");
        let at = at.map_or(all.len(), |at| at + 2);
        all.splice(at..at, self.options);
        if let Some(prompt) = self.prompt {
            all.extend(["--".into(), prompt]);
        }
        all
    }
}

/// What to add to a command line, if it has `--from`.
///
/// # Errors
/// If the picture does not say how it was drawn, or something that it was drawn with is not found.
pub(crate) fn arguments(matches: &ArgMatches) -> anyhow::Result<Option<Added>> {
    let Some(generate) = matches.subcommand_matches("generate") else {
        return Ok(None);
    };
    let Some(path) = generate.get_one::<PathBuf>("from") else {
        return Ok(None);
    };
    let drawn = read(path)?;
    let given = |id: &str| generate.value_source(id) == Some(ValueSource::CommandLine);
    let mut added: Vec<OsString> = Vec::new();
    let mut add = |option: &str, value: &str| added.push(format!("--{option}={value}").into());
    let text = |key: &str| drawn[key].as_str().filter(|text| !text.is_empty());
    for (id, option, key) in [
        ("sampler", "sampler", "sampler"),
        ("layers", "layers", "layers"),
    ] {
        if let Some(text) = text(key).filter(|_| !given(id)) {
            add(option, text);
        }
    }
    if let Some(text) = drawn["negative"].as_str().filter(|_| !given("negative")) {
        add("negative-prompt", text);
    }
    for (id, option) in [
        ("steps", "steps"),
        ("guidance", "guidance-scale"),
        ("seed", "seed"),
        ("zoom", "zoom"),
    ] {
        if drawn[id].is_number() && !given(id) {
            add(option, &drawn[id].to_string());
        }
    }
    if let (Some(width), Some(height)) = (drawn["width"].as_u64(), drawn["height"].as_u64())
        && !given("size")
    {
        add("size", &format!("{width}x{height}"));
    }
    if let Some(model) = text("model").filter(|_| !given("model"))
        && (model == cones::checkpoint::POCKET || model.contains('/'))
    {
        add("model", model);
    }
    let words: Vec<&str> = list(&drawn["attend_excite"])
        .filter_map(Value::as_str)
        .collect();
    if !words.is_empty() && !given("attend_excite") {
        add("attend-excite", &words.join(","));
    }
    let concepts = match given("concepts") {
        true => Vec::new(),
        false => list(&drawn["concepts"])
            .map(|c| concept(c, path))
            .collect::<anyhow::Result<Vec<_>>>()?,
    };
    if (!concepts.is_empty() || given("concepts"))
        && drawn["strength"].is_number()
        && !given("strength")
    {
        add("strength", &drawn["strength"].to_string());
    }
    if drawn["init"].is_object() {
        if !given("init") {
            let hash = drawn["init"]["sha256"].as_str().unwrap_or("unknown");
            return Err(Advice::error(
                format!(
                    "--from: `{}` was drawn from another picture, found no --init",
                    name(path)
                ),
                format!("give it with --init: its SHA-256 is {hash}"),
            ));
        }
        if !given("init_strength") {
            add("init-strength", &drawn["init"]["strength"].to_string());
        }
    }
    added.extend(concepts.iter().map(|path| {
        let mut option = OsString::from("--concepts=");
        option.push(path);
        option
    }));
    if drawn["long_prompt"] == true && !given("long_prompt") {
        added.push("--long-prompt".into());
    }
    let mut prompt = None;
    if !given("prompt") && !given("prompts") {
        if !given("raw_prompt") {
            added.push("--raw-prompt".into());
        }
        prompt = drawn["prompt"].as_str().map(OsString::from);
    }
    Ok(Some(Added {
        options: added,
        prompt,
    }))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The file of a concept: of its name, beside the picture or here, with the same neurons.
fn concept(concept: &Value, picture: &Path) -> anyhow::Result<PathBuf> {
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

//! `cones generate --from PICTURE`: the options that the picture was drawn with, in place of those that are not given.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::ArgMatches;
use clap::parser::ValueSource;
use serde_json::Value;

use super::super::{Advice, name};
use super::recorded::{concept, read};

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

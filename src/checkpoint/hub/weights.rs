//! Which files of a repository hold a network's weights: plain, of a variant, or in shards.

use std::collections::{BTreeMap, BTreeSet};

use crate::checkpoint::weight_names::{Part, parse};
use crate::checkpoint::within;

/// What a repository has not, and what to do.
pub(super) type Lacking = (String, String);

/// The variants that are taken where none is asked for: half the bytes first.
const PREFERRED: [&str; 4] = ["fp16", "bf16", "", "fp32"];

/// A list of variants.
pub(super) fn listed<'a>(all: impl IntoIterator<Item = &'a str>) -> String {
    let all: Vec<String> = all
        .into_iter()
        .map(|variant| format!("`{}`", variant.escape_debug()))
        .collect();
    all.join(", ")
}

/// The files of one variant of a network's weights.
#[derive(Debug, Default)]
pub(super) struct Files<'a> {
    whole: Option<&'a str>,
    index: Option<&'a str>,
    /// Each with its number and how many there are.
    shards: BTreeMap<(u32, u32), &'a str>,
}

/// A network's weights by variant, which is empty for the plain ones.
pub(super) fn weights<'a>(
    names: &BTreeSet<&'a str>,
    dir: &str,
    stem: &str,
) -> BTreeMap<&'a str, Files<'a>> {
    let mut found: BTreeMap<&str, Files> = BTreeMap::new();
    let start = within(dir, stem);
    for name in names {
        let Some(rest) = name
            .strip_prefix(start.as_str())
            .filter(|rest| !rest.contains('/'))
        else {
            continue;
        };
        let Some((variant, part)) = parse(rest) else {
            continue;
        };
        let files = found.entry(variant).or_default();
        match part {
            Part::Whole => files.whole = Some(name),
            Part::Index => files.index = Some(name),
            Part::Shard(number, of) => drop(files.shards.insert((number, of), name)),
        }
    }
    found
}

/// The files to take of a network's weights.
pub(super) fn chosen<'a>(
    names: &BTreeSet<&'a str>,
    found: &BTreeMap<&'a str, Files<'a>>,
    (dir, stem): (&str, &str),
    wanted: Option<&str>,
) -> Result<Vec<&'a str>, Lacking> {
    let label = within(dir, &format!("{stem}.safetensors"));
    let order: &[&str] = match &wanted {
        Some(wanted) => &[wanted, ""],
        None => &PREFERRED,
    };
    let variant = order
        .iter()
        .find(|variant| found.contains_key(*variant))
        .copied();
    let only = || {
        (found.len() == 1)
            .then(|| found.keys().next().copied())
            .flatten()
    };
    let Some(variant) = variant.or_else(only) else {
        let pickled = |name: &&&str| {
            let inside = name
                .strip_prefix(dir)
                .is_some_and(|rest| !rest.trim_start_matches('/').contains('/'));
            inside
                && [".bin", ".ckpt", ".pt", ".msgpack"]
                    .iter()
                    .any(|end| name.ends_with(end))
        };
        return Err(match (found.is_empty(), names.iter().find(pickled)) {
            (false, _) => (
                format!("several variants of `{label}` and no plain one"),
                format!("say which variant to take: {}", listed(found.keys().copied())),
            ),
            (true, Some(name)) => (
                format!(
                    "no `{label}`, but `{}`: pickled weights, which can run any code when read and are refused",
                    name.escape_debug()
                ),
                "take a model that has safetensors, or write this one again with `save_pretrained(FOLDER)` in Python"
                    .to_owned(),
            ),
            (true, None) => {
                (format!("no `{label}`"), "the model is not complete: ask its owner".to_owned())
            }
        });
    };
    let files = &found[variant];
    if let Some(whole) = files.whole {
        return Ok(vec![whole]);
    }
    let of = files.shards.keys().map(|(_, of)| *of).max().unwrap_or(0);
    let shards: Vec<&str> = (1..=of)
        .filter_map(|number| files.shards.get(&(number, of)).copied())
        .collect();
    match files.index {
        Some(index) if of > 0 && shards.len() == of as usize => {
            Ok([&[index], &shards[..]].concat())
        }
        _ => Err((
            format!("`{label}` is in {of} files, and not all of them or not their index are there"),
            "the model is not complete: ask its owner".to_owned(),
        )),
    }
}

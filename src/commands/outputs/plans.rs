//! Whether an index that is there may be replaced: only by that of the same plan.

use std::fs;
use std::path::Path;

use cones::index::{NeuronIndex, Provenance};

use super::super::{Advice, count, name};

/// That an index of this plan may have the name: it is free, or has an index of the very plan, or `force`. Whether it
/// has an index of the plan.
pub(crate) fn check_free(path: &Path, plan: &Provenance, force: bool) -> anyhow::Result<bool> {
    let holds_something = fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() > 0);
    if force || !holds_something {
        return Ok(false);
    }
    let (found, same) = match NeuronIndex::read(path) {
        Ok(index) => {
            let there = index.provenance();
            let others = differences(there, plan);
            (
                format!("one of {} ({})", described(there), others.join(", ")),
                others.is_empty(),
            )
        }
        Err(_) => ("a file that is none, or cannot be read".to_owned(), false),
    };
    match same {
        true => Ok(true),
        false => Err(Advice::error(
            format!(
                "`{}` is there: expected a free name, or an index of this very run: {}, found {found}",
                name(path),
                described(plan)
            ),
            "give another name with `-o`, or replace it with `--force`",
        )),
    }
}

/// `sks dog, 3 pictures, learned`.
fn described(index: &Provenance) -> String {
    let pictures = count(index.pictures.len(), "picture");
    format!(
        "`{}`, {pictures}, method {}",
        index.trigger_phrase(),
        index.method
    )
}

/// In what an index is of another plan. How many steps a plan takes may be open.
fn differences(there: &Provenance, plan: &Provenance) -> Vec<String> {
    let mut found = Vec::new();
    for (differ, what) in [
        (there.subjects != plan.subjects, "another subject"),
        (there.pictures != plan.pictures, "other pictures"),
        (there.fingerprint != plan.fingerprint, "another model"),
        (there.prompts != plan.prompts, "other prompts"),
        (there.method != plan.method, "another method"),
        (there.scope != plan.scope, "another scope"),
        (there.seed != plan.seed, "another seed"),
        (there.merged_from != plan.merged_from, "merged from others"),
    ] {
        if differ {
            found.push(what.to_owned());
        }
    }
    let mut keys: Vec<&String> = there.settings.keys().chain(plan.settings.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let [old, new] =
            [there, plan].map(|of| of.settings.get(key).map_or("none", String::as_str));
        if old != new && !(key == "steps" && new == "none") {
            found.push(format!("{key} {old} instead of {new}"));
        }
    }
    found
}

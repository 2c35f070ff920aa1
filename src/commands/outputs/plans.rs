//! Whether an index that is there may be replaced: only by that of the same plan.

use std::fs;
use std::path::Path;

use cones::index::{NeuronIndex, Provenance, Subject};

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
            let others = there.differences(plan);
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
        Subject::phrases(&index.subjects),
        index.method
    )
}

//! `cones find --shard`: a part of the steps.

use std::path::Path;

use cones::escaped;
use cones::find::{Part, Shard};
use cones::index::Provenance;
use serde_json::json;

use super::super::{Advice, name};
use crate::cli::Global;
use crate::report::ui::{Ui, peak_memory};

/// Whether the very part is there already. What else has the name is not replaced, unless `force`.
pub(super) fn is_there(
    path: &Path,
    plan: &Provenance,
    shard: Shard,
    force: bool,
) -> anyhow::Result<bool> {
    let holds_something =
        std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() > 0);
    if force || !holds_something {
        return Ok(false);
    }
    let found = match Part::read(path) {
        Ok(part) if part.shard == shard && part.plan == *plan => return Ok(true),
        Ok(part) => {
            let others = part.plan.differences(plan);
            let described = format!("part {} ({})", part.shard, others.join(", "));
            described.replace(" ()", " of this run")
        }
        Err(_) => "a file that is none, or cannot be read".to_owned(),
    };
    Err(Advice::error(
        format!(
            "--scores: `{}` is there: expected a free name, or part {shard} of this very run, found {found}",
            name(path)
        ),
        "give another name, or replace it with `--force`",
    ))
}

/// Tells of a part that was found, or was there.
pub(super) fn report(
    global: &Global,
    ui: &Ui,
    path: &Path,
    shard: Shard,
    found: Option<&Part>,
) -> anyhow::Result<()> {
    if global.json {
        return ui.json(&json!({
            "scores": name(path),
            "shard": shard.to_string(),
            "computed": found.is_some(),
            "peak_memory_bytes": peak_memory(),
        }));
    }
    let done = match found {
        Some(_) => "done",
        None => "was there already: nothing to compute",
    };
    ui.result(&format!("{}: part {shard} {done}", escaped(&name(path))))
}

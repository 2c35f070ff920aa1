//! What a run's result depends on, as names and values: by it an unfinished run is known again.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::class_images::ClassImages;
use super::paper;
use super::plan::{FindPlan, Method};
use super::tune::TunePlan;
use crate::index::{NeuronIndex, Provenance, Subject};
use crate::{Photos, Pipeline, Result};

/// Names and values, none of them long.
pub type Record = BTreeMap<String, String>;

/// How the model of a run is known again.
#[derive(Debug, Clone, Copy)]
pub(super) enum ModelIs<'a> {
    /// By every byte of its weights, and by what it makes of these prompts: also where it is another copy of it.
    Alike(&'a [&'a str]),
    /// By the sizes and times of its files: for work that takes no longer than reading them.
    Untouched,
}

/// What every run depends on: the work, this program's version, the model by the sizes and times of its files, and
/// where it computes. With more of what the work depends on; of long values it is their SHA-256.
///
/// # Errors
/// If a weight cannot be read back from the device.
pub fn record_of(
    work: &str,
    pipeline: &Pipeline,
    more: impl IntoIterator<Item = (String, String)>,
) -> Result<Record> {
    record_by(work, pipeline, ModelIs::Untouched, more)
}

/// [`record_of`] with the model known in one way or the other.
pub(super) fn record_by(
    work: &str,
    pipeline: &Pipeline,
    model: ModelIs,
    more: impl IntoIterator<Item = (String, String)>,
) -> Result<Record> {
    let device = match pipeline.device() {
        device if device.is_cuda() => "cuda",
        device if device.is_metal() => "metal",
        _ => "cpu",
    };
    let files = match model {
        ModelIs::Alike(prompts) => pipeline.identity(prompts)?,
        ModelIs::Untouched => pipeline.stamps(),
    };
    let all = [
        ("work", work.to_owned()),
        ("cones", env!("CARGO_PKG_VERSION").to_owned()),
        ("model fingerprint", pipeline.fingerprint()?),
        ("model files", files),
        ("device", device.to_owned()),
    ];
    let all = all.map(|(key, value)| (key.to_owned(), value));
    // Settings of a file have any names: those of here are not overridden by them.
    Ok(more.into_iter().chain(all).map(brief).collect())
}

/// A long value by its SHA-256.
fn brief((key, value): (String, String)) -> (String, String) {
    const LONGEST: usize = 100;
    match value.len() > LONGEST {
        true => (key, crate::files::hex(&Sha256::digest(value))),
        false => (key, value),
    }
}

/// What the result of a find depends on beside what its index says.
pub(super) fn of_find(plan: &FindPlan, photos: &Photos) -> Vec<(&'static str, String)> {
    let class: Option<&Photos> = match &plan.class {
        ClassImages::Given(class) => Some(class),
        ClassImages::Needless | ClassImages::Drawn(_) => None,
    };
    let lists = [photos].into_iter().chain(class);
    let mut more = vec![("pictures", lists.map(hashes).collect::<Vec<_>>().join(";"))];
    // Where the choice may settle before, the index says how many were taken.
    more.push(("steps", plan.method.steps().to_string()));
    if let Method::Paper(paper::Options {
        until_stable: Some(share),
        ..
    }) = &plan.method
    {
        more.push(("until stable", share.to_string()));
    }
    more
}

/// What a tuned index depends on beside what it says.
///
/// # Errors
/// If the union has no file.
pub(super) fn of_tuning(
    plan: &TunePlan,
    union: &NeuronIndex,
    photos: &[Photos],
) -> Result<Vec<(&'static str, String)>> {
    let lists: Vec<String> = photos.iter().map(hashes).collect();
    let union = crate::files::hex(&Sha256::digest(union.to_bytes()?));
    let mut more = vec![("pictures", lists.join(";")), ("union", union)];
    for class in &plan.class {
        if let ClassImages::Drawn(cache) = class {
            more.push(("class_count", cache.count().to_string()));
        }
    }
    Ok(more)
}

fn hashes(photos: &Photos) -> String {
    let all: Vec<&str> = photos.iter().map(|photo| photo.sha256.as_str()).collect();
    all.join(",")
}

/// What an index says of where it came from.
pub(super) fn of_provenance(provenance: &Provenance) -> Vec<(&str, String)> {
    let merged: Vec<&str> = (provenance.merged_from.iter())
        .map(|part| part.sha256.as_str())
        .collect();
    let seed = provenance
        .seed
        .map_or("none".to_owned(), |seed| seed.to_string());
    let settings = provenance.settings.iter();
    let mut all: Vec<(&str, String)> = settings.map(|(k, v)| (k.as_str(), v.clone())).collect();
    all.extend([
        ("subject", Subject::phrases(&provenance.subjects)),
        ("prompts", provenance.prompts.join("\n")),
        ("method", provenance.method.clone()),
        ("scope", provenance.scope.name().to_owned()),
        ("seed", seed),
        ("merged from", merged.join(",")),
    ]);
    all
}

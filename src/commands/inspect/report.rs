//! What `cones inspect` says of an index.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use cones::escaped;
use cones::index::{NeuronIndex, Projection, Scope};
use serde_json::{Value, json};

use super::super::{count, name, thousands};

/// Shut and total neurons of one block's K or V sites.
#[derive(Debug, Default, Clone, Copy)]
struct Count {
    shut: u64,
    total: u64,
}

impl Count {
    fn cell(self) -> String {
        match self.total {
            0 => "-".to_owned(),
            total => format!(
                "{} ({:.2} %)",
                thousands(self.shut),
                100.0 * self.shut as f64 / total as f64
            ),
        }
    }
}

/// Rows of the table: block and kind of attention, with the counts of K and of V.
fn table(index: &NeuronIndex) -> BTreeMap<(String, &'static str), [Count; 2]> {
    let mut rows: BTreeMap<(String, &'static str), [Count; 2]> = BTreeMap::new();
    for (site, neurons) in index.sites() {
        let kind = if site.is_cross() { "cross" } else { "self" };
        let column = match site.projection() {
            Projection::Key => 0,
            Projection::Value => 1,
        };
        let count = &mut rows.entry((site.block(), kind)).or_default()[column];
        count.shut += neurons.count() as u64;
        count.total += neurons.weight_count();
    }
    rows
}

pub(super) fn describe(text: &mut String, path: &Path, index: &NeuronIndex) -> anyhow::Result<()> {
    let p = index.provenance();
    let bytes = std::fs::metadata(path).map_or(0, |m| m.len());
    writeln!(text, "{}", escaped(&name(path)))?;
    writeln!(text, "  subject      {}", escaped(&p.trigger_phrase()))?;
    writeln!(
        text,
        "  model        {} ({}…)",
        escaped(&p.model),
        &p.fingerprint[..10]
    )?;
    let settings: Vec<String> = p
        .settings
        .iter()
        .map(|(key, value)| escaped(&format!("{key} {value}")))
        .collect();
    writeln!(
        text,
        "  method       {}{}",
        escaped(&p.method),
        if settings.is_empty() {
            String::new()
        } else {
            format!(": {}", settings.join(", "))
        }
    )?;
    let at = match p.scope {
        Scope::Words => "shut at the subject's own words",
        Scope::Prompt => "shut in the whole prompt",
    };
    writeln!(text, "  scope        {}: {at}", p.scope.name())?;
    for part in &p.merged_from {
        let subjects: Vec<String> = part.subjects.iter().map(|s| s.phrase()).collect();
        writeln!(
            text,
            "  merged from  {} ({}, {})",
            escaped(&subjects.join(", ")),
            count(part.shut as usize, "neuron"),
            escaped(&part.method)
        )?;
    }
    writeln!(
        text,
        "  shut         {} of {} neurons ({:.2} %), {} bytes; dense f32 would be {}",
        thousands(index.shut()),
        thousands(index.total()),
        100.0 * index.density(),
        thousands(bytes),
        thousands(4 * index.total()),
    )?;
    writeln!(
        text,
        "\n  {:<16} {:<6} {:>18} {:>18}",
        "block", "sites", "K shut", "V shut"
    )?;
    for ((block, kind), [k, v]) in table(index) {
        writeln!(
            text,
            "  {block:<16} {kind:<6} {:>18} {:>18}",
            k.cell(),
            v.cell()
        )?;
    }
    writeln!(text)?;
    Ok(())
}

pub(super) fn summary_json(path: &Path, index: &NeuronIndex) -> anyhow::Result<Value> {
    let p = index.provenance();
    let sites: serde_json::Map<String, Value> = index
        .sites()
        .map(|(site, n)| {
            (
                site.to_string(),
                json!({"shape": n.shape(), "shut": n.count()}),
            )
        })
        .collect();
    let subjects: Vec<Value> = p
        .subjects
        .iter()
        .map(|s| json!({"noun": s.noun, "token": s.token}))
        .collect();
    Ok(json!({
        "index": name(path),
        "subjects": subjects,
        "model": p.model,
        "fingerprint": p.fingerprint,
        "method": p.method,
        "scope": p.scope.name(),
        "settings": p.settings,
        "seed": p.seed,
        "sha256": index.sha256(),
        "tuned": index.is_tuned(),
        "shut": index.shut(),
        "total": index.total(),
        "density": index.density(),
        "sites": sites,
    }))
}

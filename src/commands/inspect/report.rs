//! What `cones inspect` says of an index.

use std::fmt::Write as _;
use std::path::Path;

use cones::escaped;
use cones::index::{BlockCount, NeuronIndex, Scope, Subject};
use serde_json::{Value, json};

use super::super::{count, name, thousands};

fn cell(count: &BlockCount) -> String {
    match count.total {
        0 => "-".to_owned(),
        _ => format!("{} ({:.2} %)", thousands(count.shut), 100.0 * count.share),
    }
}

pub(super) fn describe(text: &mut String, path: &Path, index: &NeuronIndex) -> anyhow::Result<()> {
    let (p, extent) = (index.provenance(), index.extent());
    let bytes = std::fs::metadata(path).map_or(0, |m| m.len());
    writeln!(text, "{}", escaped(&name(path)))?;
    writeln!(
        text,
        "  subject      {}",
        escaped(&Subject::phrases(&p.subjects))
    )?;
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
    writeln!(text, "  scope        {}: {at}", p.scope)?;
    for part in &p.merged_from {
        writeln!(
            text,
            "  merged from  {} ({}, {})",
            escaped(&Subject::phrases(&part.subjects)),
            count(part.shut as usize, "neuron"),
            escaped(&part.method)
        )?;
    }
    writeln!(
        text,
        "  shut         {} of {} neurons ({:.2} %), {} bytes; dense f32 would be {}",
        thousands(extent.shut),
        thousands(extent.total),
        100.0 * extent.density,
        thousands(bytes),
        thousands(4 * extent.total),
    )?;
    writeln!(
        text,
        "\n  {:<16} {:<6} {:>18} {:>18}",
        "block", "sites", "K shut", "V shut"
    )?;
    for ((block, kind), [k, v]) in index.by_block() {
        writeln!(
            text,
            "  {block:<16} {kind:<6} {:>18} {:>18}",
            cell(&k),
            cell(&v)
        )?;
    }
    writeln!(text)?;
    Ok(())
}

pub(super) fn summary_json(path: &Path, index: &NeuronIndex) -> anyhow::Result<Value> {
    let (p, extent) = (index.provenance(), index.extent());
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
        "scope": p.scope,
        "settings": p.settings,
        "seed": p.seed,
        "sha256": index.sha256(),
        "tuned": extent.tuned,
        "shut": extent.shut,
        "total": extent.total,
        "density": extent.density,
        "sites": sites,
    }))
}

//! `cones inspect`: what is in an index; how far several overlap, against chance.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::bail;
use cones::escaped;
use cones::index::{NeuronIndex, Overlap, OverlapReport, Projection, Scope};
use serde_json::{Value, json};

use super::outputs::Outputs;
use super::outputs::Saved;
use super::{count, name, read_index, thousands};
use crate::cli::{Global, InspectArgs};
use crate::report::ui::Ui;

pub(crate) fn run(global: &Global, args: &InspectArgs) -> anyhow::Result<()> {
    let ui = Ui::new(global);
    if let Some(path) = &args.plain {
        let outputs = Outputs::beside(&args.indices).file("--indices", path);
        outputs.check()?;
        outputs.spare_indices()?;
    }
    let indices = args
        .indices
        .iter()
        .map(|path| Ok((path.clone(), read_index(path)?)))
        .collect::<anyhow::Result<Vec<(PathBuf, NeuronIndex)>>>()?;
    if (args.plain.is_some() || args.dump) && indices.len() != 1 {
        bail!(
            "--indices and --dump take one index, found {}",
            indices.len()
        );
    }
    if let Some(path) = &args.plain {
        let mut saved = Saved::default();
        saved.write(path, &indices[0].1.to_plain_bytes()?);
        saved.finish()?;
        return ui.result(&escaped(&name(path)));
    }
    if args.dump {
        let mut text = Vec::new();
        indices[0].1.dump(&mut text)?;
        return ui.result(String::from_utf8_lossy(&text).trim_end());
    }
    let mut pairs = Vec::new();
    for (i, (a, first)) in indices.iter().enumerate() {
        for (b, second) in &indices[i + 1..] {
            if first == second {
                ui.warn(&format!(
                    "`{}` and `{}` hold the same index",
                    a.display(),
                    b.display()
                ));
            }
            if first.provenance().fingerprint != second.provenance().fingerprint {
                ui.warn(&format!(
                    "`{}` and `{}` are of different models",
                    name(a),
                    name(b)
                ));
            }
            pairs.push((a.as_path(), b.as_path(), OverlapReport::new(first, second)?));
        }
    }
    if global.json {
        let files = indices
            .iter()
            .map(|(path, index)| summary_json(path, index))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let overlaps: Vec<Value> = pairs
            .iter()
            .map(|(a, b, report)| overlap_json(a, b, report))
            .collect();
        return ui.json(&json!({"indices": files, "overlaps": overlaps}));
    }
    let mut text = String::new();
    for (path, index) in &indices {
        describe(&mut text, path, index)?;
    }
    for (a, b, report) in &pairs {
        describe_overlap(&mut text, a, b, report)?;
    }
    ui.result(text.trim_end())
}

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

fn describe(text: &mut String, path: &Path, index: &NeuronIndex) -> anyhow::Result<()> {
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

fn describe_overlap(
    text: &mut String,
    a: &Path,
    b: &Path,
    report: &OverlapReport,
) -> anyhow::Result<()> {
    writeln!(
        text,
        "overlap of {} and {}",
        escaped(&name(a)),
        escaped(&name(b))
    )?;
    writeln!(
        text,
        "  {:<72} {:>8} {:>10} {:>8}",
        "site", "shared", "by chance", "ratio"
    )?;
    for (site, overlap) in report.sites() {
        writeln!(
            text,
            "  {:<72} {}",
            site.to_string(),
            overlap_cells(overlap)
        )?;
    }
    writeln!(
        text,
        "  {:<72} {}\n",
        "total",
        overlap_cells(&report.total())
    )?;
    Ok(())
}

fn overlap_cells(overlap: &Overlap) -> String {
    let ratio = overlap
        .ratio()
        .map_or_else(|| "-".to_owned(), |r| format!("{r:.2}"));
    format!(
        "{:>8} {:>10.1} {ratio:>8}",
        overlap.shared(),
        overlap.expected()
    )
}

fn summary_json(path: &Path, index: &NeuronIndex) -> anyhow::Result<Value> {
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

fn overlap_json(a: &Path, b: &Path, report: &OverlapReport) -> Value {
    let one = |o: &Overlap| {
        json!({
            "first": o.first(), "second": o.second(), "universe": o.weight_count(), "shared": o.shared(),
            "expected": o.expected(), "deviation": o.deviation(), "ratio": o.ratio(),
            "jaccard": o.jaccard(), "z_score": o.z_score(),
        })
    };
    let sites: serde_json::Map<String, Value> = report
        .sites()
        .iter()
        .map(|(s, o)| (s.to_string(), one(o)))
        .collect();
    json!({"first": name(a), "second": name(b), "total": one(&report.total()), "sites": sites})
}

//! What `cones inspect` says of two indices: the neurons that both shut, beside what chance would give.

use std::fmt::Write as _;
use std::path::Path;

use cones::escaped;
use cones::index::{Overlap, OverlapReport};
use serde_json::{Value, json};

use super::super::name;

pub(super) fn describe_overlap(
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
    for (site, overlap) in &report.sites {
        writeln!(
            text,
            "  {:<72} {}",
            site.to_string(),
            overlap_cells(overlap)
        )?;
    }
    writeln!(text, "  {:<72} {}\n", "total", overlap_cells(&report.total))?;
    Ok(())
}

fn overlap_cells(overlap: &Overlap) -> String {
    let ratio = overlap
        .ratio
        .map_or_else(|| "-".to_owned(), |r| format!("{r:.2}"));
    format!(
        "{:>8} {:>10.1} {ratio:>8}",
        overlap.shared, overlap.expected
    )
}

pub(super) fn overlap_json(a: &Path, b: &Path, report: &OverlapReport) -> Value {
    let one = |o: &Overlap| {
        json!({
            "first": o.first, "second": o.second, "universe": o.weight_count, "shared": o.shared,
            "expected": o.expected, "deviation": o.deviation, "ratio": o.ratio,
            "jaccard": o.jaccard, "z_score": o.z_score,
        })
    };
    let sites: serde_json::Map<String, Value> = report
        .sites
        .iter()
        .map(|(s, o)| (s.to_string(), one(o)))
        .collect();
    json!({"first": name(a), "second": name(b), "total": one(&report.total), "sites": sites})
}

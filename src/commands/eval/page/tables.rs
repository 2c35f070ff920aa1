//! Tables of a page.

use cones::escaped;
use cones::eval::Metric;
use cones::index::OverlapReport;
use maud::{Markup, html};

use super::super::measure::Outcome;
use super::super::report::Report;
use super::super::tables::number;
use super::plots::{percent, strip};
use crate::commands::thousands;

/// A colour between none and that of the concept.
fn heat(share: f64) -> String {
    format!(
        "background: rgb(217 96 43 / {:.2})",
        0.75 * share.clamp(0.0, 1.0)
    )
}

/// Where the neurons of an index sit: a line for K and for V of each block.
pub(super) fn neurons(outcome: &Outcome, number: usize) -> Markup {
    let blocks = outcome.used().by_block();
    let rows: Vec<_> = blocks
        .iter()
        .flat_map(|((block, kind), counts)| {
            let named = ["K", "V"].into_iter().zip(counts);
            named.map(move |(projection, count)| (block, kind, projection, count))
        })
        .filter(|(.., count)| count.total > 0)
        .collect();
    let most = rows
        .iter()
        .map(|(.., count)| count.share)
        .fold(1e-12, f64::max);
    html! {
        div.scroll {
            table.numbers {
                thead { tr {
                    th scope="col" { "block" } th scope="col" { "attention" } th scope="col" { "of" }
                    th scope="col" { "shut" } th scope="col" { "neurons" } th scope="col" { "rows with any" }
                    th scope="col" { "along the rows, first to last" }
                } }
                tbody {
                    @for (at, (block, kind, projection, count)) in rows.iter().enumerate() {
                        tr {
                            th scope="row" { (block) } td.text { (kind) } td.text { (projection) }
                            td style=(heat(count.share / most)) { (percent(count.share)) }
                            td { (thousands(count.shut)) " of " (thousands(count.total)) }
                            td { (thousands(count.touched)) " of " (thousands(count.rows)) }
                            td { (strip(&format!("strip-{number}-{at}"), count)) }
                        }
                    }
                }
            }
        }
    }
}

/// How many neurons each two indices share, and how many times what chance would give.
pub(super) fn overlaps(outcomes: &[Outcome], overlaps: &[(usize, usize, OverlapReport)]) -> Markup {
    let of = |a: usize, b: usize| {
        let found = overlaps
            .iter()
            .find(|(i, j, _)| (*i, *j) == (a.min(b), a.max(b)));
        found.map(|(.., report)| report.total)
    };
    html! {
        div.scroll {
            table.numbers {
                thead { tr { th {} @for o in outcomes { th scope="col" { (escaped(&o.label)) } } } }
                tbody {
                    @for (a, outcome) in outcomes.iter().enumerate() {
                        tr {
                            th scope="row" { (escaped(&outcome.label)) }
                            @for b in 0..outcomes.len() {
                                @match of(a, b).filter(|_| a != b) {
                                    None => td.dim { (thousands(outcome.used().extent().shut)) }
                                    Some(total) => td style=(heat(total.jaccard.unwrap_or(0.0))) {
                                        (thousands(total.shared))
                                        @if let Some(ratio) = total.ratio {
                                            br; span.dim { (format!("{ratio:.2}×")) }
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What the arms are called.
fn arm_name(key: &str) -> &str {
    match key {
        "shut" => "concept",
        "control" => "random",
        "shut_minus_plain" => "concept − plain",
        "shut_minus_control" => "concept − random",
        "shut_minus_previous" => "concept − the dose before",
        other => other,
    }
}

/// All figures of an index.
pub(super) fn figures(report: &Report, outcome: &Outcome) -> anyhow::Result<Markup> {
    let swept = outcome.lone().is_none();
    let arms = outcome.arms().into_iter().map(|arm| {
        let share = arm.density.filter(|_| swept);
        let share = share.map_or_else(String::new, |share| format!(", {}", percent(share)));
        let name = format!("{}{share}", arm_name(arm.key));
        Ok((name, arm.key.contains("minus"), report.summed(arm.values)?))
    });
    let arms = arms.collect::<anyhow::Result<Vec<_>>>()?;
    let rows = Metric::ALL.into_iter().flat_map(|metric| {
        let of = arms.iter().filter_map(move |(name, signed, all)| {
            Some((metric, name, *signed, *all.get(&metric)?))
        });
        of.enumerate()
    });
    let rows: Vec<_> = rows.collect();
    Ok(html! {
        div.scroll {
            table.numbers {
                thead { tr {
                    th scope="col" { "measure" } th scope="col" { "of" } th scope="col" { "mean" }
                    th scope="col" { "sd" } th scope="col" { "95 % interval" } th scope="col" { "n" }
                } }
                tbody {
                    @for (at, (metric, name, signed, s)) in &rows {
                        tr.first[*at == 0] {
                            th scope="row" { @if *at == 0 { (metric) } }
                            td.text { (name) }
                            td { (number(s.mean, *signed)) }
                            td { (number(s.sd, false)) }
                            td { (number(s.interval[0], *signed)) " to " (number(s.interval[1], *signed)) }
                            td { (s.n) }
                        }
                    }
                }
            }
        }
    })
}

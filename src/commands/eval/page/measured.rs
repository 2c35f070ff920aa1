//! The figures of a page as plots.

use cones::escaped;
use cones::eval::Metric;
use maud::{Markup, html};

use super::super::report::Report;
use super::curve::{Point, curve};
use super::plots::{Group, Row, intervals, percent};

/// The metrics that are drawn, and what they say.
const DRAWN: [(Metric, &str); 4] = [
    (Metric::ClipI, "CLIP-I: likeness to the photos"),
    (Metric::ClipT, "CLIP-T: agreement with the prompt"),
    (
        Metric::ClassMargin,
        "class margin: how clearly the class is seen",
    ),
    (
        Metric::SceneMargin,
        "scene margin: how clearly the scene is seen",
    ),
];

impl Report<'_> {
    /// Each metric of photos, concept, plain and random pictures.
    pub(super) fn plots(&self) -> anyhow::Result<Markup> {
        let mut figures = Vec::new();
        for (metric, title) in DRAWN {
            let mut groups = Vec::new();
            for outcome in self.outcomes {
                let mut rows = Vec::new();
                for arm in outcome.arms() {
                    let label = match arm.key {
                        "shut" => "concept",
                        "control" => "random",
                        "photos" | "plain" => arm.key,
                        _ => continue,
                    };
                    let share = arm.density.filter(|_| outcome.lone().is_none());
                    let share = share.map_or_else(String::new, |d| format!(" {}", percent(d)));
                    if let Some(summary) = self.summed(arm.values)?.get(&metric) {
                        rows.push(Row {
                            arm: arm.key,
                            label: format!("{label}{share}"),
                            summary: *summary,
                        });
                    }
                }
                let several = self.outcomes.len() > 1;
                let heading = if several {
                    escaped(&outcome.label)
                } else {
                    String::new()
                };
                groups.push(Group { heading, rows });
            }
            figures.push(intervals(
                &format!("plot-{}", metric.as_ref()),
                title,
                &groups,
            ));
        }
        Ok(html! {
            section {
                h2 { "Likeness and agreement" }
                div.plots { @for figure in &figures { (figure) } }
                p.caption {
                    "Means with their 95 % bootstrap intervals. CLIP-I is the cosine with the photos (of the photos: "
                    "with each other). A margin is the cosine with the class, or with the picture's own prompt, less "
                    "the mean of those with other classes, or other prompts."
                }
            }
        })
    }

    /// The curves of a sweep.
    pub(super) fn doses(&self) -> anyhow::Result<Markup> {
        let [outcome] = self.outcomes else {
            return Ok(html! {});
        };
        if outcome.lone().is_some() {
            return Ok(html! {});
        }
        let plain = self.summed(&outcome.figures.plain.values)?;
        let mut figures = Vec::new();
        for (metric, title) in DRAWN {
            let mut points = Vec::new();
            for dose in &outcome.figures.doses {
                let arms = [("shut", &dose.shut.values), ("control", &dose.control)];
                let arms = arms.into_iter().map(|(arm, values)| {
                    let summary = self.summed(values)?.get(&metric).copied();
                    Ok(summary.map(|summary| (arm, summary)))
                });
                points.push(Point {
                    density: dose.dose.index.extent().density,
                    arms: arms
                        .collect::<anyhow::Result<Vec<_>>>()?
                        .into_iter()
                        .flatten()
                        .collect(),
                });
            }
            points.sort_by(|a, b| a.density.total_cmp(&b.density));
            let id = format!("plot-dose-{}", metric.as_ref());
            figures.push(curve(&id, title, plain.get(&metric), &points));
        }
        Ok(html! {
            section {
                h2 { "Dose" }
                div.plots { @for figure in &figures { (figure) } }
                p.caption {
                    span.shut { "●" } " concept " span.control { "●" } " random " span.plain { "▬" }
                    " plain, with 95 % intervals"
                }
            }
        })
    }
}

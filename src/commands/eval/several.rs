//! The figures of several indices as a table.

use cones::escaped;
use cones::eval::Metric;

use super::super::{name, thousands};
use super::report::Report;
use super::tables::{number, share, with_interval};

impl Report<'_> {
    /// A line for each index, its verdict, and how far each two overlap.
    pub(super) fn several(&self) -> anyhow::Result<String> {
        let names: Vec<String> = self
            .outcomes
            .iter()
            .map(|o| escaped(&name(&o.path)))
            .collect();
        let wide = names
            .iter()
            .map(|name| name.chars().count())
            .max()
            .unwrap_or(0)
            .max(5);
        let mut lines = vec![format!(
            "{:wide$}  {:>8} {:28} {:>8} {:>8}  {:>8} {:>8} {:>8}  subject comes out",
            "index",
            "shut",
            "CLIP-I (95 % interval)",
            "- plain",
            "- random",
            "CLIP-T",
            "class",
            "scene"
        )];
        for (outcome, name) in self.outcomes.iter().zip(&names) {
            let Some(dose) = outcome.lone() else { continue };
            let all = self.summed(&dose.shut.values)?;
            let mean = |metric| {
                all.get(&metric)
                    .map_or_else(String::new, |s| number(s.mean, false))
            };
            let difference = |values| {
                let all = self.summed(values)?;
                let clip_i = all.get(&Metric::ClipI);
                Ok::<_, anyhow::Error>(clip_i.map_or_else(String::new, |s| number(s.mean, true)))
            };
            let clip_i = all.get(&Metric::ClipI).map(|s| with_interval(s, false));
            let answer = outcome
                .figures
                .verdict
                .as_ref()
                .map(|v| v.answer.to_string());
            lines.push(format!(
                "{name:wide$}  {:>8} {:28} {:>8} {:>8}  {:>8} {:>8} {:>8}  {}",
                share(dose),
                clip_i.unwrap_or_default(),
                difference(&dose.against_plain)?,
                difference(&dose.against_control)?,
                mean(Metric::ClipT),
                mean(Metric::ClassMargin),
                mean(Metric::SceneMargin),
                answer.unwrap_or_default(),
            ));
        }
        lines.push(String::new());
        for (outcome, name) in self.outcomes.iter().zip(&names) {
            if let Some(verdict) = &outcome.figures.verdict {
                let subject = escaped(&outcome.subject.to_string());
                lines.push(format!("{name}, {subject}: {verdict}."));
            }
        }
        for (a, b, overlap) in self.overlaps()? {
            lines.push(format!(
                "{} and {} share {} neurons, where chance would give {:.0}",
                names[a],
                names[b],
                thousands(overlap.total.shared),
                overlap.total.expected,
            ));
        }
        Ok(lines.join("\n"))
    }
}

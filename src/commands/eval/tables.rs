//! The figures of `cones eval` as tables.

use cones::escaped;
use cones::eval::{Measured, Metric, Summary, Values};

use super::super::thousands;
use super::measure::Outcome;
use super::report::Report;

impl Report<'_> {
    /// A block of lines for each metric.
    pub(super) fn conditions(&self, outcome: &Outcome, dose: &Measured) -> anyhow::Result<String> {
        let rows = [
            ("photos", &outcome.figures.photos, false),
            ("plain", &outcome.figures.plain.values, false),
            ("concept shut", &dose.shut.values, false),
            ("random shut", &dose.control, false),
            ("shut - plain", &dose.against_plain, true),
            ("shut - random", &dose.against_control, true),
        ]
        .into_iter()
        .map(|(label, values, signed)| Ok((label, self.summed(values)?, signed)))
        .collect::<anyhow::Result<Vec<_>>>()?;
        let mut lines = vec![format!(
            "{:30}{:>8} {:>8}   95 % interval",
            "", "mean", "sd"
        )];
        for metric in Metric::ALL {
            let mut name = metric.to_string();
            for (label, summaries, signed) in &rows {
                let Some(s) = summaries.get(&metric) else {
                    continue;
                };
                let number = |v: f64| number(v, *signed);
                lines.push(format!(
                    "{name:14}{label:16}{:>8} {:>8.4}   {} to {}",
                    number(s.mean),
                    s.sd,
                    number(s.interval[0]),
                    number(s.interval[1]),
                ));
                name.clear();
            }
        }
        if let Some(verdict) = &outcome.figures.verdict {
            lines.push(format!(
                "\nDoes it bring out {}? {verdict}.",
                escaped(&outcome.subject.to_string())
            ));
        }
        Ok(lines.join("\n"))
    }

    /// A line for each dose, and one for its differences.
    pub(super) fn curve(&self, outcome: &Outcome) -> anyhow::Result<String> {
        let mut lines = vec![line([
            "shut",
            "neurons",
            "CLIP-I (95 % interval)",
            "CLIP-T",
            "class",
            "scene",
            "L_con",
            "drift",
        ])];
        let mut condition = |share: String, shut: u64, values: &Values| {
            let all = self.summed(values)?;
            let mean = |metric| {
                all.get(&metric)
                    .map_or_else(String::new, |s| number(s.mean, false))
            };
            let clip_i = all.get(&Metric::ClipI).map(|s| with_interval(s, false));
            lines.push(line([
                &share,
                &thousands(shut),
                &clip_i.unwrap_or_default(),
                &mean(Metric::ClipT),
                &mean(Metric::ClassMargin),
                &mean(Metric::SceneMargin),
                &mean(Metric::Loss),
                &mean(Metric::PriorDrift),
            ]));
            Ok::<_, anyhow::Error>(())
        };
        condition("plain".to_owned(), 0, &outcome.figures.plain.values)?;
        for dose in &outcome.figures.doses {
            condition(
                share(dose),
                dose.dose.index.extent().shut,
                &dose.shut.values,
            )?;
        }
        lines.push(format!(
            "\n{:>8}  {:30}{:30}{}",
            "CLIP-I", "- plain (95 % interval)", "- random", "- the line above"
        ));
        for dose in &outcome.figures.doses {
            let differences = [
                Some(&dose.against_plain),
                Some(&dose.against_control),
                dose.against_previous.as_ref(),
            ];
            let mut row = format!("{:>8}  ", share(dose));
            for values in differences {
                let all = values.map(|values| self.summed(values)).transpose()?;
                let clip_i = all.and_then(|all| all.get(&Metric::ClipI).copied());
                let cell = clip_i.map_or_else(String::new, |s| with_interval(&s, true));
                row.push_str(&format!("{cell:30}"));
            }
            lines.push(row.trim_end().to_owned());
        }
        Ok(lines.join("\n"))
    }
}

/// A line of the curve's first table.
fn line([share, neurons, clip_i, others @ ..]: [&str; 8]) -> String {
    let others = others.map(|cell| format!(" {cell:>8}")).concat();
    format!("{share:>8} {neurons:>10}  {clip_i:28}{others}")
        .trim_end()
        .to_owned()
}

pub(super) fn share(dose: &Measured) -> String {
    format!("{:.2} %", 100.0 * dose.dose.index.extent().density)
}

/// `0.8123 (0.7901 to 0.8312)`
pub(super) fn with_interval(s: &Summary, signed: bool) -> String {
    let [mean, low, high] = [s.mean, s.interval[0], s.interval[1]].map(|v| number(v, signed));
    format!("{mean} ({low} to {high})")
}

/// Four digits behind the point; differences have a sign.
pub(super) fn number(value: f64, signed: bool) -> String {
    match signed {
        true => format!("{value:+.4}"),
        false => format!("{value:.4}"),
    }
}

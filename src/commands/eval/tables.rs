//! The figures of `cones eval` as tables.

use std::cmp::Ordering;

use cones::eval::{Measured, Metric, Values};

use super::super::thousands;
use super::report::Report;

impl Report<'_> {
    /// A block of lines for each metric.
    pub(super) fn conditions(&self, dose: &Measured) -> anyhow::Result<String> {
        let rows = [
            ("plain", self.plain, false),
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
            let mut name = metric.label();
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
                name = "";
            }
        }
        lines.push(format!("\n{}", self.verdict(dose)?));
        Ok(lines.join("\n"))
    }

    /// Whether the subject came out, in words.
    fn verdict(&self, dose: &Measured) -> anyhow::Result<String> {
        let mut words = Vec::new();
        for (values, other) in [
            (&dose.against_plain, "plain"),
            (&dose.against_control, "with random neurons shut"),
        ] {
            if let Some(s) = self.summed(values)?.get(&Metric::ClipI) {
                words.push(match s.sign() {
                    Ordering::Greater => format!("nearer to the photos than {other}"),
                    Ordering::Less => format!("further from the photos than {other}"),
                    Ordering::Equal => {
                        format!("as near to the photos as {other}, within the interval")
                    }
                });
            }
        }
        Ok(format!(
            "With the concept shut, pictures are {}.",
            words.join(", and ")
        ))
    }

    /// A line for each dose.
    pub(super) fn curve(&self) -> anyhow::Result<String> {
        let mut lines = vec![format!(
            "{:>8} {:>10}  {:28} {:>8} {:>8}  {:>8} {:>8} {:>8}",
            "shut",
            "neurons",
            "CLIP-I (95 % interval)",
            "- plain",
            "- random",
            "CLIP-T",
            "L_con",
            "drift"
        )];
        let mut line = |share: String,
                        shut: u64,
                        values: &Values,
                        differences: [Option<&Values>; 2]| {
            let all = self.summed(values)?;
            let mean = |metric| {
                all.get(&metric)
                    .map_or_else(String::new, |s| number(s.mean, false))
            };
            let clip_i = all.get(&Metric::ClipI).map_or_else(String::new, |s| {
                let [low, high] = s.interval.map(|v| number(v, false));
                format!("{} ({low} to {high})", number(s.mean, false))
            });
            let [plain, random] = differences.map(|values| {
                let summaries = values.map(|v| self.summed(v)).transpose()?;
                let summary = summaries.and_then(|s| s.get(&Metric::ClipI).copied());
                Ok::<_, anyhow::Error>(summary.map_or_else(String::new, |s| number(s.mean, true)))
            });
            lines.push(
                format!(
                    "{share:>8} {:>10}  {clip_i:28} {:>8} {:>8}  {:>8} {:>8} {:>8}",
                    thousands(shut),
                    plain?,
                    random?,
                    mean(Metric::ClipT),
                    mean(Metric::Loss),
                    mean(Metric::PriorDrift),
                )
                .trim_end()
                .to_owned(),
            );
            Ok::<_, anyhow::Error>(())
        };
        line("plain".to_owned(), 0, self.plain, [None, None])?;
        for dose in self.doses {
            let index = &dose.dose.index;
            let share = format!("{:.2} %", 100.0 * index.density());
            let differences = [Some(&dose.against_plain), Some(&dose.against_control)];
            line(share, index.shut(), &dose.shut.values, differences)?;
        }
        Ok(lines.join("\n"))
    }
}

/// Four digits behind the point; differences have a sign.
fn number(value: f64, signed: bool) -> String {
    match signed {
        true => format!("{value:+.4}"),
        false => format!("{value:.4}"),
    }
}

//! The figures of `cones eval` as one table of comma-separated values (RFC 4180).

use cones::escaped;
use cones::eval::Metric;

use super::measure::Outcome;
use super::report::{Arm, Report};

const HEADER: &str = "index,subject,density,arm,prompt,metric,mean,sd,low,high,n";

impl Report<'_> {
    /// A line for each arm and metric over all pictures, with the interval of the mean; and for each prompt the mean of
    /// its pictures.
    pub(super) fn csv(&self) -> anyhow::Result<String> {
        let mut lines = vec![HEADER.to_owned()];
        for outcome in self.outcomes {
            for arm in outcome.arms() {
                let start = start(outcome, &arm);
                for (metric, s) in self.summed(arm.values)? {
                    let [low, high] = s.interval;
                    lines.push(format!(
                        "{start},,{},{},{},{low},{high},{}",
                        metric.as_ref(),
                        s.mean,
                        s.sd,
                        s.n
                    ));
                }
                lines.extend(
                    by_prompt(outcome, &arm)
                        .into_iter()
                        .map(|line| start.clone() + &line),
                );
            }
        }
        Ok(lines.join("\r\n") + "\r\n")
    }
}

/// What is the same in all lines of an arm.
fn start(outcome: &Outcome, arm: &Arm) -> String {
    let density = arm.density.map_or_else(String::new, |d| d.to_string());
    let (index, subject) = (field(&outcome.label), field(&outcome.subject.to_string()));
    format!("{index},{subject},{density},{}", arm.key)
}

/// The rest of a line for each prompt and each metric that is of drawn pictures.
fn by_prompt(outcome: &Outcome, arm: &Arm) -> Vec<String> {
    let drawn = outcome
        .figures
        .plain
        .values
        .get(&Metric::ClipI)
        .map_or(0, Vec::len);
    let prompts = outcome.prompts.len().min(drawn);
    let mut lines = Vec::new();
    if arm.key == "photos" || prompts < 2 {
        return lines;
    }
    for metric in Metric::OF_PICTURES {
        let Some(values) = arm.values.get(&metric) else {
            continue;
        };
        for (first, prompt) in outcome.prompts[..prompts].iter().enumerate() {
            let own: Vec<f64> = values
                .iter()
                .skip(first)
                .step_by(outcome.prompts.len())
                .copied()
                .collect();
            let mean = own.iter().sum::<f64>() / own.len() as f64;
            let prompt = field(&prompt.used);
            lines.push(format!(
                ",{prompt},{},{mean},,,,{}",
                metric.as_ref(),
                own.len()
            ));
        }
    }
    lines
}

/// A text as a field, with nothing unseen in it.
fn field(text: &str) -> String {
    let text = escaped(text);
    match text.contains([',', '"']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        for (text, want) in [
            ("a dog", "a dog"),
            ("a, b", "\"a, b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("a\nb", r"a\nb"),
        ] {
            assert_eq!(field(text), want);
        }
    }
}

//! The figures of `cones eval`, as tables and as JSON.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use cones::eval::{FIRST_SEED, Measured, Metric, Prompt, RESAMPLES, Summary, Values, summaries};
use cones::index::Subject;
use cones::model::Clip;
use cones::{LeftOut, SampleOptions, escaped, escaped_json};
use serde_json::{Map, Value, json};

use super::super::outputs;
use super::super::{count, name, thousands};
use crate::cli::{EvalArgs, Global};
use crate::report::photos::left_out;
use crate::report::ui::{Ui, peak_memory};

/// Everything that was measured, and how.
pub(super) struct Report<'a> {
    pub(super) global: &'a Global,
    pub(super) args: &'a EvalArgs,
    pub(super) subject: &'a Subject,
    pub(super) prompts: &'a [Prompt],
    pub(super) options: &'a SampleOptions,
    /// The SHA-256 of each.
    pub(super) photos: &'a [String],
    pub(super) left_out: &'a [LeftOut],
    pub(super) clip: &'a Clip,
    pub(super) prior_loss_weight: f64,
    pub(super) plain: &'a Values,
    pub(super) doses: &'a [Measured],
}

/// The summaries of one condition.
type Summaries = BTreeMap<Metric, Summary>;

impl Report<'_> {
    pub(super) fn print(&self, ui: &Ui) -> anyhow::Result<()> {
        if self.global.json {
            let text = escaped_json(&format!("{:#}", self.json()?));
            return outputs::print(ui, &text, "eval.json");
        }
        let table = match self.doses {
            [dose] if dose.dose.asked.is_none() => self.conditions(dose)?,
            _ => self.curve()?,
        };
        let text = format!("{}\n{table}\n{}", self.head(), self.foot());
        outputs::print(ui, &text, "eval.txt")
    }

    fn summed(&self, values: &Values) -> anyhow::Result<Summaries> {
        Ok(summaries(values, self.global.seed)?)
    }

    /// What was compared.
    fn head(&self) -> String {
        let subject = escaped(&self.subject.phrase());
        let mut head = format!(
            "{}: {subject}, {}; {} under each condition, {}, seeds from {}\n",
            escaped(&name(&self.args.index)),
            count(self.photos.len(), "photo"),
            count(self.args.count, "picture"),
            count(self.prompts.len().min(self.args.count), "prompt"),
            self.global.seed,
        );
        if let [dose] = self.doses
            && dose.dose.asked.is_none()
        {
            let index = &dose.dose.index;
            let sets = match self.args.controls {
                0 => String::new(),
                1 => "; random: as many in each site".to_owned(),
                n => format!("; random: the mean of {n} sets of as many in each site"),
            };
            head.push_str(&format!(
                "{} of {} neurons shut ({:.2} %){sets}\n",
                thousands(index.shut()),
                thousands(index.total()),
                100.0 * index.density(),
            ));
        }
        head
    }

    /// By what.
    fn foot(&self) -> String {
        let mut foot = format!(
            "encoder {} ({}), {}",
            escaped(&self.clip.name),
            &self.clip.sha256[..12],
            self.clip.preprocessing
        );
        if let Some(path) = &self.args.sheet {
            foot.push_str(&format!("\n{}", escaped(&name(path))));
        }
        foot
    }

    /// A block of lines for each metric.
    fn conditions(&self, dose: &Measured) -> anyhow::Result<String> {
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

    /// Whether the subject came out: nearer to the photos, beyond the interval, than plain pictures and than with
    /// random neurons shut. `None` where several doses were measured, which is no question of yes or no.
    pub(super) fn brings_out_subject(&self) -> anyhow::Result<Option<bool>> {
        let [dose] = self.doses else { return Ok(None) };
        if dose.dose.asked.is_some() {
            return Ok(None);
        }
        for values in [&dose.against_plain, &dose.against_control] {
            let summaries = self.summed(values)?;
            if summaries
                .get(&Metric::ClipI)
                .is_some_and(|s| s.sign().is_le())
            {
                return Ok(Some(false));
            }
        }
        Ok(Some(true))
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
    fn curve(&self) -> anyhow::Result<String> {
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

    fn json(&self) -> anyhow::Result<Value> {
        let prompts: Vec<Value> = self
            .prompts
            .iter()
            .map(|p| json!({"used": p.used, "described": p.described}))
            .collect();
        let mut report = json!({
            "index": name(&self.args.index),
            "subject": self.subject.noun,
            "token": self.subject.token,
            "photos": self.photos,
            "left_out": left_out(self.left_out),
            "prompts": prompts,
            "count": self.args.count,
            "seed": self.global.seed,
            "sampler": self.options.sampler.to_string(),
            "steps": self.options.steps,
            "guidance": self.options.guidance,
            "encoder": {
                "name": &self.clip.name,
                "sha256": self.clip.sha256,
                "preprocessing": self.clip.preprocessing.to_json(),
            },
            "loss": {
                "draws": self.args.loss_draws,
                "first_seed": FIRST_SEED.wrapping_add(self.global.seed),
                "prior_weight": self.prior_loss_weight,
            },
            "bootstrap": {"resamples": RESAMPLES, "seed": self.global.seed, "interval": 0.95},
            "controls": self.args.controls,
            "brings_out_subject": self.brings_out_subject()?,
            "sheet": self.args.sheet.as_deref().map(name),
            "peak_memory_bytes": peak_memory(),
        });
        match self.doses {
            [dose] if dose.dose.asked.is_none() => {
                let plain = [("plain", self.condition(self.plain)?)];
                extend(&mut report, self.dose(dose, plain)?);
            }
            doses => {
                report["conditions"] = json!({"plain": self.condition(self.plain)?});
                report["doses"] = doses
                    .iter()
                    .map(|dose| Ok(Value::Object(self.dose(dose, [])?)))
                    .collect::<anyhow::Result<_>>()?;
            }
        }
        Ok(report)
    }

    fn dose<const N: usize>(
        &self,
        dose: &Measured,
        more: [(&str, Value); N],
    ) -> anyhow::Result<Map<String, Value>> {
        let index = &dose.dose.index;
        let mut conditions = json!({"shut": self.condition(&dose.shut.values)?});
        let mut differences = json!({"shut_minus_plain": self.condition(&dose.against_plain)?});
        if !dose.controls.is_empty() {
            let sets = dose
                .controls
                .iter()
                .map(|c| self.condition(&c.values))
                .collect::<anyhow::Result<Vec<_>>>()?;
            conditions["control"] = self.condition(&dose.control)?;
            conditions["control_sets"] = sets.into();
            differences["shut_minus_control"] = self.condition(&dose.against_control)?;
        }
        for (name, value) in more {
            conditions[name] = value;
        }
        let mut found = json!({
            "density": index.density(),
            "shut": index.shut(),
            "total": index.total(),
            "conditions": conditions,
            "differences": differences,
        });
        if let Some(asked) = dose.dose.asked {
            found["asked_density"] = asked.into();
        }
        Ok(match found {
            Value::Object(map) => map,
            _ => Map::new(),
        })
    }

    /// Each metric's summary and values.
    fn condition(&self, values: &Values) -> anyhow::Result<Value> {
        let mut condition = Map::new();
        for (metric, summary) in self.summed(values)? {
            let mut entry = serde_json::to_value(summary)?;
            entry["values"] = json!(values.get(&metric));
            condition.insert(metric.key().to_owned(), entry);
        }
        Ok(condition.into())
    }
}

fn extend(report: &mut Value, more: Map<String, Value>) {
    if let Value::Object(report) = report {
        report.extend(more);
    }
}

/// Four digits behind the point; differences have a sign.
fn number(value: f64, signed: bool) -> String {
    match signed {
        true => format!("{value:+.4}"),
        false => format!("{value:.4}"),
    }
}

//! The figures of `cones eval` as JSON.

use cones::eval::{Answer, Check, Measured, RESAMPLES, Values, Verdict};
use cones::find::FIRST_SEED;
use serde_json::{Map, Value, json};

use super::super::name;
use super::measure::{Outcome, Setting};
use super::report::Report;
use crate::report::photos::left_out;
use crate::report::ui::peak_memory;

impl Report<'_> {
    /// Everything: of one index in one object, of several in one for each.
    pub(super) fn json(&self) -> anyhow::Result<Value> {
        let Setting {
            global,
            args,
            clip,
            options,
            ..
        } = self.setting;
        let file = |path: &Option<std::path::PathBuf>| path.as_deref().map(name);
        let mut report = json!({
            "count": args.count,
            "seed": global.seed,
            "layers": args.layers.as_ref().map(ToString::to_string),
            "sampler": options.sampler.to_string(),
            "steps": options.steps,
            "guidance": options.guidance,
            "encoder": {
                "name": &clip.name,
                "sha256": clip.sha256,
                "preprocessing": clip.preprocessing,
            },
            "bootstrap": {"resamples": RESAMPLES, "seed": global.seed, "interval": 0.95},
            "controls": args.controls,
            "sheet": file(&args.sheet),
            "report": file(&args.report),
            "csv": file(&args.csv),
            "peak_memory_bytes": peak_memory(),
        });
        match self.outcomes {
            [outcome] => extend(&mut report, self.outcome(outcome)?),
            outcomes => {
                let each = outcomes.iter().map(|o| Ok(Value::Object(self.outcome(o)?)));
                report["indices"] = each.collect::<anyhow::Result<_>>()?;
                let label = |number: usize| name(&outcomes[number].path);
                report["overlaps"] = self
                    .overlaps()?
                    .into_iter()
                    .map(|(a, b, overlap)| {
                        let total = overlap.total;
                        json!({
                            "first": label(a), "second": label(b), "shared": total.shared,
                            "expected": total.expected, "ratio": total.ratio, "jaccard": total.jaccard,
                        })
                    })
                    .collect();
            }
        }
        Ok(report)
    }

    /// All of one index.
    fn outcome(&self, outcome: &Outcome) -> anyhow::Result<Map<String, Value>> {
        let prompts = outcome.prompts.iter();
        let prompts: Vec<Value> = prompts
            .map(|p| json!({"used": p.used, "described": p.described}))
            .collect();
        let answer = outcome
            .figures
            .verdict
            .as_ref()
            .map(|verdict| verdict.answer);
        let mut found = json!({
            "index": name(&outcome.path),
            "subject": outcome.subject.noun,
            "token": outcome.subject.token,
            "photos": outcome.photos,
            "left_out": left_out(&outcome.left_out),
            "prompts": prompts,
            "loss": {
                "draws": self.setting.args.loss_draws,
                "first_seed": FIRST_SEED.wrapping_add(self.setting.global.seed),
                "prior_weight": outcome.figures.prior_loss_weight,
            },
            "brings_out_subject": answer.map(|answer| answer == Answer::Yes),
            "verdict": outcome.figures.verdict.as_ref().map(verdict),
        });
        let real = self.condition(&outcome.figures.photos)?;
        let plain = self.condition(&outcome.figures.plain.values)?;
        match outcome.lone() {
            Some(dose) => {
                let more = [("photos", real), ("plain", plain)];
                extend(&mut found, self.dose(dose, more)?);
            }
            None => {
                found["conditions"] = json!({"photos": real, "plain": plain});
                let doses = outcome.figures.doses.iter();
                found["doses"] = doses
                    .map(|dose| Ok(Value::Object(self.dose(dose, [])?)))
                    .collect::<anyhow::Result<_>>()?;
            }
        }
        Ok(object(found))
    }

    fn dose<const N: usize>(
        &self,
        dose: &Measured,
        more: [(&str, Value); N],
    ) -> anyhow::Result<Map<String, Value>> {
        let extent = dose.dose.index.extent();
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
        if let Some(previous) = &dose.against_previous {
            differences["shut_minus_previous"] = self.condition(previous)?;
        }
        for (name, value) in more {
            conditions[name] = value;
        }
        let mut found = json!({
            "density": extent.density,
            "shut": extent.shut,
            "total": extent.total,
            "conditions": conditions,
            "differences": differences,
        });
        if let Some(asked) = dose.dose.asked {
            found["asked_density"] = asked.into();
        }
        Ok(object(found))
    }

    /// Each metric's summary and values.
    fn condition(&self, values: &Values) -> anyhow::Result<Value> {
        let mut condition = Map::new();
        for (metric, summary) in self.summed(values)? {
            let mut entry = serde_json::to_value(summary)?;
            entry["values"] = json!(values.get(&metric));
            condition.insert(metric.as_ref().to_owned(), entry);
        }
        Ok(condition.into())
    }
}

fn verdict(verdict: &Verdict) -> Value {
    let check = |Check {
                     of,
                     answer,
                     finding,
                 }: &Check| {
        json!({"check": of, "answer": answer.to_string(), "finding": finding})
    };
    let all = verdict.measuring.iter().chain(&verdict.concept);
    let checks: Vec<Value> = all.map(check).collect();
    json!({
        "answer": verdict.answer.to_string(),
        "sentence": verdict.to_string(),
        "checks": checks,
    })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn extend(report: &mut Value, more: Map<String, Value>) {
    if let Value::Object(report) = report {
        report.extend(more);
    }
}

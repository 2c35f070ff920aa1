//! The figures of `cones eval` as JSON.

use cones::eval::{FIRST_SEED, Measured, RESAMPLES, Values};
use serde_json::{Map, Value, json};

use super::super::name;
use super::report::Report;
use crate::report::photos::left_out;
use crate::report::ui::peak_memory;

impl Report<'_> {
    /// Everything.
    pub(super) fn json(&self) -> anyhow::Result<Value> {
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

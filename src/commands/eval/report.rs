//! The figures of `cones eval`.

use std::collections::BTreeMap;

use cones::eval::{Metric, Summary, Values, summaries};
use cones::index::OverlapReport;
use cones::picture::contact_sheet;
use cones::{Picture, Pipeline, escaped};

use super::super::outputs;
use super::super::{count, name, thousands};
use super::measure::{Outcome, Setting};
use crate::report::escape::escaped_json;

/// Everything that was measured, and how.
pub(super) struct Report<'a> {
    pub(super) setting: &'a Setting<'a>,
    pub(super) pipeline: &'a Pipeline,
    pub(super) outcomes: &'a [Outcome],
}

/// The summaries of one condition.
pub(super) type Summaries = BTreeMap<Metric, Summary>;

/// The values of one condition, or the differences of two.
pub(super) struct Arm<'a> {
    /// The share of neurons shut; none of photos and plain pictures.
    pub(super) density: Option<f64>,
    /// As JSON has it.
    pub(super) key: &'static str,
    pub(super) values: &'a Values,
}

impl Outcome {
    /// All conditions and differences, in the order of tables.
    pub(super) fn arms(&self) -> Vec<Arm<'_>> {
        let arm = |key, values| Arm {
            density: None,
            key,
            values,
        };
        let mut arms = vec![
            arm("photos", &self.figures.photos),
            arm("plain", &self.figures.plain.values),
        ];
        for dose in &self.figures.doses {
            let all = [
                ("shut", Some(&dose.shut.values)),
                ("control", Some(&dose.control)),
                ("shut_minus_plain", Some(&dose.against_plain)),
                ("shut_minus_control", Some(&dose.against_control)),
                ("shut_minus_previous", dose.against_previous.as_ref()),
            ];
            arms.extend(all.into_iter().filter_map(|(key, values)| {
                let values = values.filter(|values| !values.is_empty())?;
                let density = Some(dose.dose.index.extent().density);
                Some(Arm {
                    density,
                    ..arm(key, values)
                })
            }));
        }
        arms
    }
}

impl Report<'_> {
    pub(super) fn print(&self) -> anyhow::Result<()> {
        let Setting { global, ui, .. } = self.setting;
        if global.json {
            let text = escaped_json(&format!("{:#}", self.json()?));
            return outputs::print(ui, &text, "eval.json");
        }
        let text = match self.outcomes {
            [outcome] => {
                let table = match outcome.lone() {
                    Some(dose) => self.conditions(outcome, dose)?,
                    None => self.curve(outcome)?,
                };
                format!("{}\n{table}", self.head(outcome))
            }
            _ => self.several()?,
        };
        outputs::print(ui, &format!("{text}\n{}", self.foot()), "eval.txt")
    }

    pub(super) fn summed(&self, values: &Values) -> anyhow::Result<Summaries> {
        Ok(summaries(values, self.setting.global.seed)?)
    }

    /// The pictures of all indices.
    pub(super) fn sheet(&self) -> anyhow::Result<Picture> {
        if let [outcome] = self.outcomes {
            let rows: Vec<Vec<Picture>> = outcome.rows().into_iter().map(|(_, row)| row).collect();
            return Ok(contact_sheet(&rows, &[], &[])?);
        }
        let (mut labels, mut all) = (Vec::new(), Vec::new());
        for outcome in self.outcomes {
            for (name, row) in outcome.rows() {
                labels.push(format!("{} {name}", outcome.label.trim_end_matches(".idx")));
                all.push(row);
            }
        }
        Ok(contact_sheet(&all, &[], &labels)?)
    }

    /// How far each two of several indices share neurons.
    pub(super) fn overlaps(&self) -> anyhow::Result<Vec<(usize, usize, OverlapReport)>> {
        let mut all = Vec::new();
        for (b, second) in self.outcomes.iter().enumerate() {
            for (a, first) in self.outcomes[..b].iter().enumerate() {
                all.push((a, b, OverlapReport::new(first.used(), second.used())?));
            }
        }
        Ok(all)
    }

    /// What was compared.
    fn head(&self, outcome: &Outcome) -> String {
        let Setting { global, args, .. } = self.setting;
        let subject = escaped(&outcome.subject.to_string());
        let mut head = format!(
            "{}: {subject}, {}; {} under each condition, {}, seeds from {}\n",
            escaped(&name(&outcome.path)),
            count(outcome.photos.len(), "photo"),
            count(args.count, "picture"),
            count(outcome.prompts.len().min(args.count), "prompt"),
            global.seed,
        );
        if let Some(dose) = outcome.lone() {
            let extent = dose.dose.index.extent();
            let sets = match args.controls {
                0 => String::new(),
                1 => "; random: as many in each site".to_owned(),
                n => format!("; random: the mean of {n} sets of as many in each site"),
            };
            let layers = args.layers.as_ref();
            let layers = layers.map_or_else(String::new, |layers| format!(" in {layers}"));
            head.push_str(&format!(
                "{} of {} neurons{layers} shut ({:.2} %){sets}\n",
                thousands(extent.shut),
                thousands(extent.total),
                100.0 * extent.density,
            ));
        }
        head
    }

    /// By what, and what else was written.
    fn foot(&self) -> String {
        let Setting { args, clip, .. } = self.setting;
        let mut foot = format!(
            "encoder {} ({}), {}",
            escaped(&clip.name),
            &clip.sha256[..12],
            clip.preprocessing
        );
        for path in [&args.sheet, &args.report, &args.csv].into_iter().flatten() {
            foot.push_str(&format!("\n{}", escaped(&name(path))));
        }
        foot
    }
}

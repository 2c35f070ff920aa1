//! The figures of `cones eval`.

use std::collections::BTreeMap;

use cones::eval::{Measured, Metric, Prompt, Summary, Values, summaries};
use cones::index::Subject;
use cones::model::Clip;
use cones::{LeftOut, SampleOptions, escaped, escaped_json};

use super::super::outputs;
use super::super::{count, name, thousands};
use crate::cli::{EvalArgs, Global};
use crate::report::ui::Ui;

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
pub(super) type Summaries = BTreeMap<Metric, Summary>;

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

    pub(super) fn summed(&self, values: &Values) -> anyhow::Result<Summaries> {
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
}

//! A run of the library, shown: a meter for each of its parts.

use cones::eval::{Measuring, Shut};
use cones::find::{Event, Observer, Step};
use serde_json::{Value, json};

use super::ui::{Meter, Ui};

/// Shows the events of a run.
pub(crate) struct Meters<'a> {
    ui: &'a Ui,
    /// What the steps do.
    steps: &'static str,
    current: Option<(&'static str, Meter)>,
}

impl<'a> Meters<'a> {
    pub(crate) fn new(ui: &'a Ui, steps: &'static str) -> Self {
        Self {
            ui,
            steps,
            current: None,
        }
    }

    /// Takes the last meter away.
    pub(crate) fn finish(self) {
        if let Some((_, meter)) = self.current {
            meter.finish();
        }
    }

    fn set(
        &mut self,
        label: &'static str,
        done: usize,
        total: usize,
        message: &str,
    ) -> cones::Result<()> {
        if let Some((_, ended)) = self.current.take_if(|(shown, _)| *shown != label) {
            ended.finish();
        }
        let ui = self.ui;
        let (_, meter) = self.current.get_or_insert_with(|| (label, ui.meter(label)));
        meter.set(done, total, message)
    }
}

impl Observer for Meters<'_> {
    fn event(&mut self, event: Event) -> cones::Result<()> {
        match event {
            Event::Encoding { done, total } => {
                self.set("encoding pictures", done, total, "pictures")
            }
            Event::DrawingClass(passes) => {
                self.set("class pictures", passes.done, passes.total, "passes")
            }
            Event::DrawingOwn(passes) => {
                self.set("own pictures", passes.done, passes.total, "passes")
            }
            Event::Step { step, total } => {
                let message = format!("loss {:.4}", step.loss);
                self.set(self.steps, step.step + 1, total, &message)
            }
        }
    }
}

/// Shows how conditions are measured.
pub(crate) struct ConditionMeters<'a> {
    ui: &'a Ui,
    current: Option<(Shut, bool, Meter)>,
}

impl<'a> ConditionMeters<'a> {
    pub(crate) fn new(ui: &'a Ui) -> Self {
        Self { ui, current: None }
    }

    /// Takes the last meter away.
    pub(crate) fn finish(self) {
        if let Some((_, _, meter)) = self.current {
            meter.finish();
        }
    }

    pub(crate) fn set(&mut self, now: Measuring) -> cones::Result<()> {
        let same = |(shut, losses, _): &mut (Shut, bool, Meter)| {
            (*shut, *losses) == (now.shut, now.losses) && now.done > 1
        };
        if let Some((_, _, ended)) = self.current.take_if(|shown| !same(shown)) {
            ended.finish();
        }
        let label = match now.shut {
            Shut::Nothing => "plain".to_owned(),
            Shut::Concept(density) => format!("shut {:.2} %", 100.0 * density),
            Shut::Random(density) => format!("random {:.2} %", 100.0 * density),
        };
        let ui = self.ui;
        let (_, _, meter) = self
            .current
            .get_or_insert_with(|| (now.shut, now.losses, ui.meter(&label)));
        let message = if now.losses { "losses" } else { "passes" };
        meter.set(now.done, now.total, message)
    }
}

/// The steps of a run, for `--json`.
pub(crate) fn steps(steps: &[Step]) -> Value {
    let one = |s: &Step| json!({"step": s.step, "loss": s.loss, "seconds": s.seconds});
    steps.iter().map(one).collect()
}

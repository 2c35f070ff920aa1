//! The steps of a run, of which what there is is kept.

use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use cones::find::{Event, Moment, Observer, TrainerState};
use cones::{Error, Kept};

use super::Unfinished;
use crate::report::meters::Meters;
use crate::report::ui::Ui;

/// The steps of a method: shown, kept, and taken up again.
pub(crate) struct Steps<'a> {
    meters: Meters<'a>,
    unfinished: Unfinished<'a>,
    from: Option<TrainerState>,
    total: usize,
}

impl<'a> Steps<'a> {
    /// Takes up the steps that were kept, and says so.
    ///
    /// # Errors
    /// As [`Unfinished::open`].
    pub(crate) fn open(
        meters: Meters<'a>,
        (unfinished, kept): (Unfinished<'a>, Option<Kept>),
        total: usize,
    ) -> anyhow::Result<Self> {
        let from = kept.map(|kept| TrainerState::try_from(kept.contents.as_slice()));
        let from = from
            .transpose()
            .with_context(|| format!("`{}`: begin again with `--restart`", unfinished.file))?;
        if let Some(state) = &from {
            let ui = unfinished.ui;
            ui.note(&format!("going on at {}", at(state.steps.len(), total)));
        }
        Ok(Self {
            meters,
            unfinished,
            from,
            total,
        })
    }

    /// Takes the meters away; what is kept stays until the result is there.
    pub(crate) fn end<T>(
        mut self,
        result: cones::Result<T>,
    ) -> anyhow::Result<(T, Unfinished<'a>)> {
        self.meters.finish();
        let result = self.unfinished.tell(result)?;
        Ok((result, self.unfinished))
    }
}

/// `step 312 of 500`.
fn at(step: usize, total: usize) -> String {
    format!("step {step} of {total}")
}

impl Observer for Steps<'_> {
    fn event(&mut self, event: Event) -> cones::Result<()> {
        match (self.meters.event(event), event) {
            // That ends between two steps, where what there is can be kept.
            (Err(Error::Interrupted), Event::Step { .. }) => Ok(()),
            (result, _) => result,
        }
    }

    fn resume(&mut self) -> cones::Result<Option<TrainerState>> {
        Ok(self.from.take())
    }

    fn between_steps(&mut self, moment: &Moment) -> cones::Result<()> {
        let (step, ended) = (moment.step, Ui::check_interrupt());
        let next = Duration::from_secs_f64(step.seconds);
        if ended.is_err() || self.unfinished.is_due(next) {
            let state = moment.state()?;
            let done = at(step.step + 1, self.total);
            let write = move |out: &mut dyn Write| state.write(out);
            self.unfinished.keep(done, ended.is_err(), write);
        }
        ended
    }
}

//! How far a run has come, told to whoever called it.

use super::loss::Step;
use super::state::TrainerState;
use super::trainer::Moment;
use crate::{Progress, Result};

/// Something that happened in a run.
#[derive(Debug, Clone, Copy)]
pub enum Event {
    /// So many pictures of so many are encoded.
    Encoding {
        /// Pictures encoded.
        done: usize,
        /// All there are.
        total: usize,
    },
    /// A pass of the UNet on the way to pictures of the class.
    DrawingClass(Progress),
    /// A pass of the UNet on the way to pictures that the photos are measured beside.
    DrawingOwn(Progress),
    /// A step was taken.
    Step {
        /// What it did.
        step: Step,
        /// Steps there may be.
        total: usize,
    },
}

/// Is told of a run. Closures that take an [`Event`] are observers.
pub trait Observer {
    /// Something happened; an error ends the run.
    ///
    /// # Errors
    /// Its own, which the run gives back: [`Error::Interrupted`](crate::Error::Interrupted) to stop it.
    fn event(&mut self, event: Event) -> Result<()>;

    /// Where the steps go on; `None` is from the first. It is asked once, before the steps.
    ///
    /// # Errors
    /// Its own, which the run gives back.
    fn resume(&mut self) -> Result<Option<TrainerState>> {
        Ok(None)
    }

    /// A step was taken, and the state can be had; an error ends the run.
    ///
    /// # Errors
    /// Its own, which the run gives back.
    fn between_steps(&mut self, _moment: &Moment) -> Result<()> {
        Ok(())
    }
}

impl<F: FnMut(Event) -> Result<()>> Observer for F {
    fn event(&mut self, event: Event) -> Result<()> {
        self(event)
    }
}

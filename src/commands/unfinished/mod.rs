//! What is kept of work that takes long, so that a run which is stopped or killed goes on where it was.

mod steps;

pub(crate) use steps::Steps;

use std::io::{self, Write};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use cones::find::Record;
use cones::{Error, Kept, Part};

use super::{Advice, name};
use crate::report::ui::Ui;
use crate::signals::write_to_the_end;

/// What sets the seconds between two writings, for tests and for slow disks.
const SECONDS: &str = "CONES_STATE_SECONDS";
/// The seconds unless that is set.
const EVERY: f64 = 60.0;

/// The file beside an output with what there is of the work, written in the background now and then.
pub(crate) struct Unfinished<'a> {
    ui: &'a Ui,
    state: State,
    file: String,
    every: Duration,
    last: Instant,
    warned: bool,
    /// How far the work is that was kept last.
    done: Option<String>,
}

/// How far the work is, and whether it could be kept.
type Saved = (Part, String, cones::Result<()>);

enum State {
    /// Nothing is kept: the output is no file, or its folder takes none.
    Off,
    Idle(Part),
    Writing(JoinHandle<Saved>),
}

impl<'a> Unfinished<'a> {
    /// Takes up what was kept of the work of this plan, or begins it.
    ///
    /// # Errors
    /// If another run has the output, or something else is kept there. That nothing can be kept is a warning.
    pub(crate) fn open(
        ui: &'a Ui,
        output: &Path,
        plan: Record,
        restart: bool,
        most: u64,
    ) -> anyhow::Result<(Self, Option<Kept>)> {
        let mut unfinished = Self {
            ui,
            state: State::Off,
            file: String::new(),
            every: interval()?,
            last: Instant::now(),
            warned: false,
            done: None,
        };
        // A device or a pipe is written to once.
        if std::fs::metadata(output).is_ok_and(|found| !found.is_file()) {
            return Ok((unfinished, None));
        }
        match Part::open(output, plan, restart, most) {
            Ok((part, kept)) => {
                unfinished.file = name(&Part::path(output)?);
                unfinished.state = State::Idle(part);
                unfinished.done = kept.as_ref().map(|kept| kept.done.clone());
                Ok((unfinished, kept))
            }
            Err(error @ Error::Io { .. }) => {
                unfinished.warn(&error);
                Ok((unfinished, None))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it is time to keep what there is, before so much more work.
    pub(crate) fn is_due(&self, next: Duration) -> bool {
        self.last.elapsed() + next >= self.every && !self.is_busy()
    }

    /// Whether what was kept last is still on its way to the disk: then nothing new is kept but at the end.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(&self.state, State::Writing(writing) if !writing.is_finished())
    }

    /// Keeps what there is, while the work goes on; where it is `ending`, before it does.
    pub(crate) fn keep(
        &mut self,
        done: String,
        ending: bool,
        contents: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
    ) {
        if self.is_busy() && !ending {
            return;
        }
        let State::Idle(mut part) = self.settled() else {
            return;
        };
        self.last = Instant::now();
        let save = move || {
            let saved = write_to_the_end(|| part.save(&done, contents));
            (part, done, saved)
        };
        self.state = match std::thread::Builder::new().spawn(save) {
            Ok(writing) => State::Writing(writing),
            // The work is not kept from here on.
            Err(_) => State::Off,
        };
        if ending {
            self.state = self.settled();
        }
    }

    /// Waits for the writer.
    fn settled(&mut self) -> State {
        match std::mem::replace(&mut self.state, State::Off) {
            State::Writing(writing) => {
                let Ok((part, done, saved)) = writing.join() else {
                    return State::Off;
                };
                match saved {
                    Ok(()) => self.done = Some(done),
                    Err(error) => self.warn(&error),
                }
                State::Idle(part)
            }
            state => state,
        }
    }

    fn warn(&mut self, error: &Error) {
        if !std::mem::replace(&mut self.warned, true) {
            let source = std::error::Error::source(error);
            let reason = source.map_or_else(String::new, |source| format!(": {source}"));
            self.ui.warn(&format!(
                "{error}{reason}; the work goes on, and would be lost if it were stopped"
            ));
        }
    }

    /// The result is there: nothing more is kept. Unless it is lost: what was kept of it stays.
    pub(crate) fn finish_unless(mut self, lost: bool) {
        if let (State::Idle(part), false) = (self.settled(), lost) {
            part.finish();
        }
    }

    /// What to say of work that ends before its result: how to go on.
    pub(crate) fn tell<T>(&mut self, result: cones::Result<T>) -> anyhow::Result<T> {
        self.state = self.settled();
        match (result, &self.done, &self.state) {
            (Err(Error::Interrupted), Some(done), State::Idle(_)) => {
                let file = &self.file;
                Err(Error::Interrupted).context(format!(
                    "{done} is kept in `{file}`; the same command goes on there"
                ))
            }
            (result, ..) => Ok(result?),
        }
    }
}

/// The writer has the file, and is not left alone with it.
impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        drop(self.settled());
    }
}

/// Between two writings.
fn interval() -> anyhow::Result<Duration> {
    let Some(text) = std::env::var_os(SECONDS) else {
        return Ok(Duration::from_secs_f64(EVERY));
    };
    let seconds = text.to_str().and_then(|text| text.parse::<f64>().ok());
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| {
        let found = text.to_string_lossy();
        let problem = format!("{SECONDS}: expected a number of seconds, found `{found}`");
        Advice::error(problem, "leave it away for one writing a minute")
    })
}

//! What the user sees of a download, and is asked about it.

use std::io::{BufRead, IsTerminal, Write};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use cones::{Error, escaped};
use indicatif::ProgressBar;

use super::memory::human;
use super::ui::{Ui, say};

/// Between progress lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// How often an interrupt is looked at while the user thinks.
const LOOK: Duration = Duration::from_millis(100);

/// Bytes that come: a bar with the time left on a terminal, a line now and then elsewhere.
pub(crate) struct Bytes {
    bar: Option<ProgressBar>,
    lines: bool,
    start: Option<(Instant, u64)>,
    last: Instant,
}

impl Bytes {
    pub(crate) fn new(ui: &Ui) -> Self {
        Self {
            bar: ui.bar("fetching", "{bytes}/{total_bytes} {bytes_per_sec}"),
            lines: !ui.quiet,
            start: None,
            last: Instant::now(),
        }
    }

    /// Shows that `done` of `total` bytes are here, and ends the work if the user asked for that.
    pub(crate) fn set(&mut self, done: u64, total: u64) -> Result<(), Error> {
        let (start, first) = *self.start.get_or_insert((Instant::now(), done));
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
        } else if self.lines && self.last.elapsed() >= LINE_EVERY {
            self.last = Instant::now();
            let rate = done.saturating_sub(first) as f64 / start.elapsed().as_secs_f64();
            let left = total.saturating_sub(done) as f64 / rate.max(1.0);
            say(&format!(
                "fetching: {} of {} eta {left:.0} s",
                human(done),
                human(total)
            ));
        }
        Ui::check_interrupt()
    }

    /// Takes the bar away.
    pub(crate) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Whether there is somebody to ask.
pub(crate) fn can_ask(ui: &Ui) -> bool {
    !ui.quiet && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks on the terminal; all but a yes is no.
///
/// # Errors
/// If the user ends the work instead.
pub(crate) fn ask(question: &str) -> Result<bool, Error> {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(format!("{} [y/N] ", escaped(question)).as_bytes());
    let _ = stderr.flush();
    drop(stderr);
    let (sender, answer) = channel();
    let reader = move || {
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line);
        sender.send(read.map(|_| line))
    };
    // Without a thread there is no answer.
    let _ = std::thread::Builder::new().spawn(reader);
    loop {
        match answer.recv_timeout(LOOK) {
            Ok(line) => {
                let line = line.unwrap_or_default().trim().to_lowercase();
                return Ok(line == "y" || line == "yes");
            }
            Err(RecvTimeoutError::Timeout) => Ui::check_interrupt()?,
            Err(RecvTimeoutError::Disconnected) => return Ok(false),
        }
    }
}

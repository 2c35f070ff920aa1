//! What the user sees: results on stdout, progress and messages on stderr.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::escape::{escaped_json, escaped_lines};
use anyhow::Context;
use cones::{Error, escaped};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use crate::cli::{Color, Global};

/// Set by Ctrl-C and its like. The work looks at it between steps, so that what is half done is put away properly.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Between progress lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How much to say, and how.
pub(crate) struct Ui {
    pub(super) quiet: bool,
    verbose: bool,
    pub(super) color: bool,
}

impl Ui {
    pub(crate) fn new(global: &Global) -> Self {
        Self {
            quiet: global.quiet,
            verbose: global.verbose,
            color: color(global.color),
        }
    }

    /// Lets Ctrl-C and its like end the work at the next step, and a second one at once.
    pub(crate) fn catch_interrupts() -> anyhow::Result<()> {
        crate::signals::catch(|| {
            if INTERRUPTED.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
        })
    }

    /// Ends the work if the user asked for that.
    pub(crate) fn check_interrupt() -> Result<(), Error> {
        match INTERRUPTED.load(Ordering::Relaxed) {
            true => Err(Error::Interrupted),
            false => Ok(()),
        }
    }

    /// A message that most users want.
    pub(crate) fn note(&self, message: &str) {
        if !self.quiet {
            say(&escaped(message));
        }
    }

    /// A message for `--verbose`.
    pub(crate) fn detail(&self, message: &str) {
        if self.verbose {
            say(&escaped(message));
        }
    }

    /// A message about something that is probably not what the user wants.
    pub(crate) fn warn(&self, message: &str) {
        if !self.quiet {
            let label = if self.color {
                "\x1b[1;33mwarning:\x1b[0m"
            } else {
                "warning:"
            };
            say(&format!("{label} {}", escaped(message)));
        }
    }

    /// Writes the result to stdout, in which what is not seen is escaped. A closed pipe (`| head`) is not an error.
    pub(crate) fn result(&self, text: &str) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        match out
            .write_all(escaped_lines(text).as_bytes())
            .and_then(|()| out.write_all(b"\n"))
            .and_then(|()| out.flush())
        {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => other.context("cannot write the result to stdout"),
        }
    }

    /// [`Ui::result`] of one JSON object.
    pub(crate) fn json(&self, value: &Value) -> anyhow::Result<()> {
        self.result(&escaped_json(&format!("{value:#}")))
    }

    /// A meter for work of known length.
    pub(crate) fn meter(&self, label: &str) -> Meter {
        Meter {
            bar: self.bar(label, "{pos}/{len} {msg}"),
            lines: !self.quiet,
            label: escaped(label),
            start: Instant::now(),
            last: Instant::now(),
        }
    }

    /// A bar with this label before it, and behind it counts in indicatif's language and the time left; none where
    /// nobody sees it move.
    pub(super) fn bar(&self, label: &str, counts: &str) -> Option<ProgressBar> {
        (!self.quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let color = if self.color { ".cyan" } else { "" };
            let template = format!("{{prefix:>16}} {{bar:32{color}}} {counts} eta {{eta}}");
            if let Ok(style) = ProgressStyle::with_template(&template) {
                bar.set_style(style);
            }
            bar.set_prefix(escaped(label));
            bar
        })
    }
}

/// Writes a line to stderr. Nobody may be there to read it, or its disk be full: that ends no work.
pub(crate) fn say(line: &str) {
    let _ = std::io::stderr()
        .lock()
        .write_all(format!("{line}\n").as_bytes());
}

/// Progress: a bar with the time left on a terminal, a line now and then elsewhere.
pub(crate) struct Meter {
    bar: Option<ProgressBar>,
    lines: bool,
    label: String,
    start: Instant,
    last: Instant,
}

impl Meter {
    /// Shows that `done` of `total` is done, and ends the work if the user asked for that.
    pub(crate) fn set(&mut self, done: usize, total: usize, message: &str) -> Result<(), Error> {
        if let Some(bar) = &self.bar {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
            bar.set_message(message.to_owned());
        } else if self.lines && self.last.elapsed() >= LINE_EVERY {
            self.last = Instant::now();
            let left = self.start.elapsed().as_secs_f64() / done.max(1) as f64
                * (total - done.min(total)) as f64;
            say(&format!(
                "{}: {done}/{total} {message} eta {left:.0} s",
                self.label
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

/// Whether to colour stderr: as asked, else where it is a terminal and `NO_COLOR` (no-color.org) is not set.
pub(crate) fn color(choice: Color) -> bool {
    match choice {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            std::io::stderr().is_terminal()
                && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        }
    }
}

/// The most memory that this process has had at once, in bytes, where the system tells.
pub(crate) fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace()
        .nth(1)?
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}

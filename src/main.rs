//! `cones`: find concept neurons, store them, draw with them.

mod cli;
mod commands;

use std::process::ExitCode;

use anyhow::Context;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use cli::{Cli, Command, Global};
use commands::ui::{Ui, color};
use cones::Error;

fn main() -> ExitCode {
    cones::keep_freed_memory();
    let Cli { global, command } = Cli::parse();
    let checked = match &command {
        Command::Find(args) => global.check().and_then(|()| args.check()),
        _ => global.check(),
    };
    if let Err(message) = checked {
        Cli::command()
            .error(ErrorKind::ArgumentConflict, message)
            .exit();
    }
    match run(&global, &command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE, // a negative answer, already printed
        Err(error) => fail(&error, color(global.color)),
    }
}

/// Whether the command did what it was to do, or answered yes.
fn run(global: &Global, command: &Command) -> anyhow::Result<bool> {
    Ui::catch_interrupts()?;
    if let Some(threads) = global.threads {
        // All kernels share this pool; without the option it is made of all cores when first used.
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .context("--threads")?;
    }
    match command {
        Command::Find(args) => commands::find::run(global, args)?,
        Command::Generate(args) => commands::generate::run(global, args)?,
        Command::Merge(args) => commands::merge::run(global, args)?,
        Command::Inspect(args) => commands::inspect::run(global, args)?,
        Command::Eval(args) => return commands::eval::run(global, args),
    }
    Ok(true)
}

/// Prints an error with its causes and the next step; the exit code is 130 after an interrupt, else 1.
fn fail(error: &anyhow::Error, color: bool) -> ExitCode {
    let ours = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Error>());
    if matches!(ours, Some(Error::Interrupted)) {
        eprintln!("interrupted");
        return ExitCode::from(130);
    }
    let label = if color {
        "\x1b[1;31merror:\x1b[0m"
    } else {
        "error:"
    };
    eprintln!("{label} {error:#}");
    if let Some(hint) = ours.and_then(Error::hint) {
        eprintln!("\nhint: {hint}");
    }
    ExitCode::FAILURE
}

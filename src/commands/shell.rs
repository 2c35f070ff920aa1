//! `cones completions` and `cones man`: what shells and `man` are told of the command line.

use anyhow::{Context, bail};
use clap_complete::Shell;

use crate::cli::Cli;

/// Prints what a shell completes `cones` by.
pub(crate) fn completions(shell: Shell) -> anyhow::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::definition(), "cones", &mut text);
    print(&text)
}

/// Prints the manual page of the program, or of one of its commands.
pub(crate) fn man(command: Option<&str>) -> anyhow::Result<()> {
    let mut all = Cli::definition();
    all.build();
    let page = match command {
        None => all,
        Some(name) => match all.find_subcommand(name) {
            Some(command) => command.clone(),
            None => bail!("man: expected a command of cones, found `{name}`"),
        },
    };
    let mut text = Vec::new();
    let title = command.map_or_else(|| "cones".to_owned(), |name| format!("cones-{name}"));
    clap_mangen::Man::new(page).title(title).render(&mut text)?;
    print(&text)
}

/// To stdout, as it is: it is a script. A closed pipe is no error.
fn print(text: &[u8]) -> anyhow::Result<()> {
    use std::io::{ErrorKind, Write};
    let mut out = std::io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write the result to stdout"),
    }
}

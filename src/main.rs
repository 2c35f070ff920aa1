//! `cones`: find concept neurons, store them, draw with them.

mod cli;
mod commands;
mod report;
mod signals;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::error::{ContextValue, ErrorKind as Usage};
use clap::{CommandFactory, FromArgMatches};
use cli::{Cli, Command, Global};
use commands::Advice;
use cones::{Error, escaped};
use report::escape::{escaped_json, escaped_lines};
use report::ui::{Ui, color, say};
use serde_json::json;

fn main() -> ExitCode {
    cones::keep_freed_memory();
    let Cli { global, command } = match parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match run(&global, &command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE, // a negative answer, already printed
        Err(error) => fail(&error, global.json, color(global.color)),
    }
}

/// An error as one JSON object, in the place of the result.
fn print_error(message: &str, causes: &[String], hint: Option<&str>) {
    let said = json!({"error": {"message": message, "causes": causes, "hint": hint}});
    let mut out = std::io::stdout().lock();
    // Where stdout takes nothing, stderr has it all the same.
    let _ = writeln!(out, "{}", escaped_json(&format!("{said:#}"))).and_then(|()| out.flush());
}

/// The next step after an error.
fn hint(error: &anyhow::Error) -> Option<&str> {
    let advice = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Advice>());
    let ours = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Error>());
    let of_advice = advice.map(|advice| advice.hint.as_str());
    of_advice.or(ours.and_then(report::hints::hint))
}

/// The command line; help, or what is wrong with it, is printed here.
fn parse() -> Result<Cli, ExitCode> {
    let given = match Cli::definition().try_get_matches() {
        Ok(matches) => match commands::generate::from::arguments(&matches) {
            Ok(None) => Ok(matches),
            // The picture's own options, where none are given.
            Ok(Some(drawn)) => {
                let all = drawn.completed(std::env::args_os());
                Cli::definition().try_get_matches_from(all)
            }
            Err(error) => return Err(fail(&error, asks_for_json(), color(cli::Color::Auto))),
        },
        Err(error) => Err(error),
    };
    let parsed = given.and_then(|given| Cli::from_arg_matches(&given));
    let parsed = parsed.and_then(|cli| match cli.check() {
        Ok(()) => Ok(cli),
        Err(message) => Err(Cli::command().error(Usage::ArgumentConflict, escaped(&message))),
    });
    parsed.map_err(|error| {
        if error.use_stderr() {
            if asks_for_json() {
                let (message, hint) = usage(&error);
                print_error(&message, &[], Some(&hint));
            }
            match printable(&error) {
                Some(message) => say(message.trim_end()),
                None => drop(error.print()),
            }
            return ExitCode::from(2);
        }
        match error.print().and_then(|()| std::io::stdout().flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                say(&format!("error: cannot write to stdout: {error}"));
                ExitCode::FAILURE
            }
            _ => ExitCode::SUCCESS,
        }
    })
}

/// Whether results are to be JSON, of a command line that may not be understood as a whole.
fn asks_for_json() -> bool {
    let arguments = std::env::args_os().skip(1);
    let mut options = arguments.take_while(|argument| argument != "--");
    options.any(|argument| argument == "--json")
}

/// What is wrong with the command line, as one line, and the next step.
fn usage(error: &clap::Error) -> (String, String) {
    let text = error.render().to_string();
    let line = |paragraph: &str| {
        let words: Vec<&str> = paragraph.split_whitespace().collect();
        words.join(" ")
    };
    let mut paragraphs = text.split("\n\n").map(line);
    let first = paragraphs.next().unwrap_or_default();
    let message = first.strip_prefix("error: ").unwrap_or(&first).to_owned();
    let tip = paragraphs.find_map(|paragraph| Some(paragraph.strip_prefix("tip: ")?.to_owned()));
    (
        message,
        tip.unwrap_or_else(|| "`--help` says what there is to say".to_owned()),
    )
}

/// What is wrong with the command line, where what it holds cannot be printed as it is: names may come from a folder of
/// others, options from a picture.
fn printable(error: &clap::Error) -> Option<String> {
    let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let told = error.context().flat_map(|(_, value)| match value {
        ContextValue::String(text) => vec![text.clone()],
        ContextValue::Strings(texts) => texts.clone(),
        _ => Vec::new(),
    });
    let hostile: Vec<String> = arguments
        .chain(told)
        .flat_map(|argument| {
            let value = argument.split_once('=').map(|(_, value)| value.to_owned());
            [Some(argument), value].into_iter().flatten()
        })
        .filter(|text| escaped(text) != *text)
        .collect();
    let message = error.render().to_string();
    let clean = |message: String, text: &String| message.replace(text, &escaped(text));
    (!hostile.is_empty()).then(|| escaped_lines(&hostile.iter().fold(message, clean)))
}

/// Whether the command did what it was to do, or answered yes.
fn run(global: &Global, command: &Command) -> anyhow::Result<bool> {
    let ui = Ui::new(global);
    Ui::catch_interrupts()?;
    signals::answer_shortened_files();
    signals::answer_aborts();
    let computes = match command {
        Command::Inspect(_) | Command::Completions { .. } | Command::Man { .. } => false,
        Command::Merge(args) => args.tune.is_some(),
        _ => true,
    };
    if computes {
        start_threads(global, &ui)?;
        if let Some(seed) = cli::drawn_seed() {
            ui.note(&format!("seed {seed}, drawn at random"));
        }
    }
    match command {
        Command::Find(args) => commands::find::run(global, args)?,
        Command::Generate(args) => commands::generate::run(global, args)?,
        Command::Merge(args) => commands::merge::run(global, args)?,
        Command::Export(args) => commands::export::run(global, args)?,
        Command::Inspect(args) => commands::inspect::run(global, args)?,
        Command::Eval(args) => return commands::eval::run(global, args),
        Command::Doctor => commands::doctor::run(global)?,
        Command::Completions { shell } => commands::shell::completions(*shell)?,
        Command::Man { command } => commands::shell::man(command.as_deref())?,
    }
    Ok(true)
}

/// Starts the threads that all kernels share: made here, so that where there cannot be so many it is an error.
fn start_threads(global: &Global, ui: &Ui) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let from_environment = || std::env::var("RAYON_NUM_THREADS").ok()?.parse().ok();
    let threads = match global.threads.or_else(from_environment) {
        None | Some(0) => cores,
        Some(threads) => threads,
    };
    if threads > 4 * cores.max(4) {
        ui.warn(&format!(
            "{threads} threads on {cores} cores: many more than cores are slower"
        ));
    }
    let most = cli::MAX_THREADS;
    if threads > most {
        anyhow::bail!("RAYON_NUM_THREADS: expected at most {most} threads, found {threads}");
    }
    // This thread is one of them: from outside, each of many small products would wake one and wait for it.
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .use_current_thread();
    pool.build_global().with_context(|| {
        format!("cannot start {threads} threads: give fewer with --threads, or raise the limit (ulimit -u)")
    })
}

/// Prints an error with its causes and the next step; the exit code is 130 after an interrupt, else 1.
fn fail(error: &anyhow::Error, json: bool, color: bool) -> ExitCode {
    if json {
        let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
        print_error(&error.to_string(), &causes, hint(error));
    }
    let ours = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Error>());
    if matches!(ours, Some(Error::Interrupted)) {
        // What is told beside it is what there is of the work.
        let kept = (error.chain().len() > 1).then(|| format!(": {}", escaped(&error.to_string())));
        say(&format!("interrupted{}", kept.unwrap_or_default()));
        return ExitCode::from(130);
    }
    let label = if color {
        "\x1b[1;31merror:\x1b[0m"
    } else {
        "error:"
    };
    say(&format!("{label} {}", escaped(&format!("{error:#}"))));
    if let Some(hint) = hint(error) {
        say(&format!("\nhint: {}", escaped(hint)));
    }
    ExitCode::FAILURE
}

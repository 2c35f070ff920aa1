//! Streams that nobody reads, or that are full; and names that would act on a terminal.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod metadata;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::cli::{self, json, program};
use crate::outputs::ready;

const FIND: &str = "find --subject dog --steps 1 --batch 1 --force -o x.idx p";
const EVAL: &str = "eval a.idx --images p --count 1 --steps 1 --loss-draws 0 --controls 0";

/// What every command does within a moment, and the status that it ends with; of `eval` that is an answer.
const COMMANDS: &[(&str, i32)] = &[
    (FIND, 0),
    ("merge a.idx b.idx -o x2.idx --force", 0),
    (
        "merge a.idx --tune 1 --batch 1 --images dog=p -o x3.idx --force",
        0,
    ),
    ("generate dog --steps 1 -o x.png --size 256", 0),
    ("generate dog --dry-run -v", 0),
    ("inspect a.idx b.idx", 0),
    (EVAL, 1),
    ("generate dog --steps 1 --concepts no.idx", 1),
    ("generate dog -o no/x.png", 1),
    ("generate dog -o x.gif", 2),
    ("generate dog --no-such-option", 2),
    ("no-such-command", 2),
    ("--help", 0),
    ("find --help", 0),
    ("--version", 0),
];

fn command(dir: &Path, command: &str) -> Command {
    let mut started = program(dir);
    started.args(command.split(' '));
    started
}

/// `cones ...` with a redirection of the shell.
fn shell(dir: &Path, command: &str, more: &str) -> Output {
    let script = format!("exec '{}' {command} {more}", env!("CARGO_BIN_EXE_cones"));
    cli::command(dir, "sh")
        .args(["-c", &script])
        .output()
        .unwrap()
}

/// The status that `eval` has when all is well.
fn status(dir: &Path, line: &str) -> Option<i32> {
    let answers = line.starts_with("eval");
    answers.then(|| command(dir, line).output().unwrap().status.code().unwrap())
}

#[test]
fn messages_that_nobody_reads_end_no_work() {
    let dir = ready();
    let dir = dir.path();
    for (line, code) in COMMANDS {
        let code = &status(dir, line).unwrap_or(*code);
        let made = ["x.idx", "x2.idx", "x3.idx", "x.png"].map(|name| dir.join(name));
        let check = |how: &str, output: Output| {
            assert_eq!(
                output.status.code(),
                Some(*code),
                "{line} with stderr {how}"
            );
            let result = code == &0 || line.starts_with("eval");
            assert_eq!(
                !output.stdout.is_empty(),
                result,
                "{line} with stderr {how}"
            );
            for file in made
                .iter()
                .filter(|file| line.contains(file.file_name().unwrap().to_str().unwrap()))
            {
                assert_eq!(file.is_file(), *code == 0, "{line} with stderr {how}");
                let _ = fs::remove_file(file);
            }
        };
        check("closed", shell(dir, line, "2>&-"));
        check("full", shell(dir, line, "2>/dev/full"));
        check("read only", shell(dir, line, "2</dev/null"));
        let mut child = command(dir, line)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stderr.take());
        check("a broken pipe", child.wait_with_output().unwrap());
    }
}

/// A terminal that is closed takes no more of the bar.
#[test]
fn a_closed_terminal_ends_no_work() {
    let dir = ready();
    let script = "
import os, subprocess, sys, time
master, slave = os.openpty()
child = subprocess.Popen(sys.argv[1:], stderr=slave, stdout=subprocess.DEVNULL)
os.close(slave)
os.read(master, 20)
os.close(master)
sys.exit(child.wait())";
    let line = FIND.replace("--steps 1", "--steps 20");
    let status = Command::new("python3")
        .args(["-c", script, env!("CARGO_BIN_EXE_cones")])
        .args(line.split(' '))
        .current_dir(dir.path())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(dir.path().join("x.idx").is_file());
}

#[test]
fn a_result_that_cannot_be_written_is_an_error() {
    let dir = ready();
    let dir = dir.path();
    for (line, code) in COMMANDS {
        let code = &status(dir, line).unwrap_or(*code);
        let output = shell(dir, line, ">/dev/full");
        let expected = if *code == 0 { 1 } else { *code };
        assert_eq!(
            output.status.code(),
            Some(expected),
            "{line} with stdout full"
        );
        // A reader that has read enough is none.
        let mut child = command(dir, line)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(*code),
            "{line} with a broken pipe: {error}"
        );
        assert!(!error.contains("panicked"), "{error}");
    }
}

/// A name with U+FFFD for what is not UTF-8.
fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

#[test]
fn json_has_every_name() {
    let dir = ready();
    let dir = dir.path();
    let os = |name: &[u8]| OsString::from_vec(name.to_vec());
    fs::copy(dir.join("a.idx"), dir.join(os(b"\xff.idx"))).unwrap();
    fs::create_dir(dir.join(os(b"d\xff"))).unwrap();
    fs::rename(dir.join("q"), dir.join(os(b"q\xfe"))).unwrap();
    let cases: &[(&[u8], &str, &[u8])] = &[
        (b"inspect --json \xff.idx", "/indices/0/index", b"\xff.idx"),
        (
            b"inspect --json a.idx \xff.idx",
            "/overlaps/0/second",
            b"\xff.idx",
        ),
        (
            b"merge --json a.idx b.idx -o \xfe.idx",
            "/index",
            b"\xfe.idx",
        ),
        (
            b"merge --json \xff.idx b.idx -o pair.idx",
            "/overlaps/0/first",
            b"\xff.idx",
        ),
        (
            b"find --json --subject dog --steps 1 --batch 1 -o \xfd.idx p q\xfe",
            "/index",
            b"\xfd.idx",
        ),
        (
            b"generate dog --json --steps 1 -o d\xff/o.png",
            "/images/0/path",
            b"d\xff/o.png",
        ),
        (
            b"generate dog --json --steps 1 -o \xff.png --count 2",
            "/images/1/path",
            b"\xff-1.png",
        ),
        (
            b"generate dog --json --steps 1 -o \xff.png --heatmap dog",
            "/images/0/heatmaps/0/path",
            b"\xff-heat-dog.png",
        ),
        (
            b"generate dog --json --steps 1 --concepts \xff.idx",
            "/concepts/0/index",
            b"\xff.idx",
        ),
        (
            b"eval \xff.idx --json --images p --count 1 --steps 1 --loss-draws 0 --sheet \xff.png",
            "/sheet",
            b"\xff.png",
        ),
        (
            b"find --json --subject dog --dry-run -o \xfc.idx p",
            "/task",
            b"",
        ),
    ];
    for (line, key, name) in cases {
        let args = line.split(|&b| b == b' ').map(OsStr::from_bytes);
        let output = program(dir).args(args).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code().unwrap() < 2,
            "{}: {error}",
            lossy(line)
        );
        let report: Value = json(&String::from_utf8(output.stdout).unwrap());
        let found = report.pointer(key).and_then(Value::as_str).unwrap();
        assert!(found.ends_with(&lossy(name)), "{}: {report}", lossy(line));
        assert!(Path::new(dir).join(os(name)).exists());
    }
}

/// What must not reach a terminal: all that is no line break, tab or letter.
fn act(text: &str) -> bool {
    let marks = "\u{200b}\u{200e}\u{200f}\u{202a}\u{202b}\u{202d}\u{202e}\u{2066}\u{2067}\u{2069}\u{2028}\u{feff}";
    text.chars()
        .any(|c| c.is_control() && c != '\n' && c != '\t')
        || text.chars().any(|c| marks.contains(c))
}

const HOSTILE: [&str; 6] = [
    "\u{1b}]0;title\u{7}\u{1b}[2J",
    "x\nerror: forged",
    "x\rerror: forged",
    "\u{9b}2J",
    "gpj.\u{202e}x",
    "\u{2066}\u{200b}\u{7f}",
];

#[test]
fn names_do_not_act_on_the_terminal() {
    let dir = ready();
    let dir = dir.path();
    for (i, name) in HOSTILE.into_iter().enumerate() {
        let (index, photo) = (format!("{name}.idx"), format!("{name}.png"));
        fs::copy(dir.join("a.idx"), dir.join(&index)).unwrap();
        fs::write(dir.join(&photo), b"no picture").unwrap();
        fs::write(dir.join(format!("{i}.txt")), format!("a {name} {{}}\n")).unwrap();
        fs::create_dir(dir.join(name)).unwrap();
        let out = format!("{name}/{name}.png");
        let cases: &[&[&str]] = &[
            &["inspect", &index],
            &["inspect", "--json", &index],
            &["inspect", &index, "--indices", &format!("{name}.plain")],
            &["inspect", name],
            &["inspect", &photo],
            &["merge", &index, "b.idx", "-o", &format!("{name}.both")],
            &["merge", &index, "b.idx", "-o", &photo],
            &["merge", "a.idx", "b.idx", "-o", name],
            &[
                "merge",
                "a.idx",
                "--tune",
                "1",
                "--images",
                &format!("{name}={name}"),
                "-o",
                "t.idx",
            ],
            &["find", "--subject", "dog", &photo],
            &["find", "--subject", "dog", name],
            &[
                "find",
                "--subject",
                "dog",
                "--dry-run",
                "-o",
                &format!("{name}.new"),
                "p",
            ],
            &["find", "--subject", name, "p", "-o", "no/x"],
            &["generate", "dog", "--steps", "1", "-o", &out],
            &["generate", "dog", "--steps", "1", "-o", &out, "--json"],
            &["generate", name, "--steps", "1", "--heatmap", "dog"],
            &["generate", "dog", "--concepts", name],
            &["generate", "dog", "--concepts", &index, "--model", name],
            &["generate", "dog", "-o", name],
            &["generate", "dog", "-o", &format!("{name}/no/x.png")],
            &["generate", "dog", "--sampler", name],
            &["generate", "dog", &format!("--{name}")],
            &["generate", "dog", "--layers", name, "--concepts", "a.idx"],
            &[name],
            &["eval", &index, "--images", &photo],
            &["eval", &index, "--images", "p", "--encoder", name],
            &[
                "eval",
                &index,
                "--images",
                "p",
                "--prompts",
                &format!("{i}.txt"),
                "--count",
                "1",
                "--steps",
                "1",
                "--loss-draws",
                "0",
                "--controls",
                "0",
            ],
            &["eval", "a.idx", "--images", "p", "--subject", name],
        ];
        for args in cases {
            let output = crate::cli::cones(dir, args);
            for stream in [&output.stdout, &output.stderr] {
                let text = String::from_utf8_lossy(stream);
                assert!(!act(&text), "{args:?} printed {text:?}");
                assert!(
                    !text.contains("\nerror: forged"),
                    "{args:?} printed {text:?}"
                );
                assert!(!text.contains("panicked"), "{args:?}: {text}");
            }
        }
    }
}

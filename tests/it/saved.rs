//! A result that cannot be written under its name is kept elsewhere, and what is drawn is kept as it is drawn.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::cli::{fails, ok, program};
use crate::outputs::ready;

/// The files that an error names as the places of results.
fn places(error: &str) -> Vec<PathBuf> {
    error
        .split("it is in `")
        .skip(1)
        .map(|rest| rest.split('`').next().unwrap().into())
        .collect()
}

fn start(dir: &Path, command: &str) -> Child {
    program(dir)
        .args(command.split(' '))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// `/dev/full` takes no byte, and can be opened: as a disk that fills up during the work.
#[test]
fn a_full_disk_loses_nothing() {
    let dir = ready();
    let dir = dir.path();
    for name in [
        "full.idx",
        "full.scores",
        "full.png",
        "full-0.png",
        "dog-heat-dog.png",
    ] {
        symlink("/dev/full", dir.join(name)).unwrap();
    }
    let find = "find --subject dog --steps 1 --batch 1";
    let cases: &[(&str, &[(&str, &str)])] = &[
        (
            &format!("{find} -o full.idx p"),
            &[("full.saved.idx", "a.idx")],
        ),
        (
            &format!("{find} -o dog.idx --scores full.scores p"),
            &[("full.saved.scores", "")],
        ),
        (
            &format!("{find} -o full.idx --scores full.scores p"),
            &[
                ("full.saved-2.idx", "a.idx"),
                ("full.saved-2.scores", "full.saved.scores"),
            ],
        ),
        ("merge a.idx b.idx -o full.idx", &[("full.saved-3.idx", "")]),
        (
            "merge a.idx --tune 1 --batch 1 --images dog=p -o full.idx",
            &[("full.saved-4.idx", "")],
        ),
        (
            "inspect a.idx --indices full.idx",
            &[("full.saved-5.idx", "")],
        ),
        (
            "generate dog --steps 1 -o full.png",
            &[("full.saved.png", "")],
        ),
        (
            "generate dog --steps 1 -o full.png --count 2",
            &[("full-0.saved.png", "full.png")],
        ),
        (
            "generate dog --steps 1 -o dog.png --heatmap dog",
            &[("dog-heat-dog.saved.png", "")],
        ),
        (
            "eval a.idx --images p --count 1 --steps 1 --loss-draws 0 --sheet full.png",
            &[("full.saved-2.png", "")],
        ),
    ];
    for (command, kept) in cases {
        let output = crate::cli::cones(dir, &command.split(' ').collect::<Vec<_>>());
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{command}: {error}");
        assert_eq!(
            output.stdout.is_empty(),
            !command.starts_with("eval"),
            "{command}"
        );
        let places = places(&error);
        assert_eq!(places.len(), kept.len(), "{command}: {error}");
        for (place, (name, same)) in places.iter().zip(*kept) {
            assert_eq!(
                place,
                &fs::canonicalize(dir).unwrap().join(name),
                "{command}"
            );
            let bytes = fs::read(place).unwrap();
            match name.rsplit('.').next() {
                Some("png") => drop(image::load_from_memory(&bytes).unwrap()),
                _ => assert!(bytes.len() > 1000),
            }
            if same.ends_with(".idx") || same.ends_with(".scores") {
                assert_eq!(bytes, fs::read(dir.join(same)).unwrap(), "{command}");
            }
        }
    }
    ok(
        dir,
        &[
            "inspect",
            "full.saved.idx",
            "full.saved-3.idx",
            "full.saved-4.idx",
            "dog.idx",
        ],
    );
    assert!(dir.join("dog.png").is_file());
    assert_eq!(
        fs::read(dir.join("dog.idx")).unwrap(),
        fs::read(dir.join("a.idx")).unwrap()
    );
    // The figures of `eval` are hours of work too.
    let eval = "eval a.idx --images p --count 1 --steps 1 --loss-draws 0";
    let script = format!("exec '{}' {eval} > /dev/full", env!("CARGO_BIN_EXE_cones"));
    let output = Command::new("sh")
        .args(["-c", &script])
        .current_dir(dir)
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        fs::read_to_string(&places(&error)[0])
            .unwrap()
            .contains("CLIP-I"),
        "{error}"
    );
}

/// What happens to the place of an output while the work goes on.
#[test]
fn a_place_that_is_lost_during_the_work_loses_nothing() {
    let dir = ready();
    let dir = dir.path();
    let find = "find --subject dog --steps 12 --batch 1 p -o out/x.idx";
    ok(
        dir,
        &find
            .replace("out/x.idx", "right.idx")
            .split(' ')
            .collect::<Vec<_>>(),
    );
    let right = fs::read(dir.join("right.idx")).unwrap();
    let gone = |out: &Path| fs::rename(out, out.with_file_name("moved")).unwrap();
    let a_file = |out: &Path| {
        fs::rename(out, out.with_file_name("moved")).unwrap();
        fs::write(out, b"").unwrap();
    };
    let taken = |out: &Path| fs::create_dir(out.join("x.idx")).unwrap();
    let looped = |out: &Path| symlink("x.idx", out.join("x.idx")).unwrap();
    let nowhere = |out: &Path| symlink("no/where", out.join("x.idx")).unwrap();
    type Lose<'a> = &'a dyn Fn(&Path);
    let cases: &[(Lose, &str)] = &[
        (&gone, "x.saved.idx"),
        (&a_file, "x.saved-2.idx"),
        (&taken, "out/x.saved.idx"),
        (&looped, "out/x.saved.idx"),
        (&nowhere, "out/x.saved.idx"),
    ];
    for (lose, place) in cases {
        for name in ["out", "moved"] {
            let _ = fs::remove_dir_all(dir.join(name));
            let _ = fs::remove_file(dir.join(name));
        }
        fs::create_dir(dir.join("out")).unwrap();
        let mut child = start(dir, find);
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("needs about") {
            line.clear();
            assert!(lines.read_line(&mut line).unwrap() > 0);
        }
        lose(&dir.join("out"));
        let mut error = String::new();
        lines.read_to_string(&mut error).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{place}: {error}");
        let found = places(&error);
        assert_eq!(
            found,
            [fs::canonicalize(dir).unwrap().join(place)],
            "{error}"
        );
        assert_eq!(fs::read(&found[0]).unwrap(), right, "{place}");
    }
}

/// Every signal that asks for the end: what is drawn is there, whole, and said.
#[test]
fn what_is_drawn_before_an_interrupt_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for signal in ["INT", "TERM", "HUP"] {
        let command = format!(
            "generate dog --steps 12 --count 2000 --no-metadata -o {signal}.png --heatmap dog"
        );
        let mut child = start(dir, &command);
        let last = dir.join(format!("{signal}-0-heat-dog.png"));
        while !last.is_file() {
            assert!(child.try_wait().unwrap().is_none(), "{signal}: ended");
            sleep(Duration::from_millis(5));
        }
        let id = child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", signal, &id])
                .status()
                .unwrap()
                .success()
        );
        let mut error = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut error)
            .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{signal}: {error}");
        let names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with(signal) || name.starts_with('.'))
            .filter(|name| *name != format!("{signal}.png.part"))
            .collect();
        assert!(
            error.contains("the same command draws the others"),
            "{error}"
        );
        assert!(
            error.contains(&format!("{} files are kept", names.len())),
            "{error}"
        );
        for name in &names {
            image::open(dir.join(name)).unwrap();
        }
    }
}

/// What `nohup` has the system ignore stays ignored.
#[test]
fn a_run_under_nohup_goes_on() {
    let dir = ready();
    let dir = dir.path();
    let script = format!(
        "trap '' HUP; exec '{}' find --subject dog --steps 40 --batch 1 -o n.idx p",
        env!("CARGO_BIN_EXE_cones")
    );
    let mut child = Command::new("sh")
        .args(["-c", &script])
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    while !line.contains("needs about") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0);
    }
    let id = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-s", "HUP", &id])
            .status()
            .unwrap()
            .success()
    );
    lines.read_to_string(&mut line).unwrap();
    assert!(child.wait().unwrap().success(), "{line}");
    assert!(dir.join("n.idx").is_file());
}

/// Nothing is left of a run that fails: no half file, no temporary one.
#[test]
fn a_limit_of_file_sizes_is_an_error() {
    let dir = ready();
    let dir = dir.path();
    let blocks = |n: u32, command: &str| {
        let script = format!(
            "ulimit -f {n}; exec '{}' {command}",
            env!("CARGO_BIN_EXE_cones")
        );
        let shell = Command::new("bash")
            .args(["-c", &script])
            .current_dir(dir)
            .output()
            .unwrap();
        (
            shell.status.code(),
            String::from_utf8(shell.stderr).unwrap(),
        )
    };
    for command in [
        "find --subject dog --steps 1 --batch 1 -o x.idx p",
        "find --subject dog --steps 1 --batch 1 -o x.idx --scores x.scores p",
        "merge a.idx b.idx -o x.idx",
        "merge a.idx --tune 1 --batch 1 --images dog=p -o x.idx",
        "inspect a.idx --indices x.idx",
        "generate dog --steps 1 -o x.png",
        "eval a.idx --images p --count 1 --steps 1 --loss-draws 0 --sheet x.png",
    ] {
        let before = fs::read_dir(dir).unwrap().count();
        let (code, error) = blocks(1, command);
        assert_eq!(code, Some(1), "{command}: {error}");
        assert!(
            error.contains("error: ") && !error.contains(".cones-"),
            "{command}: {error}"
        );
        assert_eq!(
            fs::read_dir(dir).unwrap().count(),
            before,
            "{command}: {error}"
        );
    }
    let error = fails(dir, &["merge", "a.idx", "b.idx", "-o", "/dev/full"], 1);
    assert!(
        error.contains("/dev/full") && places(&error).len() == 1,
        "{error}"
    );
}

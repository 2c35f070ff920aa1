//! Runs that are killed or stopped go on to the same bytes; what is kept of them is bound to the run, and locked.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::cli::{fails, program};
use crate::outputs::ready;

/// Starts a command that writes its state as often as it can.
pub(super) fn start(dir: &Path, command: &str) -> Child {
    program(dir)
        .args(command.split(' '))
        .env("CONES_STATE_SECONDS", "0")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Status, stdout and stderr of a command that comes to its end.
pub(super) fn end(child: Child) -> (Option<i32>, String, String) {
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// What is kept now.
fn kept(dir: &Path) -> Option<Vec<u8>> {
    let names = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut parts = names.filter(|path| path.extension().is_some_and(|ending| ending == "part"));
    fs::read(parts.next()?)
        .ok()
        .filter(|bytes| !bytes.is_empty())
}

/// Waits until something is kept that was not before.
fn part(dir: &Path, before: Option<&[u8]>, child: &mut Child) {
    let start = Instant::now();
    loop {
        let now = kept(dir);
        if now.is_some() && now.as_deref() != before {
            return;
        }
        if let Some(status) = child.try_wait().unwrap() {
            let mut error = String::new();
            child
                .stderr
                .take()
                .unwrap()
                .read_to_string(&mut error)
                .unwrap();
            panic!("ended with {status}: {error}");
        }
        assert!(
            start.elapsed() < Duration::from_secs(120),
            "nothing is kept"
        );
        sleep(Duration::from_millis(1));
    }
}

fn kill(child: &Child, signal: &str) {
    let id = child.id().to_string();
    let status = Command::new("kill").args(["-s", signal, &id]).status();
    assert!(status.unwrap().success());
}

const FIND: &str = "find --subject dog p --batch 2 --steps 30 -o o.idx";

/// Commands, and what they write.
const LONG: &[(&str, &[&str])] = &[
    (
        "find --subject dog p --batch 2 --steps 12 --scores o.scores -o o.idx",
        &["o.idx", "o.scores"],
    ),
    // The weights move.
    (
        "find --subject dog p --method paper --class-images q --steps 10 --rho 20 -o o.idx",
        &["o.idx"],
    ),
    (
        "find --subject dog p --method paper --class-images q --steps 10 --importance-sampling -o o.idx",
        &["o.idx"],
    ),
    (
        "merge a.idx b.idx --tune 10 --batch 2 --images dog=p --images cat=q -o o.idx",
        &["o.idx"],
    ),
    (
        "generate --concepts a.idx --count 12 --steps 3 --heatmap dog --no-metadata dog -o o.png",
        &["o-0.png", "o-5.png", "o-11.png", "o-11-heat-dog.png"],
    ),
    (
        "eval a.idx --images p --class-images q --count 5 --steps 5 --loss-draws 3 --sheet o.png",
        &["o.png"],
    ),
];

#[test]
fn what_is_killed_goes_on_to_the_same_bytes() {
    let dir = ready();
    let dir = dir.path();
    for (command, files) in LONG {
        let results = || files.iter().map(|file| fs::read(dir.join(file)).unwrap());
        let clean = || {
            let made = fs::read_dir(dir)
                .unwrap()
                .map(|entry| entry.unwrap().path());
            let is_result =
                |path: &Path| path.file_name().unwrap().to_string_lossy().starts_with("o");
            made.filter(|path| is_result(path))
                .for_each(|path| fs::remove_file(path).unwrap());
        };
        clean();
        let (_, said, error) = end(start(dir, command));
        let want: Vec<Vec<u8>> = results().collect();
        assert!(!error.contains("going on"), "{error}");
        clean();
        for _ in 0..3 {
            let before = kept(dir);
            let mut run = start(dir, command);
            part(dir, before.as_deref(), &mut run);
            run.kill().unwrap();
            run.wait().unwrap();
        }
        let (code, out, error) = end(start(dir, command));
        assert!(matches!(code, Some(0 | 1)), "{command}: {error}");
        assert!(error.contains("going on at "), "{command}: {error}");
        assert!(results().eq(want), "{command}: other bytes");
        // The others say how long it took.
        assert!(
            !command.starts_with("eval") || out == said,
            "{out}\nand not\n{said}"
        );
        let left = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = left
            .filter(|name| name.to_string_lossy().contains(".part"))
            .collect();
        assert!(left.is_empty(), "{command}: {left:?}");
    }
}

#[test]
fn what_is_stopped_says_how_to_go_on() {
    let dir = ready();
    let dir = dir.path();
    let (_, _, _) = end(start(dir, FIND));
    let want = fs::read(dir.join("o.idx")).unwrap();
    fs::remove_file(dir.join("o.idx")).unwrap();
    for signal in ["INT", "TERM", "HUP"] {
        let before = kept(dir);
        let mut run = start(dir, FIND);
        part(dir, before.as_deref(), &mut run);
        kill(&run, signal);
        let (code, out, error) = end(run);
        assert_eq!((code, out.as_str()), (Some(130), ""), "{signal}: {error}");
        let told = "of 30 is kept in `o.idx.part`; the same command goes on there";
        assert!(error.contains(told), "{signal}: {error}");
        assert!(!dir.join("o.idx.part.new").exists());
    }
    // At once before the first step: nothing is kept, and nothing left.
    let mut run = start(dir, &FIND.replace("o.idx", "n.idx"));
    kill(&run, "INT");
    let status = run.wait().unwrap();
    assert!(!status.success());
    assert!(!dir.join("n.idx.part").exists() || status.code() == Some(130));
    let (code, _, error) = end(start(dir, FIND));
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(fs::read(dir.join("o.idx")).unwrap(), want);
}

#[test]
fn another_run_does_not_take_its_place() {
    let dir = ready();
    let dir = dir.path();
    let mut run = start(dir, FIND);
    part(dir, None, &mut run);
    run.kill().unwrap();
    run.wait().unwrap();
    let there = fs::read(dir.join("o.idx.part")).unwrap();
    for (other, differs) in [
        (FIND.replace("30", "20"), "steps 30 instead of 20"),
        (format!("{FIND} --seed 7"), "seed 0 instead of 7"),
        (
            FIND.replace("--batch 2", "--batch 3"),
            "batch 2 instead of 3",
        ),
        (FIND.replace("dog p", "dog q"), "other pictures"),
        (
            FIND.replace("dog p", "cat p"),
            "subject sks dog instead of sks cat",
        ),
        (
            "merge a.idx --tune 2 --images dog=p -o o.idx".to_owned(),
            "work find instead of merge --tune",
        ),
    ] {
        let error = fails(dir, &other.split(' ').collect::<Vec<_>>(), 1);
        for part in ["`o.idx.part`", differs, "of 30", "--restart"] {
            assert!(error.contains(part), "{other}: no {part:?} in {error}");
        }
        assert_eq!(fs::read(dir.join("o.idx.part")).unwrap(), there, "{other}");
    }
    // Files of others, damaged ones.
    let changed = {
        let mut changed = there.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        changed
    };
    for (bytes, found) in [
        (&b"my own notes"[..], "something else"),
        (&there[..there.len() - 1], "damaged"),
        (&changed, "damaged"),
    ] {
        fs::write(dir.join("o.idx.part"), bytes).unwrap();
        let error = fails(dir, &FIND.split(' ').collect::<Vec<_>>(), 1);
        assert!(
            error.contains(found) && error.contains("--restart"),
            "{error}"
        );
        assert_eq!(fs::read(dir.join("o.idx.part")).unwrap(), bytes);
    }
    let (code, _, error) = end(start(dir, &format!("{FIND} --restart")));
    assert_eq!(code, Some(0), "{error}");
    assert!(
        !error.contains("going on") && !dir.join("o.idx.part").exists(),
        "{error}"
    );
    let scores = format!("{FIND} --force --scores ./o.idx.part");
    let error = fails(dir, &scores.split(' ').collect::<Vec<_>>(), 1);
    assert!(error.contains("unfinished run"), "{error}");
    for bad in ["x", "-1", "inf"] {
        let mut command = program(dir);
        command.args(FIND.split(' ')).arg("--force");
        let output = command.env("CONES_STATE_SECONDS", bad).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains("CONES_STATE_SECONDS: expected"), "{error}");
    }
}

#[test]
fn two_runs_do_not_share_an_output() {
    let dir = ready();
    let dir = dir.path();
    for (command, part_of) in [
        (FIND.replace("30", "100000"), "o.idx.part"),
        (
            "generate dog --count 10000 --steps 20 -o o.png".to_owned(),
            "o.png.part",
        ),
        (
            "merge a.idx --tune 100000 --images dog=p -o m.idx".to_owned(),
            "m.idx.part",
        ),
        (
            "eval a.idx --images p --class-images q --count 9999".to_owned(),
            ".part",
        ),
    ] {
        let mut first = start(dir, &command);
        part(dir, None, &mut first);
        let (code, _, error) = end(start(dir, &format!("{command} --restart")));
        assert_eq!(code, Some(1), "{error}");
        for word in [
            part_of,
            "is locked: another run writes the same output",
            "hint: ",
        ] {
            assert!(error.contains(word), "{command}: {error}");
        }
        assert!(
            first.try_wait().unwrap().is_none(),
            "{command}: the first goes on"
        );
        first.kill().unwrap();
        first.wait().unwrap();
        // The lock has died with it.
        let before = kept(dir);
        let mut third = start(dir, &format!("{command} --restart"));
        part(dir, before.as_deref(), &mut third);
        kill(&third, "TERM");
        let (code, _, error) = end(third);
        assert_eq!(code, Some(130), "{command}: {error}");
        let names = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let parts = names.filter(|path| path.to_string_lossy().contains(".part"));
        parts.for_each(|path| fs::remove_file(path).unwrap());
    }
}

/// A picture counts as drawn if it is the one that was written: one that was changed or taken away is drawn again.
#[test]
fn pictures_that_are_there_are_not_drawn_again() {
    let dir = ready();
    let dir = dir.path();
    let command = "generate dog --count 30 --steps 5 -o o.png";
    let (code, ..) = end(start(dir, &command.replace("o.png", "w.png")));
    assert_eq!(code, Some(0));
    // Those of another run, with the same words in them.
    fs::copy(dir.join("w-2.png"), dir.join("o-29.png")).unwrap();
    let mut run = start(dir, command);
    while !dir.join("o-7.png").exists() {
        sleep(Duration::from_millis(1));
    }
    kill(&run, "INT");
    assert_eq!(run.wait().unwrap().code(), Some(130));
    fs::write(dir.join("o-1.png"), b"scribble").unwrap();
    fs::remove_file(dir.join("o-2.png")).unwrap();
    let time = |seed: u32| {
        fs::metadata(dir.join(format!("o-{seed}.png")))
            .unwrap()
            .modified()
            .unwrap()
    };
    let before: Vec<_> = [0, 3, 4].map(time).into();
    let (code, out, error) = end(start(dir, command));
    assert_eq!(code, Some(0), "{error}");
    assert!(
        error.contains("going on at picture ") && out.lines().count() == 30,
        "{error}{out}"
    );
    assert_eq!(before, [0, 3, 4].map(time), "they are left alone");
    for seed in 0..30 {
        let read = |series: &str| fs::read(dir.join(format!("{series}-{seed}.png"))).unwrap();
        assert_eq!(read("o"), read("w"), "{seed}");
    }
}

//! Things that go wrong around a run: disks that fill, limits, streams and folders that are missing, files that change.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::cli::{command, golden, ok};
use crate::foreign::{UNET, WEIGHTS, model};
use crate::outputs::ready;
use crate::unfinished::{end, start};

/// Runs a command of the shell, in which `cones` is the program.
fn shell(dir: &Path, script: &str) -> (Option<i32>, String, String) {
    let script = format!(
        "cones() {{ '{}' \"$@\"; }}; {script}",
        env!("CARGO_BIN_EXE_cones")
    );
    let mut command = command(dir, "bash");
    command.args(["-c", &script]).stdin(Stdio::null());
    command.env("CONES_STATE_SECONDS", "0");
    end(command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap())
}

/// A disk of so many kilobytes, in memory; none where this user may not have one.
struct Disk(PathBuf);

impl Disk {
    fn new(at: &Path, kilobytes: usize) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let size = format!("size={kilobytes}k");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "none"])
            .arg(at)
            .output();
        match mount.is_ok_and(|output| output.status.success()) {
            true => Some(Self(at.to_owned())),
            false => {
                eprintln!("skipped: this user may not mount a tmpfs");
                None
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

const FIND: &str = "find --subject dog p --method paper --class-images q --steps 3";

/// What [`FIND`] finds where nothing is wrong.
fn undisturbed(dir: &Path) -> Vec<u8> {
    let command = format!("{FIND} -o want.idx");
    ok(dir, &command.split(' ').collect::<Vec<_>>());
    fs::read(dir.join("want.idx")).unwrap()
}

/// The disk takes the index, and not the state.
#[test]
fn a_state_that_cannot_be_written_is_a_warning() {
    let dir = ready();
    let dir = dir.path();
    let want = undisturbed(dir);
    let check = |(code, _, error): (Option<i32>, String, String), index: &Path, reason: &str| {
        assert_eq!(code, Some(0), "{error}");
        let warnings = error.matches("the work goes on, and would be lost").count();
        assert!(warnings == 1 && error.contains(reason), "{error}");
        assert_eq!(fs::read(index).unwrap(), want);
        let folder = index.parent().unwrap();
        let names = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        let parts: Vec<_> = names
            .filter(|name| name.to_string_lossy().contains(".part"))
            .collect();
        assert!(parts.is_empty(), "{parts:?}");
    };
    let limited = shell(dir, &format!("ulimit -f 100; cones {FIND} -o limited.idx"));
    check(limited, &dir.join("limited.idx"), "File too large");
    if let Some(disk) = Disk::new(&dir.join("small"), 100) {
        let run = shell(dir, &format!("cones {FIND} -o small/o.idx"));
        check(run, &disk.0.join("o.idx"), "No space left");
    }
}

/// From no room at all to room enough: a whole file under its name, or an error and what was there before.
#[test]
fn a_disk_that_fills_leaves_no_half_file() {
    let dir = ready();
    let dir = dir.path();
    for (command, output) in [
        (format!("{FIND} --scores d/o.scores -o d/o.idx"), &["d/o.idx", "d/o.scores"][..]),
        ("merge a.idx b.idx -o d/o.idx".to_owned(), &["d/o.idx"]),
        ("generate dog --steps 2 --count 3 -o d/o.png".to_owned(), &["d/o-0.png", "d/o-2.png"]),
        (
            "eval a.idx --images p --class-images q --count 2 --steps 2 --loss-draws 0 --sheet d/o.png"
                .to_owned(),
            &["d/o.png"],
        ),
    ] {
        fs::create_dir_all(dir.join("d")).unwrap();
        let (code, _, error) = shell(dir, &format!("cones {command}"));
        assert!(matches!(code, Some(0 | 1)), "{error}");
        let want: Vec<Vec<u8>> = output.iter().map(|file| fs::read(dir.join(file)).unwrap()).collect();
        fs::remove_dir_all(dir.join("d")).unwrap();
        for kilobytes in [4, 8, 12, 16, 24, 40, 250, 1000] {
            let Some(disk) = Disk::new(&dir.join("d"), kilobytes) else {
                return;
            };
            // As no room but for names.
            let filler = match kilobytes {
                4 => vec![0; 4096],
                _ => Vec::new(),
            };
            fs::write(disk.0.join("filler"), filler).unwrap();
            let (code, _, error) = shell(dir, &format!("cones {command}"));
            assert!(matches!(code, Some(0 | 1)), "{command} on {kilobytes} kB: {error}");
            assert!(!error.contains("panicked"), "{error}");
            for (file, want) in output.iter().zip(&want) {
                match fs::read(dir.join(file)) {
                    Ok(bytes) => assert!(bytes == *want, "{file} of {kilobytes} kB: {error}"),
                    Err(_) => assert_eq!(code, Some(1), "{file} of {kilobytes} kB: {error}"),
                }
            }
            let names = fs::read_dir(&disk.0).unwrap().map(|entry| entry.unwrap().file_name());
            let names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
            let half = |name: &&String| name.starts_with(".cones-") || name.ends_with(".new");
            assert_eq!(names.iter().find(half), None, "{kilobytes} kB: {error}");
        }
    }
}

/// What batch systems, containers and cron leave out.
#[test]
fn poor_surroundings() {
    let dir = ready();
    let dir = dir.path();
    let want = undisturbed(dir);
    for (i, before) in [
        "ulimit -n 32",
        "ulimit -v 2000000",
        "ulimit -c 0; ulimit -s 512",
        "export TMPDIR=/nowhere",
        "unset HOME USER LANG",
        "env -i true; export PATH=",
        "exec < /dev/null",
        "umask 077",
        "export TZ=/nowhere LC_ALL=tlh",
    ]
    .iter()
    .enumerate()
    {
        let script = format!(
            "{before}; cones {FIND} -o poor{i}.idx && cones generate dog --count 2 --steps 2 -o g{i}.png"
        );
        let (code, _, error) = shell(dir, &script);
        assert_eq!(code, Some(0), "{before}: {error}");
        assert_eq!(
            fs::read(dir.join(format!("poor{i}.idx"))).unwrap(),
            want,
            "{before}"
        );
    }
    // With too little of memory it ends, and not in a panic.
    let mut ended = 0;
    for kilobytes in [20_000, 30_000, 40_000, 50_000, 70_000] {
        let script = format!("ulimit -v {kilobytes}; cones {FIND} --force -o v.idx");
        let (code, _, error) = shell(dir, &script);
        assert!(
            code != Some(101) && !error.contains("panicked"),
            "{kilobytes}: {error}"
        );
        match code {
            Some(0) => assert_eq!(fs::read(dir.join("v.idx")).unwrap(), want, "{kilobytes}"),
            _ => ended += 1,
        }
    }
    assert!(ended > 0);
    for (stream, status) in [
        (">&-", 0),
        ("> /dev/full", 1),
        ("2>&-", 0),
        ("2> /dev/full", 0),
        (">&- 2>&- <&-", 0),
    ] {
        fs::remove_file(dir.join("s.idx")).ok();
        let (code, ..) = shell(dir, &format!("cones {FIND} -o s.idx {stream}"));
        // A closed stream is `/dev/null` to the program: the system opens that in its place.
        assert_eq!(code, Some(status), "{stream}");
        assert_eq!(fs::read(dir.join("s.idx")).unwrap(), want, "{stream}");
        assert!(!dir.join("s.idx.part").exists(), "{stream}");
    }
}

/// Files from before 1970, and from a time that is still to come.
#[test]
fn clocks_that_are_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let folder = model(dir.path());
    let (model, photos) = (folder.display().to_string(), golden("photos/subject"));
    for seconds in [-1_000_000_000i64, -1, 0, 253_402_300_799] {
        for file in WEIGHTS {
            let moment = format!("@{seconds}");
            let touch = Command::new("touch")
                .args(["-d", &moment])
                .arg(folder.join(file))
                .status();
            assert!(touch.unwrap().success());
        }
        for command in [
            format!("find --subject dog --steps 2 --model {model} --force -o o.idx {photos}"),
            format!("generate dog --count 2 --steps 2 --size 16 --model {model} -o o.png"),
        ] {
            let (code, _, error) = end(start(dir.path(), &command));
            assert_eq!(code, Some(0), "{seconds}: {error}");
        }
    }
}

/// `SIGBUS`, which a map answers with, is an error that names the file.
#[test]
fn a_model_file_that_becomes_shorter_is_an_error() {
    for (file, command) in [
        (UNET, "find --subject dog --steps 1000000"),
        (WEIGHTS[1], "generate dog --count 9999 --size 16 --steps 2"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let folder = model(dir.path());
        let photos = match command.starts_with("find") {
            true => golden("photos/subject"),
            false => "-q".to_owned(),
        };
        let model = folder.display();
        let mut run = start(
            dir.path(),
            &format!("{command} --model {model} -o o.png {photos}"),
        );
        let first = dir.path().join(match command.starts_with("find") {
            true => "o.png.part",
            false => "o-0.png",
        });
        while !fs::metadata(&first).is_ok_and(|found| found.len() > 0) {
            assert!(run.try_wait().unwrap().is_none(), "it should be at work");
            sleep(Duration::from_millis(5));
        }
        let weights = fs::OpenOptions::new()
            .write(true)
            .open(folder.join(file))
            .unwrap();
        weights.set_len(100).unwrap();
        let (code, out, error) = end(run);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{error}");
        // Either the signal comes first, or a look at the file between two steps.
        for part in [
            "error: ",
            file,
            "expected the file as it was when the run began",
            "hint: ",
        ] {
            assert!(error.contains(part), "{error}");
        }
        assert!(!dir.path().join("o.png").is_file());
    }
}

/// What is put in the place of the unfinished state while the run goes on is not followed, and no output is lost.
#[test]
fn the_place_of_the_state_is_taken_meanwhile() {
    let dir = ready();
    let dir = dir.path();
    fs::write(dir.join("precious"), b"precious").unwrap();
    type Take = fn(&Path);
    let taken: [(&str, Take); 3] = [
        ("link", |part| symlink("precious", part).unwrap()),
        ("folder", |part| fs::create_dir_all(part.join("x")).unwrap()),
        ("nothing", |_| ()),
    ];
    for (name, take) in taken {
        let mut run = start(
            dir,
            &format!("find --subject dog p --batch 2 --steps 60 -o {name}.idx"),
        );
        let part = dir.join(format!("{name}.idx.part"));
        while !part.is_file() {
            assert!(run.try_wait().unwrap().is_none(), "{name}: ended");
            sleep(Duration::from_millis(1));
        }
        // Until it is locked and looked at again, what takes its place is refused before the work, rightly.
        sleep(Duration::from_millis(200));
        // The program may put one in its place at any time.
        for _ in 0..100 {
            if fs::remove_file(&part).is_ok() {
                break;
            }
        }
        let _ = std::panic::catch_unwind(|| take(&part));
        let (code, _, error) = end(run);
        assert_eq!(code, Some(0), "{name}: {error}");
        assert!(dir.join(format!("{name}.idx")).is_file());
        assert_eq!(fs::read(dir.join("precious")).unwrap(), b"precious");
    }
}

/// The disk fails exactly when a file is to get its name, when its bytes are to be kept, or its name: an error that
/// names the file and says where the result is, the file that was there as it was, and nothing left over. Every call of
/// every command: `examples/reliability/attack.py --only calls`.
#[test]
fn a_disk_that_fails_at_a_rename_or_a_sync() {
    let traces = Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .status();
    if !traces.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no strace that may trace");
        return;
    }
    let dir = ready();
    let dir = dir.path();
    let out = dir.join("d");
    let saved = |name: &str| name.contains(".saved");
    for (command, output) in [
        (
            "find --subject dog --steps 1 --batch 1 --force p",
            "d/o.idx",
        ),
        ("merge a.idx b.idx --force", "d/o.idx"),
        ("generate dog --steps 1", "d/o.png"),
    ] {
        for (calls, number, error, may_be_new) in [
            ("rename,renameat,renameat2", 1, "EIO", false),
            ("fsync,fdatasync", 1, "ENOSPC", false),
            ("fsync,fdatasync", 2, "EIO", true),
        ] {
            fs::create_dir_all(&out).unwrap();
            fs::write(dir.join(output), b"old").unwrap();
            let script = format!(
                "exec strace -f -o /dev/null -e trace=rename,renameat,renameat2,fsync,fdatasync -e \
                 inject={calls}:error={error}:when={number} '{}' {command} -o {output}",
                env!("CARGO_BIN_EXE_cones")
            );
            let (code, _, said) = shell(dir, &script);
            let case = format!("{command}, {calls} {number}: {said}");
            assert_eq!(code, Some(1), "{case}");
            assert!(
                said.contains(output) && said.contains("it is in `"),
                "{case}"
            );
            let bytes = fs::read(dir.join(output)).unwrap();
            assert!(bytes == b"old" || may_be_new && bytes.len() > 100, "{case}");
            let names = fs::read_dir(&out).unwrap();
            let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<String> = names.filter(|name| !saved(name)).collect();
            names.sort();
            assert_eq!(names, [output.trim_start_matches("d/")], "{case}");
            fs::remove_dir_all(&out).unwrap();
        }
    }
}

//! What a command is told to write is looked at before the work: every refusal here would else come after hours.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::cli::{fails, json, ok, program, repository};

/// Photos of a subject of the pocket model, in a folder of their own.
pub(super) fn photos(dir: &Path, subject: &str, folder: &str) {
    fs::create_dir(dir.join(folder)).unwrap();
    let from = repository().join("examples/pocket/subjects").join(subject);
    for (i, photo) in fs::read_dir(from).unwrap().enumerate() {
        let photo = photo.unwrap().path();
        fs::copy(photo, dir.join(folder).join(format!("{i}.png"))).unwrap();
    }
}

/// A folder with photos of two subjects, and their indices.
pub(super) fn ready() -> tempfile::TempDir {
    const INDICES: [&str; 2] = ["a.idx", "b.idx"];
    static FOUND: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    let dir = tempfile::tempdir().unwrap();
    photos(dir.path(), "poodle", "p");
    photos(dir.path(), "blue-guide-dog", "q");
    let found = FOUND.get_or_init(|| {
        for find in ["dog --token sks -o a.idx p", "cat --token zwx -o b.idx q"] {
            let find = format!("find --steps 1 --batch 1 --subject {find}");
            ok(dir.path(), &find.split(' ').collect::<Vec<_>>());
        }
        INDICES.map(|name| fs::read(dir.path().join(name)).unwrap())
    });
    for (name, bytes) in INDICES.iter().zip(found) {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

/// Commands whose work takes hours, with the option that an output is given to.
const LONG: &[(&str, &str)] = &[
    ("find --subject dog --steps 100000 p", "-o"),
    ("find --subject dog --steps 100000 -o x.idx p", "--scores"),
    (
        "find --subject dog --method paper --class-count 5000 p",
        "-o",
    ),
    ("merge a.idx b.idx", "-o"),
    ("merge a.idx --tune 100000 --images dog=p", "-o"),
    ("generate dog --steps 900 --count 500 --heatmap dog", "-o"),
    ("generate dog --steps 900", "-o"),
    ("eval a.idx --images p --count 5000", "--sheet"),
    ("inspect a.idx", "--indices"),
];

/// Runs a command that is to be refused before any step.
fn refused(dir: &Path, args: &[&str], code: i32, parts: &[&str]) {
    let slow = || {
        let start = Instant::now();
        let error = fails(dir, args, code);
        for part in parts {
            assert!(error.contains(part), "{args:?}: no {part:?} in:\n{error}");
        }
        assert!(!error.contains("of memory:"), "{args:?} began: {error}");
        assert!(!error.contains(".cones-"), "{args:?}: {error}");
        start.elapsed() >= Duration::from_secs(2)
    };
    // Once more, where the machine was busy.
    assert!(!slow() || !slow(), "{args:?} took two seconds");
}

#[test]
fn wrong_outputs_end_before_any_work() {
    let dir = ready();
    let dir = dir.path();
    fs::create_dir(dir.join("folder.png")).unwrap();
    fs::create_dir(dir.join("folder-0.png")).unwrap();
    fs::write(dir.join("file"), b"x").unwrap();
    symlink("loop.png", dir.join("loop.png")).unwrap();
    symlink("loop-0.png", dir.join("loop-0.png")).unwrap();
    symlink("no/such.png", dir.join("dangling.png")).unwrap();
    symlink("no/such.png", dir.join("dangling-0.png")).unwrap();
    let long = format!("{}.png", "x".repeat(300));
    let before = fs::read_dir(dir).unwrap().count();
    for (command, option) in LONG {
        let mut args: Vec<&str> = command.split(' ').collect();
        args.push(option);
        for (output, parts) in [
            ("nowhere/x.png", &["no folder `nowhere`"][..]),
            ("nowhere/at/all/x.png", &["no folder `nowhere/at/all`"]),
            ("folder.png", &["folder"]),
            ("file/x.png", &["file/x", "Not a directory"]),
            ("loop.png", &["loop"]),
            ("dangling.png", &["no folder `no`"]),
            (&long, &["too long"]),
            ("/proc/x.png", &["/proc"]),
        ] {
            refused(dir, &[&args[..], &[output]].concat(), 1, parts);
        }
        if !command.starts_with("generate") && *option != "--sheet" {
            for output in [".", "..", "folder.png/", "p/.", "/", "x/"] {
                refused(dir, &[&args[..], &[output]].concat(), 1, &["expected"]);
            }
        }
    }
    assert_eq!(fs::read_dir(dir).unwrap().count(), before);
}

/// As a user who may not write everywhere; where the tests run as root, as another one.
#[test]
fn read_only_folders_and_files_are_refused() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    let dir = ready();
    let dir = dir.path();
    let mode = |name: &str, mode: u32| {
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    fs::create_dir(dir.join("closed")).unwrap();
    fs::write(dir.join("closed.png"), b"").unwrap();
    mode("closed.png", 0o444);
    mode("closed", 0o555);
    mode("", 0o777);
    for (command, option) in LONG
        .iter()
        .filter(|(command, _)| !command.contains("--count 500 "))
    {
        for output in ["closed/x.png", "closed.png"] {
            let mut started = program(dir);
            started.args(command.split(' ').chain([*option, output]));
            if fs::metadata(dir).unwrap().uid() == 0 {
                started.uid(65_534).gid(65_534);
            }
            let start = Instant::now();
            let Ok(output) = started.output() else {
                return; // the other user cannot see this build
            };
            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{command}: {error}");
            assert!(
                error.contains("closed") && !error.contains("of memory:"),
                "{command}: {error}"
            );
            assert!(start.elapsed() < Duration::from_secs(10), "{command}");
        }
    }
    mode("closed", 0o755);
}

#[test]
fn inputs_indices_and_each_other_are_spared() {
    let dir = ready();
    let dir = dir.path();
    fs::copy(dir.join("a.idx"), dir.join("a.png")).unwrap();
    fs::write(dir.join("prompts.png"), "a {}\n").unwrap();
    symlink("a.idx", dir.join("link.idx")).unwrap();
    symlink("p/0.png", dir.join("photo.png")).unwrap();
    symlink("x", dir.join("other-x")).unwrap();
    let find = "find --subject dog --force --steps 100000 p";
    let one = "is one of the files that are read";
    let same = "which are one";
    for (command, part) in [
        (format!("{find} -o p/0.png"), one),
        (format!("{find} -o ./p/../p/0.png"), one),
        (format!("{find} -o photo.png"), one),
        (format!("{find} --scores p/1.png"), one),
        (format!("{find} -o x --scores x"), same),
        (format!("{find} -o x --scores ./x"), same),
        (format!("{find} -o x --scores p/../x"), same),
        (format!("{find} -o other-x --scores x"), same),
        (format!("{find} -o x --scores b.idx"), "is an index"),
        ("merge a.idx b.idx -o a.idx --force".to_owned(), one),
        ("merge a.idx b.idx -o ./b.idx --force".to_owned(), one),
        ("merge a.idx b.idx -o link.idx --force".to_owned(), one),
        (
            "merge a.idx --tune 100000 --images dog=p -o p/0.png --force".to_owned(),
            one,
        ),
        ("generate dog --concepts a.png -o a.png".to_owned(), one),
        ("generate dog -o a.png".to_owned(), "is an index"),
        (
            "generate dog --count 2 --seed 0 --concepts a.idx -o a.png --heatmap dog,dog"
                .to_owned(),
            "",
        ),
        ("eval a.idx --images p --sheet p/0.png".to_owned(), one),
        ("eval a.idx --images p --sheet photo.png".to_owned(), one),
        ("eval a.png --images p --sheet a.png".to_owned(), one),
        (
            "eval b.idx --images p --sheet a.png".to_owned(),
            "is an index",
        ),
        (
            "eval a.idx --images p --prompts prompts.png --sheet prompts.png".to_owned(),
            one,
        ),
        ("inspect a.idx --indices a.idx".to_owned(), one),
        ("inspect a.idx --indices link.idx".to_owned(), one),
        ("inspect a.idx --indices b.idx".to_owned(), "is an index"),
    ] {
        let args: Vec<&str> = command.split(' ').collect();
        refused(dir, &args, 1, &[part]);
    }
    assert!(
        fs::read(dir.join("p/0.png"))
            .unwrap()
            .starts_with(b"\x89PNG")
    );
    ok(dir, &["inspect", "a.idx", "b.idx", "a.png"]);
}

/// Nothing is told to be written where there is clearly no room: of the disk, or of what a file may have.
#[test]
fn room_is_looked_at_before_the_work() {
    let dir = ready();
    for command in [
        "find --subject dog --steps 100000 -o x.idx --scores x.scores p",
        "generate dog --size 2048 --steps 900 -o x.png",
        "merge a.idx --tune 100000 --all-positions --images dog=p -o x.idx",
    ] {
        let script = format!(
            "ulimit -f 1; exec '{}' {command}",
            env!("CARGO_BIN_EXE_cones")
        );
        let start = Instant::now();
        let output = Command::new("bash")
            .args(["-c", &script])
            .current_dir(dir.path())
            .env_remove("CONES_MODEL")
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command}: {error}");
        assert!(
            error.contains("ulimit -f") && !error.contains("of memory:"),
            "{error}"
        );
        assert!(start.elapsed() < Duration::from_secs(20), "{command}");
    }
}

#[test]
fn an_index_of_another_plan_is_not_replaced() {
    let dir = ready();
    let dir = dir.path();
    let find = "find --subject dog --steps 1 --batch 1";
    let run = |command: &str| ok(dir, &command.split(' ').collect::<Vec<_>>());
    let refused = |command: &str, parts: &[&str]| {
        let before = fs::read(dir.join("dog.idx")).unwrap();
        let error = fails(dir, &command.split(' ').collect::<Vec<_>>(), 1);
        for part in [parts, &["dog.idx", "--force", "-o"]].concat() {
            assert!(error.contains(part), "{command}: no {part:?} in:\n{error}");
        }
        assert!(!error.contains("of memory:"), "{command} began: {error}");
        assert_eq!(fs::read(dir.join("dog.idx")).unwrap(), before);
    };
    run(&format!("{find} p"));
    run(&format!("{find} p")); // the same plan
    run(&format!("{find} -o dog.idx p"));
    for (command, part) in [
        (format!("{find} q"), "other pictures"),
        (format!("{find} -o dog.idx q"), "other pictures"),
        (format!("{find} --seed 7 p"), "another seed"),
        (format!("{find} --token zwx p"), "`sks dog`"),
        (
            format!("{find} --density 1% p"),
            "density 0.05 instead of 0.01",
        ),
        (format!("{find} --rate 2 p"), "rate"),
        (
            format!("{find} --method paper --class-images q p"),
            "another method",
        ),
        (
            format!("{find} --scope prompt --class-images q p"),
            "another scope",
        ),
        (
            "find --subject dog --steps 2 --batch 1 p".to_owned(),
            "steps 1 instead of 2",
        ),
        (
            "find --subject dog --steps 1 --batch 2 p".to_owned(),
            "batch 1 instead of 2",
        ),
        (
            "find --subject cat --steps 1 --batch 1 -o dog.idx p".to_owned(),
            "another subject",
        ),
        ("find --subject dog p/0.png".to_owned(), "1 picture,"),
        ("merge b.idx -o dog.idx".to_owned(), "`zwx cat`"),
        (
            "merge b.idx --tune 100000 --images cat=q -o dog.idx".to_owned(),
            "`zwx cat`",
        ),
    ] {
        refused(&command, &[part]);
    }
    run(&format!("{find} --force q"));
    refused(&format!("{find} p"), &["other pictures"]);

    // A union is known by its parts, a tuned one by how it was tuned.
    fs::remove_file(dir.join("dog.idx")).unwrap();
    run("merge a.idx b.idx -o dog.idx");
    run("merge a.idx b.idx -o dog.idx");
    refused("merge b.idx a.idx -o dog.idx", &["expected"]);
    refused("merge a.idx -o dog.idx", &["another subject"]);
    let tune = "merge a.idx --tune 1 --batch 1 --images dog=p -o dog.idx";
    refused(tune, &["expected"]);
    run(&format!("{tune} --force"));
    run(tune);
    refused(
        &tune.replace("--tune 1", "--tune 2"),
        &["tune_steps 1 instead of 2"],
    );
    refused(&tune.replace("dog=p", "dog=q"), &["other pictures"]);

    // What is no index is not replaced either; an empty file holds nothing.
    for junk in ["text", "\u{89}PNG", "{}"] {
        fs::write(dir.join("dog.idx"), junk).unwrap();
        refused(&format!("{find} p"), &["a file that is none"]);
    }
    let whole = fs::read(dir.join("a.idx")).unwrap();
    fs::write(dir.join("dog.idx"), &whole[..whole.len() - 1]).unwrap();
    refused(&format!("{find} p"), &["cannot be read"]);
    fs::write(dir.join("dog.idx"), b"").unwrap();
    run(&format!("{find} p"));

    // Scores belong to their index.
    run(&format!("{find} --scores dog.scores p"));
    run(&format!("{find} --scores dog.scores p"));
    let other = format!("{find} --seed 1 -o other.idx --scores dog.scores p");
    let error = fails(dir, &other.split(' ').collect::<Vec<_>>(), 1);
    assert!(
        error.contains("dog.scores") && error.contains("--force"),
        "{error}"
    );
    run(&format!("{other} --force"));
}

/// A run that may end early is of one plan, wherever it ended.
#[test]
fn a_plan_may_leave_its_steps_open() {
    let dir = ready();
    let dir = dir.path();
    let command =
        "find --json --subject dog --method paper --class-images q --steps 25 --until-stable";
    let args: Vec<&str> = command.split(' ').collect();
    let first = json(&ok(dir, &[&args[..], &["1%", "p"]].concat()));
    assert_eq!(first["steps"].as_array().unwrap().len(), 20);
    ok(dir, &[&args[..], &["1%", "p"]].concat());
    fails(dir, &[&args[..], &["1%", "--seed", "1", "p"]].concat(), 1);
}

/// Pictures of the class are kept beside the index: that they can be is known before any is drawn or measured.
#[test]
fn a_place_for_class_pictures_is_looked_at_before_the_work() {
    let dir = ready();
    let dir = dir.path();
    let paper = "find --subject dog --method paper --steps 1 --class-count 1 -o w.idx p";
    ok(dir, &paper.split(' ').collect::<Vec<_>>());
    let folder = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.display().to_string().contains("class-images."))
        .unwrap();
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, b"").unwrap();
    for command in [
        paper,
        "find --subject dog --scope prompt --steps 1 -o w2.idx p",
        "eval a.idx --images p",
        "eval w.idx --images p --count 5000",
        "merge w.idx --tune 1 --images dog=p -o t.idx",
    ] {
        let args: Vec<&str> = command.split(' ').collect();
        let start = Instant::now();
        let error = fails(dir, &args, 1);
        assert!(
            error.contains("class-images.dog") && error.contains("hint: "),
            "{error}"
        );
        assert!(start.elapsed() < Duration::from_secs(20), "{command}");
    }
}

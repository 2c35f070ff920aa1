//! The plan of the house: which room of `src/` may use which, and that no two files of a room use each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The library's rooms from the ground up: each may use those before it.
const LIBRARY: &[&str] = &[
    "error",
    "shown",
    "size",
    "allocation",
    "files",
    "config",
    "sampling",
    "prompt",
    "picture",
    "index",
    "checkpoint",
    "nn",
    "model",
    "pipeline",
    "find",
    "eval",
    "bench",
    "golden",
];
/// The binary's: the same.
const BINARY: &[&str] = &["signals", "cli", "report", "commands"];

/// The path of a file's module: `["nn", "cpu", "gemm"]`.
fn module(file: &Path) -> Vec<String> {
    let mut parts: Vec<String> = file
        .with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    parts.pop_if(|last| last == "mod");
    parts
}

/// All source files below `src/`, with the code of each that is not a test's.
fn sources() -> Vec<(Vec<String>, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut found) = (vec![src.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        let entries = folder
            .read_dir()
            .expect("src/ can be read")
            .map(|entry| entry.expect("src/ can be read").path());
        for path in entries.collect::<BTreeSet<PathBuf>>() {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs")
                && path
                    .file_name()
                    .is_some_and(|name| name != "tests.rs" && name != "main.rs" && name != "lib.rs")
            {
                let text = std::fs::read_to_string(&path).expect("src/ can be read");
                let code = text
                    .split("#[cfg(test)]\nmod tests")
                    .next()
                    .unwrap_or_default();
                let code: Vec<&str> = code
                    .lines()
                    .filter(|line| !line.trim_start().starts_with("//"))
                    .collect();
                found.push((
                    module(path.strip_prefix(&src).expect("src/ can be read")),
                    code.join("\n"),
                ));
            }
        }
    }
    found
}

/// What follows each `prefix` in a text, up to the end of the first name.
fn names<'a>(code: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    code.match_indices(prefix).map(move |(at, _)| {
        let rest = &code[at + prefix.len()..];
        &rest[..rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len())]
    })
}

/// The arrows that run up, of files that `rooms` holds.
fn wrong_arrows(rooms: &[&str], sources: &[(Vec<String>, String)], prefix: &str) -> Vec<String> {
    let level = |room: &str| rooms.iter().position(|known| *known == room);
    let mut wrong = Vec::new();
    for (module, code) in sources {
        let Some(here) = level(&module[0]) else {
            continue;
        };
        for name in names(code, prefix) {
            if level(name).is_some_and(|there| there > here) {
                wrong.push(format!("{} uses {name}", module.join("::")));
            }
        }
    }
    wrong
}

#[test]
fn every_room_is_on_the_plan() {
    for (module, _) in sources() {
        let known = LIBRARY.iter().chain(BINARY).any(|room| *room == module[0]);
        assert!(
            known,
            "src/{} is in no room of the plan in tests/it/rooms.rs",
            module.join("/")
        );
    }
}

#[test]
fn arrows_run_one_way() {
    let sources = sources();
    let wrong = [
        wrong_arrows(LIBRARY, &sources, "crate::"),
        wrong_arrows(BINARY, &sources, "crate::"),
    ]
    .concat();
    assert!(
        wrong.is_empty(),
        "arrows that run up:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn an_arrow_that_runs_up_is_seen() {
    let file = |module: &[&str], code: &str| {
        (
            module.iter().map(|s| (*s).to_owned()).collect(),
            code.to_owned(),
        )
    };
    let sources = [
        file(&["index", "site"], "use crate::find::Step;"),
        file(&["find", "loss"], "use crate::index::Site;"),
    ];
    assert_eq!(
        wrong_arrows(LIBRARY, &sources, "crate::"),
        ["index::site uses find"]
    );
}

#[test]
fn no_two_files_use_each_other() {
    let sources = sources();
    let mut uses: BTreeSet<(&[String], Vec<String>)> = BTreeSet::new();
    for (module, code) in &sources {
        let siblings = &module[..module.len() - 1];
        for name in names(code, "super::") {
            let other = [siblings, &[name.to_owned()]].concat();
            if sources.iter().any(|(known, _)| *known == other) && other != *module {
                uses.insert((module, other));
            }
        }
    }
    let graph: BTreeMap<&[String], Vec<&Vec<String>>> =
        uses.iter().fold(BTreeMap::new(), |mut graph, (from, to)| {
            graph.entry(from).or_default().push(to);
            graph
        });
    let mutual: Vec<String> = graph
        .iter()
        .flat_map(|(from, all)| all.iter().map(move |to| (*from, *to)))
        .filter(|(from, to)| from < &to.as_slice())
        .filter(|(from, to)| {
            graph
                .get(to.as_slice())
                .is_some_and(|back| back.iter().any(|back| back.as_slice() == *from))
        })
        .map(|(from, to)| format!("{} and {}", from.join("::"), to.join("::")))
        .collect();
    assert!(
        mutual.is_empty(),
        "files that use each other:
{}",
        mutual.join(
            "
"
        )
    );
}

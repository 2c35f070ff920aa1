//! Every command of the README is run, so that it cannot rot.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

use super::cli::{program, repository};

/// Commands of the README that are not run here, each with its reason. A line that is neither run nor listed fails the
/// test, and so does one that is listed and no longer there.
const NOT_RUN: [(&str, &str); 5] = [
    ("cargo build --release", "this test is built by it"),
    ("cargo test --release", "it is what runs this test"),
    (
        "cones find --model sd15 --subject dog --dry-run photos/",
        "needs a real model",
    ),
    (
        "cones find --model sd15 --subject dog photos/",
        "needs a real model, and hours",
    ),
    (
        "cones generate --model sd15 --concepts dog.idx \"a photo in a park\"",
        "needs a real model",
    ),
];

/// What is added to a command so that the test is quick: the first `find` of the README is run as it stands.
const SHORTER: [(&str, &[&str]); 2] = [
    ("find", &["--steps", "20"]),
    (
        "eval",
        &["--count", "16", "--loss-draws", "2", "--steps", "10"],
    ),
];

/// A fenced block of a Markdown text: its language, its first line's number, and its lines.
struct Block<'a> {
    language: &'a str,
    number: usize,
    lines: Vec<&'a str>,
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut found: Vec<Block> = Vec::new();
    let mut open = false;
    for (number, line) in (1..).zip(text.lines()) {
        match (line.strip_prefix("```"), open) {
            (Some(language), false) => {
                let lines = Vec::new();
                found.push(Block {
                    language,
                    number,
                    lines,
                });
                open = true;
            }
            (Some(rest), true) => {
                assert!(rest.is_empty(), "line {number}: the block is still open");
                open = false;
            }
            (None, true) => found.last_mut().unwrap().lines.push(line),
            (None, false) => {}
        }
    }
    assert!(!open, "the last block is not closed");
    found
}

/// The commands of a line, without its comment: `a && b  # why`.
fn commands(line: &str) -> Vec<&str> {
    let code = line.split("  #").next().unwrap();
    code.split(" && ")
        .map(str::trim)
        .filter(|c| !c.is_empty())
        .collect()
}

/// The words of a command; double quotes hold words together. What else a shell would do is no part of a README.
fn words(command: &str) -> Vec<String> {
    let parts: Vec<&str> = command.split('"').collect();
    assert!(parts.len() % 2 == 1, "a quote is open: {command}");
    let mut words = Vec::new();
    for (i, part) in parts.into_iter().enumerate() {
        let (quoted, meant) = (i % 2 == 1, ['$', '`', '\\', '!']);
        let shell = ['\'', '|', '>', '<', ';', '*', '?', '[', '~', '&'];
        assert!(
            !part.contains(meant) && (quoted || !part.contains(shell)),
            "{command}"
        );
        match quoted {
            true => words.push(part.to_owned()),
            false => words.extend(part.split_whitespace().map(str::to_owned)),
        }
    }
    words
}

/// Runs `arguments` of the program in `dir`; what it says where that fails.
fn run(dir: &Path, arguments: &[String]) -> Result<(), String> {
    let output = program(dir).args(arguments).output().unwrap();
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Runs the commands of a README's `console` blocks, in order, in one folder; the complaints.
fn check(text: &str, not_run: &[(&str, &str)]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let (mut complaints, mut finds, mut listed) = (Vec::new(), 0, BTreeSet::new());
    std::os::unix::fs::symlink(repository().join("examples"), dir.path().join("examples")).unwrap();
    let text = text.replace("\\\n", ""); // a line that goes on
    for Block {
        language,
        number,
        lines,
    } in blocks(&text)
    {
        match language {
            "console" => {}
            // What a command prints, and the index reader, which another test runs.
            "text" | "python" => continue,
            other => {
                complaints.push(format!("line {number}: a block of `{other}`"));
                continue;
            }
        }
        for command in lines.into_iter().flat_map(commands) {
            if let Some((known, _)) = not_run.iter().find(|(known, _)| *known == command) {
                listed.insert(*known);
                continue;
            }
            let mut words = words(command);
            let program = words.remove(0);
            if !["cones", "target/release/cones"].contains(&program.as_str()) {
                complaints.push(format!("`{command}` is neither run nor listed"));
                continue;
            }
            finds += usize::from(words.first().is_some_and(|word| word == "find"));
            let shorter = SHORTER
                .iter()
                .find(|(name, _)| words.first().is_some_and(|w| w == name));
            if let Some((name, options)) = shorter
                && (*name != "find" || finds > 1)
            {
                words.splice(1..1, options.iter().map(|&o| o.to_owned()));
            }
            if let Err(message) = run(dir.path(), &words) {
                complaints.push(format!("`{command}`: {message}"));
            }
        }
    }
    for (known, _) in not_run.iter().filter(|(known, _)| !listed.contains(known)) {
        complaints.push(format!("`{known}` is listed and not in the text"));
    }
    complaints
}

#[test]
fn every_command_works() {
    let text = std::fs::read_to_string(repository().join("README.md")).unwrap();
    let complaints = check(&text, &NOT_RUN);
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// The commands in the table beside others, in its order. `eval` is in the README too.
#[test]
fn every_command_of_the_table_works() {
    let text = std::fs::read_to_string(repository().join("examples/README.md")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(repository().join("examples"), dir.path().join("examples")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| "));
    let quoted = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let mut count = 0;
    let quoted = quoted.flat_map(commands);
    for command in quoted.filter(|command| command.starts_with("cones ")) {
        let mut words = words(command).split_off(1);
        let few: &[&str] = match (words[0].as_str(), command.contains(" --from ")) {
            ("eval", _) => continue,
            ("find", _) => &["--steps", "9"],
            ("generate", false) => &["--steps", "3"],
            _ => &[],
        };
        words.splice(1..1, few.iter().map(|&word| word.to_owned()));
        let done = run(dir.path(), &words);
        assert!(done.is_ok(), "`{command}`: {}", done.unwrap_err());
        count += 1;
    }
    assert!(count > 20, "{count} commands");
}

/// The tests above would see it.
#[test]
fn wrong_commands_are_seen() {
    let wrong = [
        (
            "cones find --subjekt dog examples/pocket/subjects/poodle",
            "--subjekt",
        ),
        ("cones generate --concepts none.idx \"a dog\"", "none.idx"),
        (
            "cones find --subject dog examples/pocket/subjects/unicorn",
            "unicorn",
        ),
        ("cones drawn \"a dog\"", "drawn"),
        ("cones generate --sampler ddin \"a dog\"", "ddin"),
        ("cones generate --model sd15 \"a dog\"", "sd15"),
        ("cargo run", "neither run nor listed"),
        (
            "cones inspect none.idx && cones generate --steps 1 \"a dog\"",
            "none.idx",
        ),
    ];
    for (line, named) in wrong {
        let text = format!("Words.\n\n```console\n{line}\n```\n");
        let complaints = check(&text, &[]);
        assert_eq!(complaints.len(), 1, "{line}: {complaints:?}");
        assert!(complaints[0].contains(named), "{line}: {complaints:?}");
    }
    let right = "```console\ncones generate --steps 1 \"a dog\"  # -> out.png\n```\n";
    assert!(check(right, &[]).is_empty());
    assert_eq!(check(right, &[("cargo build", "why")]).len(), 1);
    assert_eq!(check("```sh\n```\n", &[]).len(), 1);
    assert_eq!(check("```\n```\n", &[]).len(), 1);
}

/// The words that the README says pocket knows are those that it was trained on.
#[test]
fn pockets_words_are_its_worlds() {
    let read = |path: &str| std::fs::read_to_string(repository().join(path)).unwrap();
    let (text, world) = (read("README.md"), read("examples/pocket/world.py"));
    // Python's tables: the first quoted word of each line of a dictionary, every quoted word of a list.
    let table = |name: &str, end: &str, each: usize| -> Vec<String> {
        let start = world.find(&format!("\n{name} = ")).unwrap();
        let table = &world[start..start + world[start..].find(end).unwrap()];
        let quoted = |line: &str| -> Vec<String> {
            let words = line.split('"').skip(1).step_by(2);
            words.take(each).map(str::to_owned).collect()
        };
        table.lines().flat_map(quoted).collect()
    };
    let tables = [
        ("nouns", table("CLASSES", "\n}", 1)),
        ("scenes", table("SCENES", "]", usize::MAX)),
        ("tints", table("TINTS", "\n}", 1)),
    ];
    for (kind, words) in tables {
        let line = format!("\n- {} {kind}: {}\n", words.len(), words.join(", "));
        assert!(text.contains(&line), "README: expected `{}`", line.trim());
    }
}

/// No line of what people read is wider than 120 columns.
#[test]
fn lines_are_at_most_120_columns_wide() {
    const WIDEST: usize = 120;
    let mut wide = BTreeSet::new();
    let mut folders = ["src", "tests", "examples", "benches"]
        .map(|folder| repository().join(folder))
        .to_vec();
    let mut files = ["README.md", "Cargo.toml"]
        .map(|file| repository().join(file))
        .to_vec();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let read = path
                .extension()
                .is_some_and(|e| e == "rs" || e == "py" || e == "md");
            match path.is_dir() {
                true => folders.push(path),
                false if read => files.push(path),
                false => {}
            }
        }
    }
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        // A row of a table is one line, whatever is in it; the first page has none that is wide.
        let has_wide_rows =
            file.extension().is_some_and(|e| e == "md") && file != repository().join("README.md");
        let is_row = |line: &str| has_wide_rows && line.starts_with('|');
        if text
            .lines()
            .any(|line| !is_row(line) && line.chars().count() > WIDEST)
        {
            let file = file.strip_prefix(repository()).unwrap();
            wide.insert(file.display().to_string());
        }
    }
    assert_eq!(
        wide,
        BTreeSet::<String>::new(),
        "wider than {WIDEST} columns"
    );
}

//! What `cones find --shard --dry-run` says: the command lines of all parts, and of what adds them up.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use cones::find::Shard;
use serde_json::json;

use super::super::{name, with_suffix};
use crate::cli::{FindArgs, Global};
use crate::report::ui::Ui;

pub(super) fn dry_run(
    global: &Global,
    args: &FindArgs,
    ui: &Ui,
    what: &str,
    shard: Shard,
) -> anyhow::Result<()> {
    let given: Vec<OsString> = std::env::args_os().collect();
    let scores = args.scores.clone().unwrap_or_default();
    let count = shard.all().count();
    let part = |number: &str| {
        let path = numbered(&scores, shard.number(), number);
        line(&given, &format!("{number}/{count}"), &path)
    };
    let parts: Vec<String> = shard
        .all()
        .map(|shard| part(&shard.number().to_string()))
        .collect();
    let files = shard
        .all()
        .map(|part| numbered(&scores, shard.number(), &part.number().to_string()));
    let files: Vec<String> = files.map(|path| quoted(&name(&path))).collect();
    let program = given.first().map_or_else(
        || "cones".to_owned(),
        |program| quoted(&program.to_string_lossy()),
    );
    let index = args
        .index_of(args.subject())
        .unwrap_or_else(|_| "subject.idx".into());
    let combine = format!(
        "{program} find --from-scores {} -o {}",
        files.join(" "),
        quoted(&name(&index))
    );
    let wrapped = quoted(&part(VARIABLE));
    let slurm = format!("sbatch --array=1-{count} --wrap {wrapped}");
    if global.json {
        return ui.json(&json!({
            "dry_run": true,
            "task": what,
            "parts": parts,
            "combine": combine,
            "slurm": slurm,
        }));
    }
    let all = parts.join("\n");
    ui.result(&format!(
        "# {what} each, on any machines, in any order:\n{all}\n# or all as one array job of Slurm:\n{slurm}\n\
         # and when all are there:\n{combine}"
    ))
}

/// What an array job calls its number.
const VARIABLE: &str = "${SLURM_ARRAY_TASK_ID}";

/// The name of another part's file: where a name ends with its part's number that is replaced, else one is added.
fn numbered(path: &Path, own: usize, number: &str) -> PathBuf {
    let stem = path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let own = own.to_string();
    let stem = match stem
        .strip_suffix(&own)
        .filter(|rest| !rest.ends_with(|c: char| c.is_ascii_digit()))
    {
        Some(rest) => rest.to_owned(),
        None => return with_suffix(path, &format!("-{number}")),
    };
    let ending = path
        .extension()
        .map(|ending| format!(".{}", ending.to_string_lossy()));
    path.with_file_name(format!("{stem}{number}{}", ending.unwrap_or_default()))
}

/// The command line of a part.
fn line(given: &[OsString], shard: &str, scores: &Path) -> String {
    let (mut words, mut skip) = (Vec::new(), None);
    let scores = name(scores);
    for argument in given {
        let argument = argument.to_string_lossy();
        if let Some(value) = skip.take() {
            words.push(value);
            continue;
        }
        let own = [("--shard", shard), ("--scores", scores.as_str())];
        let own = own.iter().find_map(|(option, value)| {
            let rest = argument.strip_prefix(option)?;
            (rest.is_empty() || rest.starts_with('=')).then_some((*option, *value, rest.is_empty()))
        });
        match own {
            Some((option, value, true)) => {
                words.push(option.to_owned());
                skip = Some(quoted(value));
            }
            Some((option, value, false)) => words.push(format!("{option}={}", quoted(value))),
            None if argument == "--dry-run" || argument == "--json" => {}
            None => words.push(quoted(&argument)),
        }
    }
    words.join(" ")
}

/// A word as a shell reads it back; the variable it fills in.
fn quoted(word: &str) -> String {
    if let Some((before, behind)) = word.split_once(VARIABLE) {
        let kept = |text: &str| match text.is_empty() {
            true => String::new(),
            false => quoted(text),
        };
        return format!("{}\"{VARIABLE}\"{}", kept(before), kept(behind));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:=@%+".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

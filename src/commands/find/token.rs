//! The token of a subject that was given none: that of the same photos, or the first that no other subject of its noun
//! has in the same folder.

use std::path::{Path, PathBuf};

use cones::Photos;
use cones::index::{NeuronIndex, Provenance, Subject};
use cones::prompt::fold;

use super::super::{Advice, name};
use crate::report::ui::Ui;

/// What the field's papers and guides call subjects by.
const TOKENS: [&str; 4] = ["sks", "zwx", "ohwx", "qev"];
/// The most files of a folder that are looked at.
const MOST: usize = 1000;

/// A subject of this noun. If no token is given it has that of the same photos in an index beside `output`, or one by
/// which prompts tell it apart from all subjects of these.
///
/// `output` itself does not count: it is to be replaced, or refused.
///
/// # Errors
/// If all tokens are taken.
pub(super) fn subject(
    noun: &str,
    token: Option<&str>,
    photos: &Photos,
    output: &Path,
    ui: &Ui,
) -> anyhow::Result<Subject> {
    let with = |token: &str| Subject {
        noun: noun.to_owned(),
        token: token.to_owned(),
    };
    if let Some(token) = token {
        return Ok(with(token));
    }
    let others = beside(output);
    let is_same = |plan: &Provenance| {
        let mut own = photos.iter().map(|photo| &photo.sha256);
        own.any(|photo| plan.pictures.contains(photo))
    };
    for (_, plan) in &others {
        match plan.subjects.as_slice() {
            [one] if fold(&one.noun) == fold(noun) && is_same(plan) => {
                return Ok(with(&one.token));
            }
            _ => {}
        }
    }
    let taken = |token: &&str| {
        let key = fold(&with(token).to_string());
        let is = |subject: &Subject| fold(&subject.to_string()) == key;
        others.iter().find(|(_, plan)| plan.subjects.iter().any(is))
    };
    match TOKENS.iter().find(|token| taken(token).is_none()) {
        Some(free) => {
            if let Some((path, _)) = taken(&TOKENS[0]).filter(|_| *free != TOKENS[0]) {
                ui.note(&format!(
                    "this is `{free} {noun}`: `{}` has other photos of a `{}`",
                    name(path),
                    with(TOKENS[0])
                ));
            }
            Ok(with(free))
        }
        None => Err(Advice::error(
            format!(
                "--token: expected one, as indices beside `{}` have {} for `{noun}`, found none",
                name(output),
                TOKENS.join(", ")
            ),
            "give a word that means nothing to the model",
        )),
    }
}

/// The indices in the folder of `output`, in order of their names, and what they are of. What cannot be read is
/// another command's to complain of.
fn beside(output: &Path) -> Vec<(PathBuf, Provenance)> {
    let folder = match output.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let own = output.file_name();
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| match folder == Path::new(".") {
            true => entry.file_name().into(),
            false => entry.path(),
        })
        .filter(|path| path.extension().is_some_and(|ending| ending == "idx"))
        .filter(|path| path.file_name() != own)
        .collect();
    files.sort();
    files.truncate(MOST);
    let plan = |path: PathBuf| {
        let provenance = NeuronIndex::read_provenance(&path).ok()?;
        Some((path, provenance))
    };
    files.into_iter().filter_map(plan).collect()
}

//! The pictures in folders, and what else is in them.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use super::file;
use super::file::unusable;
use super::kind::Kind;
use crate::{Error, Result};

/// Picture files, and what was beside them in their folders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PhotoList {
    /// The PNG and JPEG files, in order.
    pub files: Vec<PathBuf>,
    /// What else is in the folders, without captions and what systems leave there.
    pub left_out: Vec<LeftOut>,
    /// What a user may have meant to be read and was not: `5 photos; left out 1 HEIC, 1 folder: a.heic, more`. `None`
    /// where everything is.
    pub note: Option<String>,
}

/// A file or folder that is no picture to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Where it is.
    pub path: PathBuf,
    /// What it is: "HEIC", "folder".
    pub kind: &'static str,
}

/// What systems and programs leave in folders, in lower case; beside whatever begins with a point.
const SYSTEM: [&str; 8] = [
    "thumbs.db",
    "ehthumbs.db",
    "ehthumbs_vista.db",
    "desktop.ini",
    "icon\r",
    "__macosx",
    "@eadir",
    "$recycle.bin",
];
/// Endings of files that say something about the picture beside them.
const SIDECARS: [&str; 8] = [
    "txt", "caption", "json", "jsonl", "xmp", "aae", "thm", "tags",
];
/// Endings that promise a picture: one whose content is none is damaged, and not left out.
const PROMISES: [&str; 6] = ["png", "jpg", "jpeg", "jpe", "jfif", "jif"];
/// How many names are told.
const NAMES: usize = 5;

/// The picture files that these paths name: files as they are; of folders the PNG and JPEG files in them by their
/// content, whatever their ending. Sorted by file name, then by path, each file once however it is spelled.
///
/// # Errors
/// If a path does not exist, a folder holds no picture, or there is no path.
pub fn list_images(paths: &[PathBuf]) -> Result<PhotoList> {
    if paths.is_empty() {
        let expected = "at least one file or folder";
        return Err(Error::value("pictures", expected, "none"));
    }
    let mut photos = PhotoList::default();
    for path in paths {
        if !path.metadata().map_err(Error::io("read", path))?.is_dir() {
            photos.files.push(path.clone());
            continue;
        }
        let found = in_folder(path)?;
        if found.files.is_empty() {
            let beside = match found.left_out.is_empty() {
                true => String::new(),
                false => format!("; {}", left_out(&found.left_out)),
            };
            let problem = format!("no pictures (PNG or JPEG) in this folder{beside}");
            let hint = match found.left_out.is_empty() {
                true => "put PNG or JPEG files into it",
                false => "convert them to PNG or JPEG, or name the folder that holds such files",
            };
            return Err(unusable(path, problem, hint));
        }
        photos.files.extend(found.files);
        photos.left_out.extend(found.left_out);
    }
    let by_name = |a: &PathBuf, b: &PathBuf| a.file_name().cmp(&b.file_name()).then(a.cmp(b));
    photos.files.sort_by(by_name);
    photos.left_out.sort_by(|a, b| by_name(&a.path, &b.path));
    once(&mut photos.files, |file| file);
    once(&mut photos.left_out, |left| &left.path);
    if !photos.left_out.is_empty() {
        let read = counted(photos.files.len(), "photo");
        photos.note = Some(format!("{read}; {}", left_out(&photos.left_out)));
    }
    Ok(photos)
}

/// Keeps the first of those that are one file.
fn once<T>(all: &mut Vec<T>, path: impl Fn(&T) -> &PathBuf) {
    let mut seen = HashSet::new();
    all.retain(|one| {
        seen.insert(
            path(one)
                .canonicalize()
                .unwrap_or_else(|_| path(one).clone()),
        )
    });
}

fn in_folder(folder: &Path) -> Result<PhotoList> {
    let mut photos = PhotoList::default();
    for entry in folder.read_dir().map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        if is_system(&path) {
            continue;
        }
        // A broken link is an error, not a picture less.
        let of = path
            .metadata()
            .map_err(Error::io("read", &path))?
            .file_type();
        let kind = match of {
            of if of.is_dir() => "folder",
            of if !of.is_file() => "special file",
            _ => match file::kind(&path) {
                Ok(kind) if kind.is_read(&path) => {
                    photos.files.push(path);
                    continue;
                }
                Ok(Kind::Empty | Kind::Unknown | Kind::Instead(_)) if ends(&path, &PROMISES) => {
                    photos.files.push(path); // reading it says what is wrong
                    continue;
                }
                _ if ends(&path, &SIDECARS) => continue,
                Ok(kind) => kind.name(),
                Err(error) => return Err(error),
            },
        };
        photos.left_out.push(LeftOut { path, kind });
    }
    Ok(photos)
}

/// Whether something is hidden, or put there by a system.
fn is_system(path: &Path) -> bool {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().to_lowercase());
    name.is_some_and(|name| name.starts_with('.') || SYSTEM.contains(&name.as_str()))
}

fn ends(path: &Path, endings: &[&str]) -> bool {
    let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    ending.is_some_and(|ending| endings.contains(&ending.as_str()))
}

/// `left out 1 HEIC, 2 WebP, 1 folder: a.heic, b.webp, c.webp, more`
fn left_out(all: &[LeftOut]) -> String {
    let mut counts = BTreeMap::<&str, usize>::new();
    for left in all {
        *counts.entry(left.kind).or_default() += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(kind, n)| counted(*n, kind)).collect();
    let mut names: Vec<String> = all
        .iter()
        .take(NAMES)
        .map(|left| name(&left.path))
        .collect();
    if all.len() > NAMES {
        names.push(format!("and {} more", all.len() - NAMES));
    }
    format!("left out {}: {}", counts.join(", "), names.join(", "))
}

/// `1 HEIC`, `2 HEIC`, `2 folders`: names of formats have no plural.
fn counted(n: usize, kind: &str) -> String {
    match n > 1 && kind.starts_with(char::is_lowercase) {
        true => format!("{n} {kind}s"),
        false => format!("{n} {kind}"),
    }
}

/// A file's name, fit to be printed.
pub(super) fn name(path: &Path) -> String {
    let name = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy();
    name.escape_debug().to_string().replace("\\'", "'")
}

#[cfg(test)]
mod tests;

//! The hub's cache: where it is, and what lies where in it, as `huggingface_hub` has laid down.
//!
//! ```text
//! models--owner--name/blobs/ETAG                    the bytes: SHA-256 of large files, git's own hash of small ones
//! models--owner--name/blobs/ETAG.incomplete         as many of them as have come
//! models--owner--name/snapshots/COMMIT/unet/…       links to them, under their names
//! models--owner--name/refs/main                     the commit that a branch or tag is
//! .locks/models--owner--name/ETAG.lock              held while the bytes come
//! ```

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::files::{self, regular};
use crate::{Error, Result};

/// The folder of a repository in the cache.
fn folder_name(id: &str) -> String {
    format!("models--{}", id.replace('/', "--"))
}

/// The folder of a model's files at a revision, which is a branch, a tag or a commit; `file` is in every such model.
///
/// # Errors
/// If there is no cache, or the model, at this revision, is not in it.
pub(in crate::checkpoint) fn snapshot(text: &str, file: &str) -> Result<PathBuf> {
    let (id, revision) = text.split_once('@').unwrap_or((text, "main"));
    let refuse = |problem: String, hint: String| Error::Model {
        model: text.to_owned(),
        problem,
        hint,
    };
    let Some(cache) = root() else {
        return Err(refuse(
            "no such folder, and the hub's cache cannot be looked up: the user has no home folder"
                .to_owned(),
            "set HF_HOME to the folder of the cache, or pass a folder".to_owned(),
        ));
    };
    let folder = cache.join(folder_name(id));
    let fetch = match revision {
        "main" => format!("fetch it with `hf download {id}`, or pass a folder"),
        _ => format!("fetch it with `hf download {id} --revision {revision}`, or pass a folder"),
    };
    let missing = || {
        let problem = format!(
            "no such folder, and not in the hub's cache on this machine, `{}`",
            cache.display()
        );
        refuse(problem, fetch.clone())
    };
    let commit = match is_commit(revision) {
        true => revision.to_owned(),
        // What the branch or tag points at; no part of a revision leads out of the cache.
        false if !is_revision(revision) => return Err(missing()),
        false => {
            let path = folder.join("refs").join(revision);
            let bytes = match regular::read(&path) {
                Ok(bytes) => bytes,
                Err(Error::Io { .. }) => return Err(missing()),
                Err(error) => return Err(error),
            };
            let commit = String::from_utf8_lossy(&bytes).trim().to_owned();
            if !is_commit(&commit) {
                let (path, found) = (
                    path.display().to_string(),
                    commit.chars().take(60).collect::<String>(),
                );
                let found = format!("\"{}\"", found.escape_debug());
                return Err(Error::file(
                    path,
                    "the commit that the revision is",
                    found,
                    fetch,
                ));
            }
            commit
        }
    };
    let snapshot = folder.join("snapshots").join(commit);
    match snapshot.join(file).is_file() {
        true => Ok(snapshot),
        false => Err(missing()),
    }
}

/// Whether this is the name of a commit: forty hexadecimal digits.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.chars().all(|c| c.is_ascii_hexdigit())
}

/// Whether a revision can be the name of a file below `refs`: no part of it leads out of there.
pub(super) fn is_revision(text: &str) -> bool {
    let normal = |part| matches!(part, Component::Normal(_));
    !text.is_empty()
        && !text.contains(|c: char| c.is_control() || c == '\\')
        && text.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && Path::new(text).components().all(normal)
}

/// The names of the files of a snapshot: its own, and those of its folders.
pub(super) fn names(snapshot: &Path) -> Vec<String> {
    let list = |folder: &Path| -> Vec<(String, PathBuf)> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let named =
            |entry: fs::DirEntry| Some((entry.file_name().into_string().ok()?, entry.path()));
        entries.filter_map(named).collect()
    };
    let mut names = Vec::new();
    for (name, path) in list(snapshot) {
        match path.is_dir() {
            true => names.extend(
                list(&path)
                    .into_iter()
                    .filter(|(_, path)| path.is_file())
                    .map(|(file, _)| format!("{name}/{file}")),
            ),
            // A link to what is not there is none.
            false if path.is_file() => names.push(name),
            false => {}
        }
    }
    names
}

/// One repository at one commit.
#[derive(Debug)]
pub(super) struct Repository {
    folder: PathBuf,
    locks: PathBuf,
    snapshot: PathBuf,
}

impl Repository {
    pub(super) fn new(cache: &Path, id: &str, commit: &str) -> Self {
        let name = folder_name(id);
        let folder = cache.join(&name);
        Self {
            locks: cache.join(".locks").join(name),
            snapshot: folder.join("snapshots").join(commit),
            folder,
        }
    }

    /// The folder of the model's files.
    pub(super) fn snapshot(&self) -> &Path {
        &self.snapshot
    }

    /// The bytes of a file by their hash.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// What has come of them.
    pub(super) fn incomplete(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(format!("{etag}.incomplete"))
    }

    /// The file that is locked while they come.
    pub(super) fn lock(&self, etag: &str) -> PathBuf {
        self.locks.join(format!("{etag}.lock"))
    }

    /// Gives bytes that are here their name in the snapshot; `name` is one that [`super::needed`] knows.
    pub(super) fn link(&self, name: &str, etag: &str) -> Result<()> {
        let path = self.snapshot.join(name);
        if path.is_file() {
            return Ok(());
        }
        let folder = path.parent().unwrap_or(&self.snapshot);
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        // Renamed over whatever has the name: two processes may do this at once.
        let mut new = path.clone().into_os_string();
        new.push(format!(".{}.new", std::process::id()));
        let new = PathBuf::from(new);
        let _ = fs::remove_file(&new);
        let made = self.make_link(name, etag, &new);
        made.and_then(|()| fs::rename(&new, &path))
            .map_err(|error| {
                let _ = fs::remove_file(&new);
                Error::io("create", &path)(error)
            })
    }

    #[cfg(unix)]
    fn make_link(&self, name: &str, etag: &str, new: &Path) -> std::io::Result<()> {
        let up = "../".repeat(2 + name.matches('/').count());
        std::os::unix::fs::symlink(format!("{up}blobs/{etag}"), new)
    }

    /// Links need a privilege on Windows, where Python copies too.
    #[cfg(not(unix))]
    fn make_link(&self, _: &str, etag: &str, new: &Path) -> std::io::Result<()> {
        let blob = self.blob(etag);
        fs::hard_link(&blob, new).or_else(|_| fs::copy(&blob, new).map(drop))
    }

    /// Writes down which commit a branch or tag is; a commit is its own name.
    pub(super) fn refer(&self, revision: &str, commit: &str) -> Result<()> {
        let path = self.folder.join("refs").join(revision);
        if revision == commit || fs::read(&path).is_ok_and(|text| text == commit.as_bytes()) {
            return Ok(());
        }
        let folder = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        files::replace(&path, commit.as_bytes())
    }
}

/// A variable that is set to something.
pub(super) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// A path as Python's tools read it: `~` is the user's home, and `$NAME` and `${NAME}` are variables.
pub(super) fn place(value: &OsStr) -> Option<PathBuf> {
    let path = match value.to_str() {
        Some(text) if text.contains('$') => {
            PathBuf::from(expanded(text, |name| std::env::var(name).ok()))
        }
        _ => PathBuf::from(value),
    };
    match path.strip_prefix("~") {
        Ok(rest) => Some(user()?.join(rest)),
        Err(_) => Some(path),
    }
}

/// A text with the values of its variables; what is none stays.
fn expanded(text: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out += &rest[..at];
        let behind = &rest[at + 1..];
        let (name, whole) = match behind
            .strip_prefix('{')
            .and_then(|braced| braced.split_once('}'))
        {
            Some((name, _)) => (name, name.len() + 3),
            None => {
                let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let name = &behind[..behind.find(|c| !is_name(c)).unwrap_or(behind.len())];
                (name, name.len() + 1)
            }
        };
        let (written, after) = rest[at..].split_at(whole);
        out += &value(name).unwrap_or_else(|| written.to_owned());
        rest = after;
    }
    out + rest
}

/// The user's own folder.
fn user() -> Option<PathBuf> {
    std::env::home_dir().filter(|home| !home.as_os_str().is_empty())
}

/// The folder of all that the hub's tools keep; `None` where nothing says.
pub(super) fn home() -> Option<PathBuf> {
    match (variable("HF_HOME"), variable("XDG_CACHE_HOME")) {
        (Some(all), _) => place(&all),
        (None, Some(caches)) => Some(place(&caches)?.join("huggingface")),
        (None, None) => Some(user()?.join(".cache/huggingface")),
    }
}

/// The folder of the cache, by `CONES_CACHE`, else by the variables of huggingface_hub in its order; `None` where
/// nothing says.
pub(super) fn root() -> Option<PathBuf> {
    match variable("CONES_CACHE")
        .or_else(|| variable("HF_HUB_CACHE"))
        .or_else(|| variable("HUGGINGFACE_HUB_CACHE"))
    {
        Some(cache) => place(&cache),
        None => Some(home()?.join("hub")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_in_a_path_are_read_as_python_does() {
        let value = |name: &str| (name == "A").then(|| "/a".to_owned());
        for (text, expected) in [
            ("$A/b", "/a/b"),
            ("${A}b", "/ab"),
            ("x$A", "x/a"),
            ("$B/c$A", "$B/c/a"),
            ("${B}", "${B}"),
            ("$", "$"),
            ("${A", "${A"),
            ("a$$A", "a$/a"),
            ("ü$Aü", "ü/aü"),
        ] {
            assert_eq!(expanded(text, value), expected, "{text}");
        }
    }

    #[test]
    fn revisions_stay_below_refs() {
        for (text, fits) in [
            ("main", true),
            ("refs/pr/1", true),
            ("v1.0", true),
            ("", false),
            ("a/../b", false),
            ("../b", false),
            ("/etc", false),
            ("a//b", false),
            ("a/", false),
            ("a\\b", false),
            ("a\0b", false),
            (".", false),
        ] {
            assert_eq!(is_revision(text), fits, "{text:?}");
        }
    }
}

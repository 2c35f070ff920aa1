//! Models of the Hugging Face hub that are on this machine already, in the cache that all of its tools share.
//!
//! Nothing is downloaded: `hf download` does that, and says how much it is.

use std::path::{Component, Path, PathBuf};

use hf_hub::{Repo, RepoType};

use crate::files::regular;
use crate::{Error, Result};

/// Whether this is an id, `owner/name` or `owner/name@revision`, and no path.
pub(super) fn is_id(text: &str) -> bool {
    let path_like = text.starts_with(['.', '/', '~']) || text.ends_with('/');
    let fits = |part: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&c);
        !part.is_empty() && part != ".." && part.chars().all(known)
    };
    let id = text.split_once('@').map_or(text, |(id, _)| id);
    let parts: Vec<&str> = id.split('/').collect();
    !path_like && parts.len() == 2 && parts.into_iter().all(fits)
}

/// The folder of a model's files at a revision, which is a branch, a tag or a commit; `file` is in every such model.
///
/// # Errors
/// If there is no cache, or the model, at this revision, is not in it.
pub(super) fn snapshot(text: &str, file: &str) -> Result<PathBuf> {
    let (id, revision) = text.split_once('@').unwrap_or((text, "main"));
    let refuse = |problem: String, hint: String| Error::Model {
        model: text.to_owned(),
        problem,
        hint,
    };
    let Some(cache) = cache() else {
        return Err(refuse(
            "no such folder, and the hub's cache cannot be looked up: the user has no home folder"
                .to_owned(),
            "set HF_HOME to the folder of the cache, or pass a folder".to_owned(),
        ));
    };
    let repo = Repo::new(id.to_owned(), RepoType::Model);
    let folder = cache.join(repo.folder_name());
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
        false
            if Path::new(revision)
                .components()
                .any(|part| !matches!(part, Component::Normal(_))) =>
        {
            return Err(missing());
        }
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
fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.chars().all(|c| c.is_ascii_hexdigit())
}

/// The folder of the cache, by the variables of huggingface_hub in its order; `None` where nothing says.
fn cache() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let home = || std::env::home_dir().filter(|home| !home.as_os_str().is_empty());
    let place = |value: std::ffi::OsString| match Path::new(&value).strip_prefix("~") {
        Ok(rest) => Some(home()?.join(rest)),
        Err(_) => Some(PathBuf::from(&value)),
    };
    if let Some(cache) = variable("HF_HUB_CACHE").or_else(|| variable("HUGGINGFACE_HUB_CACHE")) {
        return place(cache);
    }
    let all = match (variable("HF_HOME"), variable("XDG_CACHE_HOME")) {
        (Some(all), _) => place(all)?,
        (None, Some(caches)) => place(caches)?.join("huggingface"),
        (None, None) => home()?.join(".cache/huggingface"),
    };
    Some(all.join("hub"))
}

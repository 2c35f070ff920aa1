//! Models of the Hugging Face hub that are on this machine already, in the cache that all of its tools share.
//!
//! Nothing is downloaded: `hf download` does that, and says how much it is.

use std::path::PathBuf;

use hf_hub::{Cache, Repo, RepoType};

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
/// If the model, at this revision, is not in the cache.
pub(super) fn snapshot(text: &str, file: &str) -> Result<PathBuf> {
    let (id, revision) = text.split_once('@').unwrap_or((text, "main"));
    let repo = Repo::with_revision(id.to_owned(), RepoType::Model, revision.to_owned());
    let cached = Cache::from_env().repo(repo);
    let is_commit = revision.len() == 40 && revision.chars().all(|c| c.is_ascii_hexdigit());
    let found = match is_commit {
        true => Some(cached.pointer_path(revision)),
        // What the branch or tag points at; no part of a revision leads out of the cache.
        false if revision.split('/').any(|part| part == "..") => None,
        false => cached
            .get(file)
            .and_then(|path| Some(path.parent()?.to_owned())),
    };
    found
        .filter(|folder| folder.join(file).is_file())
        .ok_or_else(|| {
            let option = match revision {
                "main" => String::new(),
                revision => format!(" --revision {revision}"),
            };
            Error::Model {
                model: text.to_owned(),
                problem: "no such folder, and not in the hub's cache on this machine".to_owned(),
                hint: format!("fetch it with `hf download {id}{option}`, or pass a folder"),
            }
        })
}

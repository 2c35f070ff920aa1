//! Models of the Hugging Face hub: found in the cache on this machine that all of its tools share, and fetched into it.
//!
//! What is fetched is checked by size and hash, resumed at the byte after a break, and laid out as `huggingface_hub`
//! does, under its locks, so that each of the tools has what another one fetched.
//!
//! The client is `ureq` under some code of ours; hf-hub would be the nearer choice. Its 1.0 begins a broken download
//! again from nothing, takes the length of a redirect's own body for the file's, has a cache of its own below the
//! working directory, and brings 143 crates that cannot be left out. 0.5 appends whatever comes to what it has, also
//! where a server answers a request for the rest with the whole; it checks neither size nor hash, waits without
//! end, locks another file than Python does, and panics at a redirect to nowhere. `ureq` with rustls, without any other
//! of its features, is 20 crates in place of hf-hub's 4.
//!
//! | file | |
//! | --- | --- |
//! | `settings` | what the user has set: endpoint, token, patience |
//! | `cache` | where the files lie, and under which names |
//! | `needed`, `weights` | which files of a repository a run needs |
//! | `listing` | what the hub says a repository holds, and none of it believed |
//! | `problem` | what can go wrong, in words |
//! | `client`, `address` | requests, redirects, and who gets the token |
//! | `fetch` | one file: locked, resumed, checked, linked |
//! | `download` | a model: looked up, checked by its kind, brought |

mod address;
mod cache;
mod client;
mod download;
mod fetch;
mod listing;
mod needed;
mod problem;
mod settings;
mod weights;

pub(super) use cache::snapshot;
pub use download::Download;
pub use needed::Layout;
pub use settings::{Hub, Patience, Token};

use std::path::Path;

use super::few_steps;

/// Told again and again how many bytes of how many are here; an error of it ends the work.
pub type Watch<'a> = dyn FnMut(u64, u64) -> crate::Result<()> + 'a;

/// Whether this is an id, `owner/name` or `owner/name@revision`, and no path.
pub(super) fn is_id(text: &str) -> bool {
    let path_like = text.starts_with(['.', '/', '~']) || text.ends_with('/');
    let fits = |part: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&c);
        !matches!(part, "" | "." | "..") && part.chars().all(known)
    };
    let id = text.split_once('@').map_or(text, |(id, _)| id);
    let parts: Vec<&str> = id.split('/').collect();
    !path_like && parts.len() == 2 && parts.into_iter().all(fits)
}

/// Whether `model` is a hub id of which this machine has not all that a run needs.
pub fn is_absent(model: &str, layout: Layout, variant: Option<&str>) -> bool {
    // What is refused by its id is not to be fetched.
    if Path::new(model).exists() || !is_id(model) || few_steps::of_id(model).is_some() {
        return false;
    }
    match cache::snapshot(model, layout.first()) {
        Ok(folder) => needed::needed_files(&cache::names(&folder), layout, variant).is_err(),
        Err(_) => true,
    }
}

/// Whether the answer to a listing can be read; for tests/fuzz.
#[cfg(test)]
pub(crate) fn reads_listing(answer: &[u8]) -> bool {
    let found = listing::parse(answer);
    found.is_ok_and(|found| {
        found
            .files
            .iter()
            .filter(|file| file.wanted().is_ok())
            .count()
            > 0
    })
}

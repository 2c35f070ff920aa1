//! A model that is to be fetched: looked up, checked as far as its configuration says, then brought whole.

use std::path::{Path, PathBuf};

use super::address::quoted;
use super::cache::{Repository, is_commit, is_revision};
use super::client::Client;
use super::listing::{self, Listed, Wanted};
use super::needed::{self, Layout};
use super::problem::{Failure, Problem};
use super::settings::Hub;
use super::weights::Lacking;
use super::{Watch, fetch, is_id};
use crate::checkpoint::{few_steps, kinds};
use crate::files::regular;
use crate::{Error, Result};

/// Longer than any configuration or vocabulary.
const LONGEST_CONFIG: u64 = 64 << 20;

/// A model of the hub, of which the files that a run needs are known, and the small ones are here.
pub struct Download {
    /// The folder of its files.
    pub folder: PathBuf,
    /// The bytes of all files that a run needs.
    pub size: u64,
    /// How many of them were not here when it was looked up.
    pub missing: u64,
    model: String,
    client: Client,
    commit: String,
    repository: Repository,
    configs: Vec<Wanted>,
    weights: Vec<Wanted>,
}

impl Download {
    /// Asks the hub what a model is, and which files it has, and fetches the small ones, from which it can be told
    /// whether the model is supported. `variant` is that of the weights; without one, those in half precision are taken
    /// where there are any.
    ///
    /// # Errors
    /// If the hub cannot be asked or gives no such model, if the model is of a kind that is not supported, and if a
    /// file does not come, or not as it is listed.
    pub fn look_up(
        hub: &Hub,
        model: &str,
        layout: Layout,
        variant: Option<&str>,
        watch: &mut Watch,
    ) -> Result<Self> {
        Self::found(hub, model, layout, variant, watch).map_err(|failure| failure.of(model))
    }

    fn found(
        hub: &Hub,
        model: &str,
        layout: Layout,
        variant: Option<&str>,
        watch: &mut Watch,
    ) -> Result<Self, Failure> {
        let (id, revision) = model.split_once('@').unwrap_or((model, "main"));
        if !is_id(model) || !is_revision(revision) {
            let hint =
                "pass `owner/name`, or `owner/name@revision` with a branch, a tag or a commit";
            return Err(Problem::last("this is no model's id", hint).into());
        }
        if let Some(what) = few_steps::of_id(model) {
            return Err(Problem::last(format!("this is {what}"), few_steps::HINT).into());
        }
        if hub.offline {
            let hint = "unset HF_HUB_OFFLINE to have it fetched";
            return Err(
                Problem::last("the hub is not to be asked: HF_HUB_OFFLINE is set", hint).into(),
            );
        }
        let client = Client::new(hub, id, revision)?;
        let path = format!(
            "api/models/{id}/revision/{}?blobs=true",
            quoted(revision, false)
        );
        let answer = client.text(&client.address(&path)?, listing::LONGEST, &mut || {
            watch(0, 0)
        })?;
        let listing = listing::parse(&answer).map_err(unbelievable)?;
        drop(answer);
        if is_commit(revision) && !revision.eq_ignore_ascii_case(&listing.commit) {
            return Err(unbelievable(format!("another commit, {}", listing.commit)));
        }
        let repository = Repository::new(&hub.cache, id, &listing.commit);
        let mut download = Self {
            folder: repository.snapshot().to_owned(),
            size: 0,
            missing: 0,
            model: model.to_owned(),
            repository,
            client,
            commit: listing.commit,
            configs: Vec::new(),
            weights: Vec::new(),
        };
        let lacking = |(what, hint): Lacking| Problem::last(what, hint);
        let names: Vec<&str> = listing
            .files
            .iter()
            .map(|file| file.name.as_str())
            .collect();
        let wanted = |name: &str| -> Result<Wanted, Failure> {
            let file = listing.files.iter().find(|file| file.name == name);
            let file = file
                .map(Listed::wanted)
                .unwrap_or_else(|| Err(format!("no `{name}`")));
            file.map_err(unbelievable)
        };
        let small = |name: &str| match wanted(name)? {
            file if file.size <= LONGEST_CONFIG => Ok(file),
            file => Err(unbelievable(format!(
                "`{name}` of {} bytes, which is no configuration",
                file.size
            ))),
        };
        let first = layout.first();
        if !names.contains(&first) {
            return Err(lacking(needed::other_kind(&names)).into());
        }
        download.bring(&[small(first)?], watch)?;
        if layout != Layout::Encoder {
            let bytes = regular::read(&download.folder.join(first))?;
            kinds::check_index(first, &String::from_utf8_lossy(&bytes))?;
        }
        let needed = needed::needed_files(&names, layout, variant).map_err(lacking)?;
        download.configs = needed
            .configs
            .into_iter()
            .map(small)
            .collect::<Result<_, _>>()?;
        download.weights = needed
            .weights
            .into_iter()
            .map(wanted)
            .collect::<Result<_, _>>()?;
        download.size = download.all().map(|file| file.size).sum();
        download.bring(&download.configs, watch)?;
        download.missing = download.to_fetch();
        Ok(download)
    }

    /// How many of its bytes are not here.
    fn to_fetch(&self) -> u64 {
        let absent = |file: &Wanted| file.size - fetch::present(&self.repository, file);
        self.all().map(absent).sum()
    }

    /// That the disk has room for what is not here.
    fn check_room(&self) -> Result<()> {
        let missing = self.to_fetch();
        match room(&self.folder) {
            Some(free) if free < missing => Err(Error::Model {
                model: self.model.clone(),
                problem: format!(
                    "the disk is full: {:.1} GB are to be fetched, and {:.1} GB are free at `{}`",
                    missing as f64 / 1e9,
                    free as f64 / 1e9,
                    self.folder.display()
                ),
                hint: "make room, or set HF_HOME to a folder of another disk".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Wanted> {
        self.configs.iter().chain(&self.weights)
    }

    /// Fetches all that is missing. What has come of a file before an error stays, and is gone on from the next time.
    /// The revision's name is written down last, so that nobody takes a part for the whole.
    ///
    /// # Errors
    /// If one does not come, or not as it is listed, and if there is no room for it.
    pub fn fetch(&self, watch: &mut Watch) -> Result<()> {
        self.check_room()?;
        let mut files: Vec<Wanted> = self.all().cloned().collect();
        // What is here comes first, so that the time left is told of what is not.
        files.sort_by_key(|file| !fetch::is_whole(&self.repository, file));
        let fetched = self.bring(&files, watch);
        fetched.map_err(|failure| failure.of(&self.model))?;
        self.repository.refer(&self.client.revision, &self.commit)
    }

    fn bring(&self, files: &[Wanted], watch: &mut Watch) -> Result<(), Failure> {
        let total = files.iter().map(|file| file.size).sum();
        let mut done = 0;
        for file in files {
            let grown = &mut |length| watch(done + length, total);
            fetch::fetch(&self.client, &self.repository, &self.commit, file, grown)?;
            done += file.size;
            watch(done, total)?;
        }
        Ok(())
    }
}

/// An answer that cannot be true.
fn unbelievable(found: String) -> Failure {
    Problem::foreign(format!("the hub lists {found}")).into()
}

/// The free bytes of the disk that a folder is on, or will be; `None` where the system does not tell.
#[cfg(unix)]
fn room(folder: &Path) -> Option<u64> {
    let there = folder.ancestors().find(|folder| folder.exists())?;
    let disk = rustix::fs::statvfs(there).ok()?;
    disk.f_bavail.checked_mul(disk.f_frsize)
}

#[cfg(not(unix))]
fn room(_: &Path) -> Option<u64> {
    None
}

//! The files that a command is told to write: looked at before the work, and kept somewhere where that fails after it.

mod saved;

pub(crate) use saved::{Saved, print};

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cones::index::{NeuronIndex, Provenance};

use super::{Advice, count, name};
use crate::report::memory::human;

/// What a command is to write, beside what it reads.
pub(crate) struct Outputs<'a> {
    files: Vec<(&'static str, PathBuf)>,
    inputs: Vec<&'a Path>,
}

impl<'a> Outputs<'a> {
    /// The files that the command reads, which it never replaces.
    pub(crate) fn beside(inputs: impl IntoIterator<Item = &'a PathBuf>) -> Self {
        Self {
            files: Vec::new(),
            inputs: inputs.into_iter().map(PathBuf::as_path).collect(),
        }
    }

    /// One more file to write, and the option that names it.
    pub(crate) fn file(mut self, option: &'static str, path: impl Into<PathBuf>) -> Self {
        self.files.push((option, path.into()));
        self
    }

    /// That every file can be written: it has a folder that takes files, is none itself, is no input, and not
    /// another's.
    ///
    /// Nothing is left of the trial: the file that is made has no name.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let inputs: HashSet<PathBuf> = self
            .inputs
            .iter()
            .filter_map(|p| fs::canonicalize(p).ok())
            .collect();
        let mut folders = HashMap::new();
        let mut taken: HashMap<PathBuf, &Path> = HashMap::new();
        for (option, path) in &self.files {
            let said = name(path);
            let text = path.as_os_str().as_encoded_bytes();
            if path.file_name().is_none() || text.ends_with(b"/") || text.ends_with(b"/.") {
                let hint = "give a name in it, such as `FOLDER/NAME`";
                return Err(Advice::error(
                    format!("{option}: expected the name of a file, found `{said}`"),
                    hint,
                ));
            }
            match fs::metadata(path) {
                Ok(found) if found.is_dir() => {
                    let hint = format!("give a name in it, such as `{said}/NAME`");
                    return Err(Advice::error(
                        format!("{option}: expected a file, found the folder `{said}`"),
                        hint,
                    ));
                }
                Ok(found) if !found.is_file() => {
                    special(option, path, &found)?;
                    continue;
                }
                Ok(_) => {
                    writable(path).with_context(|| format!("{option}: cannot write `{said}`"))?
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("{option}: cannot write `{said}`"));
                }
            }
            let place = cones::file_place(path)
                .with_context(|| format!("{option}: cannot write `{said}`"))?;
            let folder = folder_of(&place);
            let full = match folders.get(folder) {
                Some(full) => full,
                None => {
                    let full = takes_files(option, folder)?;
                    folders.entry(folder.to_owned()).or_insert(full)
                }
            };
            let place = full.join(place.file_name().unwrap_or_default());
            if inputs.contains(&place) {
                bail!(
                    "{option}: `{said}` is one of the files that are read here; give another name"
                );
            }
            if let Some(other) = taken.get(&place) {
                bail!(
                    "{option}: expected names of different files, found `{}` and `{said}`, which are one",
                    name(other)
                );
            }
            taken.insert(place, path);
        }
        Ok(())
    }

    /// That none of the files is an index: these take long to find, and are replaced by indices alone.
    pub(crate) fn spare_indices(&self) -> anyhow::Result<()> {
        for (option, path) in &self.files {
            if may_be_index(path) && NeuronIndex::read(path).is_ok() {
                bail!(
                    "{option}: `{}` is an index, and would be lost; give another name",
                    name(path)
                );
            }
        }
        Ok(())
    }
}

/// Whether a file begins as indices do, with a length and JSON: cheap to see of thousands of pictures.
fn may_be_index(path: &Path) -> bool {
    let mut start = [0; 9];
    let is_file = fs::metadata(path).is_ok_and(|found| found.is_file());
    is_file
        && File::open(path)
            .and_then(|mut file| file.read_exact(&mut start))
            .is_ok()
        && start[8] == b'{'
}

fn folder_of(path: &Path) -> &Path {
    let parent = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// That a file can be made in a folder; the folder's full name.
fn takes_files(option: &str, folder: &Path) -> anyhow::Result<PathBuf> {
    let said = name(folder);
    match fs::metadata(folder) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => bail!("{option}: `{said}` is no folder"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("{option}: no folder `{said}`; make it first")
        }
        Err(error) => {
            return Err(error).with_context(|| format!("{option}: cannot write into `{said}`"));
        }
    }
    can_write_into(folder)
        .with_context(|| format!("{option}: cannot write into the folder `{said}`"))?;
    fs::canonicalize(folder).with_context(|| format!("{option}: cannot write into `{said}`"))
}

/// Makes a file without a name in a folder.
pub(crate) fn can_write_into(folder: &Path) -> std::io::Result<()> {
    tempfile::tempfile_in(folder)
        .map(drop)
        .map_err(|error| std::io::Error::from(error.kind()))
}

/// Devices such as `/dev/null` and named pipes are written to; disks and sockets are not.
#[cfg(unix)]
fn special(option: &str, path: &Path, found: &fs::Metadata) -> anyhow::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let kind = found.file_type();
    if kind.is_block_device() || kind.is_socket() {
        bail!(
            "{option}: expected a file, found the device or socket `{}`",
            name(path)
        );
    }
    writable(path).with_context(|| format!("{option}: cannot write `{}`", name(path)))
}

#[cfg(not(unix))]
fn special(_: &str, _: &Path, _: &fs::Metadata) -> anyhow::Result<()> {
    Ok(())
}

/// That what is there is not protected from being written.
#[cfg(unix)]
fn writable(path: &Path) -> std::io::Result<()> {
    Ok(rustix::fs::access(path, rustix::fs::Access::WRITE_OK)?)
}

#[cfg(not(unix))]
fn writable(path: &Path) -> std::io::Result<()> {
    match fs::metadata(path)?.permissions().readonly() {
        true => Err(std::io::ErrorKind::PermissionDenied.into()),
        false => Ok(()),
    }
}

/// That there is room for files of at least so many bytes each.
#[cfg(unix)]
pub(crate) fn room<'a>(files: impl IntoIterator<Item = (&'a Path, u64)>) -> anyhow::Result<()> {
    let most = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
    let mut wanted: HashMap<&Path, u64> = HashMap::new();
    for (path, bytes) in files {
        if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            continue;
        }
        if most.is_some_and(|most| most < bytes) {
            bail!(
                "cannot write `{}`: it will have about {bytes} bytes, and files may have {} here (ulimit -f)",
                name(path),
                most.unwrap_or_default()
            );
        }
        *wanted.entry(folder_of(path)).or_default() += bytes;
    }
    // Folders of one disk share its space.
    let mut disks: HashMap<u64, (&Path, u64, u64)> = HashMap::new();
    for (folder, bytes) in wanted {
        let Ok(disk) = rustix::fs::statvfs(folder) else {
            continue;
        };
        if disk.f_blocks > 0 {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            disks.entry(disk.f_fsid).or_insert((folder, free, 0)).2 += bytes;
        }
    }
    match disks.into_values().find(|(_, free, bytes)| bytes > free) {
        Some((folder, free, bytes)) => Err(Advice::error(
            format!(
                "not enough space in `{}`: what will be written there takes about {}, and {} are free",
                name(folder),
                human(bytes),
                human(free)
            ),
            "make room, or write to another disk",
        )),
        None => Ok(()),
    }
}

#[cfg(not(unix))]
pub(crate) fn room<'a>(_: impl IntoIterator<Item = (&'a Path, u64)>) -> anyhow::Result<()> {
    Ok(())
}

/// That an index of this plan may have the name: it is free, or has an index of the very plan, or `force`. Whether it
/// has an index of the plan.
pub(crate) fn check_free(path: &Path, plan: &Provenance, force: bool) -> anyhow::Result<bool> {
    let holds_something = fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() > 0);
    if force || !holds_something {
        return Ok(false);
    }
    let (found, same) = match NeuronIndex::read(path) {
        Ok(index) => {
            let there = index.provenance();
            let others = differences(there, plan);
            (
                format!("one of {} ({})", described(there), others.join(", ")),
                others.is_empty(),
            )
        }
        Err(_) => ("a file that is none, or cannot be read".to_owned(), false),
    };
    match same {
        true => Ok(true),
        false => Err(Advice::error(
            format!(
                "`{}` is there: expected a free name, or an index of this very run: {}, found {found}",
                name(path),
                described(plan)
            ),
            "give another name with `-o`, or replace it with `--force`",
        )),
    }
}

/// `sks dog, 3 pictures, learned`.
fn described(index: &Provenance) -> String {
    let pictures = count(index.pictures.len(), "picture");
    format!(
        "`{}`, {pictures}, method {}",
        index.trigger_phrase(),
        index.method
    )
}

/// In what an index is of another plan. How many steps a plan takes may be open.
fn differences(there: &Provenance, plan: &Provenance) -> Vec<String> {
    let mut found = Vec::new();
    for (differ, what) in [
        (there.subjects != plan.subjects, "another subject"),
        (there.pictures != plan.pictures, "other pictures"),
        (there.fingerprint != plan.fingerprint, "another model"),
        (there.prompts != plan.prompts, "other prompts"),
        (there.method != plan.method, "another method"),
        (there.scope != plan.scope, "another scope"),
        (there.seed != plan.seed, "another seed"),
        (there.merged_from != plan.merged_from, "merged from others"),
    ] {
        if differ {
            found.push(what.to_owned());
        }
    }
    let mut keys: Vec<&String> = there.settings.keys().chain(plan.settings.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let [old, new] =
            [there, plan].map(|of| of.settings.get(key).map_or("none", String::as_str));
        if old != new && !(key == "steps" && new == "none") {
            found.push(format!("{key} {old} instead of {new}"));
        }
    }
    found
}

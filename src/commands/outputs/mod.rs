//! The files that a command is told to write: looked at before the work, and kept somewhere where that fails after it.

mod places;
mod plans;
mod room;
mod saved;

pub(crate) use places::can_write_into;
pub(crate) use plans::check_free;
pub(crate) use room::{room, room_for_pictures};
pub(crate) use saved::{Saved, print};

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cones::index::NeuronIndex;

use self::places::{folder_of, special, takes_files, writable};
use super::{Advice, name};

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

    /// A folder to write into, which may not be there yet, and what an exported network is in it.
    pub(crate) fn folder(self, option: &'static str, path: &Path) -> anyhow::Result<Self> {
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => {
                let files = ["config.json", "diffusion_pytorch_model.safetensors"];
                Ok(files
                    .iter()
                    .fold(self, |all, file| all.file(option, path.join(file))))
            }
            Ok(_) => bail!(
                "{option}: expected a folder, found the file `{}`",
                name(path)
            ),
            Err(_) => takes_files(option, folder_of(path)).map(|_| self),
        }
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

/// That a file is not where the unfinished work on an output is kept.
pub(crate) fn check_not_part(option: &str, path: &Path, output: &Path) -> anyhow::Result<()> {
    let place = |path: &Path| {
        let folder = fs::canonicalize(folder_of(path)).ok();
        (folder, path.file_name().map(ToOwned::to_owned))
    };
    match place(&cones::file_place(path)?) == place(&cones::Part::path(output)?) {
        true => Err(Advice::error(
            format!(
                "{option}: `{}` is where an unfinished run is kept",
                name(path)
            ),
            "give another name",
        )),
        false => Ok(()),
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

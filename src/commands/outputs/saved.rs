//! Results on their way to their files, and where they go when that fails.

use std::fs;
use std::path::{Path, PathBuf};

use cones::{Error, Existing};

use super::super::{Advice, name, with_suffix};
use super::folder_of;
use crate::report::ui::Ui;

/// Results on their way to their files.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    /// The files that are there, under the names that the user gave.
    written: Vec<PathBuf>,
    /// What went wrong, and where the result is instead.
    failed: Vec<String>,
    lost: bool,
}

impl Saved {
    /// Writes a result that took long to get; where that fails, elsewhere.
    pub(crate) fn write(&mut self, path: &Path, bytes: &[u8]) {
        match cones::atomic_write(path, bytes, Existing::Replaced) {
            Ok(()) => self.written.push(path.to_owned()),
            Err(error) => {
                let problem = format!("{:#}", anyhow::Error::from(error));
                self.failed.push(match elsewhere(path, bytes) {
                    Some(place) => format!("{problem}; it is in `{}` instead", name(&place)),
                    None => {
                        self.lost = true;
                        format!("{problem}; nor does it fit beside it, in the current folder, or in that for \
                                 temporary files")
                    }
                });
            }
        }
    }

    /// The files that are there under their names.
    pub(crate) fn written(&self) -> &[PathBuf] {
        &self.written
    }

    /// Whether every file has its name so far.
    pub(crate) fn all_well(&self) -> bool {
        self.failed.is_empty()
    }

    /// Whether a result is nowhere.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost
    }

    /// An error if a file has another name than the user gave, which says where it is.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        if self.failed.is_empty() {
            return Ok(());
        }
        let mut problem = self.failed.join("; ");
        if let [first, ..] = self.written.as_slice() {
            let more = match self.written.len() {
                1 => String::new(),
                n => format!(" and {} more", n - 1),
            };
            problem += &format!("; `{}`{more} as asked", name(first));
        }
        Err(match self.lost {
            true => anyhow::anyhow!(problem),
            false => Advice::error(
                problem,
                "nothing of the work is lost: move it to where it is wanted",
            ),
        })
    }
}

/// Writes a result under a free name beside where it was to be, else into the current folder, else into that for
/// temporary files.
fn elsewhere(path: &Path, bytes: &[u8]) -> Option<PathBuf> {
    let is_special = fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir());
    let beside = (!is_special).then(|| folder_of(path).to_owned());
    let folders = [
        beside,
        std::env::current_dir().ok(),
        Some(std::env::temp_dir()),
    ];
    let named = |folder: &Path, i: usize| {
        let suffix = if i == 1 {
            ".saved".to_owned()
        } else {
            format!(".saved-{i}")
        };
        folder.join(with_suffix(path, &suffix).file_name().unwrap_or_default())
    };
    /// Many runs may have come here.
    const NAMES: usize = 1000;
    folders.into_iter().flatten().find_map(|folder| {
        for i in 1..=NAMES {
            let place = named(&folder, i);
            match cones::atomic_write(&place, bytes, Existing::Kept) {
                Ok(()) => return Some(std::path::absolute(&place).unwrap_or(place)),
                Err(Error::Io { source, .. })
                    if source.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(_) => return None,
            }
        }
        None
    })
}

/// Prints figures that took long to get; where stdout does not take them, they go to a file of such a name.
pub(crate) fn print(ui: &Ui, text: &str, file: &str) -> anyhow::Result<()> {
    ui.result(text)
        .map_err(|error| match elsewhere(Path::new(file), text.as_bytes()) {
            Some(place) => anyhow::anyhow!("{error:#}; it is in `{}` instead", name(&place)),
            None => error,
        })
}

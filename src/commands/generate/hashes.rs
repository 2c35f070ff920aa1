//! The hash of a model's file, for the fields of the A1111 web UI: gigabytes to read, which no step waits for.

use std::io;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;
use std::thread::JoinHandle;

/// A field and its value.
type Field = (&'static str, String);

/// Hashes that are computed while pictures are drawn: only what the first of them says needs them.
pub(super) struct Hashes {
    file: PathBuf,
    /// `None` where they are there, or not wanted.
    thread: Option<io::Result<JoinHandle<cones::Result<Vec<Field>>>>>,
    found: Vec<Field>,
}

impl Hashes {
    /// Begins to read the model's file, if it is one and its hash is wanted.
    pub(super) fn begin(model: &str, wanted: bool) -> Self {
        let file = PathBuf::from(model);
        let hash = {
            let file = file.clone();
            move || model_hashes(&file)
        };
        Self {
            file,
            thread: wanted.then(|| thread::Builder::new().spawn(hash)),
            found: Vec::new(),
        }
    }

    /// The fields; waits for them.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(super) fn get(&mut self) -> cones::Result<&[Field]> {
        if let Some(thread) = self.thread.take() {
            self.found = match thread {
                Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic))?,
                // There may be no more threads.
                Err(_) => model_hashes(&self.file)?,
            };
        }
        Ok(&self.found)
    }
}

/// Of a single file what the web UI calls it by: the beginning of its SHA-256.
fn model_hashes(path: &Path) -> cones::Result<Vec<(&'static str, String)>> {
    if path == Path::new(cones::checkpoint::POCKET) || !path.is_file() {
        return Ok(Vec::new());
    }
    let hash = cones::file_sha256(path)?;
    Ok(vec![("Model hash", hash[..10].to_owned())])
}

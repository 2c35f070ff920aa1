//! Files that pictures are read from: ordinary ones of bounded size, opened without waiting for anything.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::kind::{HEAD, Kind};
use crate::files::regular::open_at_once;
use crate::{Error, Result};

/// Most bytes of a file.
const MAX_BYTES: u64 = 512 << 20;

/// Opens a file for reading. Folders, pipes, sockets and devices are refused before anything is waited for.
fn open(path: &Path) -> Result<File> {
    let kind = path
        .metadata()
        .map_err(Error::io("read", path))?
        .file_type();
    if kind.is_dir() {
        let hint = "give a PNG or JPEG file here";
        return Err(unusable(path, "expected a file, found a folder", hint));
    }
    if !kind.is_file() {
        let problem = "expected an ordinary file, found a pipe, a socket or a device";
        return Err(unusable(
            path,
            problem,
            "copy what it gives into a file first",
        ));
    }
    open_at_once(path).map_err(Error::io("read", path))
}

/// The bytes of a picture file, and which of them it is by its content.
pub(super) fn read(path: &Path) -> Result<(Vec<u8>, Kind)> {
    let mut bytes = Vec::new();
    open(path)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::io("read", path))?;
    if bytes.len() as u64 > MAX_BYTES {
        let problem = format!("too large: expected at most {} MiB", MAX_BYTES >> 20);
        return Err(unusable(path, problem, "give a smaller PNG or JPEG file"));
    }
    let kind = Kind::of(&bytes[..bytes.len().min(HEAD)]);
    let problem = match kind {
        kind if kind.is_read(path) => return Ok((bytes, kind)),
        Kind::Empty => "the file is empty".to_owned(),
        Kind::Unknown => {
            "expected a picture file (PNG, JPEG, WebP, BMP, GIF, TIFF), found another format"
                .to_owned()
        }
        Kind::Tiff => {
            "expected a picture file, found a TIFF of another name, such as a camera's raw one"
                .to_owned()
        }
        kind => format!(
            "expected a picture file (PNG, JPEG, WebP, BMP, GIF, TIFF), found {}",
            kind.name()
        ),
    };
    Err(unusable(path, problem, kind.hint()))
}

/// Whether a file is a picture that is read, by its first bytes.
pub fn is_picture(path: &Path) -> bool {
    kind(path).is_ok_and(|kind| kind.is_read(path))
}

/// What a file is by its first bytes.
pub(super) fn kind(path: &Path) -> Result<Kind> {
    let mut head = Vec::with_capacity(HEAD);
    open(path)?
        .take(HEAD as u64)
        .read_to_end(&mut head)
        .map_err(Error::io("read", path))?;
    Ok(Kind::of(&head))
}

/// SHA-256 of bytes, in hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    crate::files::hex(&Sha256::digest(bytes))
}

/// An [`Error::Picture`].
pub(super) fn unusable(path: &Path, problem: impl Into<String>, hint: &str) -> Error {
    Error::Picture {
        path: path.to_owned(),
        problem: problem.into(),
        hint: hint.to_owned(),
    }
}

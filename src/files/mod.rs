//! Whole files in and out of memory.

pub(crate) mod foreign;
pub(crate) mod part;
pub(crate) mod regular;

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::{Error, IndexError, Result};

/// No index comes near this; it keeps a wrong path from filling the memory.
pub(crate) const MAX_FILE: u64 = 1 << 30;

/// The bytes of a file of at most [`MAX_FILE`] bytes.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    read_up_to(path, MAX_FILE)
}

/// The bytes of a file of at most so many.
pub(crate) fn read_up_to(path: &Path, most: u64) -> Result<Vec<u8>> {
    let (file, metadata) = regular::open(path)?;
    if metadata.len() > most {
        return Err(IndexError::TooLargeToRead { most }.into());
    }
    // Room for all of it at once: growing would hold it twice.
    let mut bytes = Vec::with_capacity(metadata.len() as usize + 1);
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::io("read", path))?;
    if bytes.len() as u64 > most {
        return Err(IndexError::TooLargeToRead { most }.into());
    }
    match foreign::of_tensors(&bytes) {
        Some(foreign) => {
            let hint = "give a file that `cones` wrote";
            Err(foreign.error(&path.display().to_string(), "a file of `cones`", hint))
        }
        None => Ok(bytes),
    }
}

/// Makes `path` a file of these bytes: written beside it, then renamed, so that no half file ever has the name.
///
/// A link is followed: what it points to is replaced. A file that is there already keeps its mode, and its owner where
/// that may be set. What exists and is no regular file (`/dev/stdout`, a named pipe) is written to, not replaced.
///
/// # Errors
/// [`Error::Io`]; the file is then as it was, or where only the disk's keeping of its new name failed, the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    replace_with(path, |file| file.write_all(bytes))
}

/// [`replace`] by what `contents` writes.
pub(crate) fn replace_with(
    path: &Path,
    contents: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    let write = || {
        let there = match fs::metadata(path) {
            Ok(metadata) if !metadata.is_file() => {
                let mut file = fs::OpenOptions::new().write(true).open(path)?;
                return contents(&mut file);
            }
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let place = place(path)?;
        let file = beside(&place, contents, there.as_ref())?;
        file.persist(&place).map_err(|error| error.error)?;
        sync_folder(folder(&place))
    };
    write().map_err(Error::io("write", path))
}

/// Makes a file of these bytes where none is, as [`replace`] does.
///
/// # Errors
/// [`Error::Io`], of [`ErrorKind::AlreadyExists`] where something has the name.
fn create(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let file = beside(path, |file| file.write_all(bytes), None)?;
        file.persist_noclobber(path).map_err(|error| error.error)?;
        // Whoever asked for it looks for another place then.
        sync_folder(folder(path)).inspect_err(|_| drop(fs::remove_file(path)))
    };
    write().map_err(Error::io("write", path))
}

/// What becomes of a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It is replaced; links are followed.
    Replaced,
    /// It stays, and the error is [`ErrorKind::AlreadyExists`].
    Kept,
}

/// Makes `path` a file of these bytes, whole or not at all.
///
/// # Errors
/// [`Error::Io`]; what was there is then as it was, or where only the disk's keeping of a new name failed, replaced.
pub fn write(path: &Path, bytes: &[u8], existing: Existing) -> Result<()> {
    match existing {
        Existing::Replaced => replace(path, bytes),
        Existing::Kept => create(path, bytes),
    }
}

/// The SHA-256 of a file's bytes, in hexadecimal.
///
/// # Errors
/// If it is no regular file, or cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    let (mut file, _) = regular::open(path)?;
    let mut hash = Sha256::new();
    let mut block = vec![0; 1 << 16];
    loop {
        match file.read(&mut block).map_err(Error::io("read", path))? {
            0 => return Ok(hex(&hash.finalize())),
            length => hash.update(&block[..length]),
        }
    }
}

/// Where what is written to `path` goes: links are followed, also to a file that is not there yet.
///
/// # Errors
/// If there is no end to the links.
pub fn place(path: &Path) -> io::Result<PathBuf> {
    /// As many as Linux follows.
    const MOST: usize = 40;
    let mut place = path.to_owned();
    for _ in 0..MOST {
        match fs::read_link(&place) {
            Ok(link) => {
                place = place
                    .parent()
                    .map_or(link.clone(), |folder| folder.join(&link))
            }
            Err(_) => return Ok(place),
        }
    }
    Err(io::Error::other("a link that leads to itself"))
}

/// The folder that a file is in.
fn folder(path: &Path) -> &Path {
    let parent = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// A file of what `contents` writes in the folder of `place`, on the disk and not yet under that name; as private as
/// what it is to replace.
fn beside(
    place: &Path,
    contents: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    there: Option<&Metadata>,
) -> io::Result<NamedTempFile> {
    // Temporary files are private by default; this one becomes an ordinary file, for the umask to restrict. Made so,
    // errors are the system's own, without the temporary name.
    let mut builder = tempfile::Builder::new();
    let make = |path: &Path| File::create_new(path);
    let mut file = builder.prefix(".cones-").make_in(folder(place), make)?;
    if let Some(there) = there {
        #[cfg(unix)]
        {
            use std::os::unix::fs::{MetadataExt, fchown};
            let own = file.as_file().metadata()?;
            if (own.uid(), own.gid()) != (there.uid(), there.gid()) {
                // Only root may give files away; the file is this user's then.
                let _ = fchown(file.as_file(), Some(there.uid()), Some(there.gid()));
            }
        }
        file.as_file().set_permissions(there.permissions())?;
    }
    {
        let mut buffered = io::BufWriter::new(file.as_file_mut());
        contents(&mut buffered)?;
        buffered.flush()?;
    }
    file.as_file().sync_all()?;
    Ok(file)
}

/// Has the disk keep a new name, as far as the system can: a power cut then leaves the old file or the new one.
///
/// # Errors
/// If the disk fails, or is full. That it keeps no folders, or that this user may not read this one, is none.
fn sync_folder(folder: &Path) -> io::Result<()> {
    use ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    match synced {
        Err(error) if !matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported) => {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> Option<u32> {
        Some(fs::metadata(path).ok()?.permissions().mode() & 0o777)
    }

    #[test]
    fn a_replaced_file_keeps_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        for wanted in [0o600, 0o640, 0o644, 0o666, 0o755] {
            fs::write(&path, b"old").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(wanted)).unwrap();
            replace(&path, b"new").unwrap();
            assert_eq!(
                (mode(&path), fs::read(&path).unwrap()),
                (Some(wanted), b"new".to_vec())
            );
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn links_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("far")).unwrap();
        for (link, to, real) in [
            ("near", "real", "real"),
            ("away", "far/real", "far/real"),
            ("twice", "away", "far/real"),
            ("missing", "not-yet", "not-yet"),
        ] {
            symlink(to, at(link)).unwrap();
            replace(&at(link), link.as_bytes()).unwrap();
            assert!(
                fs::symlink_metadata(at(link)).unwrap().is_symlink(),
                "{link}"
            );
            assert_eq!(fs::read(at(real)).unwrap(), link.as_bytes());
        }
        symlink("loop", at("loop")).unwrap();
        assert!(replace(&at("loop"), b"").is_err());
        symlink("no-folder/x", at("nowhere")).unwrap();
        assert!(replace(&at("nowhere"), b"").is_err());
    }

    #[test]
    fn errors_name_the_users_file_alone() {
        use std::error::Error;
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("folder")).unwrap();
        for name in ["no/a", "folder", "folder/../no/a"] {
            let error = replace(&dir.path().join(name), b"x").unwrap_err();
            let text = format!("{error}: {}", error.source().unwrap());
            assert!(text.contains(name) && !text.contains(".cones"), "{text}");
        }
        fs::write(dir.path().join("there"), b"old").unwrap();
        create(&dir.path().join("there"), b"new").unwrap_err();
        assert_eq!(fs::read(dir.path().join("there")).unwrap(), b"old");
        create(&dir.path().join("free"), b"new").unwrap();
    }
}

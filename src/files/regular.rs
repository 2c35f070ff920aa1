//! Files of the user's, opened without waiting for what never comes, and known again.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::{Error, Result};

/// Many times what any text file of a model has: the longest are tokenizers, of some megabytes.
const MOST_TEXT: u64 = 64 << 20;

/// Opens a file to read. A folder, a named pipe, a socket or a device is refused: it could block, or never end.
///
/// # Errors
/// [`Error::Io`] if there is no such file, [`Error::File`] if it is no regular one.
pub(crate) fn open(path: &Path) -> Result<(File, Metadata)> {
    let check = |metadata: &Metadata| match kind(metadata) {
        None => Ok(()),
        Some(found) => Err(Error::file(
            path.display().to_string(),
            "a regular file",
            found,
            "pass a file of the disk, or put one in its place",
        )),
    };
    // Some devices do something when they are opened, so this comes first.
    check(&std::fs::metadata(path).map_err(Error::io("read", path))?)?;
    let file = open_at_once(path).map_err(Error::io("read", path))?;
    let metadata = file.metadata().map_err(Error::io("read", path))?;
    check(&metadata)?;
    Ok((file, metadata))
}

/// Opens a file whose reading fails where it would have to wait: the system has some that call themselves regular ones
/// and give nothing until something happens (`/proc/kmsg`), and what it is may have changed since it was looked at.
///
/// # Errors
/// The system's.
pub(crate) fn open_at_once(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(libc::O_NONBLOCK);
    }
    options.read(true).open(path)
}

/// The bytes of a text file.
///
/// # Errors
/// As [`open`], and if the file is far too long.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let (file, _) = open(path)?;
    let mut bytes = Vec::new();
    file.take(MOST_TEXT + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::io("read", path))?;
    if bytes.len() as u64 > MOST_TEXT {
        let expected = format!("a text file of at most {} MiB", MOST_TEXT >> 20);
        let hint = "the file is of another kind; fetch it again";
        let path = path.display().to_string();
        return Err(Error::file(path, expected, "a longer one", hint));
    }
    Ok(bytes)
}

/// What this is if it is no regular file.
fn kind(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return Some("a named pipe");
        }
        if kind.is_socket() {
            return Some("a socket");
        }
        if kind.is_char_device() || kind.is_block_device() {
            return Some("a device");
        }
    }
    match (kind.is_file(), kind.is_dir()) {
        (true, _) => None,
        (_, true) => Some("a folder"),
        _ => Some("something else"),
    }
}

/// What a file was when it was opened.
#[derive(Debug)]
pub(crate) struct Stamp {
    path: PathBuf,
    now: State,
}

#[derive(Debug, PartialEq, Eq)]
struct State {
    length: u64,
    modified: Option<SystemTime>,
    /// Device and number on it; none where the system has no such numbers.
    identity: (u64, u64),
}

impl State {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let identity = {
            use std::os::unix::fs::MetadataExt;
            (metadata.dev(), metadata.ino())
        };
        #[cfg(not(unix))]
        let identity = (0, 0);
        Self {
            length: metadata.len(),
            modified: metadata.modified().ok(),
            identity,
        }
    }
}

impl Stamp {
    pub(crate) fn new(path: &Path, metadata: &Metadata) -> Self {
        Self {
            path: path.to_owned(),
            now: State::of(metadata),
        }
    }

    /// Its size and time, as text.
    pub(crate) fn text(&self) -> String {
        let since = |time: SystemTime| match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => format!("{after:?}"),
            Err(before) => format!("-{:?}", before.duration()),
        };
        let modified = self.now.modified.map_or_else(String::new, since);
        format!("{} {modified}", self.now.length)
    }

    /// That the file is still the one that was opened.
    ///
    /// # Errors
    /// If it was written to, replaced, made shorter or longer, or removed.
    pub(crate) fn check(&self) -> Result<()> {
        let found = match std::fs::metadata(&self.path).map(|m| State::of(&m)) {
            Ok(now) if now == self.now => return Ok(()),
            Ok(now) if now.length != self.now.length => {
                format!("{} bytes instead of {}", now.length, self.now.length)
            }
            Ok(now) if now.identity != self.now.identity => "another file in its place".to_owned(),
            Ok(_) => "other contents".to_owned(),
            Err(error) => error.to_string(),
        };
        Err(Error::file(
            self.path.display().to_string(),
            "the file as it was when the run began",
            found,
            "it was changed while it was in use, so the result would be of no one model: run again, with the \
             model left alone",
        ))
    }
}

#[cfg(all(test, unix))]
pub(crate) mod tests {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    /// Makes a named pipe, by no program: until it has begun, another process would share the locks of other tests.
    pub(crate) fn named_pipe(path: &Path) {
        let name = CString::new(path.as_os_str().as_bytes()).expect("a name without zeros");
        // SAFETY: the name ends with a zero, and outlives the call.
        #[expect(unsafe_code, reason = "a call of the C library")]
        let made = unsafe { libc::mkfifo(name.as_ptr(), 0o600) };
        assert_eq!(made, 0, "{}", io::Error::last_os_error());
    }

    #[test]
    fn nobody_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        named_pipe(&pipe);
        // A named pipe that nobody writes to: without the flag this would not end.
        assert_eq!(open_at_once(&pipe).unwrap().read(&mut [0]).unwrap(), 0);
        assert!(open(&pipe).is_err());
    }
}

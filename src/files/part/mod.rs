//! What there is of unfinished work: a file beside the output, which the work is taken up from.
//!
//! `OUT.part` is a line `cones.part 1`, a line of JSON (what the work depends on, and how far it has come), the
//! contents, and the SHA-256 of all before. It is written as `OUT.part.new` and then renamed, so that it is always a
//! whole one. It is locked by the process that works on it, with a lock that dies with it, and which is taken on an
//! empty file: one that was left without contents means nothing.
//!
//! What is asked of the disk: that a rename within a folder is one step, as POSIX says and as NFS servers do it
//! (another machine may see the old file for some seconds), and for two runs to see each other, locks: `flock`, which
//! Linux passes on to the server of an NFS as a lock of the whole file. A disk that has none is used without.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{folder, place, sync_folder};
use crate::shown::escaped;
use crate::{Error, Result};

/// Unfinished work and the lock on it.
#[derive(Debug)]
pub struct Part {
    path: PathBuf,
    plan: BTreeMap<String, String>,
    /// The locked file.
    file: File,
    /// Whether the file has contents.
    kept: bool,
}

/// What was kept of the same work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// How far it has come, as people say it.
    pub done: String,
    /// What [`Part::save`] was given.
    pub contents: Vec<u8>,
}

/// The second line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    /// Everything that the result depends on, by name.
    plan: BTreeMap<String, String>,
    /// Its SHA-256 as JSON.
    sha256: String,
    done: String,
}

/// The first line, without the version.
const FORMAT: &str = "cones.part ";
const VERSION: &str = "1";
/// The most bytes of the first two lines.
const MAX_HEAD: u64 = 1 << 20;
const DIGEST: usize = 32;

impl Part {
    /// `OUT.part` for `OUT`; where that is a link, beside what it leads to.
    ///
    /// # Errors
    /// If there is no end to the links.
    pub fn path(output: &Path) -> Result<PathBuf> {
        let mut path = place(output)
            .map_err(Error::io("write", output))?
            .into_os_string();
        path.push(".part");
        Ok(path.into())
    }

    /// Takes up the work of this plan on `output`, or begins it: what was kept of it. With `again` it begins, whatever
    /// was kept. Of contents there may be so many bytes.
    ///
    /// # Errors
    /// [`Error::InUse`] while another process works on it, [`Error::OtherWork`] if something else is kept there,
    /// [`Error::Io`] if the file cannot be made, read or locked.
    pub fn open(
        output: &Path,
        plan: BTreeMap<String, String>,
        again: bool,
        most: u64,
    ) -> Result<(Self, Option<Kept>)> {
        let path = Self::path(output)?;
        let file = lock(&path)?;
        let mut part = Self {
            path,
            plan,
            file,
            kept: true, // until more is known nothing of it is lost
        };
        let length = part
            .file
            .metadata()
            .map_err(Error::io("read", &part.path))?
            .len();
        let kept = match again || length == 0 {
            true => None,
            false => Some(part.read(length, most)?),
        };
        // With `again` what was kept stays until there is something in its place.
        part.kept = length > 0;
        Ok((part, kept))
    }

    /// Keeps what there is of the work now, in place of what was kept before.
    ///
    /// # Errors
    /// [`Error::Io`]; what was kept before, or this, is there then.
    pub fn save(
        &mut self,
        done: &str,
        contents: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<()> {
        let head = Head {
            plan: self.plan.clone(),
            sha256: digest(&self.plan),
            done: done.to_owned(),
        };
        let new = self.new_path();
        let file = self.write(&new, &head, contents).and_then(|file| {
            fs::rename(&new, &self.path)?;
            Ok(file)
        });
        let file = file.inspect_err(|_| drop(fs::remove_file(&new)));
        self.file = file.map_err(Error::io("write", &self.path))?;
        self.kept = true;
        sync_folder(folder(&self.path)).map_err(Error::io("write", &self.path))
    }

    /// Takes away what was kept: the result is there.
    pub fn finish(mut self) {
        self.kept = false;
    }

    fn new_path(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(".new");
        path.into()
    }

    /// A locked file under another name, on the disk. Nobody else has that name: it belongs to whoever has the lock.
    fn write(
        &self,
        new: &Path,
        head: &Head,
        contents: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<File> {
        match fs::remove_file(new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(new)?;
        try_lock(&file)?;
        let mut buffer = BufWriter::with_capacity(1 << 16, &file);
        let mut out = Hashing {
            out: &mut buffer,
            hash: Sha256::new(),
        };
        let line = serde_json::to_string(head).map_err(io::Error::other)?;
        out.write_all(format!("{FORMAT}{VERSION}\n{line}\n").as_bytes())?;
        contents(&mut out)?;
        let hash = out.hash.finalize();
        buffer.write_all(&hash)?;
        buffer.flush()?;
        drop(buffer);
        file.sync_all()?;
        Ok(file)
    }

    /// What the locked file has, which is not trusted.
    fn read(&mut self, length: u64, most: u64) -> Result<Kept> {
        let other = |found: String| Error::OtherWork {
            path: self.path.clone(),
            found,
        };
        let mut start = Vec::new();
        let read = |from: u64, length: u64, into: &mut Vec<u8>| -> Result<()> {
            let mut file = &self.file;
            let read = file
                .seek(SeekFrom::Start(from))
                .and_then(|_| file.take(length).read_to_end(into));
            read.map(drop).map_err(Error::io("read", &self.path))
        };
        read(0, length.min(MAX_HEAD), &mut start)?;
        let (head, at) = parse_head(&start).map_err(other)?;
        if head.plan != self.plan {
            let others = differences(&head.plan, &self.plan);
            let done = short(&head.done);
            return Err(other(format!("that of another one, {done}: {others}")));
        }
        if length > at as u64 + most.saturating_add(DIGEST as u64) {
            return Err(other(format!(
                "{length} bytes, more than there can be of it"
            )));
        }
        let mut bytes = Vec::with_capacity(length as usize);
        read(0, length, &mut bytes)?;
        let end = bytes.len().checked_sub(DIGEST).filter(|end| *end >= at);
        let whole = end.filter(|&end| Sha256::digest(&bytes[..end])[..] == bytes[end..]);
        let Some(end) = whole else {
            return Err(other(
                "a damaged file, whose checksum is not that of its bytes".to_owned(),
            ));
        };
        bytes.truncate(end);
        bytes.drain(..at);
        Ok(Kept {
            done: short(&head.done),
            contents: bytes,
        })
    }
}

/// Without contents nothing is kept, and nothing is left; what somebody else has put there stays.
impl Drop for Part {
    fn drop(&mut self) {
        if !self.kept && is_still(&self.file, &self.path) {
            let _ = fs::remove_file(self.new_path());
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The file of this name, made if it is not there, and locked.
fn lock(path: &Path) -> Result<File> {
    let io = |error| Error::io("write", path)(error);
    let other = |found: &str| Error::OtherWork {
        path: path.to_owned(),
        found: found.to_owned(),
    };
    /// Between opening and locking another process may finish, many times only if something is wrong.
    const TRIES: usize = 1000;
    for _ in 0..TRIES {
        let there = match fs::symlink_metadata(path) {
            Ok(found) if found.is_file() => true,
            Ok(found) if found.is_dir() => return Err(other("a folder")),
            Ok(_) => return Err(other("a link or device")),
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(io(error)),
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(!there);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            // What it is may have changed since.
            options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        }
        let file = match options.open(path) {
            Ok(file) => file,
            Err(error) if there && error.kind() == ErrorKind::NotFound => continue,
            Err(error) if !there && error.kind() == ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(io(error)),
        };
        if !try_lock(&file).map_err(io)? {
            return Err(Error::InUse {
                path: path.to_owned(),
            });
        }
        if is_still(&file, path) {
            return Ok(file);
        }
    }
    Err(io(io::Error::other("others take the file all the time")))
}

/// Locks a file unless another process has; on a disk without locks nothing is locked.
fn try_lock(file: &File) -> io::Result<bool> {
    #[cfg(unix)]
    let none = |error: &io::Error| error.raw_os_error() == Some(libc::ENOLCK);
    #[cfg(not(unix))]
    let none = |_: &io::Error| false;
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported || none(&e) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether an open file still has the name.
#[cfg(unix)]
fn is_still(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let of = |found: fs::Metadata| (found.dev(), found.ino(), found.is_file());
    let (open, named) = (file.metadata().map(of), fs::symlink_metadata(path).map(of));
    matches!((open, named), (Ok(open), Ok(named)) if open == named && open.2)
}

#[cfg(not(unix))]
fn is_still(_: &File, path: &Path) -> bool {
    path.is_file()
}

/// The head and where the contents begin; or what was found instead.
fn parse_head(bytes: &[u8]) -> Result<(Head, usize), String> {
    let mut lines = bytes.splitn(3, |&byte| byte == b'\n');
    let (first, second) = (lines.next().unwrap_or_default(), lines.next());
    let version = first.strip_prefix(FORMAT.as_bytes());
    let (Some(version), Some(second), Some(_)) = (version, second, lines.next()) else {
        return Err("a file of something else".to_owned());
    };
    if version != VERSION.as_bytes() {
        let version = short(&String::from_utf8_lossy(version));
        return Err(format!(
            "version `{version}` of such files, of another `cones`"
        ));
    }
    let head: Head =
        serde_json::from_slice(second).map_err(|_| "a damaged file, without a plan".to_owned())?;
    match head.sha256 == digest(&head.plan) {
        true => Ok((head, first.len() + second.len() + 2)),
        false => Err("a damaged file, whose plan is not that of its checksum".to_owned()),
    }
}

/// The SHA-256 of a plan.
fn digest(plan: &BTreeMap<String, String>) -> String {
    let text: String = plan
        .iter()
        .map(|(key, value)| format!("{key:?}={value:?}\n"))
        .collect();
    super::hex(&Sha256::digest(text))
}

/// In what a plan differs from the one wanted.
fn differences(there: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> String {
    /// Longer values say nothing to people.
    const LONGEST: usize = 40;
    /// More differences do neither.
    const MOST: usize = 8;
    let keys: BTreeSet<&String> = there.keys().chain(wanted.keys()).collect();
    let mut keys: Vec<&String> = keys.into_iter().collect();
    keys.sort_by_key(|key| *key != "work"); // which says most
    let differing = keys
        .into_iter()
        .filter(|key| there.get(*key) != wanted.get(*key));
    let said = differing.take(MOST).map(|key| {
        let value = |of: &BTreeMap<String, String>| of.get(key).cloned().unwrap_or("none".into());
        let (old, new) = (value(there), value(wanted));
        match old.len().max(new.len()) > LONGEST {
            true => format!("other {}", short(key)),
            false => format!("{} {} instead of {}", short(key), short(&old), short(&new)),
        }
    });
    said.collect::<Vec<_>>().join(", ")
}

/// Text of a file for a message: a line that is not long.
fn short(text: &str) -> String {
    escaped(&text.chars().take(80).collect::<String>())
}

/// Hashes what is written.
struct Hashing<W> {
    out: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests;

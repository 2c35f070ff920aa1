//! One file of a repository: its bytes under their lock, from where they broke off, checked, and linked under its name.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};
use ureq::http::{Uri, header};

use super::address::quoted;
use super::cache::Repository;
use super::client::{Answer, Client, Tick};
use super::listing::{Hash, Wanted};
use super::problem::{Failure, Problem};
use crate::files::hex;
use crate::{Error, Result};

/// How often a lock of another process is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Told how many bytes of the file are here; an error of it ends the work.
pub(super) type Grown<'a> = dyn FnMut(u64) -> Result<()> + 'a;

/// Whether all bytes of a file are in the cache.
pub(super) fn is_whole(repository: &Repository, wanted: &Wanted) -> bool {
    let blob = fs::metadata(repository.blob(wanted.hash.etag()));
    blob.is_ok_and(|blob| blob.is_file() && blob.len() == wanted.size)
}

/// How many bytes of a file have come.
pub(super) fn present(repository: &Repository, wanted: &Wanted) -> u64 {
    match is_whole(repository, wanted) {
        true => wanted.size,
        false => {
            let partial = fs::metadata(repository.incomplete(wanted.hash.etag()));
            partial.map_or(0, |partial| partial.len()).min(wanted.size)
        }
    }
}

/// Sees to it that a file is in the snapshot. Whoever else fetches it at the same time is waited for.
pub(super) fn fetch(
    client: &Client,
    repository: &Repository,
    commit: &str,
    wanted: &Wanted,
    grown: &mut Grown,
) -> Result<(), Failure> {
    let etag = wanted.hash.etag();
    let _lock = lock(&repository.lock(etag), &mut || grown(0))?;
    if !is_whole(repository, wanted) {
        let path = format!(
            "{}/resolve/{commit}/{}",
            client.id,
            quoted(&wanted.name, true)
        );
        let address = client.address(&path)?;
        let partial = Partial::open(repository.incomplete(etag), wanted, grown)?;
        partial.complete(client, &address, &repository.blob(etag), grown)?;
    }
    Ok(repository.link(&wanted.name, etag)?)
}

/// Holds the lock of a file, as Python's `filelock` does; released when it is dropped. A file system without locks has
/// none: two processes may then fetch the same, and the hash says so if they disturb each other.
fn lock(path: &Path, tick: &mut Tick) -> Result<Option<File>> {
    make_folder(path)?;
    loop {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o664);
        let file = options.open(path).map_err(Error::io("create", path))?;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {
                    tick()?;
                    std::thread::sleep(LOOK);
                }
                Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {
                    return Ok(None);
                }
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", path)(error)),
            }
        }
        // Who held it may have removed it: then others lock the one that is there now.
        if is_at(&file, path) {
            return Ok(Some(file));
        }
    }
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    file.metadata().map(identity).ok() == fs::metadata(path).map(identity).ok()
}

#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true // what is open cannot be removed
}

fn make_folder(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(Error::io("create", folder))
}

/// The hash of what has come so far.
enum Hasher {
    Sha256(Sha256),
    Git(Sha1),
}

impl Hasher {
    fn new(wanted: &Wanted) -> Self {
        match wanted.hash {
            Hash::Sha256(_) => Self::Sha256(Sha256::new()),
            Hash::Git(_) => Self::Git(Sha1::new_with_prefix(format!("blob {}\0", wanted.size))),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Git(hasher) => hasher.update(bytes),
        }
    }

    fn finish(self) -> String {
        match self {
            Self::Sha256(hasher) => hex(&hasher.finalize()),
            Self::Git(hasher) => hex(&hasher.finalize()),
        }
    }
}

/// A file of which not all bytes are here.
struct Partial<'a> {
    path: PathBuf,
    file: File,
    hasher: Hasher,
    length: u64,
    /// The most bytes that there have been at once.
    furthest: u64,
    /// Whether some of them came in an earlier run.
    inherited: bool,
    wanted: &'a Wanted,
}

impl<'a> Partial<'a> {
    fn open(path: PathBuf, wanted: &'a Wanted, grown: &mut Grown) -> Result<Self> {
        make_folder(&path)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&path).map_err(Error::io("write", &path))?;
        let hasher = Hasher::new(wanted);
        let mut partial = Self {
            path,
            file,
            hasher,
            length: 0,
            furthest: 0,
            inherited: false,
            wanted,
        };
        partial.inherit(grown)?;
        Ok(partial)
    }

    /// Takes over what is in the file already.
    fn inherit(&mut self, grown: &mut Grown) -> Result<()> {
        let there = self
            .file
            .metadata()
            .map_err(Error::io("read", &self.path))?
            .len();
        if there > self.wanted.size {
            return self.restart();
        }
        let mut piece = vec![0; 1 << 20];
        loop {
            let n = self
                .file
                .read(&mut piece)
                .map_err(Error::io("read", &self.path))?;
            if n == 0 {
                break;
            }
            self.hasher.update(&piece[..n]);
            self.length += n as u64;
            grown(self.length)?;
        }
        self.furthest = self.length;
        self.inherited = self.length > 0;
        Ok(())
    }

    /// Begins again from nothing.
    fn restart(&mut self) -> Result<()> {
        let emptied = self
            .file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map_err(Error::io("write", &self.path))?;
        self.hasher = Hasher::new(self.wanted);
        self.length = 0;
        self.inherited = false;
        Ok(())
    }

    /// Brings what is missing, checks all of it, and gives it its place.
    fn complete(
        mut self,
        client: &Client,
        address: &Uri,
        blob: &Path,
        grown: &mut Grown,
    ) -> Result<(), Failure> {
        loop {
            let length = self.length;
            // Between tries it is at its length, whatever that is by then; the last one will do to listen.
            let grown_too = std::cell::RefCell::new(&mut *grown);
            client.patiently(&mut || grown_too.borrow_mut()(length), |_| {
                let before = self.furthest;
                let result = self.attempt(client, address, &mut **grown_too.borrow_mut());
                result.map_err(|failure| (failure, self.furthest - before))
            })?;
            let hasher = std::mem::replace(&mut self.hasher, Hasher::new(self.wanted));
            if hasher.finish() == self.wanted.hash.etag() {
                break;
            }
            // What an earlier run left may have been damaged since.
            if !self.inherited {
                let _ = fs::remove_file(&self.path);
                let name = self.wanted.name.escape_debug();
                let what = format!(
                    "`{name}` came with other bytes than the hub has listed: its hash is wrong"
                );
                let hint =
                    "run it again; if it stays so, the hub's file or the way to it is damaged";
                return Err(Problem::last(what, hint).into());
            }
            self.restart()?;
        }
        let place = self
            .file
            .sync_all()
            .and_then(|()| fs::rename(&self.path, blob));
        place.map_err(|error| written(error, &self.path))
    }

    /// One request for the rest.
    fn attempt(
        &mut self,
        client: &Client,
        address: &Uri,
        grown: &mut Grown,
    ) -> Result<(), Failure> {
        let size = self.wanted.size;
        if self.length == size {
            return Ok(());
        }
        let length = self.length;
        let mut answer = client.get(address, length, &mut || grown(length))?;
        self.check_start(&answer)?;
        loop {
            let length = self.length;
            let Some(piece) = answer.piece(&mut || grown(length))? else {
                break;
            };
            if self.length + piece.len() as u64 > size {
                return Err(self.wrong_length(&answer, "more"));
            }
            self.file
                .write_all(&piece)
                .map_err(|error| written(error, &self.path))?;
            self.hasher.update(&piece);
            self.length += piece.len() as u64;
            self.furthest = self.furthest.max(self.length);
        }
        grown(self.length)?;
        match self.length == size {
            true => Ok(()),
            false => {
                let name = self.wanted.name.escape_debug();
                Err(Problem::passing(format!(
                    "{} sent {} of {size} bytes of `{name}`",
                    answer.host, self.length
                ))
                .into())
            }
        }
    }

    /// That the answer goes on where the file ends; one that begins again has the file begin again.
    fn check_start(&mut self, answer: &Answer) -> Result<(), Failure> {
        let size = self.wanted.size;
        let kind = answer
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok());
        if kind.is_some_and(|kind| kind.starts_with("text/html")) {
            let name = self.wanted.name.escape_debug();
            return Err(Problem::foreign(format!(
                "{} answers with a web page in place of `{name}`",
                answer.host
            ))
            .into());
        }
        match (answer.status, answer.range()) {
            (206, Some((_, Some(whole)))) if whole != size => {
                Err(self.wrong_length(answer, &whole.to_string()))
            }
            (206, Some((from, _))) if from == self.length => Ok(()),
            (206, Some((0, _))) => Ok(self.restart()?),
            (200, _) => match answer.length() {
                Some(length) if length != size => {
                    Err(self.wrong_length(answer, &length.to_string()))
                }
                _ => Ok(self.restart()?),
            },
            (416, _) if self.length > 0 => {
                self.restart()?;
                Err(Problem::passing(format!(
                    "{} has no such rest of the file (status 416)",
                    answer.host
                ))
                .into())
            }
            (status, _) => {
                let what = format!(
                    "{} answers with other bytes than were asked for (status {status})",
                    answer.host
                );
                Err(Problem::foreign(what).into())
            }
        }
    }

    fn wrong_length(&self, answer: &Answer, found: &str) -> Failure {
        let (name, size) = (self.wanted.name.escape_debug(), self.wanted.size);
        let what = format!(
            "`{name}` has {size} bytes as the hub lists it, and {found} as {} sends it",
            answer.host
        );
        Problem::foreign(what).into()
    }
}

/// The error of a write, with words for a full disk.
fn written(error: std::io::Error, path: &Path) -> Failure {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            let what = format!(
                "the disk is full, or the limit for files is reached: cannot write `{}`",
                path.display()
            );
            let hint = "make room, or set HF_HOME to a folder of another disk, and run it again: what has come is kept";
            Problem::last(what, hint).into()
        }
        _ => Error::io("write", path)(error).into(),
    }
}

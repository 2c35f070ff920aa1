//! Where files can be written.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::super::name;

/// The folder that a file is in, or will be.
pub(super) fn folder_of(path: &Path) -> &Path {
    let parent = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// That a file can be made in a folder; the folder's full name.
pub(super) fn takes_files(option: &str, folder: &Path) -> anyhow::Result<PathBuf> {
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
pub(super) fn special(option: &str, path: &Path, found: &fs::Metadata) -> anyhow::Result<()> {
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
pub(super) fn special(_: &str, _: &Path, _: &fs::Metadata) -> anyhow::Result<()> {
    Ok(())
}

/// That what is there is not protected from being written.
#[cfg(unix)]
pub(super) fn writable(path: &Path) -> std::io::Result<()> {
    Ok(rustix::fs::access(path, rustix::fs::Access::WRITE_OK)?)
}

#[cfg(not(unix))]
pub(super) fn writable(path: &Path) -> std::io::Result<()> {
    match fs::metadata(path)?.permissions().readonly() {
        true => Err(std::io::ErrorKind::PermissionDenied.into()),
        false => Ok(()),
    }
}

//! Whether the disks have room for what will be written.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::bail;

use cones::Size;

use super::super::{Advice, name};
use super::places::folder_of;
use crate::report::memory::human;

/// That there is room for pictures of this size.
pub(crate) fn room_for_pictures<'a>(
    files: impl IntoIterator<Item = &'a Path>,
    Size { width, height }: Size,
) -> anyhow::Result<()> {
    // A PNG is hardly smaller than a tenth of its pixels.
    let least = (width * height) as u64 * 3 / 10;
    room(files.into_iter().map(|path| (path, least)))
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

//! Whole files in and out of memory.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use crate::{Error, Result};

/// No index comes near this; it keeps a wrong path from filling the memory.
pub(crate) const MAX_FILE: u64 = 1 << 30;

/// The bytes of a file of at most [`MAX_FILE`] bytes.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    // Room for all of it at once: growing would hold it twice.
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = Vec::with_capacity(length.min(MAX_FILE) as usize + 1);
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::io("read", path))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Error::Index {
            thing: "index".to_owned(),
            expected: format!("at most {MAX_FILE} bytes"),
            found: "more".to_owned(),
            hint: "give an index that `cones find` or `cones merge` wrote".to_owned(),
        });
    }
    Ok(bytes)
}

/// Makes `path` a file of these bytes: written beside it, then renamed, so that no half file ever has the name.
///
/// What exists and is no regular file (`/dev/stdout`, a named pipe) is written to, not replaced.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = || Error::io("write", path);
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return fs::OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut file| file.write_all(bytes))
            .map_err(failed());
    }
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".cones-");
    #[cfg(unix)]
    {
        // Temporary files are private by default; this one becomes an ordinary file, for the umask to restrict.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).map_err(failed())?;
    file.write_all(bytes).map_err(failed())?;
    file.persist(path).map_err(|error| failed()(error.error))?;
    Ok(())
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

//! The user's pictures: listed once, with a word on what was left out, and all decoded before anything slow.

use std::path::PathBuf;

use cones::{LeftOut, PhotoList, Photos};
use serde_json::{Value, json};

use super::ui::Ui;

/// Which pictures files and folders hold.
pub(crate) fn list(paths: &[PathBuf], ui: &Ui) -> anyhow::Result<PhotoList> {
    let list = cones::list_images(paths)?;
    if let Some(note) = &list.note {
        ui.note(note);
    }
    Ok(list)
}

/// Bytes of pixels to keep, so that they need not be decoded again: with a limit on memory an eighth of it.
pub(crate) fn keep(memory: Option<u64>) -> u64 {
    memory.map_or(Photos::KEEP, |bytes| Photos::KEEP.min(bytes / 8))
}

/// Decodes them, and keeps so many bytes of their pixels.
pub(crate) fn read(list: PhotoList, keep: u64, ui: &Ui) -> anyhow::Result<Photos> {
    let mut meter = ui.meter("reading photos");
    let photos = list.read(keep, |done, total| meter.set(done, total, "photos"))?;
    meter.finish();
    if let Some(note) = &photos.note {
        ui.warn(note);
    }
    Ok(photos)
}

/// What was left out, for `--json`.
pub(crate) fn left_out(all: &[LeftOut]) -> Value {
    let one = |left: &LeftOut| json!({"path": left.path.to_string_lossy(), "kind": left.kind});
    all.iter().map(one).collect()
}

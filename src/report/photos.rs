//! The user's pictures: listed, with a word on what was left out, and all decoded before anything slow.

use std::path::PathBuf;

use cones::{Checked, LeftOut, Photos};
use serde_json::{Value, json};

use super::ui::Ui;

/// The pictures of files and folders, and what decoding them has shown.
pub(crate) fn read(paths: &[PathBuf], ui: &Ui) -> anyhow::Result<(Photos, Checked)> {
    let photos = cones::list_images(paths)?;
    if let Some(note) = photos.left_out_note() {
        ui.note(&note);
    }
    let mut meter = ui.meter("reading photos");
    let checked = photos.check(|done, total| meter.set(done, total, "photos"))?;
    meter.finish();
    if let Some(twins) = checked.twins_note() {
        ui.warn(&twins);
    }
    Ok((photos, checked))
}

/// The same of the folder with pictures of the class, where there is one.
pub(crate) fn read_class(folder: Option<&PathBuf>, ui: &Ui) -> anyhow::Result<(Photos, Checked)> {
    folder.map_or_else(
        || Ok(Default::default()),
        |folder| read(std::slice::from_ref(folder), ui),
    )
}

/// What was left out, for `--json`.
pub(crate) fn left_out(all: &[LeftOut]) -> Value {
    let one = |left: &LeftOut| json!({"path": left.path.to_string_lossy(), "kind": left.kind});
    all.iter().map(one).collect()
}

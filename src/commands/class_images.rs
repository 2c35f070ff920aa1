//! Pictures of the class: which to use, and whether they can be kept where they are drawn.

use std::path::Path;

use cones::Pipeline;
use cones::find::{CLASS_COUNT, ClassCache, ClassImages, MissingImages};
use cones::index::Subject;

use super::outputs::{can_write_into, room_for_pictures};
use super::{Advice, count, name};
use crate::report::ui::Ui;

/// Pictures of a subject's class that the model draws, kept beside an index.
pub(crate) fn drawn(subject: &Subject, wanted: Option<usize>, index: &Path) -> ClassImages {
    ClassImages::Drawn(ClassCache::new(
        subject,
        wanted.unwrap_or(CLASS_COUNT),
        index,
    ))
}

/// Says what will be drawn, and that it can be written.
pub(crate) fn check(class: &ClassImages, pipeline: &Pipeline, ui: &Ui) -> anyhow::Result<()> {
    let ClassImages::Drawn(cache) = class else {
        return Ok(());
    };
    let MissingImages { folder, files } = cache.missing(pipeline)?;
    if files.is_empty() {
        return Ok(());
    }
    ui.note(&format!(
        "drawing {} of the class, \"{}\", into `{}`",
        count(files.len(), "picture"),
        cache.prompt,
        name(folder)
    ));
    if let Err(error) = std::fs::create_dir_all(folder).and_then(|()| can_write_into(folder)) {
        return Err(Advice::error(
            format!(
                "cannot write class pictures into `{}`: {error}",
                name(folder)
            ),
            "make the folder of the index writable, or give pictures of the class with `--class-images DIR`",
        ));
    }
    room_for_pictures(files.iter().map(|path| path.as_path()), pipeline.size)
}

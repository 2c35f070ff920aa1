//! Models of the hub that are not on this machine: fetched where the user says so.

use anyhow::Context;
use cones::checkpoint::Source;
use cones::checkpoint::hub::{self, Download, Hub, Layout};
use cones::{Error, Pipeline};

use super::Advice;
use crate::cli::Global;
use crate::report::download::{Bytes, ask, can_ask};
use crate::report::memory::human;
use crate::report::ui::Ui;

/// Has all files of a model on this machine, if it is one of the hub and the user wants it fetched.
///
/// # Errors
/// If it is not there and is not to be fetched, or cannot be.
pub(crate) fn ensure(model: &str, layout: Layout, global: &Global, ui: &Ui) -> anyhow::Result<()> {
    let variant = match layout {
        Layout::Pipeline => global.files.variant.as_deref(),
        Layout::Configs | Layout::Encoder => None,
    };
    if !hub::is_absent(model, layout, variant) {
        return Ok(());
    }
    if !global.download && !can_ask(ui) {
        return not_there(model, layout);
    }
    let settings = Hub::from_environment()?;
    if settings.offline && !global.download {
        return not_there(model, layout);
    }
    let failed = || format!("failed to fetch model `{model}`");
    ui.note(&format!("looking up `{model}` at {}", settings.endpoint));
    let quiet = &mut |_, _| Ui::check_interrupt();
    let download =
        Download::look_up(&settings, model, layout, variant, quiet).with_context(failed)?;
    if layout != Layout::Encoder {
        Source::open(&download.folder.to_string_lossy())
            .and_then(|source| Pipeline::check(&source))
            .with_context(|| format!("model `{model}` is not fetched"))?;
    }
    let (missing, size) = (download.missing, download.size);
    // The configurations always are; a part of the weights is worth a word.
    let parts = match size - missing {
        here if here >= size / 10 => format!("{} ({} more are here)", human(missing), human(here)),
        _ => human(missing),
    };
    let place = settings.cache.display();
    if missing > 0
        && !global.download
        && !ask(&format!("Fetch {parts} of `{model}` into `{place}`?"))?
    {
        return not_there(model, layout);
    }
    if missing > 0 && global.download {
        ui.note(&format!("fetching {parts} of `{model}` into `{place}`"));
    }
    let mut bytes = Bytes::new(ui);
    let fetched = download.fetch(&mut |done, total| bytes.set(done, total));
    bytes.finish();
    fetched.with_context(failed)
}

/// The error of a model that is not there, with what fetches it; none if there is some of it, of which what is missing
/// is named when it is read.
fn not_there(model: &str, layout: Layout) -> anyhow::Result<()> {
    let opened = match layout {
        Layout::Pipeline | Layout::Configs => Source::open(model),
        Layout::Encoder => Source::encoder(model),
    };
    match opened {
        Ok(_) => Ok(()),
        Err(error @ Error::Model { .. }) => {
            let hint = error.hint().unwrap_or_default();
            Err(Advice::error(
                error.to_string(),
                format!("give --download to have it fetched, or {hint}"),
            ))
        }
        Err(error) => Err(error.into()),
    }
}

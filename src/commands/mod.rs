//! The subcommands: arguments to library calls to files. No mathematics.

pub(crate) mod attention;
pub(crate) mod class_images;
pub(crate) mod eval;
pub(crate) mod find;
pub(crate) mod generate;
pub(crate) mod inspect;
pub(crate) mod lesson;
pub(crate) mod memory;
pub(crate) mod merge;
pub(crate) mod tune;
pub(crate) mod ui;

use std::path::Path;

use anyhow::Context;
use candle_core::Device;
use cones::Pipeline;
use cones::concept::NeuronIndex;
use cones::source::Source;

use crate::cli::{DeviceName, Global};
use ui::Ui;

/// Where the user wants to compute.
fn device(global: &Global) -> Device {
    match global.device {
        DeviceName::Cpu => Device::Cpu,
    }
}

/// Loads the model that the user named.
fn load(global: &Global, ui: &Ui) -> anyhow::Result<Pipeline> {
    let device = device(global);
    let source = Source::open(&global.model)?;
    let pipeline = Pipeline::load(&source, &device)
        .with_context(|| format!("failed to load model `{}`", global.model))?;
    ui.detail(&format!("loaded model `{}`", pipeline.name()));
    Ok(pipeline)
}

/// Reads an index, naming its file in any error.
fn read_index(path: &Path) -> anyhow::Result<NeuronIndex> {
    NeuronIndex::read(path).with_context(|| format!("failed to read index `{}`", path.display()))
}

/// A count with thin separators of thousands: 19,169,280.
fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

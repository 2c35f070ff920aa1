//! The subcommands: arguments to library calls to files. No mathematics.

pub(crate) mod class_images;
pub(crate) mod doctor;
pub(crate) mod download;
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod find;
pub(crate) mod generate;
pub(crate) mod inspect;
pub(crate) mod merge;
pub(crate) mod outputs;
pub(crate) mod shell;
pub(crate) mod tune;
pub(crate) mod unfinished;

use std::path::{Path, PathBuf};

use anyhow::Context;
use candle_core::{DType, Device};
use cones::Pipeline;
use cones::checkpoint::hub::Layout;
use cones::checkpoint::{OpenOptions, Source};
use cones::index::{Distinct, NeuronIndex};

use crate::cli::{DeviceName, Global, Precision};
use crate::report::ui::Ui;

/// An error with the next step, where the library has none for it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Advice {
    message: String,
    pub(crate) hint: String,
}

impl Advice {
    pub(crate) fn error(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
        let (message, hint) = (message.into(), hint.into());
        Self { message, hint }.into()
    }
}

/// Where the user wants to compute.
///
/// # Errors
/// If there is no such device.
fn device(global: &Global) -> anyhow::Result<Device> {
    let (name, found) = match global.device {
        DeviceName::Cpu => ("cpu".to_owned(), Ok(Device::Cpu)),
        DeviceName::Cuda(number) => (format!("cuda:{number}"), Device::new_cuda(number)),
        DeviceName::Metal => ("metal".to_owned(), Device::new_metal(0)),
    };
    found.with_context(|| format!("--device: expected a device to compute on, found no `{name}`"))
}

/// Finds the model that the user named.
fn source(global: &Global) -> anyhow::Result<Source> {
    let files = &global.files;
    let options = OpenOptions {
        variant: files.variant.clone(),
        prediction: files.prediction,
        vae: files.vae.clone(),
        config: files.config.clone(),
    };
    Ok(options.open(&global.model)?)
}

/// Loads the model that the user named.
fn load(global: &Global, ui: &Ui) -> anyhow::Result<Pipeline> {
    let device = device(global)?;
    download::ensure(&global.model, Layout::Pipeline, global, ui)?;
    if let Some(config) = &global.files.config {
        download::ensure(config, Layout::Configs, global, ui)?;
    }
    let source = source(global)?;
    if let Some(doubt) = &source.doubt {
        ui.warn(&format!(
            "model `{}`: {doubt}. Draw with `--steps 4 --guidance-scale 1`; no concept of such a model was ever tried",
            global.model
        ));
    }
    let dtype = match global.dtype {
        Precision::F32 => DType::F32,
        Precision::F16 => DType::F16,
        Precision::Bf16 => DType::BF16,
    };
    let pipeline = Pipeline::load(&source, &device, dtype)
        .with_context(|| format!("failed to load model `{}`", global.model))?;
    ui.detail(&format!("loaded model `{}`", pipeline.name));
    Ok(pipeline)
}

/// Reads an index, naming its file in any error.
fn read_index(path: &Path) -> anyhow::Result<NeuronIndex> {
    NeuronIndex::read(path).with_context(|| format!("failed to read index `{}`", name(path)))
}

/// The name of a file in text and JSON; where it is not UTF-8, with U+FFFD for what cannot be said.
fn name(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// `out-7.png` for `out.png` and `-7`.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut file = path.file_stem().unwrap_or_default().to_owned();
    file.push(suffix);
    if let Some(ending) = path.extension() {
        file.push(".");
        file.push(ending);
    }
    path.with_file_name(file)
}

/// `1 step` or `2,000 steps`.
fn count(n: usize, what: &str) -> String {
    match n {
        1 => format!("1 {what}"),
        n => format!("{} {what}s", thousands(n as u64)),
    }
}

/// Which of several indices to use together, each with its file: each once. Says what is left out, and what is risky.
fn distinct(indices: &[(&Path, &NeuronIndex)], ui: &Ui) -> anyhow::Result<Vec<usize>> {
    let names: Vec<String> = indices
        .iter()
        .map(|(path, _)| path.display().to_string())
        .collect();
    let named: Vec<(&str, &NeuronIndex)> = (names.iter().map(String::as_str))
        .zip(indices.iter().map(|(_, index)| *index))
        .collect();
    let Distinct { kept, twins, risks } = cones::index::distinct(&named)?;
    for (number, first) in twins {
        ui.warn(&format!(
            "`{}` and `{}` hold the same index: it is taken once",
            names[number], names[first]
        ));
    }
    for risk in risks {
        ui.warn(&risk);
    }
    Ok(kept)
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

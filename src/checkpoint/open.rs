//! Finding a model by what the user calls it, and by what is said about it besides.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::few_steps;
use super::folder::WeightFiles;
use super::header::Header;
use super::single::{self, Said, SingleFile};
use super::tensors::{Bytes, TensorFile};
use super::{Kind, POCKET, Place, Source, file_kinds, folder_name, hub, kinds};
use crate::sampling::Prediction;
use crate::{Error, Result};

/// How to open a model of which the name does not say everything.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// The variant of a folder's weights, such as `fp16`; a network that has none of it is taken plain.
    pub variant: Option<String>,
    /// What a single file's UNet predicts.
    pub prediction: Option<Prediction>,
    /// A single file's autoencoder: a file of its own, or a folder that diffusers wrote.
    pub vae: Option<PathBuf>,
    /// A single file's configuration and tokenizer: a folder in the diffusers layout, or a hub id.
    pub config: Option<String>,
}

impl OpenOptions {
    /// Finds a model by what the user calls it: `pocket`, a folder in the diffusers layout, a single `.safetensors`
    /// file with the original names, or the hub id of a model in the hub's cache.
    ///
    /// # Errors
    /// If there is no such model, it is of a kind that is not supported, or an option is not for it.
    pub fn open(&self, model: &str) -> Result<Source> {
        let refuse = |problem: &str, hint: &str| Error::Model {
            model: model.to_owned(),
            problem: problem.to_owned(),
            hint: hint.to_owned(),
        };
        let path = Path::new(model);
        if model != POCKET && !path.is_dir() && path.exists() {
            return self.open_file(path, refuse);
        }
        if self.prediction.is_some() || self.vae.is_some() || self.config.is_some() {
            return Err(refuse(
                "no single file: it has its own prediction, autoencoder and configuration",
                "leave out what is said of these, or pass a single `.safetensors` file",
            ));
        }
        if model == POCKET {
            let source = Source::new(POCKET.to_owned(), Place::Pocket, Kind::Pipeline);
            return self.with_variant(source);
        }
        if path.is_dir() {
            if !path.join("unet").is_dir() {
                let (problem, hint) = kinds::of_folder(path)?;
                return Err(refuse(&problem, &hint));
            }
            return self.open_folder(folder_name(path)?, path.to_owned());
        }
        if hub::is_id(model) {
            if let Some(what) = few_steps::of_id(model) {
                return Err(refuse(&format!("this is {what}"), few_steps::HINT));
            }
            let folder = hub::snapshot(model, "model_index.json")?;
            return self.open_folder(model.to_owned(), folder);
        }
        Err(refuse(
            "no such folder or file",
            "pass `pocket`, the model inside this program, a folder in the diffusers layout, a single `.safetensors` \
             file, or a hub id, `owner/name`",
        ))
    }

    fn open_folder(&self, name: String, folder: PathBuf) -> Result<Source> {
        let source = Source::new(name, Place::Folder(folder), Kind::Pipeline);
        self.with_variant(source.checked()?)
    }

    /// Has a model take its weights of a variant, which at least one of its networks must have.
    fn with_variant(&self, mut source: Source) -> Result<Source> {
        let Some(variant) = &self.variant else {
            return Ok(source);
        };
        let mut others = BTreeSet::new();
        if let Place::Folder(root) = &source.place {
            for (dir, stem) in NETWORKS {
                let files = WeightFiles::list(&root.join(dir), stem)?;
                if files.has(variant) {
                    source.variant = Some(variant.clone());
                    return Ok(source);
                }
                others.extend(
                    files
                        .variants()
                        .filter(|v| !v.is_empty())
                        .map(|v| format!("`{v}`")),
                );
            }
        }
        let others: Vec<String> = others.into_iter().collect();
        Err(Error::Model {
            problem: format!(
                "no network of it has a variant `{}`",
                variant.escape_debug()
            ),
            hint: match others.is_empty() {
                true => "it has no variants: ask for none".to_owned(),
                false => format!("it has {}", others.join(", ")),
            },
            model: source.name,
        })
    }

    fn open_file(&self, path: &Path, refuse: impl Fn(&str, &str) -> Error) -> Result<Source> {
        let bytes = Bytes::map(path)?;
        if let Some((what, hint)) = file_kinds::of_name(path, bytes.as_ref())? {
            return Err(refuse(&format!("this is {what}"), &hint));
        }
        let label = single::label(path);
        let header = Header::parse(bytes.as_ref(), &label, file_kinds::CONVERT)?;
        if let Some((what, hint)) = file_kinds::of_tensors(&header) {
            return Err(refuse(&format!("this is {what}"), &hint));
        }
        if let Some(variant) = &self.variant {
            let problem = format!(
                "a single file, which has no variants, and so no `{}`",
                variant.escape_debug()
            );
            return Err(refuse(&problem, "ask for none"));
        }
        let config = self.config.as_deref().map(Source::open).transpose()?;
        let (vae, vae_source) = match &self.vae {
            None => (None, None),
            Some(path) => {
                let (tensors, source) = open_vae(path)?;
                (Some(tensors), source.map(Box::new))
            }
        };
        let said = Said {
            prediction: self.prediction,
            vae,
            configured: config.is_some(),
        };
        let file = SingleFile::new(Arc::new(bytes), &header, &label, said)?;
        let stem = path.file_stem().unwrap_or(path.as_os_str());
        let place = Place::Single {
            file: Box::new(file),
            config: config.map(Box::new),
            vae: vae_source,
        };
        let mut source = Source::new(stem.to_string_lossy().into_owned(), place, Kind::Pipeline);
        source.prediction = self.prediction;
        source.title = header.notes.get("modelspec.title").cloned();
        source.checked().map_err(|error| match error {
            // The file that says it is made up, so the user's own is named.
            Error::File { found, hint, .. } => refuse(&format!("this is {found}"), &hint),
            other => other,
        })
    }
}

/// The networks of a model: the folder of each, and what its weights are called.
const NETWORKS: [(&str, &str); 4] = [
    ("unet", "diffusion_pytorch_model"),
    ("vae", "diffusion_pytorch_model"),
    ("text_encoder", "model"),
    ("text_encoder_2", "model"),
];

/// The autoencoder that is used in place of a single file's, and its folder if it has one.
fn open_vae(path: &Path) -> Result<(TensorFile, Option<Source>)> {
    if path.is_dir() {
        let place = Place::Folder(path.to_owned());
        let source = Source::new(folder_name(path)?, place, Kind::Pipeline);
        let tensors = source.tensors("", "diffusion_pytorch_model")?;
        return Ok((tensors, Some(source)));
    }
    let bytes = Bytes::map(path)?;
    let label = single::label(path);
    let header = Header::parse(bytes.as_ref(), &label, file_kinds::CONVERT)?;
    Ok((single::autoencoder(Arc::new(bytes), &header, &label)?, None))
}

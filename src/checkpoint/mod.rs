//! Where a model comes from: its configuration files and tensors under diffusers' names.

mod export;
mod few_steps;
mod file_kinds;
mod folder;
mod header;
pub mod hub;
pub(crate) mod kinds;
mod mapped;
mod open;
mod pocket;
mod single;
mod tensors;
mod weight_names;

pub use export::ExportFormat;
pub use mapped::mapped_file_at;
pub use open::OpenOptions;
pub use pocket::POCKET_NOUNS;
pub(crate) use tensors::{Bytes, Pages, Stored, TensorFile};

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::Value;

use self::folder::WeightFiles;
use self::single::SingleFile;
use crate::config::ConfigReader;
use crate::files::{foreign, regular};
use crate::sampling::Prediction;
use crate::{Error, Result};

/// The name of the model that is built into the program.
pub const POCKET: &str = "pocket";

/// A model's files.
#[derive(Debug)]
pub struct Source {
    name: String,
    place: Place,
    kind: Kind,
    /// The variant of the weights to take where there is one.
    variant: Option<String>,
    /// What the model predicts, whatever its files say.
    prediction: Option<Prediction>,
    /// The title that a single file gives itself.
    title: Option<String>,
    /// Why the model may be one that is made to draw in a few steps without guidance, which nothing in its tensors can
    /// tell: turbo, LCM, Lightning, Hyper.
    pub doubt: Option<String>,
}

#[derive(Debug)]
enum Place {
    /// A folder in the diffusers layout.
    Folder(PathBuf),
    /// One file of all networks.
    Single {
        file: Box<SingleFile>,
        /// Where configuration and tokenizer are taken from.
        config: Option<Box<Source>>,
        /// The same of the autoencoder.
        vae: Option<Box<Source>>,
    },
    /// Built into the program.
    Pocket,
}

/// What wrote the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// diffusers: a model of several networks.
    Pipeline,
    /// transformers: one network.
    Encoder,
}

/// The folder of a model in which an encoder for pictures and text may be, which diffusers does not know.
const ENCODER_DIR: &str = "clip";

impl Kind {
    /// How pickled weights in the folder `dir` are written as safetensors.
    fn convert(self, dir: &str) -> &'static str {
        match (self, dir) {
            (Self::Encoder, _) | (_, ENCODER_DIR) => {
                "write the encoder again as safetensors: `CLIPModel.from_pretrained(FOLDER).save_pretrained(NEW)` in \
                 Python with transformers"
            }
            (Self::Pipeline, _) => {
                "write the model again as safetensors: \
                 `DiffusionPipeline.from_pretrained(FOLDER).save_pretrained(NEW)` in Python with diffusers"
            }
        }
    }
}

/// A file of a folder of the model; `dir` is empty for the model's own folder.
pub(crate) fn within(dir: &str, file: &str) -> String {
    match dir {
        "" => file.to_owned(),
        dir => format!("{dir}/{file}"),
    }
}

impl Source {
    fn new(name: String, place: Place, kind: Kind) -> Self {
        Self {
            name,
            place,
            kind,
            variant: None,
            prediction: None,
            title: None,
            doubt: None,
        }
    }

    /// [`OpenOptions::open`] by the name alone.
    ///
    /// # Errors
    /// If there is no such model, or it is of a kind that is not supported.
    pub fn open(model: &str) -> Result<Self> {
        OpenOptions::default().open(model)
    }

    /// That the model is of a kind that is supported, as far as `model_index.json` and the names of models say.
    fn checked(mut self) -> Result<Self> {
        const FILE: &str = "model_index.json";
        if let Some(text) = self.text(FILE)? {
            kinds::check_index(FILE, &text)?;
        }
        let origins = [FILE, "unet/config.json"].map(|file| self.key(file, "_name_or_path"));
        let ids = origins.iter().flatten().map(String::as_str);
        let told = ids.chain([&self.name[..]]).find_map(few_steps::of_id);
        if let Some(what) = told {
            return Err(Error::Model {
                model: self.name,
                problem: format!("this is {what}"),
                hint: few_steps::HINT.to_owned(),
            });
        }
        let scheduler = self.key("scheduler/scheduler_config.json", "_class_name");
        self.doubt = few_steps::doubt(&self.name, self.title.as_deref(), scheduler.as_deref());
        Ok(self)
    }

    /// A text in a configuration file, which is read again where it is needed, and its faults are told there.
    fn key(&self, file: &str, key: &str) -> Option<String> {
        let text = self.text(file).ok().flatten()?;
        match ConfigReader::parse(file, &text).ok()?.take(key)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// One model of transformers, such as an encoder for pictures and text: a folder, or a hub id.
    ///
    /// # Errors
    /// If there is no such folder, and it is not in the hub's cache.
    pub fn encoder(model: &str) -> Result<Self> {
        let path = Path::new(model);
        let source = |name, folder| Self::new(name, Place::Folder(folder), Kind::Encoder);
        if path.is_dir() {
            return Ok(source(folder_name(path)?, path.to_owned()));
        }
        if hub::is_id(model) {
            return Ok(source(
                model.to_owned(),
                hub::snapshot(model, "config.json")?,
            ));
        }
        Err(Error::Model {
            model: model.to_owned(),
            problem: match path.exists() {
                true => "a file, and no folder".to_owned(),
                false => "no such folder".to_owned(),
            },
            hint: "pass a folder that holds `config.json`, `model.safetensors` and \
                   `preprocessor_config.json`, or a hub id, `owner/name`"
                .to_owned(),
        })
    }

    /// What the model is called: `pocket`, a hub id, or the folder's or file's own name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The text of a file, relative to the model; `None` where there is no such file.
    pub(crate) fn text(&self, file: &str) -> Result<Option<String>> {
        let text = self.stored_text(file)?;
        match (self.prediction, text) {
            (Some(prediction), Some(text)) if file == "scheduler/scheduler_config.json" => {
                single::predicting(file, &text, prediction).map(Some)
            }
            (_, text) => Ok(text),
        }
    }

    fn stored_text(&self, file: &str) -> Result<Option<String>> {
        match &self.place {
            Place::Folder(root) => {
                let path = root.join(file);
                match regular::read(&path) {
                    Ok(bytes) => text_of(&bytes, file).map(Some),
                    // A link to nothing is a file that is lost.
                    Err(Error::Io { source, .. })
                        if source.kind() == ErrorKind::NotFound && !path.is_symlink() =>
                    {
                        Ok(None)
                    }
                    Err(error) => Err(error),
                }
            }
            Place::Single { vae: Some(vae), .. } if file == "vae/config.json" => {
                vae.text("config.json")
            }
            Place::Single {
                config: Some(config),
                ..
            } => config.text(file),
            Place::Single { file: single, .. } => Ok(single.text(file)),
            Place::Pocket => match pocket::file(file).map(std::str::from_utf8) {
                None => Ok(None),
                Some(Ok(text)) => Ok(Some(text.to_owned())),
                Some(Err(error)) => Err(self.missing(file, &error.to_string())),
            },
        }
    }

    /// The text of a file that must be there.
    pub(crate) fn required_text(&self, file: &str) -> Result<String> {
        self.text(file)?
            .ok_or_else(|| self.missing(file, &format!("no `{file}`")))
    }

    /// The weights in a folder of the model: plain, of a variant, or in shards.
    pub(crate) fn tensors(&self, dir: &str, stem: &str) -> Result<TensorFile> {
        let name = within(dir, &format!("{stem}.safetensors"));
        let missing = || self.missing(&name, &format!("no `{name}`"));
        match &self.place {
            Place::Pocket => match pocket::file(&name) {
                Some(bytes) => TensorFile::embedded(bytes, &name),
                None => Err(missing()),
            },
            Place::Single { file, config, .. } => match (file.tensors(dir), config) {
                (Some(tensors), _) => Ok(tensors.clone()),
                // Something that no single file has, such as an encoder for pictures.
                (None, Some(config)) => config.tensors(dir, stem),
                (None, None) => Err(missing()),
            },
            Place::Folder(root) => {
                let convert = self.kind.convert(dir);
                let files = WeightFiles::list(&root.join(dir), stem)?;
                match files.open((root, dir), self.variant.as_deref(), convert)? {
                    Some(tensors) => Ok(tensors),
                    None if files.pickled => Err(Error::Model {
                        model: self.name.clone(),
                        problem: format!(
                            "no `{name}`, but pickled weights, which can run any code when read and are refused"
                        ),
                        hint: convert.to_owned(),
                    }),
                    None => Err(missing()),
                }
            }
        }
    }

    fn missing(&self, what: &str, problem: &str) -> Error {
        Error::Model {
            model: self.name.clone(),
            problem: problem.to_owned(),
            hint: format!("the model is not complete: fetch `{what}` again"),
        }
    }
}

/// The text of a file, which must be UTF-8.
fn text_of(bytes: &[u8], file: &str) -> Result<String> {
    if let Some(foreign) = foreign::of_text(bytes) {
        return Err(foreign.error(file, "text in UTF-8", ""));
    }
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

/// A name to show and to store: never the path, which would tell where the user keeps things.
fn folder_name(path: &Path) -> Result<String> {
    let whole = path.canonicalize().map_err(Error::io("read", path))?;
    let last = whole.file_name().unwrap_or(path.as_os_str());
    Ok(last.to_string_lossy().into_owned())
}

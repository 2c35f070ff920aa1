//! Where a model comes from: its configuration files and tensors under diffusers' names.

pub mod hub;
pub(crate) mod kinds;
mod pocket;
mod tensors;

pub use pocket::POCKET_NOUNS;
pub(crate) use tensors::{Pages, TensorFile};

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::files::{foreign, regular};
use crate::{Error, Result};

/// The name of the model that is built into the program.
pub const POCKET: &str = "pocket";

/// A model's files.
#[derive(Debug)]
pub struct Source {
    name: String,
    place: Place,
    /// How to convert pickled weights of it.
    convert: &'static str,
}

/// How a model of several networks is written as safetensors.
const CONVERT_MODEL: &str = "write the model again as safetensors: `DiffusionPipeline.from_pretrained(FOLDER).save_pretrained(NEW)` in Python with diffusers";
/// The same for one of transformers.
const CONVERT_ENCODER: &str = "write the encoder again as safetensors: `CLIPModel.from_pretrained(FOLDER).save_pretrained(NEW)` in Python with transformers";

#[derive(Debug)]
enum Place {
    /// A folder in the diffusers layout.
    Folder(PathBuf),
    /// Built into the program.
    Pocket,
}

/// A file of a folder of the model; `dir` is empty for the model's own folder.
pub(crate) fn within(dir: &str, file: &str) -> String {
    match dir {
        "" => file.to_owned(),
        dir => format!("{dir}/{file}"),
    }
}

impl Source {
    /// Finds a model by what the user calls it: `pocket`, a folder in the diffusers layout, or the hub id of a model in
    /// the hub's cache.
    ///
    /// # Errors
    /// If there is no such model, or it is of a kind that is not supported.
    pub fn open(model: &str) -> Result<Self> {
        let refuse = |problem: &str, hint: &str| Error::Model {
            model: model.to_owned(),
            problem: problem.to_owned(),
            hint: hint.to_owned(),
        };
        let source = |name: String, place: Place| Self {
            name,
            place,
            convert: CONVERT_MODEL,
        };
        if model == POCKET {
            return Ok(source(POCKET.to_owned(), Place::Pocket));
        }
        let path = Path::new(model);
        if path.is_dir() {
            if !path.join("unet").is_dir() {
                let (problem, hint) = kinds::of_folder(path)?;
                return Err(refuse(&problem, &hint));
            }
            return source(folder_name(path)?, Place::Folder(path.to_owned())).checked();
        }
        if path.exists() {
            let (problem, hint) = kinds::of_file(path)?;
            return Err(refuse(&problem, &hint));
        }
        if hub::is_id(model) {
            let folder = hub::snapshot(model, "model_index.json")?;
            return source(model.to_owned(), Place::Folder(folder)).checked();
        }
        Err(refuse(
            "no such folder",
            "pass `pocket`, the model inside this program, a folder in the diffusers layout, or a hub id, `owner/name`",
        ))
    }

    /// That the model is of a kind that is supported, as far as `model_index.json` says.
    fn checked(self) -> Result<Self> {
        const FILE: &str = "model_index.json";
        if let Some(text) = self.text(FILE)? {
            kinds::check_index(FILE, &text)?;
        }
        Ok(self)
    }

    /// One model of transformers, such as an encoder for pictures and text: a folder, or a hub id.
    ///
    /// # Errors
    /// If there is no such folder, and it is not in the hub's cache.
    pub fn encoder(model: &str) -> Result<Self> {
        let path = Path::new(model);
        if path.is_dir() {
            return Ok(Self {
                name: folder_name(path)?,
                place: Place::Folder(path.to_owned()),
                convert: CONVERT_ENCODER,
            });
        }
        if hub::is_id(model) {
            return Ok(Self {
                name: model.to_owned(),
                place: Place::Folder(hub::snapshot(model, "config.json")?),
                convert: CONVERT_ENCODER,
            });
        }
        Err(Error::Model {
            model: model.to_owned(),
            problem: match path.exists() {
                true => "a file, and no folder".to_owned(),
                false => "no such folder".to_owned(),
            },
            hint: "pass a folder that holds `config.json`, `model.safetensors` and `preprocessor_config.json`, or a hub id, `owner/name`"
                .to_owned(),
        })
    }

    /// What the model is called: `pocket`, a hub id, or the folder's own name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text of a file, relative to the model; `None` where there is no such file.
    pub(crate) fn text(&self, file: &str) -> Result<Option<String>> {
        match &self.place {
            Place::Folder(root) => {
                let path = root.join(file);
                match regular::read(&path) {
                    Ok(bytes) => text_of(&bytes, file).map(Some),
                    Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                        Ok(None)
                    }
                    Err(error) => Err(error),
                }
            }
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

    /// The weights in a folder of the model, under the plain name or the half-precision variant's.
    pub(crate) fn tensors(&self, dir: &str, stem: &str) -> Result<TensorFile> {
        let names =
            ["safetensors", "fp16.safetensors"].map(|e| within(dir, &format!("{stem}.{e}")));
        let there = |root: &Path, file: &str| root.join(dir).join(file).is_file();
        // A folder or a pipe of that name is there too, and an error of its own.
        let named = |root: &Path, name: &str| root.join(name).symlink_metadata().is_ok();
        match &self.place {
            Place::Pocket => match pocket::file(&names[0]) {
                Some(bytes) => TensorFile::embedded(bytes, &names[0]),
                None => Err(self.missing(&names[0], &format!("no `{}`", names[0]))),
            },
            Place::Folder(root) => match names.iter().find(|name| named(root, name)) {
                Some(name) => TensorFile::open(&root.join(name), name, self.convert),
                None if there(root, &format!("{stem}.safetensors.index.json")) => Err(Error::Model {
                    model: self.name.clone(),
                    problem: format!("`{}` is split over several files, which is not supported", names[0]),
                    hint: "write the model again with `save_pretrained(FOLDER, max_shard_size=\"100GB\")`".to_owned(),
                }),
                None if there(root, &format!("{stem}.bin")) || there(root, "pytorch_model.bin") => {
                    Err(Error::Model {
                        model: self.name.clone(),
                        problem: format!("no `{}`, but pickled weights, which can run any code when read and are refused", names[0]),
                        // An encoder is no part of a pipeline, so diffusers cannot load it.
                        hint: match dir {
                            "" | "clip" => "write it anew with `CLIPModel.from_pretrained(…).save_pretrained(FOLDER)` of transformers",
                            _ => self.convert,
                        }
                        .to_owned(),
                    })
                }
                None => Err(self.missing(&names[0], &format!("no `{}`", names[0]))),
            },
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

//! Where a model comes from: its configuration files and tensors under diffusers' names.

mod hub;
mod pocket;

use std::path::{Path, PathBuf};

pub use self::pocket::POCKET_NOUNS;
use crate::model::TensorFile;
use crate::{Error, Result};

/// The name of the model that is built into the program.
pub const POCKET: &str = "pocket";

/// A model's files.
#[derive(Debug)]
pub struct Source {
    name: String,
    place: Place,
}

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
    /// Finds a model by what the user calls it: `pocket`, a folder in the diffusers layout, or the hub id of a model in the hub's
    /// cache.
    ///
    /// # Errors
    /// If there is no such model, or it is of a kind that is not supported.
    pub fn open(model: &str) -> Result<Self> {
        let refuse = |problem: &str, hint: &str| Error::Model {
            model: model.to_owned(),
            problem: problem.to_owned(),
            hint: hint.to_owned(),
        };
        if model == POCKET {
            return Ok(Self {
                name: POCKET.to_owned(),
                place: Place::Pocket,
            });
        }
        let path = Path::new(model);
        let convert = "load it with diffusers and write it with `save_pretrained(FOLDER)`, then pass the folder";
        if path.is_dir() {
            if !path.join("unet").is_dir() {
                let hint = "pass the folder that holds `unet`, `vae`, `text_encoder`, `tokenizer` and `scheduler`";
                return Err(refuse(
                    "a folder without `unet`: not in the diffusers layout",
                    hint,
                ));
            }
            return Ok(Self {
                name: folder_name(path)?,
                place: Place::Folder(path.to_owned()),
            });
        }
        if path.is_file() {
            let pickled = path
                .extension()
                .is_some_and(|e| ["ckpt", "bin", "pt", "pth"].iter().any(|p| e == *p));
            return Err(if pickled {
                refuse(
                    "a pickled checkpoint can run any code when it is read, and is refused",
                    convert,
                )
            } else {
                refuse("single-file checkpoints are not supported yet", convert)
            });
        }
        if hub::is_id(model) {
            let folder = hub::snapshot(model, "model_index.json")?;
            return Ok(Self {
                name: model.to_owned(),
                place: Place::Folder(folder),
            });
        }
        Err(refuse(
            "no such folder",
            "pass `pocket`, the model inside this program, a folder in the diffusers layout, or a hub id, `owner/name`",
        ))
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
            });
        }
        if hub::is_id(model) {
            return Ok(Self {
                name: model.to_owned(),
                place: Place::Folder(hub::snapshot(model, "config.json")?),
            });
        }
        Err(Error::Model {
            model: model.to_owned(),
            problem: "no such folder".to_owned(),
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
                match std::fs::read_to_string(&path) {
                    Ok(text) => Ok(Some(text)),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                    Err(source) => Err(Error::Io {
                        action: "read",
                        path,
                        source,
                    }),
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
        match &self.place {
            Place::Pocket => match pocket::file(&names[0]) {
                Some(bytes) => TensorFile::embedded(bytes, &names[0]),
                None => Err(self.missing(&names[0], &format!("no `{}`", names[0]))),
            },
            Place::Folder(root) => match names.iter().find(|name| root.join(name).is_file()) {
                Some(name) => TensorFile::open(&root.join(name), name),
                None if there(root, &format!("{stem}.safetensors.index.json")) => Err(Error::Model {
                    model: self.name.clone(),
                    problem: format!("`{}` is split over several files, which is not supported", names[0]),
                    hint: "write the model again with `save_pretrained(FOLDER, max_shard_size=\"100GB\")`".to_owned(),
                }),
                None if there(root, &format!("{stem}.bin")) || there(root, "pytorch_model.bin") => {
                    Err(Error::Model {
                        model: self.name.clone(),
                        problem: format!("no `{}`, but pickled weights, which can run any code when read and are refused", names[0]),
                        hint: "load it with diffusers and write it with `save_pretrained(FOLDER)`".to_owned(),
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

/// A name to show and to store: never the path, which would tell where the user keeps things.
fn folder_name(path: &Path) -> Result<String> {
    let whole = path.canonicalize().map_err(Error::io("read", path))?;
    let last = whole.file_name().unwrap_or(path.as_os_str());
    Ok(last.to_string_lossy().into_owned())
}

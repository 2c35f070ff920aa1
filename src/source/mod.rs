//! Where a model comes from: its configuration files and tensors under diffusers' names.

mod pocket;

use std::path::{Path, PathBuf};

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

impl Source {
    /// Finds a model by what the user calls it: `pocket`, or a folder in the diffusers layout.
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
            // A name to show and to store: never the path, which would tell where the user keeps things.
            let name = path.canonicalize().map_err(Error::io("read", path))?;
            let name = name
                .file_name()
                .map_or_else(|| model.to_owned(), |n| n.to_string_lossy().into_owned());
            return Ok(Self {
                name,
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
        let hub = model.split('/').count() == 2
            && !model.starts_with(['.', '/', '~'])
            && !model.ends_with('/');
        Err(if hub {
            let hint = format!(
                "fetch it with `hf download {model} --local-dir FOLDER`, then pass the folder"
            );
            refuse("no such folder, and hub ids are not supported yet", &hint)
        } else {
            refuse(
                "no such folder",
                "pass `pocket`, the model inside this program, or a folder in the diffusers layout",
            )
        })
    }

    /// What the model is called: `pocket`, or the folder's own name.
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
        let names = [
            format!("{dir}/{stem}.safetensors"),
            format!("{dir}/{stem}.fp16.safetensors"),
        ];
        match &self.place {
            Place::Pocket => match pocket::file(&names[0]) {
                Some(bytes) => TensorFile::embedded(bytes, &names[0]),
                None => Err(self.missing(dir, &format!("no `{}`", names[0]))),
            },
            Place::Folder(root) => match names.iter().find(|name| root.join(name).is_file()) {
                Some(name) => TensorFile::open(&root.join(name), name),
                None if root.join(format!("{dir}/{stem}.safetensors.index.json")).is_file() => Err(Error::Model {
                    model: self.name.clone(),
                    problem: format!("the weights in `{dir}` are split over several files, which is not supported"),
                    hint: "write the model again with `save_pretrained(FOLDER, max_shard_size=\"100GB\")`".to_owned(),
                }),
                None if root.join(format!("{dir}/{stem}.bin")).is_file() || root.join(dir).join("pytorch_model.bin").is_file() => {
                    Err(Error::Model {
                        model: self.name.clone(),
                        problem: format!("the weights in `{dir}` are pickled, which can run any code when read, and are refused"),
                        hint: "load it with diffusers and write it with `save_pretrained(FOLDER)`".to_owned(),
                    })
                }
                None => Err(self.missing(dir, &format!("no `{}`", names[0]))),
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

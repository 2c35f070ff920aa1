//! What is evaluated: each index with its subject, prompts and photos, read before anything is drawn.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cones::eval::Prompt;
use cones::find::ClassImages;
use cones::index::{NeuronIndex, Subject};
use cones::{LeftOut, PhotoList, Photos};

use super::super::{class_images, name, read_index};
use super::inputs::{prompts, subject};
use super::names::{folders, labels};
use crate::cli::EvalArgs;
use crate::report::photos;
use crate::report::ui::Ui;

/// An index to evaluate.
pub(super) struct Case {
    pub(super) path: PathBuf,
    /// The name of its file, and a number where others are called the same.
    pub(super) label: String,
    pub(super) index: NeuronIndex,
    pub(super) subject: Subject,
    pub(super) prompts: Vec<Prompt>,
    pub(super) photos: Photos,
    pub(super) class: ClassImages,
    pub(super) left_out: Vec<LeftOut>,
}

/// A case whose pictures are not read yet.
pub(super) struct Listed {
    path: PathBuf,
    label: String,
    index: NeuronIndex,
    subject: Subject,
    prompts: Vec<Prompt>,
    photos: PhotoList,
    class: Option<PhotoList>,
}

/// Reads the indices, and lists the photos of each.
pub(super) fn list(args: &EvalArgs, ui: &Ui) -> anyhow::Result<Vec<Listed>> {
    let paths = &args.indices;
    let mut read = Vec::with_capacity(paths.len());
    for (number, path) in paths.iter().enumerate() {
        if paths[..number].contains(path) {
            bail!(
                "expected each index once, found `{}` several times",
                name(path)
            );
        }
        let index = read_index(path)?;
        let subject = subject(&index, args.subject.as_deref())
            .with_context(|| format!("index `{}`", name(path)))?;
        read.push((path, index, subject));
    }
    let subjects: Vec<(&Path, &Subject)> = read
        .iter()
        .map(|(path, _, subject)| (path.as_path(), subject))
        .collect();
    let images = folders("--images", &args.images(), &subjects)?;
    let class = folders("--class-images", &args.class_images(), &subjects)?;
    let labels = labels(paths);
    let mut listed = Vec::with_capacity(read.len());
    for (((path, index, subject), label), (images, class)) in read
        .into_iter()
        .zip(labels)
        .zip(images.into_iter().zip(class))
    {
        if images.is_empty() {
            bail!(
                "no photos of `{}`, the subject of `{}`: give them with `--images {}=DIR`",
                subject,
                name(path),
                subject.noun
            );
        }
        listed.push(Listed {
            prompts: prompts(args.prompts.as_deref(), &subject)?,
            photos: photos::list(&images, ui)?,
            class: match class.is_empty() {
                true => None,
                false => Some(photos::list(&class, ui)?),
            },
            path: path.clone(),
            label,
            index,
            subject,
        });
    }
    Ok(listed)
}

impl Listed {
    /// The files of its photos.
    pub(super) fn files(&self) -> &[PathBuf] {
        &self.photos.files
    }

    /// Reads its pictures, and keeps so many bytes of their pixels.
    pub(super) fn read(self, keep: u64, ui: &Ui) -> anyhow::Result<Case> {
        let photos = photos::read(self.photos, keep, ui)?;
        let mut left_out = photos.left_out.clone();
        let class = match self.class {
            Some(list) => {
                let class = photos::read(list, keep, ui)?;
                left_out.extend_from_slice(&class.left_out);
                ClassImages::Given(class)
            }
            None => class_images::drawn(&self.subject, None, &self.path),
        };
        Ok(Case {
            path: self.path,
            label: self.label,
            index: self.index,
            subject: self.subject,
            prompts: self.prompts,
            photos,
            class,
            left_out,
        })
    }
}

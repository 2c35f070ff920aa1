//! What is evaluated: each index with its subject, prompts and photos, read before anything is drawn.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cones::eval::Prompt;
use cones::find::ClassImages;
use cones::index::{NeuronIndex, Subject};
use cones::{LeftOut, PhotoList, Photos};

use super::super::{class_images, name, read_index};
use super::inputs::{prompts, subject};
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
                subject.phrase(),
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

/// For each index the folders that are for it: those without a name, and those with the name of its file or subject.
fn folders(
    option: &str,
    given: &[(Option<&str>, &Path)],
    indices: &[(&Path, &Subject)],
) -> anyhow::Result<Vec<Vec<PathBuf>>> {
    let mut folders = vec![Vec::new(); indices.len()];
    let mut subjects: Vec<Subject> = Vec::new();
    for (_, subject) in indices {
        if !subjects.contains(subject) {
            subjects.push((*subject).clone());
        }
    }
    for (name, folder) in given {
        let is_meant: Vec<bool> = match name {
            None => vec![true; indices.len()],
            Some(name) => {
                let of_file = |path: &Path| path.file_stem().is_some_and(|stem| stem == *name);
                let by_file: Vec<bool> = indices.iter().map(|(path, _)| of_file(path)).collect();
                match by_file.contains(&true) {
                    true => by_file,
                    false => {
                        let number = Subject::named(&subjects, name).with_context(|| {
                            format!("{option} {name}=DIR: no index is called `{name}.idx`, nor is its subject")
                        })?;
                        let meant = |(_, of): &(&Path, &Subject)| **of == subjects[number];
                        indices.iter().map(meant).collect()
                    }
                }
            }
        };
        for (all, _) in folders.iter_mut().zip(is_meant).filter(|(_, meant)| *meant) {
            all.push(folder.to_path_buf());
        }
    }
    Ok(folders)
}

/// The names of files without their folders; where two are the same, with a number.
fn labels(paths: &[PathBuf]) -> Vec<String> {
    let named = |path: &PathBuf| name(Path::new(path.file_name().unwrap_or(path.as_os_str())));
    let names: Vec<String> = paths.iter().map(named).collect();
    let label = |(number, own): (usize, &String)| {
        let same = |all: &[String]| all.iter().filter(|other| *other == own).count();
        match same(&names) {
            1 => own.clone(),
            _ => format!("{own} ({})", 1 + same(&names[..number])),
        }
    };
    names.iter().enumerate().map(label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(token: &str, noun: &str) -> Subject {
        let (token, noun) = (token.to_owned(), noun.to_owned());
        Subject { noun, token }
    }

    #[test]
    fn folders_go_to_the_indices_that_they_are_for() {
        let all = [
            subject("sks", "dog"),
            subject("sks", "cat"),
            subject("sks", "dog"),
        ];
        let paths = ["x/a.idx", "b.idx", "c.idx"].map(Path::new);
        let indices: Vec<(&Path, &Subject)> = paths.into_iter().zip(&all).collect();
        let given = |names: &[Option<&'static str>]| {
            let given: Vec<_> = names.iter().map(|name| (*name, Path::new("p"))).collect();
            let found = folders("--images", &given, &indices)?;
            Ok::<_, anyhow::Error>(found.iter().map(Vec::len).collect::<Vec<_>>())
        };
        for (names, counts) in [
            (&[None][..], [1, 1, 1]),
            (&[Some("dog"), Some("cat")], [1, 1, 1]),
            (&[Some("a"), Some("sks dog")], [2, 0, 1]),
            (&[Some("b"), None], [1, 2, 1]),
        ] {
            assert_eq!(given(names).unwrap(), counts, "{names:?}");
        }
        let error = format!("{:#}", given(&[Some("owl")]).unwrap_err());
        assert!(
            error.contains("--images owl=DIR") && error.contains("sks cat"),
            "{error}"
        );
    }

    #[test]
    fn labels_tell_files_apart() {
        let paths = ["x/a.idx", "b.idx", "y/a.idx"].map(PathBuf::from);
        assert_eq!(labels(&paths), ["a.idx (1)", "b.idx", "a.idx (2)"]);
    }
}

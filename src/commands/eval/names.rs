//! What indices are called, and which folders are for which of them.

use std::path::{Path, PathBuf};

use anyhow::Context;
use cones::index::Subject;

use super::super::name;

/// For each index the folders that are for it: those without a name, and those with the name of its file or subject.
pub(super) fn folders(
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
pub(super) fn labels(paths: &[PathBuf]) -> Vec<String> {
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

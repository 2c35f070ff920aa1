//! The pictures in folders, and what else is in them.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::file::{self, unusable};
use super::kind::Kind;
use crate::{Error, Result};

/// Picture files, and what was beside them in their folders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Photos {
    /// The PNG and JPEG files, in order.
    pub files: Vec<PathBuf>,
    /// What else is in the folders, without captions and what systems leave there.
    pub left_out: Vec<LeftOut>,
}

/// A file or folder that is no picture to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Where it is.
    pub path: PathBuf,
    /// What it is: "HEIC", "folder".
    pub kind: &'static str,
}

/// What systems and programs leave in folders, in lower case; beside whatever begins with a point.
const SYSTEM: [&str; 8] = [
    "thumbs.db",
    "ehthumbs.db",
    "ehthumbs_vista.db",
    "desktop.ini",
    "icon\r",
    "__macosx",
    "@eadir",
    "$recycle.bin",
];
/// Endings of files that say something about the picture beside them.
const SIDECARS: [&str; 8] = [
    "txt", "caption", "json", "jsonl", "xmp", "aae", "thm", "tags",
];
/// Endings that promise a picture: one whose content is none is damaged, and not left out.
const PROMISES: [&str; 6] = ["png", "jpg", "jpeg", "jpe", "jfif", "jif"];
/// How many names are told.
const NAMES: usize = 5;

/// The picture files that these paths name: files as they are; of folders the PNG and JPEG files in them by their content,
/// whatever their ending. Sorted by file name, then by path, each file once however it is spelled.
///
/// # Errors
/// If a path does not exist, a folder holds no picture, or there is no path.
pub fn list(paths: &[PathBuf]) -> Result<Photos> {
    if paths.is_empty() {
        let expected = "at least one file or folder";
        return Err(Error::value("pictures", expected, "none"));
    }
    let mut photos = Photos::default();
    for path in paths {
        if !path.metadata().map_err(Error::io("read", path))?.is_dir() {
            photos.files.push(path.clone());
            continue;
        }
        let found = in_folder(path)?;
        if found.files.is_empty() {
            let beside = match found.left_out.is_empty() {
                true => String::new(),
                false => format!("; {}", left_out(&found.left_out)),
            };
            let problem = format!("no PNG or JPEG in this folder{beside}");
            let hint = match found.left_out.is_empty() {
                true => "put PNG or JPEG files into it",
                false => "convert them to PNG or JPEG, or name the folder that holds such files",
            };
            return Err(unusable(path, problem, hint));
        }
        photos.files.extend(found.files);
        photos.left_out.extend(found.left_out);
    }
    let by_name = |a: &PathBuf, b: &PathBuf| a.file_name().cmp(&b.file_name()).then(a.cmp(b));
    photos.files.sort_by(by_name);
    photos.left_out.sort_by(|a, b| by_name(&a.path, &b.path));
    once(&mut photos.files, |file| file);
    once(&mut photos.left_out, |left| &left.path);
    Ok(photos)
}

/// Keeps the first of those that are one file.
fn once<T>(all: &mut Vec<T>, path: impl Fn(&T) -> &PathBuf) {
    let mut seen = HashSet::new();
    all.retain(|one| {
        seen.insert(
            path(one)
                .canonicalize()
                .unwrap_or_else(|_| path(one).clone()),
        )
    });
}

fn in_folder(folder: &Path) -> Result<Photos> {
    let mut photos = Photos::default();
    for entry in folder.read_dir().map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        if is_system(&path) {
            continue;
        }
        // A broken link is an error, not a picture less.
        let of = path
            .metadata()
            .map_err(Error::io("read", &path))?
            .file_type();
        let kind = match of {
            of if of.is_dir() => "folder",
            of if !of.is_file() => "special file",
            _ => match file::kind(&path) {
                Ok(Kind::Png | Kind::Jpeg) => {
                    photos.files.push(path);
                    continue;
                }
                Ok(Kind::Empty | Kind::Unknown | Kind::Instead(_)) if ends(&path, &PROMISES) => {
                    photos.files.push(path); // reading it says what is wrong
                    continue;
                }
                _ if ends(&path, &SIDECARS) => continue,
                Ok(kind) => kind.name(),
                Err(error) => return Err(error),
            },
        };
        photos.left_out.push(LeftOut { path, kind });
    }
    Ok(photos)
}

/// Whether something is hidden, or put there by a system.
fn is_system(path: &Path) -> bool {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().to_lowercase());
    name.is_some_and(|name| name.starts_with('.') || SYSTEM.contains(&name.as_str()))
}

fn ends(path: &Path, endings: &[&str]) -> bool {
    let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    ending.is_some_and(|ending| endings.contains(&ending.as_str()))
}

/// `left out 1 HEIC, 2 WebP, 1 folder: a.heic, b.webp, c.webp, more`
fn left_out(all: &[LeftOut]) -> String {
    let mut counts = BTreeMap::<&str, usize>::new();
    for left in all {
        *counts.entry(left.kind).or_default() += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(kind, n)| counted(*n, kind)).collect();
    let mut names: Vec<String> = all
        .iter()
        .take(NAMES)
        .map(|left| name(&left.path))
        .collect();
    if all.len() > NAMES {
        names.push(format!("and {} more", all.len() - NAMES));
    }
    format!("left out {}: {}", counts.join(", "), names.join(", "))
}

/// `1 HEIC`, `2 HEIC`, `2 folders`: names of formats have no plural.
fn counted(n: usize, kind: &str) -> String {
    match n > 1 && kind.starts_with(char::is_lowercase) {
        true => format!("{n} {kind}s"),
        false => format!("{n} {kind}"),
    }
}

/// A file's name, fit to be printed.
fn name(path: &Path) -> String {
    let name = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy();
    name.escape_debug().to_string().replace("\\'", "'")
}

impl Photos {
    /// What a user may have meant to be read and was not: `5 photos; left out 1 HEIC, 1 folder: a.heic, more`. `None`
    /// where everything is.
    pub fn left_out_note(&self) -> Option<String> {
        let photos = counted(self.files.len(), "photo");
        (!self.left_out.is_empty()).then(|| format!("{photos}; {}", left_out(&self.left_out)))
    }

    /// Decodes every picture, one at a time, and keeps none: before hours of work the damaged one is to be known.
    ///
    /// `progress` is told how many are done and how many there are; its error ends the work.
    ///
    /// # Errors
    /// If a picture cannot be read; an error of `progress`.
    pub fn check(&self, mut progress: impl FnMut(usize, usize) -> Result<()>) -> Result<Checked> {
        let mut seen = HashMap::<String, PathBuf>::new();
        let mut checked = Checked::default();
        for (i, path) in self.files.iter().enumerate() {
            let survey = super::read::survey(path)?;
            checked.memory = checked.memory.max(survey.memory);
            checked.width = checked.width.max(survey.width);
            match seen.entry(survey.sha256) {
                Entry::Occupied(first) => checked.twins.push((path.clone(), first.get().clone())),
                Entry::Vacant(entry) => drop(entry.insert(path.clone())),
            }
            progress(i + 1, self.files.len())?;
        }
        Ok(checked)
    }
}

/// What decoding all pictures has shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Pictures that are the same as an earlier one, byte for byte, each with that.
    pub twins: Vec<(PathBuf, PathBuf)>,
    /// The most that decoding one of them takes.
    memory: u64,
    /// The widest.
    width: u32,
}

impl Checked {
    /// Bytes that reading one of the pictures takes at its peak, scaled to this height: an estimate.
    pub fn memory(&self, height: u32) -> u64 {
        // Resampling has rows of this height in four numbers a pixel.
        self.memory + 16 * u64::from(self.width) * u64::from(height)
    }

    /// One line on pictures that are there twice, if any are.
    pub fn twins_note(&self) -> Option<String> {
        let (path, first) = self.twins.first()?;
        let more = match self.twins.len() - 1 {
            0 => String::new(),
            n => format!(", and {n} more such"),
        };
        Some(format!(
            "`{}` is the same picture as `{}`{more}",
            name(path),
            name(first)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
    const JPEG: &[u8] = b"\xff\xd8\xff\xe0";

    /// A folder with these files.
    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(dir.path().join(name), bytes).unwrap();
        }
        dir
    }

    fn names(files: &[PathBuf]) -> Vec<&str> {
        let name = |file: &PathBuf| file.file_name().unwrap().to_str().unwrap().to_owned();
        files.iter().map(|f| name(f).leak() as &str).collect()
    }

    #[test]
    fn pictures_are_known_by_content() {
        let taken: [(&str, &[u8]); 10] = [
            ("B.JPG", JPEG),
            ("a.jpeg", JPEG),
            ("c.jfif", JPEG),
            ("d.jpe", JPEG),
            ("e", JPEG),
            ("f.png", JPEG),
            ("g.jpg", PNG),
            ("h.PNG", PNG),
            ("i.webp", JPEG),
            ("j.txt", PNG),
        ];
        let dir = folder(&taken);
        let photos = list(&[dir.path().to_owned()]).unwrap();
        assert_eq!(names(&photos.files), taken.map(|(name, _)| name));
        assert_eq!(photos.left_out_note(), None);
    }

    #[test]
    fn captions_and_what_systems_leave_are_passed_over() {
        let dir = folder(&[("a.png", PNG)]);
        for name in [
            ".DS_Store",
            "Thumbs.db",
            "desktop.ini",
            "Icon\r",
            ".hidden.png",
            "._a.jpg",
            "a.txt",
            "a.TXT",
            "a.caption",
            "a.json",
            "metadata.jsonl",
            "a.xmp",
            "IMG_1.AAE",
        ] {
            std::fs::write(dir.path().join(name), b"BM II*\0").unwrap();
        }
        for name in [".cache", "@eaDir", "__MACOSX"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let photos = list(&[dir.path().to_owned()]).unwrap();
        assert_eq!(
            (names(&photos.files), photos.left_out),
            (vec!["a.png"], Vec::new())
        );
    }

    #[test]
    fn what_is_left_out_is_counted_by_kind_and_named_once() {
        let dir = folder(&[
            ("a.png", PNG),
            ("b.jpg", JPEG),
            ("c.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
            ("d.heif", b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic"),
            ("e.avif", b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf"),
            ("f.jpg", b"RIFF\x24\0\0\0WEBPVP8 "),
            ("g.gif", b"GIF89a"),
            ("h.bmp", b"BM6"),
            ("i.dng", b"II*\0"),
            ("j.mov", b"\0\0\0\x14ftypqt  \0\0\0\0qt  "),
            ("k.md", b"# my dog"),
            ("l.md", b""),
        ]);
        std::fs::create_dir(dir.path().join("more")).unwrap();
        let twice = [dir.path().to_owned(), dir.path().join(".")];
        assert_eq!(
            list(&twice).unwrap().left_out_note().unwrap(),
            "2 photos; left out 1 AVIF, 1 BMP, 1 GIF, 2 HEIC, 1 TIFF, 1 WebP, 1 empty file, 1 folder, 1 other file, 1 \
             video: c.heic, d.heif, e.avif, f.jpg, g.gif, and 6 more"
        );
    }

    #[test]
    fn a_folder_without_pictures_says_what_it_holds() {
        let dir = folder(&[("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")]);
        std::fs::create_dir_all(dir.path().join("x")).unwrap();
        let error = list(&[dir.path().to_owned()]).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("left out 1 HEIC, 1 folder: a.heic, x"),
            "{error}"
        );
        assert!(error.hint().unwrap().starts_with("convert"), "{error}");
        assert!(
            list(&[dir.path().join("x")])
                .unwrap_err()
                .hint()
                .unwrap()
                .starts_with("put")
        );
        assert!(list(&[dir.path().join("missing")]).is_err());
        assert!(list(&[]).is_err());
    }

    #[test]
    fn what_promises_a_picture_is_not_left_out() {
        for (name, bytes) in [
            ("a.png", &b""[..]),
            ("a.JPG", b"hello"),
            ("a.jpeg", b"<!DOCTYPE html>"),
            ("a.jfif", b"version https://git-lfs.github.com/spec/v1\n"),
            ("a.jpe", b"{}"),
        ] {
            let dir = folder(&[("b.png", PNG), (name, bytes)]);
            let photos = list(&[dir.path().to_owned()]).unwrap();
            let error = photos.check(|_, _| Ok(())).unwrap_err().to_string();
            assert!(error.contains(name), "{name}: {error}");
        }
    }

    #[test]
    fn one_file_spelled_twice_counts_once() {
        let dir = folder(&[("a.png", PNG)]);
        let spelled = dir.path().join("..").join(dir.path().file_name().unwrap());
        let photos = list(&[dir.path().to_owned(), spelled.join("a.png"), spelled]).unwrap();
        assert_eq!(photos.files.len(), 1);
    }

    #[test]
    fn the_same_picture_twice_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        let picture = |v: u8| Picture::new(2, 1, vec![v; 6]).unwrap();
        picture(1).write_png(&file("a.png"), None).unwrap();
        picture(2).write_png(&file("b.png"), None).unwrap();
        for copy in ["c.png", "d.jpg"] {
            std::fs::copy(file("a.png"), file(copy)).unwrap();
        }
        let checked = list(&[dir.path().to_owned()])
            .unwrap()
            .check(|_, _| Ok(()))
            .unwrap();
        let note = "`c.png` is the same picture as `a.png`, and 1 more such";
        assert_eq!(checked.twins_note().as_deref(), Some(note));
        assert!(checked.memory(64) > 16 * 2 * 64);
    }

    #[cfg(unix)]
    #[test]
    fn pipes_devices_and_links_are_never_waited_for() {
        let dir = folder(&[("a.png", PNG)]);
        let pipe = dir.path().join("pipe.png");
        assert!(
            std::process::Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .unwrap()
                .success()
        );
        std::os::unix::fs::symlink("/dev/zero", dir.path().join("zero.png")).unwrap();
        let photos = list(&[dir.path().to_owned()]).unwrap();
        let note = photos.left_out_note().unwrap();
        assert_eq!(
            note,
            "1 photo; left out 2 special files: pipe.png, zero.png"
        );
        for path in [
            pipe.as_path(),
            Path::new("/dev/zero"),
            Path::new("/dev/null"),
            dir.path(),
        ] {
            assert!(Picture::read_whole(path).is_err(), "{}", path.display());
            assert!(
                super::super::file_sha256(path).is_err(),
                "{}",
                path.display()
            );
        }
        std::os::unix::fs::symlink("nowhere", dir.path().join("broken.png")).unwrap();
        assert!(
            list(&[dir.path().to_owned()]).is_err(),
            "a broken link is a picture less"
        );
    }
}

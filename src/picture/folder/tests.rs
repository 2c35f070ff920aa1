//! Tests of listing folders.

use super::super::Picture;
use super::*;
#[cfg(unix)]
use crate::files::regular::tests::named_pipe;

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
    let photos = list_images(&[dir.path().to_owned()]).unwrap();
    assert_eq!(names(&photos.files), taken.map(|(name, _)| name));
    assert_eq!(photos.note, None);
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
    let photos = list_images(&[dir.path().to_owned()]).unwrap();
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
        ("f.jp2", b"\0\0\0\x0cjP  "),
        ("g.psd", b"8BPS"),
        ("h.jxl", b"\xff\x0a"),
        ("i.dng", b"II*\0"),
        ("j.mov", b"\0\0\0\x14ftypqt  \0\0\0\0qt  "),
        ("k.md", b"# my dog"),
        ("l.md", b""),
    ]);
    std::fs::create_dir(dir.path().join("more")).unwrap();
    let twice = [dir.path().to_owned(), dir.path().join(".")];
    assert_eq!(
        list_images(&twice).unwrap().note.unwrap(),
        "2 photos; left out 1 AVIF, 2 HEIC, 1 JPEG 2000, 1 JPEG XL, 1 PSD, 1 TIFF, 1 empty file, 1 folder, 1 other \
         file, 1 video: c.heic, d.heif, e.avif, f.jp2, g.psd, and 6 more"
    );
}

#[test]
fn a_folder_without_pictures_says_what_it_holds() {
    let dir = folder(&[("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")]);
    std::fs::create_dir_all(dir.path().join("x")).unwrap();
    let error = list_images(&[dir.path().to_owned()]).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("left out 1 HEIC, 1 folder: a.heic, x"),
        "{error}"
    );
    assert!(error.hint().unwrap().starts_with("convert"), "{error}");
    assert!(
        list_images(&[dir.path().join("x")])
            .unwrap_err()
            .hint()
            .unwrap()
            .starts_with("put")
    );
    assert!(list_images(&[dir.path().join("missing")]).is_err());
    assert!(list_images(&[]).is_err());
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
        let photos = list_images(&[dir.path().to_owned()]).unwrap();
        let error = photos.read(0, |_, _| Ok(())).unwrap_err().to_string();
        assert!(error.contains(name), "{name}: {error}");
    }
}

#[test]
fn one_file_spelled_twice_counts_once() {
    let dir = folder(&[("a.png", PNG)]);
    let spelled = dir.path().join("..").join(dir.path().file_name().unwrap());
    let photos = list_images(&[dir.path().to_owned(), spelled.join("a.png"), spelled]).unwrap();
    assert_eq!(photos.files.len(), 1);
}

#[test]
fn the_same_picture_twice_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let picture = |v: u8| Picture::new(2, 1, vec![v; 6]).unwrap();
    picture(1).write(&file("a.png"), None).unwrap();
    picture(2).write(&file("b.png"), None).unwrap();
    for copy in ["c.png", "d.jpg"] {
        std::fs::copy(file("a.png"), file(copy)).unwrap();
    }
    let checked = list_images(&[dir.path().to_owned()])
        .unwrap()
        .read(0, |_, _| Ok(()))
        .unwrap();
    let note = "`c.png` is the same picture as `a.png`, and 1 more such";
    assert_eq!(checked.note.as_deref(), Some(note));
    assert!(super::super::Photos::memory([&checked], 64) > 16 * 2 * 64);
}

#[cfg(unix)]
#[test]
fn pipes_devices_and_links_are_never_waited_for() {
    let dir = folder(&[("a.png", PNG)]);
    let pipe = dir.path().join("pipe.png");
    named_pipe(&pipe);
    std::os::unix::fs::symlink("/dev/zero", dir.path().join("zero.png")).unwrap();
    let photos = list_images(&[dir.path().to_owned()]).unwrap();
    let note = photos.note.unwrap();
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
        assert!(Picture::read(path, None).is_err(), "{}", path.display());
    }
    std::os::unix::fs::symlink("nowhere", dir.path().join("broken.png")).unwrap();
    assert!(
        list_images(&[dir.path().to_owned()]).is_err(),
        "a broken link is a picture less"
    );
}

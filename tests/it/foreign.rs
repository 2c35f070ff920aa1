//! Files that are not what their names say.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, helpers and all"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use candle_core::Device;
use cones::checkpoint::Source;
use cones::index::NeuronIndex;
use cones::model::Clip;

use super::cli::copy;
use super::cli::golden;
use super::configs::load;

pub(super) const UNET: &str = "unet/diffusion_pytorch_model.fp16.safetensors";
pub(super) const WEIGHTS: [&str; 3] = [
    UNET,
    "vae/diffusion_pytorch_model.fp16.safetensors",
    "text_encoder/model.fp16.safetensors",
];
const TEXTS: [&str; 7] = [
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
    "model_index.json",
    "tokenizer/tokenizer.json",
    "cones.json",
];

pub(super) fn model(dir: &Path) -> PathBuf {
    let folder = dir.join("m");
    copy(Path::new(&golden("models/sd1-f16")), &folder);
    fs::write(folder.join("cones.json"), "{}").unwrap();
    folder
}

/// The error of loading a model, with its hint.
fn refused(folder: &Path) -> (String, String) {
    let error = load(folder).err().unwrap();
    (error.to_string(), error.hint().unwrap_or("").to_owned())
}

const LFS: &[u8] =
    b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a0c\nsize 3438167536\n";

/// Contents, what the error says of them, and a part of the hint.
fn foreign() -> Vec<(Vec<u8>, &'static str, &'static str)> {
    let torch = [
        b"PK\x03\x04".as_slice(),
        &[0; 26],
        b"archive/data.pkl",
        &[0; 90],
    ]
    .concat();
    let tar = [vec![b'x'; 257], b"ustar\0".to_vec(), vec![0; 300]].concat();
    #[rustfmt::skip]
    let rows: [(&[u8], &str, &str); 27] = [
        (LFS, "a Git LFS pointer", "git lfs pull"),
        (b"/annex/objects/SHA256E-s3438167536--4d7a0c.safetensors\n", "a git-annex pointer", "git annex get"),
        (b"<!DOCTYPE html>\n<html class=\"\"><head><title>Sign in</title></head></html>", "a web page",
         "hf download"),
        (b"\xef\xbb\xbf \n<HTML><body>404</body></HTML>", "a web page", "hf download"),
        (b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>", "a web page", "hf download"),
        (b"Entry not found", "a server's answer, \"Entry not found\"", "hf download"),
        (b"Access to model owner/name is restricted.", "a server's answer", "hf download"),
        (b"", "an empty file", "fetch it again"),
        (&[0; 4096], "nothing but zeros", "fetch it again"),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\x03abcdef", "packed by gzip", "gunzip"),
        (b"BZh91AY&SYabcdefgh", "packed by bzip2", "bunzip2"),
        (b"\xfd7zXZ\0\0\x04abcdefgh", "packed by xz", "unxz"),
        (b"\x28\xb5\x2f\xfdabcdefgh", "packed by zstd", "unzstd"),
        (b"7z\xbc\xaf\x27\x1c\0\x04abcdefgh", "a 7z archive", "7z x"),
        (b"PK\x03\x04\x14\0\0\0\x08\0abcdefunet/model", "a zip archive", "unzip"),
        (&torch, "pickled data", "save_pretrained"),
        (&tar, "a tar archive", "tar -xf"),
        (b"\x80\x02}q\0(X\x05\0\0\0state", "pickled data", "save_pretrained"),
        (b"\x80\x04\x95\x10\0\0\0\0\0\0\0}", "pickled data", "save_pretrained"),
        (b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0", "a GGUF file", "in its place"),
        (b"\x89HDF\r\n\x1a\n\0\0\0\0", "an HDF5 file", "in its place"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a PNG picture", "in its place"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "a JPEG picture", "in its place"),
        (b"%PDF-1.7\n%abcdef", "a PDF document", "in its place"),
        (b"SQLite format 3\0abc", "a database", "in its place"),
        (b"\xff\xfe{\0\"\0a\0\"\0:\x001\0}\0", "text in UTF-16", "UTF-8"),
        (b"\xfe\xff\0{\0\"\0a\0\"\0:\x001\0}", "text in UTF-16", "UTF-8"),
    ];
    rows.into_iter()
        .map(|(bytes, what, hint)| (bytes.to_vec(), what, hint))
        .collect()
}

#[test]
fn every_file_is_called_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let folder = model(dir.path());
    for file in WEIGHTS.iter().chain(&TEXTS) {
        let original = fs::read(folder.join(file)).unwrap();
        for (bytes, what, hint) in foreign() {
            fs::write(folder.join(file), &bytes).unwrap();
            let (error, found) = refused(&folder);
            // Nothing converts pickles to text.
            let pickled = hint == "save_pretrained" && TEXTS.contains(file);
            let hint = if pickled { "in its place" } else { hint };
            assert!(error.starts_with(&format!("{file}: expected ")), "{error}");
            assert!(
                error.contains(&format!("found {what}")),
                "{file}, {what}: {error}"
            );
            assert!(found.contains(hint), "{file}, {what}: {found}");
            assert!(!found.contains("option"), "{file}, {what}: {found}");
            assert_eq!(
                hint == "fetch it again",
                found.contains("fetch it again"),
                "{what}: {found}"
            );
        }
        fs::write(folder.join(file), original).unwrap();
        load(&folder).unwrap();
    }
}

#[test]
fn text_in_other_encodings_and_tensors_for_text() {
    let dir = tempfile::tempdir().unwrap();
    let folder = model(dir.path());
    let tensors = fs::read(folder.join(UNET)).unwrap();
    for file in TEXTS {
        let original = fs::read(folder.join(file)).unwrap();
        let marked = [b"\xef\xbb\xbf".as_slice(), &original].concat();
        let latin = [b"{\"name\": \"M\xfcller\", ".as_slice(), &original[1..]].concat();
        let wide: Vec<u8> = original.iter().flat_map(|&byte| [byte, 0]).collect();
        let wide_reversed: Vec<u8> = original.iter().flat_map(|&byte| [0, byte]).collect();
        for (bytes, what) in [
            (marked.as_slice(), "a byte order mark before its text"),
            (&latin, "bytes that are no text in UTF-8"),
            (&wide, "text in UTF-16"),
            (&wide_reversed, "text in UTF-16"),
            (&tensors, "a safetensors file"),
        ] {
            fs::write(folder.join(file), bytes).unwrap();
            let (error, hint) = refused(&folder);
            assert!(
                error.starts_with(file) && error.contains(what),
                "{file}, {what}: {error}"
            );
            assert!(hint.contains("UTF-8"), "{file}, {what}: {hint}");
        }
        fs::write(folder.join(file), original).unwrap();
    }
}

#[test]
fn what_breaks_off_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let folder = model(dir.path());
    for file in WEIGHTS {
        let whole = fs::read(folder.join(file)).unwrap();
        let header = 8 + u64::from_le_bytes(*whole.first_chunk().unwrap()) as usize;
        for length in [
            9,
            100,
            header - 1,
            header,
            header + 1,
            whole.len() / 2,
            whole.len() - 1,
        ] {
            fs::write(folder.join(file), &whole[..length]).unwrap();
            let (error, hint) = refused(&folder);
            let needs = if length < header { header } else { whole.len() };
            let missing = format!(
                "{length} of at least {needs} bytes: {} are missing at its end",
                needs - length
            );
            assert!(
                error.starts_with(file) && error.contains(&missing),
                "{length}: {error}"
            );
            assert!(hint.contains("did not come whole"), "{hint}");
        }
        for length in [1, 7, 8] {
            fs::write(folder.join(file), &whole[..length]).unwrap();
            let error = refused(&folder).0;
            assert!(error.contains(&format!("found {length} bytes")), "{error}");
        }
        fs::write(folder.join(file), [whole.as_slice(), b"more"].concat()).unwrap();
        assert!(
            refused(&folder)
                .0
                .contains("found 4 bytes behind its last tensor")
        );
        fs::write(folder.join(file), b"{\"error\": \"Repository not found\"}").unwrap();
        assert!(refused(&folder).0.contains("found JSON text"));
        fs::write(folder.join(file), &whole).unwrap();
    }
    for file in TEXTS.iter().filter(|file| !file.contains("tokenizer")) {
        fs::write(
            folder.join("cones.json"),
            r#"{"steps": 20, "guidance": 7.5}"#,
        )
        .unwrap();
        let whole = fs::read(folder.join(file)).unwrap();
        for length in [1, 2, 10, whole.len() / 2, whole.len() - 2] {
            fs::write(folder.join(file), &whole[..length]).unwrap();
            let (error, hint) = refused(&folder);
            assert!(error.starts_with(file), "{error}");
            assert!(
                error.contains(&format!("ends in the middle, after {length} bytes")),
                "{error}"
            );
            assert!(hint.contains("did not come whole"), "{hint}");
        }
        for (text, found) in [
            ("[1, 2]", "found [1,2]"),
            ("{\"a\": tru}", "text that is no JSON"),
            ("null", "found null"),
        ] {
            fs::write(folder.join(file), text).unwrap();
            let (error, hint) = refused(&folder);
            assert!(error.starts_with(file) && error.contains(found), "{error}");
            assert!(!hint.contains("option"), "{hint}");
        }
        fs::write(folder.join(file), whole).unwrap();
    }
    load(&folder).unwrap();
}

#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let folder = model(dir.path());
    let start = Instant::now();
    let (pipe, socket) = (dir.path().join("pipe"), dir.path().join("socket"));
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for file in WEIGHTS.iter().chain(&TEXTS) {
        let path = folder.join(file);
        let original = fs::read(&path).unwrap();
        for (target, what) in [
            (pipe.as_path(), "a named pipe"),
            (&socket, "a socket"),
            (Path::new("/dev/zero"), "a device"),
            (Path::new("/dev/null"), "a device"),
            (dir.path(), "a folder"),
        ] {
            fs::remove_file(&path).unwrap();
            symlink(target, &path).unwrap();
            let error = refused(&folder).0;
            assert!(
                error.contains(file)
                    && error.contains(&format!("expected a regular file, found {what}")),
                "{error}"
            );
        }
        fs::remove_file(&path).unwrap();
        fs::write(&path, original).unwrap();
    }
    for (target, what) in [
        (pipe.as_path(), "a named pipe"),
        (Path::new("/dev/zero"), "a device"),
        (dir.path(), "a folder"),
    ] {
        let error = NeuronIndex::read(target).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
    assert!(
        Source::open(pipe.to_str().unwrap())
            .unwrap_err()
            .to_string()
            .contains("a named pipe")
    );
    // A text file that is far too long; it takes no room on the disk.
    let long = fs::File::create(folder.join("unet/config.json")).unwrap();
    long.set_len(1 << 40).unwrap();
    assert!(
        refused(&folder)
            .0
            .contains("a text file of at most 64 MiB, found a longer one")
    );
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn indices_are_called_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dog.idx");
    for (bytes, what, hint) in foreign() {
        fs::write(&path, bytes).unwrap();
        let error = NeuronIndex::read(&path).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("dog.idx") && text.contains(what), "{text}");
        let hint = if hint == "save_pretrained" {
            "that `cones` wrote"
        } else {
            hint
        };
        assert!(error.hint().unwrap().contains(hint), "{:?}", error.hint());
    }
    let whole = crate::index::concept("dog", 1).to_bytes().unwrap();
    fs::write(&path, &whole[..whole.len() - 3]).unwrap();
    let text = NeuronIndex::read(&path).unwrap_err().to_string();
    assert!(text.contains("3 are missing at its end"), "{text}");
}

#[test]
fn pickled_weights_say_how_to_convert_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let folder = model(dir.path());
    let pickle = b"\x80\x02}q\0.".as_slice();
    for (network, stem) in [
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "pytorch_model"),
    ] {
        let part = folder.join(network);
        let kept = dir.path().join("kept");
        copy(&part, &kept);
        for entry in fs::read_dir(&part).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "safetensors") {
                fs::remove_file(path).unwrap();
            }
        }
        fs::write(part.join(format!("{stem}.bin")), pickle).unwrap();
        let (error, hint) = refused(&folder);
        assert!(error.contains("pickled weights"), "{error}");
        assert!(hint.contains("DiffusionPipeline.from_pretrained"), "{hint}");
        fs::remove_dir_all(&part).unwrap();
        fs::rename(kept, &part).unwrap();
    }
    for (file, name) in [
        ("pytorch_model.bin", "pickled weights"),
        ("model.safetensors", "pickled data"),
    ] {
        let clip = dir.path().join(file);
        copy(Path::new(&golden("clip/new")), &clip);
        fs::remove_file(clip.join("model.safetensors")).unwrap();
        fs::write(clip.join(file), pickle).unwrap();
        let source = Source::encoder(clip.to_str().unwrap()).unwrap();
        let error = Clip::load(&source, &Device::Cpu).err().unwrap();
        assert!(error.to_string().contains(name), "{error}");
        assert!(
            error.hint().unwrap().contains("CLIPModel.from_pretrained"),
            "{:?}",
            error.hint()
        );
    }
}

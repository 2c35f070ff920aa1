//! Weight files that change while they are in use, and what pictures depend on.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, helpers and all"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use candle_core::{DType, Device};
use cones::checkpoint::Source;
use cones::find::ClassCache;
use cones::index::Subject;
use cones::model::Clip;
use cones::{Error, Pipeline, SampleOptions};

use super::cli::copy;
use super::cli::{golden, square};
use super::configs::{change, load};
use super::foreign::{UNET, WEIGHTS, model};

/// Ways to change a file under a program that has mapped it, none of which may make it shorter: that ends the program.
type Change = (&'static str, fn(&Path));
const CHANGES: [Change; 5] = [
    ("other contents", |path| {
        let mut bytes = fs::read(path).unwrap();
        let end = bytes.len();
        bytes[end - 1] ^= 0x20;
        // Opened without being emptied first.
        let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
        std::io::Write::write_all(&mut file, &bytes).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH)
            .unwrap();
    }),
    ("another file in its place", |path| {
        let other = path.with_extension("new");
        fs::copy(path, &other).unwrap();
        fs::rename(other, path).unwrap();
    }),
    ("bytes instead of", |path| {
        let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
        std::io::Write::write_all(&mut file, b"more").unwrap();
    }),
    ("bytes instead of", |path| {
        // Shorter, but another file: the mapped one is whole.
        let bytes = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
    }),
    ("No such file", |path| fs::remove_file(path).unwrap()),
];

#[test]
fn weights_that_change_in_use_are_noticed() {
    for (found, change) in CHANGES {
        for file in WEIGHTS {
            let dir = tempfile::tempdir().unwrap();
            let folder = model(dir.path());
            let model = load(&folder).unwrap();
            let options = SampleOptions {
                sampler: "ddim".parse().unwrap(),
                steps: 1,
                guidance: 1.0,
                size: Some(square(16)),
                ..SampleOptions::default()
            };
            model.draw("a dog", &options, &[1], |_| Ok(())).unwrap();
            change(&folder.join(file));
            let error = model.draw("a dog", &options, &[1], |_| Ok(())).unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, Error::File { .. }), "{text}");
            assert!(
                text.contains(file) && text.contains(found),
                "{file}: {text}"
            );
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("clip");
    copy(Path::new(&golden("clip/new")), &folder);
    let clip = Clip::load(
        &Source::encoder(folder.to_str().unwrap()).unwrap(),
        &Device::Cpu,
    )
    .unwrap();
    clip.embed_texts(&["a dog"]).unwrap();
    CHANGES[0].1(&folder.join("model.safetensors"));
    assert!(clip.embed_texts(&["a dog"]).is_err());
}

/// The step after the change ends the run, long before its last one, and no index is written.
#[test]
fn a_find_on_changing_weights_ends() {
    let dir = tempfile::tempdir().unwrap();
    let folder = model(dir.path());
    let (photos, class) = (golden("photos/subject"), golden("photos/class"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_cones"))
        .args([
            "find",
            "--subject",
            "dog",
            "--method",
            "paper",
            "--steps",
            "1000000",
            "-o",
            "dog.idx",
        ])
        .args([
            "--class-images",
            &class,
            "--model",
            folder.to_str().unwrap(),
            &photos,
        ])
        .current_dir(dir.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(2));
    assert!(
        child.try_wait().unwrap().is_none(),
        "it should be at its steps"
    );
    CHANGES[0].1(&folder.join(UNET));
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("the run went on");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(
        message.contains(UNET) && message.contains("other contents"),
        "{message}"
    );
    assert!(!dir.path().join("dog.idx").exists());
}

/// What a model's own pictures depend on: the hash in the name of the folder that keeps them.
pub(super) fn identity(model: &Pipeline) -> String {
    let dog = Subject {
        noun: "dog".to_owned(),
        token: "sks".to_owned(),
    };
    let cache = ClassCache::new(&dog, 1, Path::new("dog.idx"));
    let folder = cache.missing(model).unwrap().folder.to_str().unwrap();
    folder.rsplit('-').next().unwrap().to_owned()
}

/// Pictures that a model drew are those of another one as soon as anything that draws them differs.
#[test]
fn identity_is_of_everything_that_draws() {
    let dir = tempfile::tempdir().unwrap();
    let folder = model(dir.path());
    let identity = || self::identity(&load(&folder).unwrap());
    let before = identity();
    assert_eq!(identity(), before);
    fs::write(folder.join("README.md"), "words").unwrap();
    assert_eq!(identity(), before, "what draws nothing");
    let mut seen = vec![before];
    for file in WEIGHTS {
        CHANGES[0].1(&folder.join(file));
        seen.push(identity());
    }
    for (file, key, value) in [
        ("unet/config.json", "norm_eps", 1e-4),
        ("vae/config.json", "scaling_factor", 0.5),
        ("scheduler/scheduler_config.json", "beta_end", 0.02),
        ("text_encoder/config.json", "layer_norm_eps", 1e-4),
    ] {
        change(&folder, file, |map| {
            drop(map.insert(key.to_owned(), value.into()))
        });
        seen.push(identity());
    }
    // Two tokens change places.
    change(&folder, "tokenizer/tokenizer.json", |map| {
        let vocabulary = &mut map["model"]["vocab"];
        let (a, b) = (vocabulary["dog</w>"].clone(), vocabulary["o</w>"].clone());
        (vocabulary["dog</w>"], vocabulary["o</w>"]) = (b, a);
    });
    seen.push(identity());
    let source = Source::open(folder.to_str().unwrap()).unwrap();
    let model = Pipeline::load(&source, &Device::Cpu, DType::BF16).unwrap();
    seen.push(self::identity(&model));
    let different: std::collections::BTreeSet<&String> = seen.iter().collect();
    assert_eq!(different.len(), seen.len());
}

/// Class pictures are drawn anew for another autoencoder, and taken as they are for the same model.
#[test]
fn class_pictures_are_of_the_whole_model() {
    let dir = tempfile::tempdir().unwrap();
    let folder = model(dir.path());
    let photos = golden("photos/subject");
    let find = || {
        let args = [
            "find",
            "--subject",
            "dog",
            "--method",
            "paper",
            "--steps",
            "1",
            "--class-count",
            "1",
            "-o",
            "dog.idx",
        ];
        drop(fs::remove_file(dir.path().join("dog.idx")));
        let status = Command::new(env!("CARGO_BIN_EXE_cones"))
            .args(args)
            .args(["--quiet", "--model", folder.to_str().unwrap(), &photos])
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        let names = fs::read_dir(dir.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        names
            .filter(|name| name.starts_with("class-images.dog.m-"))
            .count()
    };
    assert_eq!(find(), 1);
    assert_eq!(find(), 1);
    for (i, file) in WEIGHTS.iter().enumerate() {
        CHANGES[0].1(&folder.join(file));
        assert_eq!(find(), 2 + i, "{file}");
    }
}

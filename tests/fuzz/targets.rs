//! The readers, each with good files to begin from: those of tests/golden, of corpus/, or made here.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::run;
use crate::checkpoint::hub::reads_listing;
use crate::find::selection::Selection;
use crate::find::{Part, Scores, TrainerState};
use crate::index::{NeuronIndex, NeuronSet, Provenance, Scope, Site, Subject};
use crate::prompt::{Marks, fold, occurrences, place_subjects};
use crate::{Error, Picture, Size, read_metadata};

pub(super) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a folder of the repository whose names end so, in order.
pub(super) fn files(folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    let (mut folders, mut found) = (vec![repository().join(folder)], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

pub(super) fn contents(paths: &[PathBuf]) -> Vec<Vec<u8>> {
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

pub(super) fn unsealed(_: &mut Vec<u8>) {}

/// Puts the SHA-256 that a refusal found in place of the one that the file claims.
fn seal(bytes: &mut [u8], found: &str) {
    let key = b"sha256";
    let quoted = |window: &[u8]| window.iter().all(u8::is_ascii_hexdigit);
    // `"sha256":"` of an index, `\"sha256\":\"` of scores: the key, some quotes, 64 digits.
    for at in 0..bytes.len().saturating_sub(key.len() + 70) {
        if bytes[at..].starts_with(key) {
            let start = at + key.len();
            let skip = bytes[start..]
                .iter()
                .take(8)
                .position(u8::is_ascii_hexdigit);
            if let Some(place) =
                skip.and_then(|skip| bytes.get_mut(start + skip..start + skip + 64))
                && quoted(place)
            {
                place.copy_from_slice(found.as_bytes());
                return;
            }
        }
    }
}

pub(super) fn plan(scope: Scope, settings: &[(&str, &str)]) -> Provenance {
    let settings = settings
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Provenance {
        model: "pocket".to_owned(),
        fingerprint: "0f".repeat(32),
        subjects: vec![Subject {
            noun: "dog".to_owned(),
            token: "sks".to_owned(),
        }],
        prompts: vec!["a photo of a sks dog".to_owned()],
        method: "paper".to_owned(),
        scope,
        settings: settings.collect(),
        seed: Some(3),
        pictures: vec!["5a".repeat(32)],
        ..Provenance::default()
    }
}

pub(super) fn site(projection: &str) -> Site {
    let name = format!("mid_block.attentions.0.transformer_blocks.0.attn2.{projection}.weight");
    name.parse().unwrap()
}

fn index(scope: Scope) -> NeuronIndex {
    let sites = [("to_k", 97), ("to_v", 7)].map(|(projection, step)| {
        let neurons = (0..512).filter(|i| i % step < 2).collect();
        (site(projection), NeuronSet::new([16, 32], neurons).unwrap())
    });
    NeuronIndex::new(plan(scope, &[("density", "0.1")]), sites).unwrap()
}

#[test]
fn indices() {
    let [dog, words] = [Scope::Prompt, Scope::Words].map(index);
    let mut cat = plan(Scope::Words, &[("density", "0.1")]);
    cat.subjects[0].noun = "cat".to_owned();
    let neurons = NeuronSet::new([16, 32], vec![0, 5, 511]).unwrap();
    let cat = NeuronIndex::new(cat, [(site("to_v"), neurons)]).unwrap();
    let both = NeuronIndex::union(&[&words, &cat]).unwrap();
    let corpus = [&dog, &words, &both].map(|index| index.to_bytes().unwrap());
    let sealed = |bytes: &mut Vec<u8>| {
        if let Err(Error::Index(error)) = NeuronIndex::try_from(bytes.as_slice())
            && let crate::IndexError::ChecksumMismatch { found, .. } = error.cause()
        {
            seal(bytes, found);
        }
    };
    run(
        "indices",
        &corpus,
        4000,
        sealed,
        |bytes| match NeuronIndex::try_from(bytes) {
            Ok(index) => {
                assert_eq!(
                    NeuronIndex::try_from(index.to_bytes().unwrap().as_slice()).unwrap(),
                    index
                );
                let _ = NeuronIndex::union(&[&index, &dog]);
                true
            }
            Err(_) => false,
        },
    );
}

/// [`seal`] of scores, or of a part of them.
pub(super) fn sealed_scores(bytes: &mut [u8]) {
    for error in [
        Scores::from_bytes(bytes).err(),
        Part::from_bytes(bytes).err(),
    ] {
        if let Some(Error::File { found, .. }) = error
            && found.len() == 64
        {
            seal(bytes, &found);
        }
    }
}

#[test]
fn scores() {
    let plan = plan(
        Scope::Words,
        &[("density", "0.1"), ("steps", "40"), ("sites", "cross:v")],
    );
    let values: Vec<f32> = (0..12).map(|i| i as f32 / 7.0 - 0.5).collect();
    let (values, shapes): (BTreeMap<_, _>, _) = (
        [(site("to_v"), values)].into(),
        [(site("to_v"), [3, 4])].into(),
    );
    let whole = Scores::to_bytes(&values, &shapes, &plan).unwrap();
    // A part of 40 steps in 20 blocks: two blocks of 3 by 2.
    let part = Part::of_ones(&plan, "1/10", site("to_v"), [2, 3, 2]);
    let foreign = {
        let bytes = [0_u8; 16];
        let view = TensorView::new(Dtype::F32, vec![2, 2], &bytes).unwrap();
        safetensors::serialize([(site("to_k").as_str(), view)], None).unwrap()
    };
    run(
        "scores",
        &[whole, part, foreign],
        4000,
        |bytes| sealed_scores(bytes),
        |bytes| {
            let (scores, part) = (Scores::from_bytes(bytes), Part::from_bytes(bytes));
            if let Ok(part) = &part {
                assert_eq!(Part::from_bytes(&part.to_bytes().unwrap()).unwrap(), *part);
            }
            match scores {
                Ok(scores) => {
                    let selection = scores.provenance().and_then(Selection::try_from);
                    let _ = selection.and_then(|selection| scores.choose(selection, None));
                    true
                }
                Err(_) => part.is_ok(),
            }
        },
    );
}

#[test]
fn states() {
    let bytes = [0_u8; 48];
    let view = |dtype, length| {
        let size = if dtype == Dtype::F32 { 4 } else { 8 };
        TensorView::new(dtype, vec![length], &bytes[..size * length]).unwrap()
    };
    let file = |more: Vec<(&str, TensorView)>| {
        let steps = [
            ("steps.loss", view(Dtype::F64, 2)),
            ("steps.seconds", view(Dtype::F64, 2)),
        ];
        let metadata = [("format".to_owned(), "cones.state 1".to_owned())].into();
        safetensors::serialize(steps.into_iter().chain(more), Some(metadata)).unwrap()
    };
    let whole = file(vec![
        ("array.mask", view(Dtype::F32, 3)),
        ("number.counts", view(Dtype::F64, 2)),
    ]);
    run(
        "states",
        &[whole, file(Vec::new())],
        4000,
        unsealed,
        |bytes| {
            TrainerState::try_from(bytes).is_ok_and(|state| {
                assert!(TrainerState::try_from(state.to_bytes().unwrap().as_slice()).is_ok());
                true
            })
        },
    );
}

#[test]
fn prompts() {
    let text = fs::read(repository().join("tests/fuzz/corpus/prompts.txt")).unwrap();
    let corpus: Vec<Vec<u8>> = text
        .split(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
        .map(<[u8]>::to_vec)
        .collect();
    run("prompts", &corpus, 4000, unsealed, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let subjects = [("dog", "sks"), ("teddy bear", "zwx"), ("dog house", "sks")];
        let placed = place_subjects(&text, &subjects);
        // Applied to its own result, the rule changes nothing.
        assert_eq!(place_subjects(&placed, &subjects), placed, "{text:?}");
        let marks = Marks::new(
            vec!["sks dog".to_owned(), "zwx teddy bear".to_owned()],
            vec!["sks dog house".to_owned()],
        );
        for spans in marks.prompt(placed.clone()).spans() {
            assert!(spans.iter().all(|span| placed.get(span.clone()).is_some()));
        }
        // The text may be a noun, too.
        let _ = (
            place_subjects("a photo of a dog", &[(&text, "sks"), ("dog", &text)]),
            fold(&text),
        );
        !occurrences(&text, "dog").is_empty() || std::str::from_utf8(bytes).is_ok()
    });
}

fn pictures() -> Vec<Vec<u8>> {
    contents(&files("tests/fuzz/corpus", &[".png", ".jpg"]))
}

#[test]
fn photos() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("photo");
    run("photos", &pictures(), 1500, unsealed, |bytes| {
        fs::write(&path, bytes).unwrap();
        let fitted = Picture::read(&path, Size::square(16));
        assert_eq!(fitted.is_ok(), Picture::read(&path, None).is_ok());
        fitted.is_ok()
    });
}

#[test]
fn picture_metadata() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("picture.png");
    let corpus: Vec<Vec<u8>> = pictures()
        .into_iter()
        .filter(|bytes| bytes.starts_with(b"\x89PNG"))
        .collect();
    run("picture_metadata", &corpus, 2000, unsealed, |bytes| {
        fs::write(&path, bytes).unwrap();
        read_metadata(&path).is_ok()
    });
}

#[test]
fn hub_answers() {
    let corpus = contents(&files("tests/fuzz/corpus", &["listing.json"]));
    run("hub_answers", &corpus, 4000, unsealed, reads_listing);
}

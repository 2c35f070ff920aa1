//! What a run leaves for another one: `OUT.part` with its contents, and parts of a find's steps.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::run;
use super::targets::{plan, sealed_scores, site, unsealed};
use crate::Part;
use crate::eval::EvalState;
use crate::eval::state_tests::{SHAPE, state};
use crate::find::selection::Selection;
use crate::find::{Part as ScorePart, Parts, TrainerState};
use crate::index::Scope;

/// What the work depends on.
fn work() -> BTreeMap<String, String> {
    let values = [
        ("work", "find"),
        ("steps", "500"),
        ("prompt", "a photo of a \u{1f436}\n"),
        ("model", "0f0f0f0f"),
    ];
    values
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// The file that a killed run leaves.
fn left(output: &Path, done: &str, contents: &[u8]) -> Vec<u8> {
    let (mut part, _) = Part::open(output, work(), true, 0).unwrap();
    part.save(done, |out| out.write_all(contents)).unwrap();
    drop(part);
    fs::read(Part::path(output).unwrap()).unwrap()
}

/// The file around the contents: whatever is in it, it is taken whole or refused, and can be begun again.
#[test]
fn unfinished_work() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("o.idx");
    let path = Part::path(&output).unwrap();
    let series = br#"{"0":{"sha256":"5a","heat":[{"sha256":"0f","low":0.5,"high":1.5}]}}"#;
    let corpus = [
        left(&output, "step 312 of 500", &state().to_bytes().unwrap()),
        left(&output, "picture 1 of 2", series),
        left(&output, "", b""),
    ];
    // Its last bytes are the SHA-256 of the others.
    let sealed = |bytes: &mut Vec<u8>| {
        let end = bytes.len().saturating_sub(32);
        bytes.truncate(end);
        bytes.extend(Sha256::digest(&bytes));
    };
    let mut number = 0;
    run("unfinished_work", &corpus, 3000, sealed, |bytes| {
        fs::write(&path, bytes).unwrap();
        let most = 1 << 16;
        let opened = Part::open(&output, work(), false, most);
        number += 1;
        if number % 64 == 0 {
            // Writing waits for the disk.
            drop(opened);
            left(&output, "again", b"again");
            let (_, kept) = Part::open(&output, work(), false, most).unwrap();
            assert_eq!(kept.unwrap().contents, b"again");
            return false;
        }
        let Ok((_, Some(kept))) = opened else {
            return false;
        };
        assert!(bytes[..bytes.len() - 32].ends_with(&kept.contents));
        assert!(kept.contents.len() as u64 <= most && kept.done.lines().count() <= 1);
        let _ = TrainerState::try_from(kept.contents.as_slice());
        true
    });
}

/// What is kept of an `eval`.
#[test]
fn measurings() {
    let corpus = [
        state().to_bytes().unwrap(),
        EvalState::default().to_bytes().unwrap(),
    ];
    run("measurings", &corpus, 4000, unsealed, |bytes| {
        EvalState::from_bytes(bytes, &SHAPE).is_ok_and(|state| {
            let again = state.to_bytes().unwrap();
            assert!(EvalState::from_bytes(&again, &SHAPE).is_ok_and(|read| read == state));
            true
        })
    });
}

/// Parts of a find's steps, alone and added up with others.
#[test]
fn score_parts() {
    let plan = plan(
        Scope::Words,
        &[
            ("density", "0.1"),
            ("steps", "40"),
            ("sites", "cross:v"),
            ("rho", "0"),
        ],
    );
    // 40 steps are in 20 blocks.
    let part = |part, blocks| ScorePart::of_ones(&plan, part, site("to_v"), [blocks, 3, 2]);
    let dir = tempfile::tempdir().unwrap();
    let files: Vec<_> = (1..=3).map(|i| dir.path().join(i.to_string())).collect();
    let whole = [part("1/3", 6), part("2/3", 7), part("3/3", 7)];
    for (file, bytes) in files.iter().zip(&whole) {
        fs::write(file, bytes).unwrap();
    }
    let corpus = [part("2/3", 7), part("1/1", 20)];
    let mut added = 0;
    run(
        "score_parts",
        &corpus,
        2000,
        |bytes| sealed_scores(bytes),
        |bytes| {
            let part = ScorePart::from_bytes(bytes);
            if let Ok(part) = &part {
                let again = part.to_bytes().unwrap();
                assert_eq!(ScorePart::from_bytes(&again).unwrap(), *part);
            }
            fs::write(&files[1], bytes).unwrap();
            for files in [&files[..], &files[1..2]] {
                let Ok(Some(parts)) = Parts::open(files) else {
                    continue;
                };
                let selection = Selection::try_from(&parts.plan);
                added += usize::from(selection.is_ok_and(|choice| parts.add_up(choice).is_ok()));
            }
            part.is_ok()
        },
    );
    assert!(added > 0, "no parts were ever added up");
}

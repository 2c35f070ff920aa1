//! Index files that lie: none may panic, hang or take much memory, and what is accepted is valid.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, helpers and all"
)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cones::index::{IndexError, NeuronIndex};
use cones::{Error, Result};

use crate::alloc::peak_of;
use crate::index::{Random, concept, tuned};
use crate::mutate::{Parts, mutant};

/// No file of a few megabytes may take more.
const MEMORY: usize = 64 << 20;
/// Very long for any of these files, also unoptimised on a busy machine.
const TIME: Duration = Duration::from_secs(10);

/// The layers of checks.
const CHECKS: [&str; 8] = [
    "twice",
    "SHA-256",
    "coded indices",
    "values",
    "shapes",
    "metadata",
    "tensor data",
    "container",
];

/// The layer that refused a file.
fn check(error: &Error) -> &'static str {
    let Error::Index(error) = error else {
        return "other";
    };
    match error.cause() {
        IndexError::KeyTwice { .. } => "twice",
        IndexError::ChecksumMismatch { .. } => "SHA-256",
        IndexError::Coding { .. } => "coded indices",
        IndexError::Values { .. } | IndexError::Type { part: "values", .. } => "values",
        IndexError::Metadata { key, .. } if key == "shapes" => "shapes",
        IndexError::Metadata { .. } => "metadata",
        IndexError::TensorData { .. } => "tensor data",
        IndexError::Container { .. } => "container",
        _ => "other",
    }
}

/// Reads bytes under the bounds; what is accepted must be valid and come back.
fn read(bytes: &[u8], what: &str) -> Result<NeuronIndex> {
    let start = Instant::now();
    let (result, peak) = peak_of(|| NeuronIndex::try_from(bytes));
    let (time, length) = (start.elapsed(), bytes.len());
    assert!(
        peak <= MEMORY,
        "{what}: {peak} bytes of memory for a file of {length}"
    );
    assert!(time <= TIME, "{what}: {time:?} for a file of {length}");
    if let Ok(index) = &result {
        for (_, set) in index.sites() {
            let ([out, input], indices) = (set.shape(), set.indices());
            let weight_count = u64::from(out) * u64::from(input);
            assert!(indices.is_sorted_by(|a, b| a < b), "{what}");
            assert!(
                indices
                    .last()
                    .is_none_or(|&last| u64::from(last) < weight_count),
                "{what}"
            );
            assert!(
                set.values()
                    .is_none_or(|values| values.len() == indices.len()),
                "{what}"
            );
        }
        let again = NeuronIndex::try_from(index.to_bytes().unwrap().as_slice()).unwrap();
        assert_eq!(&again, index, "{what}");
    }
    result
}

#[test]
fn ten_thousand_changed_files() {
    let dog = concept("dog", 1);
    let cat = concept("cat", 2);
    let both = NeuronIndex::union(&[&dog, &cat]).unwrap();
    let files: Vec<Vec<u8>> = [&dog, &both, &tuned(&both, 3)]
        .into_iter()
        .map(|index| index.to_bytes().unwrap())
        .collect();
    for file in &files {
        let mut sealed = Parts::of(file).unwrap();
        sealed.seal().unwrap();
        assert_eq!(
            NeuronIndex::try_from(sealed.bytes().as_slice()).unwrap(),
            NeuronIndex::try_from(file.as_slice()).unwrap()
        );
    }

    let mut random = Random(20_230_309);
    let (mut accepted, mut refused) = (0, BTreeMap::<&str, u32>::new());
    for round in 0..10_000 {
        let bytes = mutant(&files, &mut random);
        match read(&bytes, &format!("file {round}")) {
            Ok(_) => accepted += 1,
            Err(error) => {
                *refused.entry(check(&error)).or_default() += 1;
            }
        }
    }
    // That the changes reach every layer: with a whole container and a right SHA-256, the checks behind them decide.
    for check in CHECKS {
        assert!(
            refused.get(check).is_some_and(|&count| count >= 20),
            "{check}: {refused:?}"
        );
    }
    assert!(
        (500..5000).contains(&accepted),
        "{accepted} accepted; refused: {refused:?}"
    );
}

/// The file `base` with nothing but one site of `codes`, claiming a matrix of 65,536 by 65,536 and `shut` neurons.
fn bomb(base: &Parts, codes: &[u8], shut: u64) -> Vec<u8> {
    let mut parts = base.clone();
    let strings = parts.header.remove("__metadata__").unwrap();
    let name = parts.header.keys().next().unwrap().clone();
    let entry = serde_json::json!({ "dtype": "U8", "shape": [codes.len()], "data_offsets": [0, codes.len()] });
    parts.header = [("__metadata__".to_owned(), strings), (name.clone(), entry)]
        .into_iter()
        .collect();
    parts.data = codes.to_vec();
    parts
        .set("shapes", format!("{{\"{name}\":[65536,65536]}}"))
        .unwrap();
    parts.set("total", (1_u64 << 32).to_string()).unwrap();
    parts.set("shut", shut.to_string()).unwrap();
    parts.seal().unwrap();
    parts.bytes()
}

#[test]
fn small_files_with_great_claims() {
    let base = Parts::of(&concept("dog", 1).to_bytes().unwrap()).unwrap();
    read(&bomb(&base, &[], 0), "empty").unwrap();
    for code in (0..=125).chain([255]) {
        for byte in [0, 0x55, 0x80, 0xff] {
            for length in [1, 20, 1000] {
                let codes = [&[code][..], &vec![byte; length]].concat();
                let _ = read(
                    &bomb(&base, &codes, u64::MAX),
                    &format!("{length} bytes {byte:02x} of code {code}"),
                );
            }
        }
    }
    // Every bit an index: the most that a file can hold for its size.
    let dense = [&[1][..], &vec![0; 1 << 18]].concat();
    assert_eq!(
        read(&bomb(&base, &dense, 1 << 21), "dense")
            .unwrap()
            .extent()
            .shut,
        1 << 21
    );
    // The claimed count bounds what is allocated.
    let (result, peak) = peak_of(|| NeuronIndex::try_from(bomb(&base, &dense, 1000).as_slice()));
    result.unwrap_err();
    assert!(peak < 2 << 20, "{peak}");
}

#[test]
fn headers_of_four_megabytes() {
    let base = Parts::of(&concept("dog", 1).to_bytes().unwrap()).unwrap();
    let bytes = 4_000_000;
    let list = |item: &str, escaped: usize| {
        format!("[{}{item}]", format!("{item},").repeat(bytes / escaped - 1))
    };
    for (key, value) in [
        ("prompts", list("\"\"", 5)),
        ("prompts", format!("[\"{}\"]", "x".repeat(bytes - 10_000))),
        ("pictures", list(&format!("\"{}\"", "0".repeat(64)), 69)),
        ("subjects", list(r#"{"noun":"a","token":"b"}"#, 34)),
        (
            "merged_from",
            list(
                r#"{"subjects":[],"method":"","shut":0,"total":0,"sha256":""}"#,
                72,
            ),
        ),
        ("merged_from", "[".repeat(bytes - 10_000)),
        (
            "settings",
            format!(
                "{{{}}}",
                (0..bytes / 18)
                    .map(|i| format!("\"{i:06}\":\"\""))
                    .collect::<Vec<_>>()
                    .join(",")
            ),
        ),
        ("shapes", list("1", 2)),
    ] {
        let mut parts = base.clone();
        parts.set(key, value).unwrap();
        let bytes = parts.bytes();
        assert!(
            (3_000_000..4 << 20).contains(&bytes.len()),
            "{key}: {}",
            bytes.len()
        );
        let _ = read(&bytes, key);
    }
    let entries: Vec<String> = (0..bytes / 60)
        .map(|i| format!(r#""{i:x}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#))
        .collect();
    let header = format!("{{{}}}", entries.join(","));
    let _ = read(
        &[&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat(),
        "entries",
    )
    .unwrap_err();
    let header = format!(
        r#"{{"a":{{"dtype":"U8","shape":{},"data_offsets":[0,0]}}}}"#,
        list("0", 2)
    );
    let _ = read(
        &[&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat(),
        "shape",
    )
    .unwrap_err();
}

//! Index files on the disk, and read by another language.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, helpers and all"
)]

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use cones::index::{NeuronIndex, NeuronSet, Provenance, Site, Subject};

/// A small generator (splitmix64): tests that choose at random choose the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`, or 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// The site `attn2.to_k` or `attn2.to_v` of a block.
pub(crate) fn site(block: &str, projection: &str) -> Site {
    format!("{block}.attentions.0.transformer_blocks.0.attn2.{projection}.weight")
        .parse()
        .unwrap()
}

/// A concept with sites from empty to dense.
pub(crate) fn concept(noun: &str, seed: u64) -> NeuronIndex {
    let mut random = Random(seed);
    let provenance = Provenance {
        model: "pocket".to_owned(),
        fingerprint: "0f".repeat(32),
        architecture: Some("pocket".to_owned()),
        subjects: vec![Subject {
            noun: noun.to_owned(),
            token: "sks".to_owned(),
        }],
        prompts: vec![
            format!("a photo of a sks {noun}"),
            format!("a photo of a {noun}"),
        ],
        method: "paper".to_owned(),
        settings: [("density".to_owned(), "0.05".to_owned())].into(),
        seed: Some(seed),
        pictures: vec!["5a".repeat(32), "a5".repeat(32)],
        ..Provenance::default()
    };
    let mut sites = Vec::new();
    let blocks = ["down_blocks.0", "mid_block", "up_blocks.1", "up_blocks.10"];
    for (block, percent) in blocks.into_iter().zip([0, 1, 5, 40]) {
        for projection in ["to_k", "to_v"] {
            let indices = (0..24 * 32)
                .filter(|_| random.below(100) < percent)
                .collect();
            let set = NeuronSet::new([24, 32], indices).unwrap();
            sites.push((site(block, projection), set));
        }
    }
    NeuronIndex::new(provenance, sites).unwrap()
}

/// The same, with a value at each neuron.
pub(crate) fn tuned(index: &NeuronIndex, seed: u64) -> NeuronIndex {
    let mut random = Random(seed);
    let sites = index.sites().map(|(site, set)| {
        let values = set
            .indices()
            .iter()
            .map(|_| random.below(0x7c00) as u16)
            .collect();
        (site.clone(), set.clone().with_values(values).unwrap())
    });
    NeuronIndex::new(index.provenance().clone(), sites).unwrap()
}

#[test]
fn python_reads_the_same_indices() {
    let folder = tempfile::tempdir().unwrap();
    // Every length of remainder, and the greatest index there can be.
    let shapes = [[64, 100], [1000, 100], [1000, 10_000], [65_536, 65_536]];
    let more = shapes.into_iter().enumerate().map(|(at, shape)| {
        let last = shape[0] as u64 * shape[1] as u64 - 1;
        let indices = (0..50).map(|i| (last * i * i / 2401) as u32).collect();
        let site = site(&format!("up_blocks.{}", at + 20), "to_k");
        (site, NeuronSet::new(shape, indices).unwrap())
    });
    let few = concept("dog", 1);
    let sites = few.sites().map(|(site, set)| (site.clone(), set.clone()));
    let large = NeuronIndex::new(few.provenance().clone(), sites.chain(more)).unwrap();
    for (name, index) in [("plain", &large), ("tuned", &tuned(&large, 2))] {
        let path = folder.path().join(name);
        index.write(&path).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/read_index.py");
        let output = Command::new("python3")
            .arg(script)
            .arg(&path)
            .output()
            .expect("this test compares with the Python reader of the README: install `python3`");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let found: BTreeMap<String, Vec<u32>> = serde_json::from_slice(&output.stdout).unwrap();
        let wants = index
            .sites()
            .map(|(site, set)| (site.to_string(), set.indices().to_vec()))
            .collect();
        assert_eq!(found, wants, "{name}");
    }
}

#[test]
fn the_python_reader_is_short() {
    let reader =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/read_index.py")).unwrap();
    assert!(reader.lines().count() <= 20);
}

#[test]
fn files_come_back_and_replace_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dog.idx");
    fs::write(&path, "something else").unwrap();
    let dog = concept("dog", 1);
    dog.write(&path).unwrap();
    assert_eq!(NeuronIndex::read(&path).unwrap(), dog);
    assert_eq!(fs::read(&path).unwrap(), dog.to_bytes().unwrap());
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "a temporary file was left"
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let plain = folder.path().join("plain");
        fs::write(&plain, "").unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(
            mode(&path),
            mode(&plain),
            "an index has the permissions of any new file"
        );
    }
}

#[test]
fn errors_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing").join("dog.idx");
    let error = concept("dog", 1).write(&missing).unwrap_err().to_string();
    assert_eq!(error, format!("cannot write `{}`", missing.display()));
    let error = NeuronIndex::read(&missing).unwrap_err().to_string();
    assert_eq!(error, format!("cannot read `{}`", missing.display()));
    let error = concept("dog", 1)
        .write(folder.path())
        .unwrap_err()
        .to_string();
    assert_eq!(error, format!("cannot write `{}`", folder.path().display()));

    let path = folder.path().join("dog.idx");
    fs::write(&path, b"\x89PNG\r\n\x1a\n and so on").unwrap();
    let error = NeuronIndex::read(&path).unwrap_err();
    let expected = format!(
        "{}: expected a file of `cones`, found a PNG picture",
        path.display()
    );
    assert_eq!(error.to_string(), expected);
    assert!(error.hint().is_some());

    let bytes = concept("dog", 1).to_bytes().unwrap();
    let at = bytes
        .windows(13)
        .position(|part| part == br#""version":"1""#)
        .unwrap();
    let mut newer = bytes.clone();
    newer[at + 11] = b'3';
    fs::write(&path, newer).unwrap();
    let error = NeuronIndex::read(&path).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "index `{}`: expected format version 1, found 3",
            path.display()
        )
    );
    assert!(error.hint().unwrap().contains("update"));

    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let error = NeuronIndex::read(&path).unwrap_err().to_string();
    assert!(error.starts_with(&path.display().to_string()), "{error}");
    assert!(error.ends_with("1 are missing at its end"), "{error}");
}

use super::super::concept::tests::{concept, site};
use sha2::{Digest, Sha256};

use super::*;

fn sample() -> NeuronIndex {
    let mut index = concept(
        "dog",
        &[
            (site(0), [40, 50], &[3, 4, 11, 1999]),
            (site(1), [20, 50], &[]),
        ],
    );
    let set = NeuronSet::new([8, 8], vec![5, 63])
        .unwrap()
        .with_values(vec![0x3c00, 0x8001])
        .unwrap();
    index.insert(site(10), set).unwrap();
    index
}

/// The error of a file with one string changed, and no other: not even the SHA-256.
fn with(key: &str, value: Option<&str>) -> Result<NeuronIndex> {
    let bytes = sample().to_bytes().unwrap();
    let (mut strings, tensors) = container::parse(&bytes).unwrap();
    match value {
        Some(value) => strings.insert(key.to_owned(), value.to_owned()),
        None => strings.remove(key),
    };
    NeuronIndex::try_from(container::serialize(&strings, &tensors).unwrap().as_slice())
}

#[test]
fn header_of_a_file() {
    let index = sample();
    let bytes = index.to_bytes().unwrap();
    assert_eq!(NeuronIndex::try_from(bytes.as_slice()).unwrap(), index);
    let (strings, tensors) = container::parse(&bytes).unwrap();
    let names: Vec<&str> = tensors.keys().map(String::as_str).collect();
    let values = format!("{}.values", site(10));
    assert_eq!(
        names,
        [
            site(0).as_str(),
            site(1).as_str(),
            site(10).as_str(),
            &values
        ]
    );
    for (key, value) in [
        ("format", "cones.index"),
        ("version", "1"),
        ("shut", "6"),
        ("total", "3064"),
        ("subjects", r#"[{"noun":"dog","token":"sks"}]"#),
        ("subject", "dog"),
        ("token", "sks"),
        ("prompts", r#"["a photo of a sks dog","a photo of a dog"]"#),
        ("method", "paper"),
        ("settings", r#"{"rho":"2e-5","steps":"30"}"#),
        ("seed", "7"),
        ("modelspec.sai_model_spec", "1.0.1"),
        ("modelspec.architecture", "pocket/cones"),
        ("modelspec.title", "dog (cones)"),
        ("modelspec.trigger_phrase", "sks dog"),
        ("modelspec.prediction_type", "epsilon"),
    ] {
        assert_eq!(strings.get(key).map(String::as_str), Some(value), "{key}");
    }
    assert_eq!(strings.get("merged_from"), None);
}

#[test]
fn the_bytes_never_change() {
    // Files in the world depend on these bytes: a change that is meant needs another format version.
    let hash: String = Sha256::digest(sample().to_bytes().unwrap())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        hash,
        "dd54b41847af316b6ebd04e7d70dba79de400e0751565e22171fa250cb29bb41"
    );
    assert_eq!(sample().to_bytes().unwrap(), sample().to_bytes().unwrap());
}

#[test]
fn other_formats_and_versions_say_what_to_do() {
    let error = with("version", Some("3")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "index: expected format version 1, found 3"
    );
    assert_eq!(
        error.hint(),
        Some("update cones, or run `cones find` again")
    );
    let error = with("version", Some("new\n")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "index: expected format version 1, found `new\\n`"
    );
    let error = with("format", Some("pt")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "index: expected format `cones.index`, found format `pt`"
    );
    let error = with("format", None).unwrap_err();
    assert!(error.to_string().contains("without `format`"), "{error}");
}

#[test]
fn lies_are_refused() {
    let name = site(0);
    for (key, value, wants) in [
        (
            "sha256",
            Some("00"),
            "SHA-256 of the tensors: expected `00`",
        ),
        (
            "sha256",
            None,
            "metadata `sha256`: expected a value, found none",
        ),
        ("shut", Some("5"), "at most 1 indices"),
        (
            "shut",
            Some("7"),
            "metadata `shut`: expected `6`, found `7`",
        ),
        ("shut", Some("99999999999999999999"), "metadata `shut`"),
        ("total", Some("3063"), "metadata `total`: expected `3064`"),
        ("shapes", Some("{}"), "expected the shape of"),
        (
            "shapes",
            Some("[1]"),
            "metadata `shapes`: expected valid JSON",
        ),
        ("subjects", Some("[]"), "`subjects`: expected at least one"),
        (
            "subject",
            Some("cat"),
            "metadata `subject`: expected `dog`, found `cat`",
        ),
        (
            "settings",
            Some(r#"{"rho":"1","rho":"2e-5","steps":"30"}"#),
            "metadata `settings`",
        ),
        ("seed", Some("-1"), "metadata `seed`"),
        ("seed", Some("07"), "metadata `seed`"),
        (
            "pictures",
            Some(r#"["/home/me/dog.png"]"#),
            "`pictures`: expected a SHA-256",
        ),
        (
            "fingerprint",
            Some("00"),
            "`fingerprint`: expected a SHA-256",
        ),
        (
            "merged_from",
            Some(r#"[{"shut":1}]"#),
            "metadata `merged_from`",
        ),
    ] {
        let error = with(key, value).unwrap_err().to_string();
        assert!(error.contains(wants), "{key} = {value:?}: {error}");
    }
    let shapes = |shape: &str| {
        let text = format!(
            r#"{{"{name}":{shape},"{}":[20,50],"{}":[8,8]}}"#,
            site(1),
            site(10)
        );
        with("shapes", Some(&text)).unwrap_err().to_string()
    };
    assert!(shapes("[39,50]").contains(&format!(
        "site `{name}`: coded indices: expected indices below 1950"
    )));
    assert!(shapes("[65536,65537]").contains("at most 4294967296 weights"));
    assert!(shapes("[4294967295,4294967295]").contains("at most 4294967296 weights"));
    assert!(shapes("[0,0]").contains("expected indices below 0"));
    assert!(shapes("[41,50]").contains("metadata `total`"));
}

#[test]
fn other_tools_may_add_and_change_their_keys() {
    assert_eq!(with("modelspec.title", Some("my dog")).unwrap(), sample());
    assert_eq!(with("modelspec.title", None).unwrap(), sample());
    assert_eq!(with("comment", Some("hello")).unwrap(), sample());
    assert_eq!(
        with("modelspec.architecture", Some("x"))
            .unwrap()
            .provenance()
            .architecture,
        None
    );
}

#[test]
fn where_an_index_came_from_is_in_its_header() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.idx");
    let (index, bytes) = (sample(), sample().to_bytes().unwrap());
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for (kept, is_there) in [
        (bytes.len(), true),
        (header, true),
        (header - 9, false),
        (7, false),
    ] {
        std::fs::write(&path, &bytes[..kept]).unwrap();
        let found = NeuronIndex::read_provenance(&path).ok();
        assert_eq!(
            found.as_ref(),
            is_there.then_some(index.provenance()),
            "{kept}"
        );
    }
    std::fs::write(&path, [255; 64]).unwrap();
    assert!(NeuronIndex::read_provenance(&path).is_err());
}

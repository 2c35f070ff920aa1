//! Token ids against transformers (`tests/golden/make_published.py`, `make_rules.py`), and files that are refused.

mod foreign;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::*;

const SHAPES: [&str; 8] = [
    "sd14",
    "sd15",
    "sd20",
    "sd21",
    "sd21-base",
    "sd-turbo",
    "sd15-inpainting",
    "tiny-sd",
];

const JSON: &str = "tokenizer.json";

fn published(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/published")
        .join(file)
}

fn text(file: &str) -> String {
    std::fs::read_to_string(published(file)).unwrap()
}

fn read(file: &str) -> Value {
    serde_json::from_str(&text(file)).unwrap()
}

/// A folder with the common vocabulary and these files; null takes one away.
fn folder(files: &Map<String, Value>) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in ["vocab.json", "merges.txt"] {
        std::fs::copy(published(file), dir.path().join(file)).unwrap();
    }
    for (file, value) in files {
        match value {
            Value::Null => drop(std::fs::remove_file(dir.path().join(file))),
            Value::String(text) => std::fs::write(dir.path().join(file), text).unwrap(),
            value => std::fs::write(dir.path().join(file), value.to_string()).unwrap(),
        }
    }
    dir
}

pub(super) fn load(dir: &Path, length: usize) -> Result<Tokenizer> {
    Tokenizer::load(&Source::encoder(dir.to_str().unwrap())?, "", length)
}

/// FNV-1a over the ids as little-endian bytes.
pub(super) fn hash(ids: &[Vec<u32>]) -> String {
    let bytes = ids.iter().flatten().flat_map(|id| id.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[test]
fn three_thousand_prompts_have_the_ids_of_transformers_in_each_published_shape() {
    const BLOCK: usize = 10;
    let prompts: Vec<String> = text("prompts.txt")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(prompts.len(), 3000);
    let cases = read("cases.json");
    for shape in SHAPES {
        let files = ["tokenizer_config.json", "special_tokens_map.json"]
            .map(|file| (file.to_owned(), read(&format!("{shape}/tokenizer/{file}"))));
        let tokenizer = load(folder(&files.into_iter().collect()).path(), 77).unwrap();
        let encode = |prompt: &String| tokenizer.encode(prompt).unwrap();
        let first = cases[shape]["ids"].as_str().unwrap();
        let first: Vec<Vec<u32>> = serde_json::from_str(first).unwrap();
        for (prompt, want) in prompts.iter().zip(first) {
            assert_eq!(encode(prompt), want, "{shape}: {prompt:?}");
        }
        let hashes: Vec<&str> = cases[shape]["hashes"]
            .as_str()
            .unwrap()
            .split(' ')
            .collect();
        assert_eq!(hashes.len(), prompts.len() / BLOCK);
        for (block, want) in prompts.chunks(BLOCK).zip(hashes) {
            let ids: Vec<Vec<u32>> = block.iter().map(encode).collect();
            let shown: Vec<_> = block.iter().zip(&ids).collect();
            assert_eq!(hash(&ids), want, "{shape}: one of {shown:#?} is wrong");
        }
    }
}

/// `tokenizer.json` with what the golden file leaves out: the common vocabulary and merges.
fn completed(mut json: Value) -> Value {
    if json["model"]["vocab"].is_null() {
        json["model"]["vocab"] = read("vocab.json");
    }
    if json["model"]["merges"].is_null() {
        let merges = text("merges.txt");
        let pairs = merges
            .lines()
            .skip(1)
            .map(|line| line.split_once(' ').unwrap());
        json["model"]["merges"] = pairs.map(|(a, b)| json!([a, b])).collect();
    }
    json
}

#[test]
fn of_files_that_disagree_the_one_holds_that_transformers_believes() {
    let golden = read("tokenizers.json");
    let prompts: Vec<String> = serde_json::from_value(golden["prompts"].clone()).unwrap();
    let length = golden["length"].as_u64().unwrap() as usize;
    let cases = golden["cases"].as_object().unwrap();
    assert!(cases.len() > 60, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for (name, case) in cases {
        let mut files = golden["base"].as_object().unwrap().clone();
        files.extend(case["files"].as_object().unwrap().clone());
        if let Some(json) = files.get_mut(JSON) {
            *json = completed(json.take());
        }
        let dir = folder(&files);
        let ids = load(dir.path(), length)
            .and_then(|tokenizer| prompts.iter().map(|p| tokenizer.encode(p)).collect());
        match (ids, case.get("ids")) {
            (Ok(got), Some(want)) => {
                let got: Vec<Vec<u32>> = got;
                let want: Vec<Vec<u32>> = serde_json::from_value(want.clone()).unwrap();
                for ((prompt, got), want) in prompts.iter().zip(got).zip(want) {
                    if got != want {
                        wrong.push(format!(
                            "{name}: {prompt:?}\n  {got:?}\n  expected {want:?}"
                        ));
                    }
                }
            }
            (Err(error), Some(_)) => wrong.push(format!("{name}: {error}")),
            (Ok(_), None) => wrong.push(format!("{name}: taken, but {}", case["error"])),
            (Err(_), None) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// diffusers writes `<cat>_1` behind `<cat>` where there is one: drawn without it the picture would be another.
#[test]
fn textual_inversions_of_several_vectors_are_refused_and_those_of_one_are_tokens() {
    let added = json!({"<cat>": 606, "<cat>_1": 607, "<dog>": 608});
    let files = Map::from_iter([("added_tokens.json".to_owned(), added)]);
    let tokenizer = load(folder(&files).path(), 77).unwrap();
    assert_eq!(tokenizer.tokenize("<dog>").unwrap(), [608]);
    for prompt in ["a <cat> in the park", "<CAT>"] {
        let error = tokenizer.encode(prompt).unwrap_err().to_string();
        assert!(error.contains("\"<cat>\""), "{error}");
    }
}

/// Left padding and cutting move the places of words.
#[test]
fn places_are_those_of_the_words_in_the_ids() {
    let ids_of_dog = |config: Value| {
        let files = Map::from_iter([("tokenizer_config.json".to_owned(), config)]);
        let tokenizer = load(folder(&files).path(), 8).unwrap();
        let dog = tokenizer.tokenize("dog").unwrap();
        for prompt in [
            "a dog",
            "a photo of a dog",
            "dog and a cat in the park at night dog",
        ] {
            let ids = tokenizer.encode(prompt).unwrap();
            let at = prompt.rfind("dog").unwrap();
            let chunks = tokenizer.chunks(&prompt.into(), false).unwrap();
            let places = tokenizer.places(&chunks, std::slice::from_ref(&(at..at + 3)));
            let found: Vec<u32> = places.iter().map(|&place| ids[place]).collect();
            let fits = tokenizer.truncated(prompt).unwrap() == 0 || config_cuts_left(&tokenizer);
            assert_eq!(
                found,
                if fits { dog.clone() } else { Vec::new() },
                "{prompt}"
            );
        }
    };
    for padding in ["left", "right"] {
        for truncation in ["left", "right"] {
            ids_of_dog(json!({"padding_side": padding, "truncation_side": truncation}));
        }
    }
}

fn config_cuts_left(tokenizer: &Tokenizer) -> bool {
    tokenizer.truncation == Side::Left
}

/// What makes other words of a vocabulary than CLIP's, and what would make the library panic or take all memory.
#[test]
fn a_foreign_or_hostile_tokenizer_is_refused_by_name() {
    let clip = completed(
        json!({"model": {"type": "BPE", "end_of_word_suffix": "</w>", "vocab": null, "merges": null}}),
    );
    let cases: [(&str, Value, &str); 24] = [
        ("/model/type", json!("WordPiece"), "type"),
        ("/model/type", json!("Unigram"), "type"),
        ("/model/type", json!("WordLevel"), "type"),
        ("/model/dropout", json!(0.5), "dropout"),
        ("/model/dropout", json!("high"), "dropout"),
        (
            "/model/continuing_subword_prefix",
            json!("(a+)+$"),
            "continuing_subword_prefix",
        ),
        (
            "/model/continuing_subword_prefix",
            json!("##"),
            "continuing_subword_prefix",
        ),
        (
            "/model/end_of_word_suffix",
            json!("</word>"),
            "end_of_word_suffix",
        ),
        (
            "/model/end_of_word_suffix",
            Value::Null,
            "end_of_word_suffix",
        ),
        ("/model/byte_fallback", json!(true), "byte_fallback"),
        ("/model/fuse_unk", json!(true), "fuse_unk"),
        ("/model/ignore_merges", json!(true), "ignore_merges"),
        (
            "/model/max_input_chars_per_word",
            json!(100),
            "max_input_chars_per_word",
        ),
        (
            "/model/vocab",
            json!([["a", -1.0], ["b", -2.0]]),
            "vocabulary",
        ),
        ("/model/vocab", json!({"a": "b"}), "the id of \"a\""),
        (
            "/model/vocab",
            json!({"a": 4_294_967_295u32}),
            "the id of \"a\"",
        ),
        ("/model/vocab", json!({"a": -1}), "the id of \"a\""),
        ("/model/vocab", json!({}), "not in the vocabulary"),
        (
            "/model/merges",
            json!([["!", "never seen"]]),
            "\"never seen\"",
        ),
        // Two tokens whose sum is longer than any: the library writes past its buffer's end.
        (
            "/model/merges",
            json!(["<|startoftext|> <|endoftext|>"]),
            "not in the vocabulary",
        ),
        (
            "/model/merges",
            json!(["a b c"]),
            "merge 1 is not two tokens",
        ),
        (
            "/model/merges",
            json!([["a", "b", "c"]]),
            "merge 1 is not two tokens",
        ),
        ("/model/merges", json!("a b"), "merges"),
        (
            "/added_tokens",
            json!([{"id": "0", "content": "!"}]),
            "added_tokens",
        ),
    ];
    assert!(
        load(
            folder(&Map::from_iter([(JSON.to_owned(), clip.clone())])).path(),
            77
        )
        .is_ok()
    );
    for (pointer, value, part) in cases {
        let mut json = clip.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        json.pointer_mut(parent).unwrap()[key] = value.clone();
        let files = Map::from_iter([(JSON.to_owned(), json)]);
        let error = load(folder(&files).path(), 77).err();
        let error = error.unwrap_or_else(|| panic!("{pointer} {value} is taken"));
        let told = error.to_string();
        assert!(
            told.contains(JSON) && told.contains(part),
            "{pointer}: {told}"
        );
        assert!(error.hint().is_some(), "{pointer}: no hint");
    }
}

/// What is CLIP's own in every tokenizer counts for nothing in a file, however it looks: nothing of it is parsed.
#[test]
fn a_foreign_normalizer_is_not_read() {
    let mut chain =
        vec![json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}); 1000];
    chain.push(json!({"type": "Lowercase"}));
    let ways = [
        (
            "normalizer",
            json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        ),
        (
            "normalizer",
            json!({"type": "Replace", "pattern": {"String": ""}, "content": "ab"}),
        ),
        (
            "normalizer",
            json!({"type": "Sequence", "normalizers": chain}),
        ),
        ("normalizer", json!({"type": "no such"})),
        ("normalizer", json!(5)),
        (
            "pre_tokenizer",
            json!({"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": true}),
        ),
        ("post_processor", json!({"type": "TemplateProcessing"})),
        ("decoder", json!([])),
        ("version", json!("9.9")),
    ];
    let plain = load(folder(&Map::new()).path(), 20).unwrap();
    let prompts = ["a aa AA dog", "", "a photo! of <|endoftext|>"];
    for (key, value) in ways {
        let mut json = completed(json!({"model": {"end_of_word_suffix": "</w>"}}));
        json[key] = value.clone();
        let files = Map::from_iter([(JSON.to_owned(), json)]);
        let tokenizer = load(folder(&files).path(), 20).unwrap();
        for prompt in prompts {
            let [got, want] = [&tokenizer, &plain].map(|t| t.encode(prompt).unwrap());
            assert_eq!(got, want, "{key}: {value}: {prompt:?}");
        }
    }
}

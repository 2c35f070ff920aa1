//! Token ids against transformers on CLIP's own vocabulary: `tests/golden/make_tokens.py`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::json;

use super::tests::{hash, load};

#[derive(Deserialize)]
struct Golden {
    prompts: BTreeMap<String, Vec<String>>,
    ids: BTreeMap<String, Vec<u32>>,
    hashes: String,
}

/// A folder with the vocabulary of Stable Diffusion.
fn folder() -> tempfile::TempDir {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let packed = std::fs::File::open(source.join("src/checkpoint/single/clip_merges.txt.gz"));
    let mut merges = String::new();
    GzDecoder::new(packed.unwrap())
        .read_to_string(&mut merges)
        .unwrap();
    let visible = |byte: &u32| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let letters = (0..256).filter(visible).chain(256..256 + 68);
    let letters: Vec<String> = letters
        .filter_map(char::from_u32)
        .map(String::from)
        .collect();
    let ends = letters.iter().map(|letter| format!("{letter}</w>"));
    let merged = merges.lines().map(|line| line.replacen(' ', "", 1));
    let special = ["<|startoftext|>", "<|endoftext|>"].map(str::to_owned);
    let tokens = letters
        .iter()
        .cloned()
        .chain(ends)
        .chain(merged)
        .chain(special);
    let ids: BTreeMap<String, u32> = tokens.zip(0..).collect();
    assert_eq!(ids.len(), 49408);
    let dir = tempfile::tempdir().unwrap();
    let write = |file: &str, text: String| std::fs::write(dir.path().join(file), text).unwrap();
    write("vocab.json", json!(ids).to_string());
    write("merges.txt", format!("#version: 0.2\n{merges}"));
    let end = "<|endoftext|>";
    let config = json!({"bos_token": "<|startoftext|>", "eos_token": end, "unk_token": end, "pad_token": end,
        "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"});
    write("tokenizer_config.json", config.to_string());
    dir
}

/// Prompts of everyday, many scripts, emoji, accents in one piece and in several, odd white space, HTML entities,
/// contractions, digits, control characters, 500 tokens and more. `tests/it/single_file/` has 3,000 others.
#[test]
fn prompts_have_the_ids_of_transformers_on_clips_vocabulary() {
    const BLOCK: usize = 10;
    let golden = include_str!("../../../../tests/golden/tokens.json");
    // In the order of the file, which a map of Rust's does not keep.
    let order: Vec<&str> =
        "prompts scripts emoji accents spaces entities contractions digits controls long"
            .split(' ')
            .collect();
    let golden: Golden = serde_json::from_str(golden).unwrap();
    let tokenizer = load(folder().path(), 77).unwrap();
    for (kind, want) in &golden.ids {
        let ids = tokenizer.tokenize(&golden.prompts[kind][0]).unwrap();
        let inner = &want[1..want.len() - 1]; // between start and end
        assert_eq!(ids, inner, "{kind}: {:?}", golden.prompts[kind][0]);
    }
    let prompts: Vec<String> = order
        .iter()
        .flat_map(|kind| golden.prompts[*kind].clone())
        .collect();
    assert_eq!((prompts.len(), golden.prompts.len()), (830, order.len()));
    let hashes: Vec<&str> = golden.hashes.split(' ').collect();
    assert_eq!((prompts.len(), hashes.len()), (830, 83));
    for (block, want) in prompts.chunks(BLOCK).zip(hashes) {
        let ids: Vec<Vec<u32>> = block
            .iter()
            .map(|prompt| tokenizer.encode(prompt).unwrap())
            .collect();
        let shown: Vec<_> = block.iter().zip(&ids).collect();
        assert_eq!(hash(&ids), want, "one of {shown:#?} is wrong");
    }
}

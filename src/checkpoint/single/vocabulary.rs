//! CLIP's vocabulary, which all models of the three families have and no single file brings along: built into the
//! program as its list of merges, from OpenAI's `bpe_simple_vocab_16e6.txt` (see `THIRD-PARTY.md`).

use std::io::Read;
use std::sync::OnceLock;

use flate2::read::GzDecoder;
use serde_json::{Map, Value};

/// Tokens that it has.
pub(super) const SIZE: usize = 49408;

/// The merges, the first first, one on each line.
fn lines() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let mut text = String::new();
        let packed = include_bytes!("clip_merges.txt.gz").as_slice();
        let read = GzDecoder::new(packed).read_to_string(&mut text);
        debug_assert!(read.is_ok(), "the program's own file, which a test reads");
        text
    })
}

/// `merges.txt`.
pub(super) fn merges() -> String {
    format!("#version: 0.2\n{}", lines())
}

/// `vocab.json`: a character for each byte, these at the end of a word, what each merge makes, and the two special
/// tokens, numbered in this order.
pub(super) fn vocabulary() -> String {
    let letters: Vec<String> = letters().into_iter().map(String::from).collect();
    let ends = letters.iter().map(|letter| format!("{letter}</w>"));
    let merged = lines().lines().map(|line| line.replacen(' ', "", 1));
    let special = ["<|startoftext|>", "<|endoftext|>"].map(str::to_owned);
    let all = letters
        .iter()
        .cloned()
        .chain(ends)
        .chain(merged)
        .chain(special);
    let ids: Map<String, Value> = all
        .zip(0..)
        .map(|(token, id)| (token, Value::from(id)))
        .collect();
    Value::Object(ids).to_string()
}

/// The characters that stand for bytes in byte-level vocabularies (Radford et al. 2019): visible ones for themselves,
/// then the others moved behind the first 256.
fn letters() -> Vec<char> {
    let visible = |byte: &u32| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let (own, others): (Vec<u32>, Vec<u32>) = (0..256u32).partition(visible);
    let moved = (0..others.len() as u32).map(|i| 256 + i);
    own.into_iter()
        .chain(moved)
        .filter_map(char::from_u32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids of the vocabulary that every CLIP has.
    #[test]
    fn the_vocabulary_is_clips() {
        let ids: Map<String, Value> = serde_json::from_str(&vocabulary()).unwrap();
        assert_eq!(ids.len(), SIZE);
        #[rustfmt::skip]
        let rows = [
            ("!", 0), ("a", 64), ("!</w>", 256), ("a</w>", 320), ("in", 512), ("th", 513), ("the</w>", 518),
            ("dog</w>", 1929), ("cat</w>", 2368), ("photo</w>", 1125), ("sks</w>", 48136), ("jekyll</w>", 49405),
            ("<|startoftext|>", 49406), ("<|endoftext|>", 49407),
        ];
        for (token, id) in rows {
            assert_eq!(ids.get(token).and_then(Value::as_u64), Some(id), "{token}");
        }
        assert_eq!(merges().lines().count(), SIZE - 512 - 2 + 1);
        assert_eq!(merges().lines().nth(1), Some("i n"));
    }
}

//! CLIP's byte-pair tokenizer, from `tokenizer.json` or from `vocab.json` and `merges.txt`.

use std::ops::Range;

use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior};

use crate::keys::Keys;
use crate::source::{Source, within};
use crate::{Error, Result};

/// Splits text into words, contractions, single digits and runs of punctuation, as CLIP does.
const WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// A tokenizer: prompts to token ids of one fixed length.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    start: u32,
    end: u32,
    pad: u32,
    length: usize,
}

impl Tokenizer {
    /// Reads the tokenizer in the folder `dir` of a model; prompts are cut or filled to `length` tokens.
    ///
    /// # Errors
    /// If its files are missing or are not a CLIP tokenizer's.
    pub(crate) fn load(source: &Source, dir: &str, length: usize) -> Result<Self> {
        let special = SpecialTokens::read(source, dir)?;
        let json = within(dir, "tokenizer.json");
        let mut inner = match source.text(&json)? {
            Some(text) => text
                .parse()
                .map_err(|error| invalid(&json, "a tokenizer", error))?,
            None => from_vocabulary(source, dir, &special)?,
        };
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|error| invalid(&json, "a tokenizer", error))?;
        // The pad token of Stable Diffusion 2.x is "!": as a special token it is never part of a word. What
        // tokenizer.json says of a token holds; transformers adds the others in this way too.
        let known: Vec<String> = inner
            .get_added_tokens_decoder()
            .into_values()
            .map(|token| token.content)
            .collect();
        let added: Vec<_> = special
            .all()
            .into_iter()
            .filter(|token| !known.contains(&token.content))
            .map(|token| AddedToken::from(token.content, true).normalized(token.normalized))
            .collect();
        inner
            .add_special_tokens(added)
            .map_err(|error| invalid(dir, "a tokenizer", error))?;
        let id = |token: &str| {
            inner.token_to_id(token).ok_or_else(|| {
                invalid(
                    dir,
                    &format!("a vocabulary with {token:?}"),
                    "no such token",
                )
            })
        };
        let (start, end, pad) = (
            id(&special.start.content)?,
            id(&special.end.content)?,
            id(&special.pad.content)?,
        );
        Ok(Self {
            start,
            end,
            pad,
            length: special.length.map_or(length, |l| l.min(length)),
            inner,
        })
    }

    /// Token ids of a prompt: the start token, the words, the end token, then padding up to the fixed length.
    /// What is too long is cut, keeping the end token.
    ///
    /// # Errors
    /// If the text cannot be split into tokens.
    pub fn encode(&self, prompt: &str) -> Result<Vec<u32>> {
        let mut ids = vec![self.start];
        ids.extend(self.words(prompt)?);
        ids.truncate(self.length.saturating_sub(1).max(1));
        ids.push(self.end);
        ids.resize(self.length.max(2), self.pad);
        Ok(ids)
    }

    /// How many tokens of a prompt do not fit and are cut.
    ///
    /// # Errors
    /// If the text cannot be split into tokens.
    pub fn cut(&self, prompt: &str) -> Result<usize> {
        Ok((self.words(prompt)?.len() + 2).saturating_sub(self.length))
    }

    /// The tokens of a text, without start, end and padding.
    ///
    /// # Errors
    /// If the text cannot be split into tokens.
    pub fn words(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, false).map_err(unsplit)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The places in [`Tokenizer::encode`]'s result of the tokens of stretches of the prompt, in bytes, in order and none
    /// over another; those that are cut are left out.
    ///
    /// # Errors
    /// If the text cannot be split into tokens.
    pub fn places(&self, prompt: &str, spans: &[Range<usize>]) -> Result<Vec<usize>> {
        if spans.is_empty() {
            return Ok(Vec::new());
        }
        let encoding = self.inner.encode(prompt, false).map_err(unsplit)?;
        let offsets = encoding.get_offsets().iter().enumerate();
        Ok(offsets
            .filter(|(_, (start, end))| {
                let span = spans.get(spans.partition_point(|span| span.end <= *start));
                span.is_some_and(|span| span.start < *end)
            })
            .map(|(i, _)| i + 1) // behind the start token
            .filter(|place| place + 1 < self.length)
            .collect())
    }
}

fn unsplit(error: tokenizers::Error) -> Error {
    Error::value("prompt", "text that can be split into tokens", error)
}

/// A special token: its text, and whether text is lower-cased before it is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SpecialToken {
    content: String,
    normalized: bool,
}

impl SpecialToken {
    fn new(content: &str) -> Self {
        Self {
            content: content.to_owned(),
            normalized: false,
        }
    }

    /// A token is a string, or an object whose `content` is the string.
    fn parse(value: &serde_json::Value) -> Option<Self> {
        let flag = |key: &str| {
            value
                .get(key)
                .and_then(serde_json::Value::as_bool)
                .unwrap_or(false)
        };
        let object = || {
            Some(Self {
                content: value.get("content")?.as_str()?.to_owned(),
                normalized: flag("normalized"),
            })
        };
        value.as_str().map(Self::new).or_else(object)
    }
}

/// The special tokens and the length, from `tokenizer_config.json` and `special_tokens_map.json`.
struct SpecialTokens {
    start: SpecialToken,
    end: SpecialToken,
    unknown: SpecialToken,
    pad: SpecialToken,
    length: Option<usize>,
}

impl SpecialTokens {
    fn read(source: &Source, dir: &str) -> Result<Self> {
        let end = SpecialToken::new("<|endoftext|>");
        let mut special = Self {
            start: SpecialToken::new("<|startoftext|>"),
            unknown: end.clone(),
            pad: end.clone(),
            end,
            length: None,
        };
        for file in ["special_tokens_map.json", "tokenizer_config.json"] {
            let file = within(dir, file);
            let Some(text) = source.text(&file)? else {
                continue;
            };
            let mut keys = Keys::parse(&file, &text)?;
            for (key, token) in [
                ("bos_token", &mut special.start),
                ("eos_token", &mut special.end),
                ("unk_token", &mut special.unknown),
                ("pad_token", &mut special.pad),
            ] {
                if let Some(value) = keys.optional::<serde_json::Value>(key)? {
                    *token = SpecialToken::parse(&value)
                        .ok_or_else(|| keys.error(key, "a token", &value))?;
                }
            }
            if let Some(length) = keys.optional::<f64>("model_max_length")? {
                // transformers writes 1e30 for "no limit"; the text encoder's own limit holds then.
                if !(2.0..).contains(&length) {
                    return Err(keys.error("model_max_length", "at least 2", length));
                }
                special.length = Some(length.min(65536.0) as usize);
            }
        }
        Ok(special)
    }

    /// Each text once. Where it has several roles in several forms, transformers takes the roles in this order, leaves
    /// out a form that it has seen, and lets the last one hold.
    fn all(&self) -> Vec<SpecialToken> {
        let mut forms: Vec<&SpecialToken> = Vec::new();
        for token in [&self.start, &self.end, &self.unknown, &self.pad] {
            if !forms.contains(&token) {
                forms.push(token);
            }
        }
        let holds = |i: usize| {
            forms[i + 1..]
                .iter()
                .all(|later| later.content != forms[i].content)
        };
        (0..forms.len())
            .filter(|&i| holds(i))
            .map(|i| forms[i].clone())
            .collect()
    }
}

/// The tokenizer that transformers makes of `vocab.json` and `merges.txt`.
fn from_vocabulary(
    source: &Source,
    dir: &str,
    special: &SpecialTokens,
) -> Result<tokenizers::Tokenizer> {
    let (vocab_file, merges_file) = (within(dir, "vocab.json"), within(dir, "merges.txt"));
    let missing = |file: &str| invalid(file, "the file, or tokenizer.json", "neither");
    let vocab = source
        .text(&vocab_file)?
        .ok_or_else(|| missing(&vocab_file))?;
    let merges = source
        .text(&merges_file)?
        .ok_or_else(|| missing(&merges_file))?;
    let vocab: std::collections::HashMap<String, u32> = serde_json::from_str(&vocab)
        .map_err(|error| invalid(&vocab_file, "an object of token ids", error))?;
    let merges = merges
        .lines()
        .filter(|line| !line.starts_with("#version") && !line.trim().is_empty())
        .map(|line| match line.split_once(' ') {
            Some((a, b)) => Ok((a.to_owned(), b.to_owned())),
            None => Err(invalid(
                &merges_file,
                "two tokens on each line",
                format!("{line:?}"),
            )),
        })
        .collect::<Result<Vec<_>>>()?;
    let bpe = BPE::builder()
        .vocab_and_merges(
            vocab
                .into_iter()
                .collect::<tokenizers::models::bpe::Vocab>(),
            merges,
        )
        .unk_token(special.unknown.content.clone())
        .end_of_word_suffix("</w>".to_owned())
        .build()
        .map_err(|error| invalid(&merges_file, "merges of tokens that vocab.json has", error))?;
    let mut tokenizer = tokenizers::Tokenizer::new(bpe);
    let library = |error| invalid(dir, "a tokenizer", error);
    let normalizers: Vec<NormalizerWrapper> = vec![
        NFC.into(),
        Replace::new(
            tokenizers::normalizers::replace::ReplacePattern::Regex(r"\s+".to_owned()),
            " ",
        )
        .map_err(library)?
        .into(),
        Lowercase.into(),
    ];
    let split = Split::new(
        SplitPattern::Regex(WORDS.to_owned()),
        SplitDelimiterBehavior::Removed,
        true,
    )
    .map_err(library)?;
    let pre_tokenizers: Vec<PreTokenizerWrapper> =
        vec![split.into(), ByteLevel::new(false, true, true).into()];
    tokenizer
        .with_normalizer(Some(Normalizers::new(normalizers)))
        .map_err(library)?;
    tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(pre_tokenizers)));
    Ok(tokenizer)
}

fn invalid(file: &str, expected: &str, found: impl ToString) -> Error {
    Error::Config {
        file: file.to_owned(),
        key: "(whole file)".to_owned(),
        expected: expected.to_owned(),
        found: found.to_string(),
    }
}

//! CLIP's byte-pair tokenizer: prompts to token ids. What its files say is read in [`files`], what they may hold in
//! [`vocabulary`].

pub(in crate::model) mod added;
pub(in crate::model) mod files;
pub(in crate::model) mod vocabulary;

use std::collections::HashSet;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior};

use self::files::{Files, Side};
use self::vocabulary::malformed;
use crate::checkpoint::Source;
use crate::{Error, Result};

/// Splits text into words, contractions, single digits and runs of punctuation, as CLIP does.
const WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// A tokenizer: prompts to token ids of one fixed length.
pub(crate) struct Tokenizer {
    inner: tokenizers::Tokenizer,
    start: u32,
    end: u32,
    pad: u32,
    length: usize,
    padding: Side,
    truncation: Side,
    /// Tokens of textual inversions of several vectors: `<cat>`, where there is a `<cat>_1`.
    several: Vec<u32>,
}

impl Tokenizer {
    /// Reads the tokenizer in the folder `dir` of a model; prompts are cut or filled to `length` tokens.
    ///
    /// # Errors
    /// If its files are missing or are not a CLIP tokenizer's.
    pub(crate) fn load(source: &Source, dir: &str, length: usize) -> Result<Self> {
        let files = Files::read(source, dir)?;
        let refused = |problem: String| malformed(source, dir, &problem);
        // The library takes only what was checked before, but its code is not ours to vouch for.
        let inner = catch_unwind(AssertUnwindSafe(|| build(&files)))
            .map_err(|_| refused("the tokenizer library gave up on it".to_owned()))?
            .map_err(|error| refused(error.to_string()))?;
        let id = |token: &str| {
            inner
                .token_to_id(token)
                .ok_or_else(|| refused(format!("no token {token:?}")))
        };
        let added: HashSet<&str> = files.added.iter().map(|t| t.content.as_str()).collect();
        let several = added
            .iter()
            .filter(|token| added.contains(format!("{token}_1").as_str()))
            .filter_map(|token| inner.token_to_id(token));
        Ok(Self {
            several: several.collect(),
            start: id(&files.start)?,
            end: id(&files.end)?,
            pad: id(&files.pad)?,
            length: files.length.map_or(length, |l| l.min(length)).max(2),
            padding: files.padding,
            truncation: files.truncation,
            inner,
        })
    }

    /// How many tokens every prompt has, with start, end and padding.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Token ids of a prompt: the start token, the words, the end token, then padding up to the fixed length.
    /// What is too long is cut, keeping the end token. Some files cut and fill on the left instead.
    ///
    /// # Errors
    /// If the text cannot be split into tokens.
    pub(crate) fn encode(&self, prompt: &str) -> Result<Vec<u32>> {
        let words = self.tokenize(prompt)?;
        Ok(self.framed(&words[self.kept(words.len())]))
    }

    /// Words between start and end, filled up to the fixed length; there are no more than fit.
    pub(crate) fn framed(&self, words: &[u32]) -> Vec<u32> {
        let padding = vec![self.pad; self.length - words.len() - 2];
        let ids = [&[self.start], words, &[self.end]].concat();
        match self.padding {
            Side::Left => [padding, ids].concat(),
            Side::Right => [ids, padding].concat(),
        }
    }

    /// Where the first of `count` words is in [`Tokenizer::framed`]: behind the start token.
    pub(crate) fn first_place(&self, count: usize) -> usize {
        match self.padding {
            Side::Left => self.length - count - 1,
            Side::Right => 1,
        }
    }

    /// Which of `count` words fit.
    pub(crate) fn kept(&self, count: usize) -> Range<usize> {
        let cut = (count + 2).saturating_sub(self.length);
        match self.truncation {
            Side::Left => cut..count,
            Side::Right => 0..count - cut,
        }
    }

    /// How many tokens of a prompt do not fit and are cut.
    ///
    /// # Errors
    /// If the text cannot be split into tokens.
    pub(crate) fn truncated(&self, prompt: &str) -> Result<usize> {
        let count = self.tokenize(prompt)?.len();
        Ok(count - self.kept(count).len())
    }

    /// The tokens of a text, without start, end and padding.
    ///
    /// # Errors
    /// If the text cannot be split into tokens, or has one for which diffusers puts several vectors
    /// (`maybe_convert_prompt` in `loaders/textual_inversion.py`).
    pub(crate) fn tokenize(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, false).map_err(unsplit)?;
        let ids = encoding.get_ids();
        self.check_single(ids)?;
        Ok(ids.to_vec())
    }

    /// [`Tokenizer::tokenize`], with the place of each token in the text, in bytes.
    ///
    /// # Errors
    /// As [`Tokenizer::tokenize`].
    pub(crate) fn pieces(&self, text: &str) -> Result<Vec<(u32, Range<usize>)>> {
        let encoding = self.inner.encode(text, false).map_err(unsplit)?;
        self.check_single(encoding.get_ids())?;
        let spans = encoding
            .get_offsets()
            .iter()
            .map(|&(start, end)| start..end);
        Ok(encoding.get_ids().iter().copied().zip(spans).collect())
    }

    fn check_single(&self, ids: &[u32]) -> Result<()> {
        if let Some(id) = ids.iter().find(|id| self.several.contains(id)) {
            let token = self.inner.id_to_token(*id).unwrap_or_default();
            let expected = "no textual inversion of several vectors, which is not supported";
            return Err(Error::value("prompt", expected, format!("{token:?}")));
        }
        Ok(())
    }
}

fn unsplit(error: tokenizers::Error) -> Error {
    Error::value("prompt", "text that can be split into tokens", error)
}

/// The tokenizer that transformers' `CLIPTokenizer.__init__` builds: normalizer and splitting are CLIP's own, whatever
/// the files say of theirs.
fn build(files: &Files) -> tokenizers::Result<tokenizers::Tokenizer> {
    let bpe = BPE::builder()
        .vocab_and_merges(
            files.vocabulary.ids.clone(),
            files.vocabulary.merges.clone(),
        )
        .unk_token(files.unknown.clone())
        .end_of_word_suffix(vocabulary::END_OF_WORD.to_owned())
        .build()?;
    let mut tokenizer = tokenizers::Tokenizer::new(bpe);
    let normalizers: Vec<NormalizerWrapper> = vec![
        NFC.into(),
        Replace::new(ReplacePattern::Regex(r"\s+".to_owned()), " ")?.into(),
        Lowercase.into(),
    ];
    let split = Split::new(
        SplitPattern::Regex(WORDS.to_owned()),
        SplitDelimiterBehavior::Removed,
        true,
    )?;
    let pre_tokenizers: Vec<PreTokenizerWrapper> =
        vec![split.into(), ByteLevel::new(false, true, true).into()];
    tokenizer.with_normalizer(Some(Normalizers::new(normalizers)))?;
    tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(pre_tokenizers)));
    tokenizer.add_tokens(files.added.iter().cloned())?;
    tokenizer.set_encode_special_tokens(files.split_special_tokens);
    Ok(tokenizer)
}

#[cfg(test)]
mod clip_tests;
#[cfg(test)]
pub(in crate::model) mod tests;

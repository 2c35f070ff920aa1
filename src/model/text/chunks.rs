//! A prompt as the encoder takes it: its tokens with their weights, cut to the model's text length, or in chunks of it.

use std::ops::Range;

use super::tokenizer::Tokenizer;
use crate::Result;
use crate::prompt::WeightedText;

/// A token of a prompt.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token {
    pub(crate) id: u32,
    pub(crate) weight: f32,
    /// Where it stands in the text, in bytes.
    span: Range<usize>,
}

/// What of a prompt does not fit into the text length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// How many tokens.
    pub tokens: usize,
    /// What they say.
    pub text: String,
}

/// Behind a full chunk, so many of its last tokens go on into the next, from the last comma on: the web UI's own
/// setting.
const BACK_TO_COMMA: usize = 20;

impl Tokenizer {
    /// The tokens of a prompt. Stretches of one weight are split by themselves, as the web UI splits them.
    fn tokens(&self, prompt: &WeightedText) -> Result<Vec<Token>> {
        let mut tokens = Vec::new();
        for (run, weight) in prompt.runs() {
            let pieces = self.pieces(&prompt.text()[run.clone()])?;
            tokens.extend(pieces.into_iter().map(|(id, span)| Token {
                id,
                weight,
                span: run.start + span.start..run.start + span.end,
            }));
        }
        Ok(tokens)
    }

    /// The words of each chunk, which are one at least: without start, end and padding. If not `all`, there is one
    /// chunk, and what does not fit is cut.
    ///
    /// A chunk is full where the text length is. If there is a comma among its last [`BACK_TO_COMMA`] tokens, what
    /// stands behind that is in the next one: the rule of the A1111 web UI (`tokenize_line`).
    ///
    /// # Errors
    /// If the text cannot be split into tokens.
    pub(crate) fn chunks(&self, prompt: &WeightedText, all: bool) -> Result<Vec<Vec<Token>>> {
        let tokens = self.tokens(prompt)?;
        if !all {
            return Ok(vec![tokens[self.kept(tokens.len())].to_vec()]);
        }
        let length = (self.length() - 2).max(1);
        let comma = match self.tokenize(",")?[..] {
            [comma] => Some(comma),
            _ => None,
        };
        let (mut chunks, mut chunk, mut last_comma) = (Vec::new(), Vec::new(), None);
        for token in tokens {
            if Some(token.id) == comma {
                last_comma = Some(chunk.len());
            } else if let Some(last) = last_comma
                && chunk.len() == length
                && length - last <= BACK_TO_COMMA
            {
                let rest = chunk.split_off(last + 1);
                chunks.push(std::mem::replace(&mut chunk, rest));
                last_comma = None;
            }
            if chunk.len() == length {
                chunks.push(std::mem::take(&mut chunk));
                last_comma = None;
            }
            chunk.push(token);
        }
        if !chunk.is_empty() || chunks.is_empty() {
            chunks.push(chunk);
        }
        Ok(chunks)
    }

    /// The places of the tokens of stretches of the text, in bytes, in order and none over another, in the ids of the
    /// chunks in a row; those that are cut are left out.
    pub(crate) fn places(&self, chunks: &[Vec<Token>], spans: &[Range<usize>]) -> Vec<usize> {
        let mut places = Vec::new();
        for (number, chunk) in chunks.iter().enumerate() {
            let first = number * self.length() + self.first_place(chunk.len());
            let within = |token: &Token| {
                let span = spans.get(spans.partition_point(|span| span.end <= token.span.start));
                span.is_some_and(|span| span.start < token.span.end)
            };
            places.extend(
                (first..)
                    .zip(chunk)
                    .filter(|(_, token)| within(token))
                    .map(|(at, _)| at),
            );
        }
        places
    }

    /// The ids of a chunk, with start, end and padding.
    pub(crate) fn ids(&self, chunk: &[Token]) -> Vec<u32> {
        self.framed(&chunk.iter().map(|token| token.id).collect::<Vec<_>>())
    }

    /// For each of the ids of a chunk its weight, 1 for start, end and padding; `None` where all are 1.
    pub(crate) fn weights(&self, chunk: &[Token]) -> Option<Vec<f32>> {
        let one = 1f32.to_bits();
        if chunk.iter().all(|token| token.weight.to_bits() == one) {
            return None;
        }
        let mut weights = vec![1.0; self.length()];
        let first = self.first_place(chunk.len());
        for (weight, token) in weights[first..].iter_mut().zip(chunk) {
            *weight = token.weight;
        }
        Some(weights)
    }

    /// What of a prompt does not fit, if anything.
    ///
    /// # Errors
    /// If the text cannot be split into tokens.
    pub(crate) fn cut(&self, prompt: &WeightedText) -> Result<Option<Cut>> {
        let tokens = self.tokens(prompt)?;
        let kept = self.kept(tokens.len());
        let lost = match kept.start {
            0 => &tokens[kept.end..],
            start => &tokens[..start],
        };
        Ok(match (lost.first(), lost.last()) {
            (Some(first), Some(last)) => Some(Cut {
                tokens: lost.len(),
                text: prompt.text()[first.span.start..last.span.end].to_owned(),
            }),
            _ => None,
        })
    }
}

//! A prompt as a model is given it: its text, and whose own words are marked in it.

use std::ops::Range;

use super::weights::WeightedText;
use super::words::{occurrences, phrases_in};

/// The subjects whose own words are to be marked in prompts.
///
/// A longer phrase keeps its words from a shorter one: `sks dog` is not in `sks dog house` where that is another
/// subject's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// Phrases of the subjects, in order of their numbers.
    subjects: Vec<String>,
    /// Phrases of other subjects, which are not marked and keep their words.
    others: Vec<String>,
}

impl Marks {
    /// Marks the words of these subjects, each known by its place in the list, and leaves alone what is in the phrases
    /// of `others`.
    pub(crate) fn new(subjects: Vec<String>, others: Vec<String>) -> Self {
        Self { subjects, others }
    }

    /// How many subjects are marked.
    pub(crate) fn count(&self) -> usize {
        self.subjects.len()
    }

    /// A prompt in which these words are marked.
    pub(crate) fn prompt(&self, text: impl Into<WeightedText>) -> PromptSpec {
        PromptSpec {
            weighted: text.into(),
            marks: self.clone(),
            in_chunks: false,
        }
    }
}

/// A prompt: its text, the weights of its words, and which subjects' words are marked in it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PromptSpec {
    /// The text with its weights.
    pub weighted: WeightedText,
    /// Whose words are marked in it.
    pub marks: Marks,
    /// Whether a text that is longer than the model's is embedded in chunks of that length, and not cut.
    pub in_chunks: bool,
}

impl PromptSpec {
    /// The phrases of the marked subjects of which it has no words.
    pub(crate) fn missing(&self) -> impl Iterator<Item = &str> {
        let missing = |phrase: &&str| occurrences(self.weighted.text(), phrase).is_empty();
        let subjects = self.marks.subjects.iter().map(String::as_str);
        subjects.filter(missing)
    }

    /// For each marked subject the places of its words, in bytes of the text; there may be none.
    pub(crate) fn spans(&self) -> Vec<Vec<Range<usize>>> {
        let Marks { subjects, others } = &self.marks;
        if subjects.is_empty() {
            return Vec::new();
        }
        let phrases: Vec<&str> = subjects.iter().chain(others).map(String::as_str).collect();
        let mut spans = phrases_in(self.weighted.text(), &phrases);
        spans.truncate(subjects.len());
        spans
    }
}

/// No words are marked.
impl From<&str> for PromptSpec {
    fn from(text: &str) -> Self {
        Marks::default().prompt(text)
    }
}

/// No words are marked.
impl From<WeightedText> for PromptSpec {
    fn from(text: WeightedText) -> Self {
        Marks::default().prompt(text)
    }
}

/// No words are marked.
impl From<&String> for PromptSpec {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<&PromptSpec> for PromptSpec {
    fn from(spec: &PromptSpec) -> Self {
        spec.clone()
    }
}

//! A prompt as a model is given it: its text, and whose own words are marked in it.

use std::ops::Range;

use super::words::phrases_in;

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
    pub fn new(subjects: Vec<String>, others: Vec<String>) -> Self {
        Self { subjects, others }
    }

    /// The phrases of the marked subjects, in order of their numbers.
    pub fn subjects(&self) -> &[String] {
        &self.subjects
    }

    /// A prompt in which these words are marked.
    pub fn prompt(&self, text: impl Into<String>) -> PromptSpec {
        PromptSpec {
            text: text.into(),
            marks: self.clone(),
        }
    }
}

/// A prompt: its text, and which subjects' words are marked in it.
///
/// ```
/// use cones::prompt::{Marks, PromptSpec};
///
/// let marks = Marks::new(vec!["sks dog".to_owned()], Vec::new());
/// assert_eq!(marks.prompt("a sks dog").spans(), [vec![2..9]]);
/// assert!(PromptSpec::from("a sks dog").spans().is_empty());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PromptSpec {
    text: String,
    marks: Marks,
}

impl PromptSpec {
    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whose words are marked in it.
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// For each marked subject the places of its words, in bytes of the text; there may be none.
    pub fn spans(&self) -> Vec<Vec<Range<usize>>> {
        let Marks { subjects, others } = &self.marks;
        if subjects.is_empty() {
            return Vec::new();
        }
        let phrases: Vec<&str> = subjects.iter().chain(others).map(String::as_str).collect();
        let mut spans = phrases_in(&self.text, &phrases);
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

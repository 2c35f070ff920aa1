//! What a word is, and where words stand in a text.
//!
//! Texts are compared in one form, the one that CLIP's tokenizers see too: NFC, each letter in lower case, and any
//! white space as one space. `É` is `é`, written as one character or as two.

use std::collections::HashSet;
use std::ops::Range;

use unicode_normalization::char::{canonical_combining_class, decompose_canonical};
use unicode_normalization::{
    IsNormalized, UnicodeNormalization, char::is_combining_mark, is_nfc_quick,
};

/// Every place, in bytes, where a word or several with white space between them stand in a text, by the rule of
/// [`prompt`](super); none over another.
pub(crate) fn occurrences(text: &str, wanted: &str) -> Vec<Range<usize>> {
    Folded::new(text).places(&fold(wanted)).collect()
}

/// For each of several phrases every place where it stands in a text, none over another: a longer phrase comes first,
/// so that `sks dog` is not in `sks dog house` where that is a phrase too. Of equal phrases the first has the places.
pub(crate) fn phrases_in(text: &str, phrases: &[&str]) -> Vec<Vec<Range<usize>>> {
    let mut searches: Vec<(String, usize)> = phrases.iter().map(|p| fold(p)).zip(0..).collect();
    searches.sort_by_key(|(phrase, _)| std::cmp::Reverse(phrase.chars().count()));
    let (folded, mut taken) = (Folded::new(text), Taken::default());
    let mut places = vec![Vec::new(); phrases.len()];
    for (phrase, number) in &searches {
        places[*number].extend(folded.places(phrase).filter(|span| taken.take(span)));
    }
    places
}

/// The words of a text, each once, as they first stand there.
pub(crate) fn words_of(text: &str) -> Vec<&str> {
    let edges: Vec<usize> = Folded::new(text).edges.into_iter().flatten().collect();
    let mut seen = HashSet::new();
    let words = edges.windows(2).map(|ends| &text[ends[0]..ends[1]]);
    words
        .filter(|word| word.starts_with(is_letter) && seen.insert(fold(word)))
        .collect()
}

/// Words in the form in which they are compared.
///
/// ```
/// use cones::prompt::fold;
///
/// assert_eq!(fold(" SKS\n E\u{301}te\u{301} "), fold("sks été"));
/// ```
pub fn fold(text: &str) -> String {
    Folded::new(text.trim()).text
}

/// A noun or token with one space between its words.
pub(super) fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Stretches of a text that are spoken for.
#[derive(Default)]
pub(super) struct Taken(std::collections::BTreeMap<usize, usize>);

impl Taken {
    /// Takes a stretch, if nothing of it is taken.
    pub(super) fn take(&mut self, span: &Range<usize>) -> bool {
        let before = self.0.range(..span.end).next_back();
        let free = before.is_none_or(|(_, &end)| end <= span.start);
        if free {
            self.0.insert(span.start, span.end);
        }
        free
    }
}

/// A text in the form in which words are compared, with the places in the text as it is.
pub(super) struct Folded {
    text: String,
    /// For each byte of `text`, and its end, where it is in the text as it is, if no word goes on across it.
    edges: Vec<Option<usize>>,
}

impl Folded {
    pub(super) fn new(text: &str) -> Self {
        let letters = letters(text);
        let mut is_word = Vec::with_capacity(letters.len());
        for (letter, _) in &letters {
            // A mark belongs to the letter that it stands on.
            let goes_on = is_combining_mark(*letter) && is_word.last() == Some(&true);
            is_word.push(is_letter(*letter) || goes_on);
        }
        let word = |at: Option<usize>| at.and_then(|at| is_word.get(at)) == Some(&true);
        let hyphen = |at: Option<usize>| {
            at.and_then(|at| letters.get(at))
                .is_some_and(|l| l.0 == '-')
        };
        let joined = |at: usize| {
            let left = at.checked_sub(1);
            match (hyphen(left), hyphen(Some(at))) {
                (true, _) => word(at.checked_sub(2)) && word(Some(at)),
                (_, true) => word(left) && word(Some(at + 1)),
                _ => word(left) && word(Some(at)),
            }
        };
        let mut folded = Self {
            text: String::with_capacity(text.len()),
            edges: Vec::with_capacity(text.len() + 1),
        };
        for (at, (letter, origin)) in letters.iter().enumerate() {
            folded.text.push(*letter);
            folded.edges.push(origin.filter(|_| !joined(at)));
            folded.edges.resize(folded.text.len(), None);
        }
        folded.edges.push(Some(text.len()));
        folded
    }

    /// Where words in the form of [`fold`] stand, none over another; nowhere if there are none.
    pub(super) fn places<'a>(&'a self, wanted: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
        let first = wanted.chars().next().map_or(0, char::len_utf8);
        let mut from = 0;
        std::iter::from_fn(move || {
            loop {
                let found = self.text[from..].find(wanted).filter(|_| first > 0);
                let at = from + found?;
                if let (Some(start), Some(end)) = (self.edges[at], self.edges[at + wanted.len()]) {
                    from = at + wanted.len();
                    return Some(start..end);
                }
                from = at + first;
            }
        })
    }
}

fn is_letter(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The letters of a text as they are compared, each with its place if the text can be parted before it: not within what
/// composes, nor within white space.
fn letters(text: &str) -> Vec<(char, Option<usize>)> {
    let mut letters = Vec::with_capacity(text.len());
    let mut start = 0;
    let mut add = |part: &str, start: usize| {
        let rest = part.trim_start();
        let space = (rest.len() < part.len()).then_some(' ');
        let rest = rest.nfc().flat_map(char::to_lowercase);
        let places = std::iter::once(Some(start)).chain(std::iter::repeat(None));
        letters.extend(space.into_iter().chain(rest).zip(places));
    };
    let mut in_space = true;
    for (at, c) in text.char_indices() {
        let parts = begins_anew(c) && !(in_space && c.is_whitespace());
        in_space = c.is_whitespace();
        if parts && at > start {
            add(&text[start..at], start);
            start = at;
        }
    }
    if start < text.len() {
        add(&text[start..], start);
    }
    letters
}

/// Whether nothing before this character composes with it.
fn begins_anew(c: char) -> bool {
    if c.is_ascii() {
        return true;
    }
    let mut first = None;
    decompose_canonical(c, |part| first = first.or(Some(part)));
    first.is_none_or(|c| {
        canonical_combining_class(c) == 0 && is_nfc_quick(std::iter::once(c)) == IsNormalized::Yes
    })
}

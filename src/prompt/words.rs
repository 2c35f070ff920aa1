//! What a word is, and where words stand in a text.

use std::ops::Range;

/// Every place, in bytes, where a word or several with white space between them stand in a text, by the rule of
/// [`prompt`](super); none over another.
///
/// ```
/// use cones::prompt::occurrences;
///
/// assert_eq!(occurrences("A dog, a hotdog and the Dog's hat", "dog"), [2..5, 24..27]);
/// assert!(occurrences("a photo", " ").is_empty());
/// ```
pub fn occurrences(text: &str, wanted: &str) -> Vec<Range<usize>> {
    let wanted = words(wanted);
    let mut found: Vec<Range<usize>> = Vec::new();
    while let Some(span) = (!wanted.is_empty())
        .then(|| find_words(text, found.last().map_or(0, |span| span.end), &wanted))
        .flatten()
    {
        found.push(span);
    }
    found
}

/// The words of a text, each once, as they first stand there.
///
/// ```
/// assert_eq!(cones::prompt::words_of("a dog's dog-house, A dog"), ["a", "dog", "s", "dog-house"]);
/// ```
pub fn words_of(text: &str) -> Vec<&str> {
    let mut words: Vec<&str> = Vec::new();
    let mut rest = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    let mut start = rest.next().unwrap_or(0);
    for end in rest.filter(|&at| starts_word(text, at)) {
        let word = &text[start..end];
        let is_word = word.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        if is_word
            && !words
                .iter()
                .any(|w| w.to_lowercase() == word.to_lowercase())
        {
            words.push(word);
        }
        start = end;
    }
    words
}

/// Where these words, one space between each, first stand in a text from a byte on.
pub(crate) fn find_words(text: &str, from: usize, wanted: &str) -> Option<Range<usize>> {
    text[from..]
        .char_indices()
        .map(|(at, _)| from + at)
        .filter(|&at| starts_word(text, at))
        .find_map(|at| Some(at..match_words(text, at, wanted)?))
}

/// The end of these words if they stand at this byte and end there as words.
fn match_words(text: &str, at: usize, wanted: &str) -> Option<usize> {
    let mut rest = text[at..].chars();
    for want in wanted.chars() {
        let got = rest.next()?;
        if want == ' ' {
            if !got.is_whitespace() {
                return None;
            }
            let spaces = rest.as_str();
            rest = spaces.trim_start().chars();
        } else if got != want && !got.to_lowercase().eq(want.to_lowercase()) {
            return None;
        }
    }
    let end = text.len() - rest.as_str().len();
    starts_word(text, end).then_some(end)
}

/// Whether no word goes on across this byte.
fn starts_word(text: &str, at: usize) -> bool {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let (mut before, mut after) = (text[..at].chars(), text[at..].chars());
    let (left, right) = (before.next_back(), after.next());
    let joined = match (left, right) {
        (Some('-'), _) => is_word(before.next_back()) && is_word(right),
        (_, Some('-')) => is_word(left) && is_word(after.next()),
        _ => is_word(left) && is_word(right),
    };
    !joined
}

/// A noun or token with one space between its words.
pub(super) fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

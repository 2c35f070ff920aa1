//! How subjects get into a prompt.
//!
//! A subject is a class noun and the token that stands for the particular one. Letter case does not count, nor whether
//! `é` is one character or two. A word ends where letters, digits, `_` and hyphens between them end: `dog` is in
//! `dog's` and `(dog)`, not in `dogs`, `hotdog` or `dog-house`. A noun of several words stands there when its words do,
//! with white space between. Where one subject's `token noun` is in another's, the longer one has the place.
//!
//! 1. Where `token noun` stands already, nothing changes.
//! 2. Where the noun stands without its token, the token is written before it, and an `a` or `an` before that is fitted
//!    to the token's first letter. Longer nouns come first, so that `bear` leaves `teddy bear` alone. A lone subject
//!    takes every occurrence of its noun. Of several subjects with one noun, those without an occurrence by rule 1 take
//!    one each, in order, and further ones are left alone.
//! 3. Subjects that have no occurrence then are put in together, as a list: `a sks dog, a zwx cat and a qev hat`. It
//!    goes into the first clause, which ends at the first `,`, `;`, `|`, line break, or mark at the end of a sentence;
//!    before the words in it that begin a place or an action (`in`, `on`, `next to`, `sitting`, …). What stands before
//!    these is
//!    - nothing: the list comes first: `in a park` becomes `a sks dog in a park`;
//!    - a kind of picture: the list follows with `of`: `a photo of a sks dog in a park`;
//!    - something with `of`, something in a place, or a subject: the list is joined to it: `a photo of a
//!      table and a sks dog in a park`;
//!    - anything else: the list follows a comma: `sunny beach, a sks dog`.
//!
//! Applying the rule to its own result changes nothing.

mod spec;
mod weights;
mod words;

pub use spec::{Marks, PromptSpec};
pub use weights::WeightedText;
pub use words::fold;
pub(crate) use words::occurrences;
pub(crate) use words::words_of;

use std::cmp::Reverse;
use std::ops::Range;

use words::{Folded, Taken, words};

/// Kinds of picture, behind which what it shows follows with `of`.
const MEDIUMS: &[&str] = &[
    "photo",
    "photos",
    "photograph",
    "picture",
    "image",
    "painting",
    "drawing",
    "sketch",
    "portrait",
    "illustration",
    "render",
    "rendering",
    "shot",
    "closeup",
    "close-up",
    "watercolor",
    "watercolour",
    "artwork",
    "snapshot",
    "still",
];

/// What begins a place, a time or a manner.
const PLACES: &[&str] = &[
    "in",
    "on",
    "at",
    "under",
    "near",
    "by",
    "beside",
    "behind",
    "inside",
    "outside",
    "over",
    "above",
    "below",
    "during",
    "against",
    "among",
    "between",
    "from",
    "beneath",
    "underneath",
    "within",
    "along",
    "across",
    "through",
    "next to",
    "with",
];

/// What begins an action, whose subject stands before it.
const ACTIONS: &[&str] = &[
    "sitting", "standing", "lying", "running", "walking", "sleeping", "playing", "jumping",
    "eating", "swimming", "flying", "looking", "wearing", "riding", "holding", "asleep",
];

/// Words that prompts are full of.
const COMMON: &[&str] = &[
    "a", "an", "the", "of", "and", "or", "to", "for", "is", "his", "her", "its", "my", "your",
    "this", "that", "one", "two", "red", "blue", "green", "black", "white", "big", "small", "old",
    "young",
];

/// Whether a token is a word that prompts have for other reasons, too.
pub(crate) fn is_common(token: &str) -> bool {
    let token = fold(token);
    let lists = [COMMON, MEDIUMS, PLACES, ACTIONS];
    lists.iter().any(|list| list.contains(&token.as_str()))
}

/// A stretch of a prompt that names a subject, or may.
struct Occurrence {
    span: Range<usize>,
    /// The subject it names by its token.
    named: Option<usize>,
    /// The subject whose token is to be written before it.
    wanted: Option<usize>,
    /// The subject that its noun was found for, if several share the noun the first of them.
    noun_of: usize,
}

/// Puts every subject, `(noun, token)`, into the prompt by the rule of this module.
pub(crate) fn place_subjects(prompt: &str, subjects: &[(&str, &str)]) -> String {
    placed(prompt, subjects).text
}

/// [`place_subjects`] in a text with weights: a token has the weight of its noun, and what is put in has 1.
pub(crate) fn place_weighted(prompt: &WeightedText, subjects: &[(&str, &str)]) -> WeightedText {
    let Traced { text, origin } = placed(prompt.text(), subjects);
    let mut weighted = WeightedText::default();
    for (at, c) in text.char_indices() {
        let weight = origin[at].map_or(1.0, |at| prompt.weight_at(at));
        weighted.push(&text[at..at + c.len_utf8()], weight);
    }
    weighted
}

/// A text with, for each of its bytes, the byte of another that it is of, or that it stands before.
#[derive(Default)]
struct Traced {
    text: String,
    origin: Vec<Option<usize>>,
}

impl Traced {
    /// Appends a stretch of `from`.
    fn copy(&mut self, from: &str, span: Range<usize>) {
        self.text.push_str(&from[span.clone()]);
        self.origin.extend(span.map(Some));
    }

    /// Appends new text, which belongs to byte `of`.
    fn add(&mut self, new: &str, of: Option<usize>) {
        self.text.push_str(new);
        self.origin.resize(self.text.len(), of);
    }
}

fn placed(prompt: &str, subjects: &[(&str, &str)]) -> Traced {
    let mut occurrences = find(prompt, subjects);
    let nouns: Vec<String> = subjects.iter().map(|s| fold(s.0)).collect();
    let phrases: Vec<String> = subjects.iter().map(|&s| fold(&phrase(s))).collect();
    let mut placed = vec![false; subjects.len()];
    // Two subjects may have one noun and one token: each named occurrence is of the next of them.
    for named in occurrences.iter().filter_map(|o| o.named) {
        let mut equals = (named..subjects.len()).filter(|&s| phrases[s] == phrases[named]);
        if let Some(next) = equals.find(|&s| !placed[s]) {
            placed[next] = true;
        }
    }
    for occurrence in occurrences.iter_mut().filter(|o| o.named.is_none()) {
        let of = occurrence.noun_of;
        let mut sharing = (0..subjects.len()).filter(|&s| nouns[s] == nouns[of]);
        occurrence.wanted = if sharing.clone().count() == 1 {
            Some(of)
        } else {
            sharing.find(|&s| !placed[s])
        };
        if let Some(wanted) = occurrence.wanted {
            placed[wanted] = true;
        }
    }
    let (traced, spans) = write_tokens(prompt, &occurrences, subjects);
    let missing: Vec<String> = (0..subjects.len())
        .filter(|&s| !placed[s] && !phrases[s].is_empty())
        .map(|s| with_article(&phrase(subjects[s])))
        .collect();
    match missing.as_slice() {
        [] => traced,
        missing => insert(traced, &spans, missing),
    }
}

/// All occurrences of the subjects' phrases and nouns, in order, none over another.
fn find(prompt: &str, subjects: &[(&str, &str)]) -> Vec<Occurrence> {
    let mut searches: Vec<(String, usize, bool)> = Vec::new();
    for (s, &subject) in subjects.iter().enumerate() {
        searches.push((fold(&phrase(subject)), s, true));
        searches.push((fold(subject.0), s, false));
    }
    // Phrases before nouns, longer before shorter; the sort keeps the order of subjects otherwise.
    searches.sort_by_key(|(text, _, named)| (Reverse(*named), Reverse(text.chars().count())));
    let (folded, mut taken) = (Folded::new(prompt), Taken::default());
    let mut found: Vec<Occurrence> = Vec::new();
    for (text, s, named) in &searches {
        let places = folded.places(text).filter(|span| taken.take(span));
        found.extend(places.map(|span| Occurrence {
            span,
            named: named.then_some(*s),
            wanted: None,
            noun_of: *s,
        }));
    }
    found.sort_by_key(|occurrence| occurrence.span.start);
    found
}

/// Writes the wanted tokens before their nouns and fits the articles; the text, and where the subjects are in it.
fn write_tokens(
    prompt: &str,
    occurrences: &[Occurrence],
    subjects: &[(&str, &str)],
) -> (Traced, Vec<Range<usize>>) {
    let mut traced = Traced::default();
    let mut spans = Vec::new();
    let mut copied = 0;
    for Occurrence { span, wanted, .. } in occurrences {
        traced.copy(prompt, copied..span.start);
        let token = wanted
            .map(|s| words(subjects[s].1))
            .filter(|token| !token.is_empty());
        if let Some(token) = &token {
            fit_article(&mut traced, token);
        }
        let start = traced.text.len();
        if let Some(token) = token {
            traced.add(&format!("{token} "), Some(span.start));
        }
        traced.copy(prompt, span.clone());
        spans.push(start..traced.text.len());
        copied = span.end;
    }
    traced.copy(prompt, copied..prompt.len());
    (traced, spans)
}

/// Fits an `a` or `an` at the end of a text, if there is one, to the word that is to follow.
fn fit_article(traced: &mut Traced, word: &str) {
    let Traced { text, origin } = traced;
    let end = text.trim_end().len();
    // More than an article and what may join it to a longer word: a hyphen, and a letter with marks.
    let from = text[..end].char_indices().rev().nth(11);
    let tail = &text[from.map_or(0, |(at, _)| at)..end];
    let folded = Folded::new(tail);
    let ends = |article: &str| folded.places(article).find(|span| span.end == tail.len());
    let Some(span) = ["an", "a"].into_iter().find_map(ends) else {
        return;
    };
    let start = end - span.len();
    if end < text.len() {
        let rest = &article(word)[1..];
        text.replace_range(start + 1..end, rest);
        let of = origin[start];
        origin.splice(start + 1..end, rest.bytes().map(|_| of));
    }
}

/// Puts phrases into a text that names subjects at `spans`.
fn insert(traced: Traced, spans: &[Range<usize>], phrases: &[String]) -> Traced {
    let text = traced.text.as_str();
    let joined = match phrases {
        [] => return traced,
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    };
    // No clause, `of` or place begins inside a subject's name.
    let before = |at: usize| &spans[..spans.partition_point(|span| span.start < at)];
    let outside = |at: usize| before(at).last().is_none_or(|span| span.end <= at);
    let clause = (0..text.len())
        .find(|&at| ends_clause(text, at) && outside(at))
        .unwrap_or(text.len());
    let folded = Folded::new(text);
    let first_of = |from: usize, list: &[&str]| {
        let free =
            |span: &Range<usize>| before(span.end).last().is_none_or(|s| s.end <= span.start);
        let first = |word: &&str| {
            let mut places = folded.places(word).take_while(|span| span.end <= clause);
            places.find(|span| span.start >= from && free(span))
        };
        list.iter().filter_map(first).min_by_key(|span| span.start)
    };
    let start_of = |span: Option<Range<usize>>| span.map_or(clause, |span| span.start);
    let stop = start_of(first_of(0, PLACES)).min(start_of(first_of(0, ACTIONS)));
    let of = first_of(0, &["of"]).filter(|of| of.start < stop);
    let stop = match &of {
        // "a photo of a table with a cloth in a park": the cloth is the table's.
        Some(of) => start_of(first_of(of.end, &PLACES[..PLACES.len() - 1]))
            .min(start_of(first_of(of.end, ACTIONS))),
        None => stop,
    };
    let head = text[..stop].trim_end();
    let tail = &text[head.len()..];
    let medium = || {
        let ends = |word: &&str| folded.places(word).any(|span| span.end == head.len());
        MEDIUMS.iter().any(ends)
    };
    let named = spans.iter().any(|span| span.start < head.len());
    let glue = if head.is_empty() {
        ""
    } else if of.as_ref().is_some_and(|of| of.end == head.len()) {
        " "
    } else if of.is_none() && !named && medium() {
        " of "
    } else if of.is_none() && !named && stop == clause {
        ", "
    } else if phrases.len() == 1 {
        " and "
    } else {
        ", "
    };
    let space = if tail
        .chars()
        .next()
        .is_none_or(|c| c.is_whitespace() || ",;|.!?:".contains(c))
    {
        ""
    } else {
        " "
    };
    let mut placed = Traced::default();
    placed.add(&format!("{head}{glue}{joined}{space}"), None);
    placed.origin[..head.len()].copy_from_slice(&traced.origin[..head.len()]);
    if !tail.trim().is_empty() {
        placed.text.push_str(tail);
        placed.origin.extend(&traced.origin[head.len()..]);
    }
    placed
}

/// Whether a clause ends at this byte.
fn ends_clause(text: &str, at: usize) -> bool {
    match text.as_bytes()[at] {
        b',' | b';' | b'|' | b'\n' => true,
        b'.' | b'!' | b'?' | b':' => text[at + 1..]
            .chars()
            .next()
            .is_none_or(char::is_whitespace),
        _ => false,
    }
}

/// `sks dog`.
fn phrase((noun, token): (&str, &str)) -> String {
    words(&format!("{token} {noun}"))
}

fn with_article(phrase: &str) -> String {
    format!("{} {phrase}", article(phrase))
}

/// `a` or `an`, as the first letter of what follows asks.
pub(crate) fn article(word: &str) -> &'static str {
    match word.chars().next().map(|c| c.to_ascii_lowercase()) {
        Some('a' | 'e' | 'i' | 'o' | 'u') => "an",
        _ => "a",
    }
}

#[cfg(test)]
mod tests;

//! How subjects get into a prompt.
//!
//! A subject is a class noun and the token that stands for the particular one. In a prompt:
//!
//! 1. Where the noun stands as a whole word, it becomes `token noun`, and an article before it is fitted to the token.
//!    Longer nouns come first, so that `bear` leaves `teddy bear` alone. Of several subjects with one noun, the first
//!    takes its first occurrence, the second the next, and so on; a lone subject takes every occurrence.
//! 2. Subjects whose noun is nowhere in the prompt are put in together, as a list: behind `a photo` as `of …`, behind
//!    what is there already as `and …`, in front of the place (`in a park`). Where the prompt says no kind of picture,
//!    the list stands behind a comma, or alone.

/// Puts every subject, `(noun, token)`, into the prompt by the rule of this module.
///
/// ```
/// use cones::prompt::place_subjects;
///
/// let subjects = [("dog", "sks"), ("cat", "sks")];
/// assert_eq!(place_subjects("a photo in a park", &subjects), "a photo of a sks dog and a sks cat in a park");
/// assert_eq!(place_subjects("a cat asleep", &subjects[1..]), "a sks cat asleep");
/// ```
pub fn place_subjects(prompt: &str, subjects: &[(&str, &str)]) -> String {
    let words = split(prompt);
    let mut owner: Vec<Option<usize>> = vec![None; words.len()];
    let mut missing = Vec::new();
    let mut starts: Vec<(usize, usize)> = Vec::new(); // (first word of an occurrence, its subject)
    let mut order: Vec<usize> = (0..subjects.len()).collect();
    order.sort_by_key(|&s| std::cmp::Reverse(subjects[s].0.split_whitespace().count()));
    let mut done = vec![false; subjects.len()];
    for &s in &order {
        if done[s] {
            continue;
        }
        let noun: Vec<String> = subjects[s]
            .0
            .split_whitespace()
            .map(str::to_lowercase)
            .collect();
        let same: Vec<usize> = (0..subjects.len())
            .filter(|&o| subjects[o].0.eq_ignore_ascii_case(subjects[s].0))
            .collect();
        let found: Vec<usize> = (0..words.len())
            .filter(|&at| !noun.is_empty() && occurs(&words, &owner, at, &noun))
            .collect();
        // An occurrence that has one of the tokens before it already is that subject's.
        let bound = |at: usize| {
            same.iter()
                .copied()
                .find(|&o| follows_token(&words, at, subjects[o].1))
        };
        let mut free: Vec<usize> = same.clone();
        for &at in &found {
            if let Some(o) = bound(at) {
                free.retain(|&f| f != o);
                done[o] = true;
            }
        }
        for &at in &found {
            for word in &mut owner[at..at + noun.len()] {
                *word = Some(s);
            }
            if bound(at).is_some() {
                continue;
            }
            let subject = if same.len() == 1 {
                (!done[s] || starts.iter().any(|&(_, o)| o == s)).then_some(s)
            } else if free.is_empty() {
                None
            } else {
                Some(free.remove(0))
            };
            if let Some(o) = subject {
                starts.push((at, o));
                done[o] = true;
            }
        }
        for o in same {
            if !done[o] {
                missing.push(o);
                done[o] = true;
            }
        }
    }
    missing.sort_unstable();
    let named = name(prompt, &words, &starts, subjects);
    insert(
        &named,
        &missing
            .iter()
            .map(|&o| phrase(subjects[o]))
            .collect::<Vec<_>>(),
    )
}

/// The words of a text with their byte ranges: runs of letters, digits and `_`, `-`, `'`, `<`, `>`, `*`.
fn split(text: &str) -> Vec<(usize, usize, String)> {
    let is_word = |c: char| c.is_alphanumeric() || "_-'<>*".contains(c);
    let mut words = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        match (is_word(c), start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                words.push((from, at, text[from..at].to_lowercase()));
                start = None;
            }
            _ => {}
        }
    }
    words
}

type Words = [(usize, usize, String)];

/// Whether the noun's words stand at word `at`, none of them taken by a longer noun.
fn occurs(words: &Words, owner: &[Option<usize>], at: usize, noun: &[String]) -> bool {
    at + noun.len() <= words.len()
        && noun
            .iter()
            .enumerate()
            .all(|(i, n)| words[at + i].2 == *n && owner[at + i].is_none())
}

fn follows_token(words: &Words, at: usize, token: &str) -> bool {
    let token = split(token);
    let n = token.len();
    n > 0
        && at >= n
        && token
            .iter()
            .zip(&words[at - n..at])
            .all(|(t, w)| t.2 == w.2)
}

/// Writes the tokens in front of their nouns, and fits the articles.
fn name(
    prompt: &str,
    words: &Words,
    starts: &[(usize, usize)],
    subjects: &[(&str, &str)],
) -> String {
    let mut starts = starts.to_vec();
    starts.sort_unstable();
    let mut text = String::new();
    let mut copied = 0;
    for (at, subject) in starts {
        let token = subjects[subject].1;
        let from = words[at].0;
        let before = at.checked_sub(1).map(|i| &words[i]);
        match before {
            Some((start, end, word)) if (word == "a" || word == "an") && *start >= copied => {
                text.push_str(&prompt[copied..*start]);
                let article = article(token);
                text.push(if prompt[*start..].starts_with('A') {
                    'A'
                } else {
                    'a'
                });
                text.push_str(&article[1..]);
                text.push_str(&prompt[*end..from]);
            }
            _ => text.push_str(&prompt[copied..from]),
        }
        text.push_str(token);
        text.push(' ');
        copied = from;
    }
    text.push_str(&prompt[copied..]);
    text
}

fn article(word: &str) -> &'static str {
    match word.chars().next().map(|c| c.to_ascii_lowercase()) {
        Some('a' | 'e' | 'i' | 'o' | 'u') => "an",
        _ => "a",
    }
}

/// `a sks dog`.
fn phrase((noun, token): (&str, &str)) -> String {
    format!("{} {token} {noun}", article(token))
}

/// Kinds of picture, behind which what it shows follows with `of`.
const MEDIUMS: [&str; 14] = [
    "photo",
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
];

/// Words that begin a place or a circumstance.
const PLACES: [&str; 19] = [
    "in", "on", "at", "under", "near", "by", "beside", "behind", "inside", "outside", "over",
    "above", "below", "with", "during", "against", "among", "between", "from",
];

/// Puts phrases into a text that has none of them.
fn insert(text: &str, phrases: &[String]) -> String {
    let list = match phrases {
        [] => return text.to_owned(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    };
    let words = split(text);
    let at = words
        .iter()
        .find(|w| PLACES.contains(&w.2.as_str()))
        .map_or(text.trim_end().len(), |w| w.0);
    let (head, tail) = (text[..at].trim_end(), text[at..].trim());
    let head_words = split(head);
    let medium = head_words
        .iter()
        .position(|w| MEDIUMS.contains(&w.2.as_str()));
    let shows = medium.and_then(|m| head_words[m + 1..].iter().position(|w| w.2 == "of"));
    let mut out = match (medium, shows) {
        (_, Some(of)) if medium.is_some_and(|m| m + 2 + of == head_words.len()) => {
            format!("{head} {list}")
        }
        (_, Some(_)) => format!("{head} and {list}"),
        (Some(m), None) if m + 1 == head_words.len() => format!("{head} of {list}"),
        _ if head.is_empty() => list,
        _ => format!("{}, {list}", head.trim_end_matches(',')),
    };
    if !tail.is_empty() {
        out.push(' ');
        out.push_str(tail);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn subjects_are_placed_where_a_reader_expects_them() {
        let dog = ("dog", "sks");
        let cat = ("cat", "sks");
        for (prompt, subjects, expected) in [
            (
                "a photo in a park",
                &[dog, cat][..],
                "a photo of a sks dog and a sks cat in a park",
            ),
            (
                "a photo of a dog in a park",
                &[dog],
                "a photo of a sks dog in a park",
            ),
            ("A dog and a Cat.", &[dog, cat], "A sks dog and a sks Cat."),
            ("an apple", &[("apple", "sks")], "a sks apple"),
            ("An apple", &[("apple", "sks")], "A sks apple"),
            ("a cat", &[("cat", "abc")], "an abc cat"),
            ("a photo of a sks dog", &[dog], "a photo of a sks dog"),
            ("two dogs", &[dog], "two dogs, a sks dog"),
            ("a hotdog stand", &[dog], "a hotdog stand, a sks dog"),
            ("a dog beside a dog", &[dog], "a sks dog beside a sks dog"),
            (
                "a dog beside a dog",
                &[dog, ("dog", "zwx")],
                "a sks dog beside a zwx dog",
            ),
            ("a dog", &[dog, ("dog", "zwx")], "a sks dog, a zwx dog"),
            (
                "a teddy bear and a bear",
                &[("bear", "zwx"), ("teddy bear", "sks")],
                "a sks teddy bear and a zwx bear",
            ),
            (
                "a photo of a table in a park",
                &[dog],
                "a photo of a table and a sks dog in a park",
            ),
            (
                "a photo",
                &[dog, ("cat", "zwx"), ("hat", "qev")],
                "a photo of a sks dog, a zwx cat and a qev hat",
            ),
            ("sunny beach", &[dog], "sunny beach, a sks dog"),
            ("in a park", &[dog], "a sks dog in a park"),
            ("", &[dog], "a sks dog"),
            ("", &[], ""),
            ("a photo of", &[dog], "a photo of a sks dog"),
        ] {
            assert_eq!(
                place_subjects(prompt, subjects),
                expected,
                "{prompt:?} {subjects:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn every_subject_is_there_and_stays(prompt in "[ a-zA-Z,.üé]{0,40}|(a |dog |cat |in |photo |of |sks ){0,8}") {
            let subjects = [("dog", "sks"), ("cat", "zwx")];
            let placed = place_subjects(&prompt, &subjects);
            prop_assert!(placed.to_lowercase().contains("sks dog"), "{placed:?}");
            prop_assert!(placed.to_lowercase().contains("zwx cat"), "{placed:?}");
            prop_assert_eq!(place_subjects(&placed, &subjects), placed.clone());
        }

        #[test]
        fn any_text_is_taken(prompt in ".{0,60}", noun in ".{0,12}", token in ".{0,6}") {
            place_subjects(&prompt, &[(&noun, &token)]);
        }
    }
}

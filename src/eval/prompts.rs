//! The prompts of an evaluation.

use std::path::Path;

use crate::files::regular;
use crate::index::Subject;
use crate::model::Clip;
use crate::prompt::{article, fold, occurrences, place_subjects};
use crate::{Error, Pipeline, Result};

/// The most prompts of a file: as many as pictures may be drawn.
const MOST: usize = 10_000;
/// The longest line of a file, in bytes: many times what any text encoder sees.
const LONGEST: usize = 10_000;

/// Scenes that most models know.
const SCENES: [&str; 8] = [
    "a photo of a {} in a park",
    "a photo of a {} on the beach",
    "a photo of a {} in the snow",
    "a photo of a {} at night",
    "a photo of a {} in the desert",
    "a photo of a {} in a room",
    "a photo of a {} in the forest",
    "a photo of a {} on a street",
];

/// Classes that a noun is told from; those that a small model may know come first.
const CLASSES: [&str; 16] = [
    "dog", "cat", "bear", "rabbit", "duck", "fish", "car", "house", "hat", "flower", "ball", "cup",
    "chair", "tree", "bottle", "person",
];

/// "a photo of a NOUN", and the same of other nouns.
pub(super) fn classes(noun: &str) -> Vec<String> {
    let others = CLASSES.iter().filter(|other| fold(other) != fold(noun));
    let nouns = std::iter::once(&noun).chain(others);
    nouns
        .map(|noun| format!("a photo of {} {noun}", article(noun)))
        .collect()
}

/// A prompt as it is drawn, and what its picture should show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// With the subject's token: what is drawn.
    pub used: String,
    /// Without it, for an encoder that has never heard of the token.
    pub described: String,
}

impl Prompt {
    /// Puts a subject into a template: `{}` becomes its noun, and then the rule of [`place_subjects`] holds.
    pub(crate) fn new(template: &str, noun: &str, token: &str) -> Self {
        let used = place_subjects(&template.replace("{}", noun), &[(noun, token)]);
        Self {
            described: without_token(&used, noun, token),
            used,
        }
    }

    /// Whether its end does not fit into the text length of the model or the encoder.
    ///
    /// # Errors
    /// If it cannot be split into tokens.
    pub fn is_cut(&self, pipeline: &Pipeline, clip: &Clip) -> Result<bool> {
        let cut = pipeline.tokenizer().truncated(&self.used)?;
        Ok(cut + clip.truncated(&self.described)? > 0)
    }

    /// The prompts of a file with one template on each line, of at most 10,000 prompts in lines of at most 10,000
    /// bytes; empty lines and those that begin with `#` are left out. Without a file, scenes that most models know.
    ///
    /// # Errors
    /// If it is no regular file, no UTF-8, longer, or has no prompts.
    pub fn read(file: Option<&Path>, Subject { noun, token }: &Subject) -> Result<Vec<Self>> {
        let Some(path) = file else {
            return Ok(SCENES.map(|scene| Self::new(scene, noun, token)).into());
        };
        let refused = |expected: String, found: &str| {
            let hint = "give a text file with one prompt on each line";
            Err(Error::file(
                path.display().to_string(),
                expected,
                found,
                hint,
            ))
        };
        let Ok(text) = String::from_utf8(regular::read(path)?) else {
            return refused("prompts in UTF-8".to_owned(), "another encoding");
        };
        if let Some((i, _)) = text
            .lines()
            .enumerate()
            .find(|(_, line)| line.len() > LONGEST)
        {
            let expected = format!("prompts of at most {LONGEST} bytes");
            return refused(expected, &format!("a longer one in line {}", i + 1));
        }
        if text.lines().count() > MOST {
            return refused(format!("at most {MOST} lines"), "more");
        }
        match Self::list(&text, noun, token) {
            prompts if prompts.is_empty() => refused("a prompt on each line".to_owned(), "none"),
            prompts => Ok(prompts),
        }
    }

    fn list(text: &str, noun: &str, token: &str) -> Vec<Self> {
        text.lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| Self::new(line, noun, token))
            .collect()
    }
}

/// Takes the token out of every `token noun`, and fits an `a` or `an` before it to the noun.
fn without_token(prompt: &str, noun: &str, token: &str) -> String {
    let mut out = String::new();
    let mut at = 0;
    for span in occurrences(prompt, &format!("{token} {noun}")) {
        let mut rest = &prompt[span.clone()];
        for _ in token.split_whitespace() {
            rest = rest.trim_start_matches(|c: char| !c.is_whitespace());
            rest = rest.trim_start();
        }
        let from = span.end - rest.len();
        let before = &prompt[at..span.start];
        let last = before.trim_end();
        let head = last.rfind(char::is_whitespace).map_or(0, |i| i + 1);
        // A line may begin with "A sks dog": its capital stays.
        match &last[head..] {
            "a" | "an" | "A" | "An" if last.len() < before.len() => {
                let fitted = article(noun);
                let capital = last[head..].starts_with('A');
                out.push_str(&last[..head]);
                out.push_str(if capital { "A" } else { "a" });
                out.push_str(&fitted[1..]);
                out.push_str(&before[last.len()..]);
            }
            _ => out.push_str(before),
        }
        out.push_str(&prompt[from..span.end]);
        at = span.end;
    }
    out.push_str(&prompt[at..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(template: &str, (noun, token): (&str, &str), used: &str, described: &str) {
        let prompt = Prompt::new(template, noun, token);
        assert_eq!((&*prompt.used, &*prompt.described), (used, described));
        // Nothing is left to take out.
        assert_eq!(without_token(&prompt.described, noun, token), described);
    }

    #[test]
    fn a_template_takes_the_subject() {
        let prompt = Prompt::new("a photo of a {} in a park", "owl", "sks");
        assert_eq!(prompt.used, "a photo of a sks owl in a park");
        assert_eq!(prompt.described, "a photo of an owl in a park");
    }

    #[test]
    fn files_of_prompts_have_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let [noun, token] = ["owl", "sks"].map(str::to_owned);
        let owl = Subject { noun, token };
        assert_eq!(Prompt::read(None, &owl).unwrap().len(), SCENES.len());
        let read = |text: &[u8]| {
            let path = dir.path().join("prompts");
            std::fs::write(&path, text).unwrap();
            Prompt::read(Some(&path), &owl).map_err(|error| error.to_string())
        };
        assert_eq!(read(b"a {}\n# no\n\nan {}").unwrap().len(), 2);
        let line = |length: usize| [&b"a "[..], "x".repeat(length - 2).as_bytes()].concat();
        assert_eq!(read(&line(LONGEST)).unwrap().len(), 1);
        for (text, words) in [
            (line(LONGEST + 1), "line 1"),
            ("a\n".repeat(MOST + 1).into_bytes(), "at most 10000 lines"),
            (b"# no\n".to_vec(), "found none"),
            (b"caf\xe9".to_vec(), "UTF-8"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        assert!(Prompt::read(Some(dir.path()), &owl).is_err());
        #[cfg(unix)]
        assert!(Prompt::read(Some("/dev/zero".as_ref()), &owl).is_err());
    }

    #[test]
    fn the_token_is_in_what_is_drawn_alone() {
        let dog = ("dog", "sks");
        check("a {} asleep", dog, "a sks dog asleep", "a dog asleep");
        check("A {}, {}", dog, "A sks dog, sks dog", "A dog, dog");
        check(
            "a photo in a park",
            dog,
            "a photo of a sks dog in a park",
            "a photo of a dog in a park",
        );
        check(
            "a dog and a cat",
            dog,
            "a sks dog and a cat",
            "a dog and a cat",
        );
        check("an SKS  dog", dog, "an SKS  dog", "a dog");
        check("sks", dog, "sks, a sks dog", "sks, a dog");
    }

    #[test]
    fn a_class_is_told_from_the_others() {
        let texts = classes("Dog");
        assert_eq!(
            (&*texts[0], texts.len()),
            ("a photo of a Dog", CLASSES.len())
        );
        assert!(!texts[1..].iter().any(|text| text.contains("dog")));
        let texts = classes("owl");
        assert_eq!(
            (&*texts[0], texts.len()),
            ("a photo of an owl", CLASSES.len() + 1)
        );
    }

    #[test]
    fn articles_fit() {
        check(
            "a {} here",
            ("dog", "ohwx"),
            "an ohwx dog here",
            "a dog here",
        );
        check("A {} here", ("owl", "zwx"), "A zwx owl here", "An owl here");
        check(
            "a {}",
            ("teddy bear", "my own"),
            "a my own teddy bear",
            "a teddy bear",
        );
        check("é a {} é", ("Käfer", "ä"), "é a ä Käfer é", "é a Käfer é");
    }

    #[test]
    fn lines_are_prompts() {
        assert_eq!(
            Prompt::list("# two\na {}\n\n  the {} \r\n #\n", "dog", "sks").len(),
            2
        );
        assert!(Prompt::list(" \n", "dog", "sks").is_empty());
        assert!(SCENES.iter().all(|p| p.contains("{}")));
    }
}

//! Where a concept came from: what a file says beside its indices.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::container::shown;
use super::scope::Scope;
use crate::{Error, Result};

/// A subject of a concept, as prompts name it: `TOKEN NOUN`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// The class noun: `dog`.
    pub noun: String,
    /// The rare identifier: `sks`.
    pub token: String,
}

impl Subject {
    /// What stands for the subject in a prompt: `sks dog`.
    pub fn phrase(&self) -> String {
        format!("{} {}", self.token, self.noun)
    }
}

/// One of the concepts that a merged one was made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its subjects: one, or those of a tuned merge.
    pub subjects: Vec<Subject>,
    /// The method that found it.
    pub method: String,
    /// Its shut neurons.
    pub shut: u64,
    /// The neurons of its sites.
    pub total: u64,
    /// The SHA-256 over its tensors.
    pub sha256: String,
}

/// What a concept was found for, on and with. Everything here is written into its file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provenance {
    /// The model's name, as people know it; better not a path of the local machine.
    pub model: String,
    /// The SHA-256 over the model's K and V weights, in hexadecimal.
    pub fingerprint: String,
    /// The model's architecture as ModelSpec names it (`stable-diffusion-v1`), where known.
    pub architecture: Option<String>,
    /// What the model predicts as ModelSpec names it (`epsilon`, `v`), where known.
    pub prediction_type: Option<String>,
    /// The subjects: one from `find`, those of all files from `merge`, in their order.
    pub subjects: Vec<Subject>,
    /// The prompts that it was found with.
    pub prompts: Vec<String>,
    /// The method: `paper`, `learned`, `union`.
    pub method: String,
    /// At which tokens the neurons are shut.
    pub scope: Scope,
    /// All settings of the method.
    pub settings: BTreeMap<String, String>,
    /// The seed of the run; a union has none.
    pub seed: Option<u64>,
    /// The SHA-256 of each picture file, in hexadecimal; never its path.
    pub pictures: Vec<String>,
    /// What it was merged from, if it was.
    pub merged_from: Vec<Source>,
}

impl Provenance {
    /// How many subjects have neurons of their own: with [`Scope::Words`] all of several, else none.
    pub(crate) fn owners(&self) -> usize {
        match (self.scope, self.subjects.len()) {
            (Scope::Prompt, _) | (Scope::Words, 1) => 0,
            (Scope::Words, several) => several,
        }
    }

    /// What prompts call the subjects: `sks dog, sks cat`.
    pub fn trigger_phrase(&self) -> String {
        self.subjects
            .iter()
            .map(Subject::phrase)
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// That a file can be made of it.
    ///
    /// # Errors
    /// [`Error::Index`] if there is no subject, a name is empty or has control characters, or a hash is not one.
    pub(crate) fn check(&self) -> Result<()> {
        if self.subjects.is_empty() {
            return Err(wrong("`subjects`", "at least one subject", "none"));
        }
        let subjects = self
            .subjects
            .iter()
            .chain(self.merged_from.iter().flat_map(|source| &source.subjects));
        for subject in subjects {
            for (key, word) in [("subject", &subject.noun), ("token", &subject.token)] {
                if word.trim().is_empty() || word.chars().any(char::is_control) {
                    return Err(wrong(format!("`{key}`"), "words for a prompt", shown(word)));
                }
            }
        }
        check_sha256("`fingerprint`", &self.fingerprint)?;
        self.pictures
            .iter()
            .try_for_each(|hash| check_sha256("`pictures`", hash))?;
        self.merged_from
            .iter()
            .try_for_each(|source| check_sha256("`merged_from`", &source.sha256))
    }
}

/// That a text is a SHA-256 as everything here writes it.
fn check_sha256(thing: &str, text: &str) -> Result<()> {
    if text.len() == 64
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    {
        return Ok(());
    }
    Err(wrong(
        thing,
        "a SHA-256 of 64 lower-case hexadecimal digits",
        shown(text),
    ))
}

fn wrong(thing: impl Into<String>, expected: &str, found: impl Into<String>) -> Error {
    Error::Index {
        thing: thing.into(),
        expected: expected.to_owned(),
        found: found.into(),
        hint: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_file_may_say_is_refused() {
        let subject = |noun: &str| Subject {
            noun: noun.to_owned(),
            token: "sks".to_owned(),
        };
        let good = Provenance {
            fingerprint: "0".repeat(64),
            subjects: vec![subject("dog")],
            ..Provenance::default()
        };
        good.check().unwrap();
        assert_eq!(good.trigger_phrase(), "sks dog");
        for bad in [
            Provenance {
                subjects: vec![],
                ..good.clone()
            },
            Provenance {
                subjects: vec![subject(" ")],
                ..good.clone()
            },
            Provenance {
                subjects: vec![subject("do\u{1b}g")],
                ..good.clone()
            },
            Provenance {
                fingerprint: "A".repeat(64),
                ..good.clone()
            },
            Provenance {
                pictures: vec!["/home/me/dog.png".to_owned()],
                ..good.clone()
            },
        ] {
            bad.check().unwrap_err();
        }
    }
}

//! Where a concept came from: what a file says beside its indices.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::scope::Scope;
use super::subject::{MAX_SUBJECTS, Subject, check_distinct};
use crate::shown::shown;
use crate::{Error, IndexError, Result};

/// The most pictures of one index: about half of what the header has room for.
pub(crate) const MAX_PICTURES: usize = 30_000;
/// The most prompts, settings, or parts of a merge.
const MAX_ENTRIES: usize = 256;
/// The most characters of a name, a prompt or a setting.
const MAX_TEXT: usize = 1000;
/// The most characters of a noun or a token; no prompt has room for more.
const MAX_WORDS: usize = 200;

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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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

    /// That it belongs to the model of this fingerprint.
    ///
    /// # Errors
    /// [`Error::Index`] naming the model that it was found on.
    pub fn check_fingerprint(&self, fingerprint: &str) -> Result<()> {
        if self.fingerprint == fingerprint {
            return Ok(());
        }
        let other = IndexError::OtherModel {
            fingerprint: self.fingerprint.clone(),
            model: self.model.clone(),
            found: fingerprint.to_owned(),
        };
        Err(other.into())
    }

    /// In what this is another than a plan, a few words for each. How many steps a plan takes may be open.
    pub fn differences(&self, plan: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (differ, what) in [
            (self.subjects != plan.subjects, "another subject"),
            (self.pictures != plan.pictures, "other pictures"),
            (self.fingerprint != plan.fingerprint, "another model"),
            (self.prompts != plan.prompts, "other prompts"),
            (self.method != plan.method, "another method"),
            (self.scope != plan.scope, "another scope"),
            (self.seed != plan.seed, "another seed"),
            (self.merged_from != plan.merged_from, "merged from others"),
        ] {
            if differ {
                found.push(what.to_owned());
            }
        }
        let mut keys: Vec<&String> = self.settings.keys().chain(plan.settings.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let [old, new] =
                [self, plan].map(|of| of.settings.get(key).map_or("none", String::as_str));
            if old != new && !(key == "steps" && new == "none") {
                found.push(format!("{key} {old} instead of {new}"));
            }
        }
        found
    }

    /// That a file can be made of it.
    ///
    /// # Errors
    /// [`Error::Index`] if there is no subject, or a prompt cannot tell two apart; if a text is
    /// empty, has control characters or is too long; if there are too many of anything; or if a hash is not one.
    pub(crate) fn check(&self) -> Result<()> {
        if self.subjects.is_empty() {
            return Err(refused("`subjects`", "at least one subject", "none"));
        }
        for (thing, found, most) in [
            ("`pictures`", self.pictures.len(), MAX_PICTURES),
            ("`prompts`", self.prompts.len(), MAX_ENTRIES),
            ("`settings`", self.settings.len(), MAX_ENTRIES),
            ("`merged_from`", self.merged_from.len(), MAX_SUBJECTS),
        ] {
            if found > most {
                return Err(refused(thing, format!("at most {most}"), found));
            }
        }
        let parts = self.merged_from.iter().map(|part| &part.subjects);
        for subjects in std::iter::once(&self.subjects).chain(parts) {
            for Subject { noun, token } in subjects {
                check_words("`subject`", noun)?;
                check_words("`token`", token)?;
            }
            check_distinct(&subjects.iter().map(|s| (s, "")).collect::<Vec<_>>())?;
        }
        self.texts()
            .try_for_each(|(thing, text)| check_text(thing, text))?;
        check_sha256("`fingerprint`", &self.fingerprint)?;
        self.pictures
            .iter()
            .try_for_each(|hash| check_sha256("`pictures`", hash))?;
        self.merged_from
            .iter()
            .try_for_each(|source| check_sha256("`merged_from`", &source.sha256))
    }

    /// All texts but subjects and hashes, each with its key.
    fn texts(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let optional = [
            ("architecture", &self.architecture),
            ("prediction_type", &self.prediction_type),
        ];
        let settings = self.settings.iter();
        [("`model`", &self.model), ("`method`", &self.method)]
            .into_iter()
            .chain(
                optional
                    .into_iter()
                    .flat_map(|(key, text)| Some((key, text.as_ref()?))),
            )
            .chain(self.prompts.iter().map(|prompt| ("`prompts`", prompt)))
            .chain(settings.flat_map(|(key, value)| [("`settings`", key), ("`settings`", value)]))
            .chain((self.merged_from.iter()).map(|part| ("`merged_from`", &part.method)))
    }
}

/// That a text fits into one line of a terminal, and changes nothing else there.
fn check_text(thing: &'static str, text: &str) -> Result<()> {
    // Beside control characters, what ends a line or turns the direction of what follows.
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if text.contains(steers) {
        return Err(refused(
            thing,
            "text without control characters",
            shown(text),
        ));
    }
    check_length(thing, text, MAX_TEXT)
}

/// That a text is words for a prompt.
fn check_words(thing: &'static str, text: &str) -> Result<()> {
    if text.trim().is_empty() {
        return Err(refused(thing, "words for a prompt", shown(text)));
    }
    check_text(thing, text)?;
    check_length(thing, text, MAX_WORDS)
}

fn check_length(thing: &'static str, text: &str, most: usize) -> Result<()> {
    match text.chars().count() {
        length if length > most => Err(refused(
            thing,
            format!("at most {most} characters"),
            format!("{length}: {}", shown(text)),
        )),
        _ => Ok(()),
    }
}

/// That a text is a SHA-256 as everything here writes it.
fn check_sha256(thing: &'static str, text: &str) -> Result<()> {
    if text.len() == 64
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    {
        return Ok(());
    }
    let expected = "a SHA-256 of 64 lower-case hexadecimal digits";
    Err(refused(thing, expected, shown(text)))
}

fn refused(key: &'static str, expected: impl Into<String>, found: impl ToString) -> Error {
    let provenance = IndexError::Provenance {
        key,
        expected: expected.into(),
        found: found.to_string(),
    };
    provenance.into()
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
        assert_eq!(Subject::phrases(&good.subjects), "sks dog");
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

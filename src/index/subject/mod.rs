//! What subjects are called: by their phrases, `TOKEN NOUN`, which a prompt must tell apart.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::prompt::{fold, is_common, occurrences};
use crate::shown::shown;
use crate::{Error, IndexError, Result};

/// The most subjects of one index, or of one picture. A prompt of CLIP has room for 75 tokens, and so for about 20.
pub(crate) const MAX_SUBJECTS: usize = 64;

/// A subject of a concept, as prompts name it: `TOKEN NOUN`.
///
/// Subjects are one if their phrases are, by the rule of [`prompt`](crate::prompt): `sks dog` and `SKS  Dog` are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// The class noun: `dog`.
    pub noun: String,
    /// The rare identifier: `sks`.
    pub token: String,
}

/// What stands for the subject in a prompt: `sks dog`.
impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.token, self.noun)
    }
}

impl Subject {
    /// The phrase in the form in which subjects are compared.
    pub(crate) fn key(&self) -> String {
        fold(&self.to_string())
    }

    /// The number of the subject that a name means: a whole phrase, or a noun that only one subject has.
    ///
    /// ```
    /// use cones::index::Subject;
    ///
    /// let subject = |token: &str, noun: &str| Subject { noun: noun.to_owned(), token: token.to_owned() };
    /// let subjects = [subject("sks", "dog"), subject("zwx", "dog"), subject("sks", "cat")];
    /// assert_eq!(Subject::named(&subjects, "Cat").unwrap(), 2);
    /// assert_eq!(Subject::named(&subjects, "zwx dog").unwrap(), 1);
    /// let error = Subject::named(&subjects, "dog").unwrap_err().to_string();
    /// let several = "found `dog`, which is the noun of several";
    /// assert_eq!(error, format!("subject: expected one of sks dog, zwx dog, sks cat, {several}"));
    /// ```
    ///
    /// # Errors
    /// If it means none or several, naming those that there are as this takes them.
    pub fn named(subjects: &[Self], name: &str) -> Result<usize> {
        let why = match Self::meant(subjects, name).as_slice() {
            [one] => return Ok(*one),
            [] => "",
            _ => ", which is the noun of several",
        };
        let expected = match subjects {
            [_] => Self::phrases(subjects),
            _ => format!("one of {}", Self::phrases(subjects)),
        };
        let found = format!("{}{why}", shown(name));
        Err(Error::value("subject", expected, found))
    }

    /// For each subject a name that means it alone, the shortest, and the number of the one of these names that means
    /// it, if one does.
    ///
    /// # Errors
    /// If a name means no subject or several, or two mean one.
    pub fn each_named(subjects: &[Self], names: &[&str]) -> Result<Vec<(String, Option<usize>)>> {
        let mut each: Vec<Option<usize>> = vec![None; subjects.len()];
        for (number, name) in names.iter().enumerate() {
            let subject = Self::named(subjects, name)?;
            if let Some(other) = each[subject].replace(number) {
                let expected = format!("`{}` once", subjects[subject]);
                let found = format!("{} and {}", shown(names[other]), shown(name));
                return Err(Error::value("subject", expected, found));
            }
        }
        Ok(Self::short_names(subjects).into_iter().zip(each).collect())
    }

    /// A name for each subject that [`Subject::named`] takes: the noun if that is enough, else the phrase.
    fn short_names(subjects: &[Self]) -> Vec<String> {
        let name = |(number, subject): (usize, &Self)| match *Self::meant(subjects, &subject.noun) {
            [one] if one == number => subject.noun.clone(),
            _ => subject.to_string(),
        };
        subjects.iter().enumerate().map(name).collect()
    }

    /// The phrases of subjects, for a message: `sks dog, zwx cat`.
    pub fn phrases(subjects: &[Self]) -> String {
        let phrases: Vec<String> = subjects.iter().map(Self::to_string).collect();
        phrases.join(", ")
    }

    /// The numbers of the subjects that a name may mean.
    fn meant(subjects: &[Self], name: &str) -> Vec<usize> {
        let name = fold(name);
        let having = |is: &dyn Fn(&Self) -> bool| -> Vec<usize> {
            (0..subjects.len()).filter(|&s| is(&subjects[s])).collect()
        };
        let whole = having(&|subject| subject.key() == name);
        match whole.is_empty() {
            true => having(&|subject| fold(&subject.noun) == name),
            false => whole,
        }
    }

    /// What may go wrong in prompts of these subjects, a sentence for each: all of it is allowed.
    pub(crate) fn risks(subjects: &[&Self]) -> Vec<String> {
        let mut risks = Vec::new();
        for subject in subjects {
            let (phrase, token) = (subject.to_string(), &subject.token);
            if is_common(token) {
                risks.push(format!(
                    "`{phrase}`: `{token}` is a common word, so that prompts may say it without meaning the subject"
                ));
            }
            for longer in subjects.iter().map(|other| other.to_string()) {
                if fold(&longer) != fold(&phrase) && !occurrences(&longer, &phrase).is_empty() {
                    risks.push(format!(
                        "`{phrase}` is a part of `{longer}`: where a prompt has the longer one, it means that alone"
                    ));
                }
            }
        }
        risks
    }
}

/// That a prompt can tell subjects apart, each given with the file that holds it, or nothing.
///
/// # Errors
/// [`Error::Index`] if two phrases are one, or one ends as another begins (`sks dog` and `dog house`, which a prompt
/// with `sks dog house` might both mean); or if there are more than [`MAX_SUBJECTS`].
pub(crate) fn check_distinct(subjects: &[(&Subject, &str)]) -> Result<()> {
    if subjects.len() > MAX_SUBJECTS {
        let (most, found) = (MAX_SUBJECTS, subjects.len());
        return Err(IndexError::TooManySubjects { most, found }.into());
    }
    let shown = |(subject, file): (&Subject, &str)| match file {
        "" => format!("`{subject}`"),
        file => format!("`{subject}` of `{file}`"),
    };
    let keys: Vec<String> = subjects.iter().map(|(subject, _)| subject.key()).collect();
    for (second, key) in keys.iter().enumerate() {
        for (first, other) in keys[..second].iter().enumerate() {
            let expected = if key == other {
                "each phrase once"
            } else if ends_as_begins(key, other) || ends_as_begins(other, key) {
                "phrases of which none ends as another begins"
            } else {
                continue;
            };
            let ambiguous = IndexError::Ambiguous {
                expected,
                first: shown(subjects[first]),
                second: shown(subjects[second]),
            };
            return Err(ambiguous.into());
        }
    }
    Ok(())
}

/// Whether some last words of one phrase, not all, are the first of another, not all.
fn ends_as_begins(one: &str, other: &str) -> bool {
    let [one, other] = [one, other].map(|phrase| phrase.split(' ').collect::<Vec<_>>());
    (1..one.len().min(other.len())).any(|n| one[one.len() - n..] == other[..n])
}

#[cfg(test)]
mod tests;

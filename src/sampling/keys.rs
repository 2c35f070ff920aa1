//! Strict reading of a `scheduler_config.json`: every key is taken once, and what is left over is
//! an error.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// The keys of one file that nobody has taken yet.
pub(super) struct Keys<'a> {
    file: &'a str,
    map: Map<String, Value>,
}

impl<'a> Keys<'a> {
    /// The keys of `text`; `file` is its name in errors.
    pub(super) fn parse(file: &'a str, text: &str) -> Result<Self> {
        let error = |expected: &str, found: String| Error::Config {
            file: file.to_owned(),
            key: "(the whole file)".to_owned(),
            expected: expected.to_owned(),
            found,
        };
        match serde_json::from_str(&quote_infinities(text)) {
            Ok(Value::Object(map)) => Ok(Self { file, map }),
            Ok(other) => Err(error("a JSON object", kind(&other).to_owned())),
            Err(source) => Err(error("JSON", source.to_string())),
        }
    }

    /// An [`Error::Config`] about `key`.
    pub(super) fn error(
        &self,
        key: &str,
        expected: impl Into<String>,
        found: impl ToString,
    ) -> Error {
        Error::Config {
            file: self.file.to_owned(),
            key: key.to_owned(),
            expected: expected.into(),
            found: found.to_string(),
        }
    }

    /// Any value.
    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        self.map.remove(key)
    }

    /// Passes over a key.
    pub(super) fn remove(&mut self, key: &str) {
        self.map.remove(key);
    }

    /// `true` or `false`, or, as where Python says `bool | None`, null for false.
    pub(super) fn flag(&mut self, key: &str) -> Result<Option<bool>> {
        self.read(key, "true or false", |value| match value {
            Value::Null => Some(false),
            _ => value.as_bool(),
        })
    }

    /// A whole number in `range`.
    pub(super) fn integer(&mut self, key: &str, range: RangeInclusive<i64>) -> Result<Option<i64>> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.read(key, &expected, |value| {
            value.as_i64().filter(|number| range.contains(number))
        })
    }

    /// A number, or minus infinity as Python writes it.
    pub(super) fn number(&mut self, key: &str) -> Result<Option<f64>> {
        self.read(key, "a number", |value| match value.as_str() {
            Some("-Infinity") => Some(f64::NEG_INFINITY),
            _ => value.as_f64(),
        })
    }

    /// A list of numbers; null is as good as nothing.
    pub(super) fn numbers(&mut self, key: &str) -> Result<Option<Vec<f64>>> {
        if self.map.get(key).is_some_and(Value::is_null) {
            self.remove(key);
        }
        self.read(key, "a list of numbers", |value| {
            value.as_array()?.iter().map(Value::as_f64).collect()
        })
    }

    /// A list of strings; empty if the key is not there.
    pub(super) fn strings(&mut self, key: &str) -> Result<Vec<String>> {
        let strings = self.read(key, "a list of strings", |value| {
            value
                .as_array()?
                .iter()
                .map(|item| item.as_str().map(str::to_owned))
                .collect()
        })?;
        Ok(strings.unwrap_or_default())
    }

    /// One of the given words, as the value beside it.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        self.read(key, &format!("one of {}", words.join(", ")), |value| {
            let word = value.as_str()?;
            choices
                .iter()
                .find(|(choice, _)| *choice == word)
                .map(|(_, meaning)| *meaning)
        })
    }

    /// One of the given words, which must be there.
    pub(super) fn one_of(&mut self, key: &str, words: &[&str]) -> Result<()> {
        let expected = || format!("one of {}", words.join(", "));
        match self.take(key) {
            Some(Value::String(word)) if words.contains(&word.as_str()) => Ok(()),
            Some(other) => Err(self.error(key, expected(), other)),
            None => Err(self.error(key, expected(), "nothing")),
        }
    }

    /// An error if a key is left that might mean something: private keys (`_diffusers_version`) do
    /// not, nor do keys that are off.
    pub(super) fn finish(self) -> Result<()> {
        let unknown = self.map.iter().find(|(key, value)| {
            !key.starts_with('_') && !matches!(value, Value::Null | Value::Bool(false))
        });
        match unknown {
            Some((key, value)) => Err(self.error(key, "a key of a known scheduler", value)),
            None => Ok(()),
        }
    }

    fn read<T>(
        &mut self,
        key: &str,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        read(&value)
            .map(Some)
            .ok_or_else(|| self.error(key, expected, value))
    }
}

/// Puts quotes around `Infinity`, `-Infinity` and `NaN`, which Python writes (DPM-Solver's
/// `lambda_min_clipped`) and JSON does not have.
fn quote_infinities(text: &str) -> Cow<'_, str> {
    if !text.contains("Infinity") && !text.contains("NaN") {
        return Cow::Borrowed(text);
    }
    let mut quoted = String::with_capacity(text.len() + 16);
    let mut inside_string = false;
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let constant = ["-Infinity", "Infinity", "NaN"]
            .into_iter()
            .find(|word| rest.starts_with(word));
        let length = match constant {
            Some(word) if !inside_string => {
                quoted.extend(["\"", word, "\""]);
                rest = &rest[word.len()..];
                continue;
            }
            // A backslash takes the next character with it, so that `\"` does not end the string.
            _ if inside_string && next == '\\' => {
                1 + rest[1..].chars().next().map_or(0, char::len_utf8)
            }
            _ => next.len_utf8(),
        };
        inside_string ^= next == '"';
        quoted.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    Cow::Owned(quoted)
}

/// The JSON type of a value.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::quote_infinities;

    #[test]
    fn only_bare_infinities_are_quoted() {
        let text = r#"{"a": -Infinity, "b\"NaN": "Infinity é", "c": [NaN, Infinity], "d\\": NaN}"#;
        let want =
            r#"{"a": "-Infinity", "b\"NaN": "Infinity é", "c": ["NaN", "Infinity"], "d\\": "NaN"}"#;
        assert_eq!(quote_infinities(text), want);
        assert_eq!(quote_infinities("\"NaN\\"), "\"NaN\\");
    }
}

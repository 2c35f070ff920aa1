//! Strict reading of a model's JSON files: every key is used, known to change nothing, or refused.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{Error, Result};

/// The keys of one configuration file that have not been accounted for yet.
#[derive(Debug)]
pub(crate) struct Keys {
    file: String,
    map: Map<String, Value>,
}

impl Keys {
    /// Reads `text`, the contents of `file`, which must be a JSON object; an infinity or NaN, which Python writes and JSON does
    /// not have, becomes a string.
    pub(crate) fn parse(file: &str, text: &str) -> Result<Self> {
        let invalid = |found: String| Error::Config {
            file: file.to_owned(),
            key: "(whole file)".to_owned(),
            expected: "a JSON object".to_owned(),
            found,
        };
        match serde_json::from_str(&quote_infinities(text)) {
            Ok(Value::Object(map)) => Ok(Self {
                file: file.to_owned(),
                map,
            }),
            Ok(other) => Err(invalid(abridged(&other))),
            Err(error) => Err(invalid(error.to_string())),
        }
    }

    /// The object at `key`, as a configuration of its own; empty where it is absent or null.
    pub(crate) fn section(&mut self, key: &str) -> Result<Self> {
        let map = self.or(key, Map::new())?;
        let file = format!("{}: `{key}`", self.file);
        Ok(Self { file, map })
    }

    /// Whether `key` is there and not null.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(|value| !value.is_null())
    }

    /// An error about `key` of this file.
    pub(crate) fn error(
        &self,
        key: &str,
        expected: impl Into<String>,
        found: impl ToString,
    ) -> Error {
        Error::Config {
            file: self.file.clone(),
            key: key.to_owned(),
            expected: expected.into(),
            found: found.to_string(),
        }
    }

    /// The keys that have not been accounted for yet, as they stand in the file.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.map.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of `key` as it stands in the file.
    pub(crate) fn take(&mut self, key: &str) -> Option<Value> {
        self.map.remove(key)
    }

    /// The value of `key`; `None` where it is absent or null.
    pub(crate) fn optional<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>> {
        match self.take(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match T::deserialize(&value) {
                Ok(value) => Ok(Some(value)),
                Err(error) => Err(self.error(
                    key,
                    "a value of another type",
                    format!("{} ({error})", abridged(&value)),
                )),
            },
        }
    }

    /// The value of `key`, or `default` where it is absent or null.
    pub(crate) fn or<T: DeserializeOwned>(&mut self, key: &str, default: T) -> Result<T> {
        Ok(self.optional(key)?.unwrap_or(default))
    }

    /// The value of `key`, which must be there.
    pub(crate) fn required<T: DeserializeOwned>(&mut self, key: &str) -> Result<T> {
        self.optional(key)?
            .ok_or_else(|| self.error(key, "a value", "nothing"))
    }

    /// A whole number of at least `least` and at most 65,536, which no network dimension exceeds.
    pub(crate) fn size(&mut self, key: &str, default: usize, least: usize) -> Result<usize> {
        let value = self.or(key, default)?;
        self.check_size(key, value, least)
    }

    /// `value` if it is a plausible dimension.
    pub(crate) fn check_size(&self, key: &str, value: usize, least: usize) -> Result<usize> {
        const MOST: usize = 1 << 16;
        if (least..=MOST).contains(&value) {
            Ok(value)
        } else {
            Err(self.error(key, format!("a whole number from {least} to {MOST}"), value))
        }
    }

    /// Accepts `key` only with one of these values, or absent.
    pub(crate) fn only(&mut self, key: &str, supported: &[Value]) -> Result<()> {
        match self.take(key) {
            None | Some(Value::Null) => Ok(()),
            Some(value) if supported.iter().any(|s| same(s, &value)) => Ok(()),
            Some(value) => {
                let list: Vec<String> = supported.iter().map(Value::to_string).collect();
                Err(self.error(key, list.join(" or "), abridged(&value)))
            }
        }
    }

    /// Sets aside keys that do not change what the model computes.
    pub(crate) fn ignore(&mut self, keys: &[&str]) {
        for key in keys {
            self.map.remove(*key);
        }
    }

    /// Refuses any key left that could mean something: not null, not false, and not a note such as `_class_name`.
    pub(crate) fn finish(self) -> Result<()> {
        let neutral = |v: &Value| matches!(v, Value::Null | Value::Bool(false));
        match self
            .map
            .iter()
            .find(|(key, value)| !key.starts_with('_') && !neutral(value))
        {
            None => Ok(()),
            Some((key, value)) => {
                Err(self.error(key, "no such key, null or false", abridged(value)))
            }
        }
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

/// Equality in which 1 and 1.0 are the same.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.total_cmp(&b).is_eq(),
        _ => a == b,
    }
}

/// A value as it stands in the file, cut short if it is long.
fn abridged(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_key_is_accounted_for() {
        let mut keys = Keys::parse(
            "config.json",
            r#"{"a": 1.0, "b": null, "_c": 5, "d": false, "e": "x"}"#,
        )
        .unwrap();
        keys.only("a", &[json!(1)]).unwrap();
        let error = keys.finish().unwrap_err().to_string();
        assert_eq!(
            error,
            "config.json: `e`: expected no such key, null or false, found \"x\""
        );
    }

    #[test]
    fn unsupported_values_are_named() {
        let mut keys = Keys::parse("config.json", r#"{"act_fn": "relu"}"#).unwrap();
        let error = keys
            .only("act_fn", &[json!("silu"), json!("swish")])
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "config.json: `act_fn`: expected \"silu\" or \"swish\", found \"relu\""
        );
    }

    #[test]
    fn only_bare_infinities_are_quoted() {
        let text = r#"{"a": -Infinity, "b\"NaN": "Infinity é", "c": [NaN, Infinity], "d\\": NaN}"#;
        let want =
            r#"{"a": "-Infinity", "b\"NaN": "Infinity é", "c": ["NaN", "Infinity"], "d\\": "NaN"}"#;
        assert_eq!(quote_infinities(text), want);
        assert_eq!(quote_infinities("\"NaN\\"), "\"NaN\\");
    }
}

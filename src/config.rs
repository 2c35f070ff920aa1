//! Strict reading of a model's JSON files: every key is used, known to change nothing, or refused.
//!
//! In diffusers and transformers an absent key has its default, and `null` is a value that reaches the constructor: few
//! keys take it, and what it means to one of these is seldom the default. So `null` is a value here too.
//! [`ConfigReader::or`],
//! [`ConfigReader::size`] and [`ConfigReader::only`] refuse it, [`ConfigReader::flag`] takes it for false as Python
//! does, and
//! [`ConfigReader::optional`] is for keys whose own word for "none" it is.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{Error, Result};

/// The keys of one configuration file that have not been accounted for yet.
#[derive(Debug)]
pub(crate) struct ConfigReader {
    file: String,
    map: Map<String, Value>,
}

impl ConfigReader {
    /// Reads `text`, the contents of `file`, which must be a JSON object; an infinity or NaN, which Python writes and
    /// JSON does not have, becomes a string.
    pub(crate) fn parse(file: &str, text: &str) -> Result<Self> {
        const WHAT: &str = "a JSON object";
        match serde_json::from_str(&quote_infinities(text)) {
            Ok(Value::Object(map)) => Ok(Self {
                file: file.to_owned(),
                map,
            }),
            Ok(other) => {
                let hint = "the file is of another kind; fetch it again";
                Err(Error::file(file, WHAT, abridged(&other), hint))
            }
            Err(error) if error.is_eof() => {
                let found = format!("JSON that ends in the middle, after {} bytes", text.len());
                let hint = "the file did not come whole: fetch it again";
                Err(Error::file(file, WHAT, found, hint))
            }
            Err(error) => {
                let found = format!("text that is no JSON ({error})");
                let hint = "put this place of the file right, or fetch the file again";
                Err(Error::file(file, WHAT, found, hint))
            }
        }
    }

    /// Reads a file of diffusers, which drops what the file itself calls defaults.
    pub(crate) fn parse_diffusers(file: &str, text: &str) -> Result<Self> {
        let mut keys = Self::parse(file, text)?;
        for key in keys.or("_use_default_values", Vec::<String>::new())? {
            keys.map.remove(&key);
        }
        Ok(keys)
    }

    /// The object at `key`, as a configuration of its own; empty where it is absent or null.
    pub(crate) fn section(&mut self, key: &str) -> Result<Self> {
        let map = self.optional(key)?.unwrap_or_default();
        let file = format!("{}: `{key}`", self.file);
        Ok(Self { file, map })
    }

    /// Whether `key` is there and not null.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(|value| !value.is_null())
    }

    /// Whether `key` is there and null.
    pub(crate) fn is_null(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(Value::is_null)
    }

    /// The value of `key` if it is a string, which stays to be accounted for.
    pub(crate) fn word(&self, key: &str) -> Option<&str> {
        self.map.get(key)?.as_str()
    }

    /// The first of the strings at `key`.
    pub(crate) fn first_word(&self, key: &str) -> Option<&str> {
        self.map.get(key)?.get(0)?.as_str()
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

    /// An error about a value that is wrong in itself, whatever is supported.
    fn malformed(&self, key: &str, expected: impl Into<String>, found: impl Into<String>) -> Error {
        let file = format!("{}: `{key}`", self.file);
        let hint = "put the value right in the file, or fetch the file again";
        Error::file(file, expected, found, hint)
    }

    /// The value of `key` as it stands in the file.
    pub(crate) fn take(&mut self, key: &str) -> Option<Value> {
        self.map.remove(key)
    }

    /// The value of `key`; `None` where it is absent or null: for keys to which null is the same as nothing.
    pub(crate) fn optional<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>> {
        match self.take(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => self.read(key, &value).map(Some),
        }
    }

    fn read<T: DeserializeOwned>(&self, key: &str, value: &Value) -> Result<T> {
        T::deserialize(value).map_err(|error| {
            let found = format!("{} ({error})", abridged(value));
            self.malformed(key, "a value of another type", found)
        })
    }

    /// The value of `key`, which must not be null; `None` where it is absent.
    fn given<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Null) => Err(self.null(key, "a value, or no such key")),
            Some(value) => self.read(key, &value).map(Some),
        }
    }

    fn null(&self, key: &str, expected: &str) -> Error {
        let file = format!("{}: `{key}`", self.file);
        let hint = "null is not the default here, and diffusers takes none either: give the value, or leave the \
                    key out for the default";
        Error::file(file, expected, "null", hint)
    }

    /// The value of `key`, or `default` where it is absent.
    pub(crate) fn or<T: DeserializeOwned>(&mut self, key: &str, default: T) -> Result<T> {
        Ok(self.given(key)?.unwrap_or(default))
    }

    /// The value of `key`, which must be there.
    pub(crate) fn required<T: DeserializeOwned>(&mut self, key: &str) -> Result<T> {
        self.given(key)?
            .ok_or_else(|| self.malformed(key, "a value", "no such key"))
    }

    /// `true` or `false`, or null for false, as to Python; `None` where it is absent.
    pub(crate) fn flag(&mut self, key: &str) -> Result<Option<bool>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(false)),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(value) => Err(self.error(key, "true or false", value)),
        }
    }

    /// A number in `range`, if the key is there: a setting of the user's, not of the model's.
    pub(crate) fn setting<T>(&mut self, key: &str, range: RangeInclusive<T>) -> Result<Option<T>>
    where
        T: DeserializeOwned + PartialOrd + std::fmt::Display,
    {
        let expected = format!("a number from {} to {}", range.start(), range.end());
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        match T::deserialize(&value) {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => Err(self.malformed(key, expected, abridged(&value))),
        }
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
            let expected = format!("a whole number from {least} to {MOST}");
            Err(self.malformed(key, expected, value.to_string()))
        }
    }

    /// Accepts `key` only with one of these values, or absent.
    pub(crate) fn only(&mut self, key: &str, supported: &[Value]) -> Result<()> {
        match self.take(key) {
            None => Ok(()),
            Some(value) if supported.iter().any(|s| same(s, &value)) => Ok(()),
            Some(Value::Null) => {
                let list: Vec<String> = supported.iter().map(Value::to_string).collect();
                Err(self.null(key, &list.join(" or ")))
            }
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
        let mut keys = ConfigReader::parse(
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
        let mut keys = ConfigReader::parse("config.json", r#"{"act_fn": "relu"}"#).unwrap();
        let error = keys
            .only("act_fn", &[json!("silu"), json!("swish")])
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "config.json: `act_fn`: expected \"silu\" or \"swish\", found \"relu\""
        );
    }

    /// Absent, null, false and a value, by each way to read a key.
    #[test]
    fn null_is_a_value() {
        let keys =
            || ConfigReader::parse("f", r#"{"null": null, "false": false, "one": 1}"#).unwrap();
        let null = |result: Result<()>| {
            let text = result.unwrap_err().to_string();
            assert!(
                text.starts_with("f: `null`: ") && text.ends_with("found null"),
                "{text}"
            );
        };
        assert_eq!(keys().or("absent", 5).unwrap(), 5);
        assert_eq!(keys().or("one", 5).unwrap(), 1);
        null(keys().or("null", 5).map(drop));
        assert_eq!(keys().size("absent", 5, 1).unwrap(), 5);
        null(keys().size("null", 5, 1).map(drop));
        null(keys().required::<u32>("null").map(drop));
        assert!(keys().required::<u32>("absent").is_err());
        assert_eq!(keys().optional::<u32>("absent").unwrap(), None);
        assert_eq!(keys().optional::<u32>("null").unwrap(), None);
        assert_eq!(keys().flag("absent").unwrap(), None);
        assert_eq!(keys().flag("null").unwrap(), Some(false));
        assert!(keys().flag("one").is_err());
        keys().only("absent", &[json!(1)]).unwrap();
        keys().only("null", &[json!(1), Value::Null]).unwrap();
        null(keys().only("null", &[json!(1)]));
        null(keys().setting("null", 1..=5).map(drop));
        assert!(keys().section("null").unwrap().finish().is_ok());
        let mut keys = keys();
        keys.take("one");
        keys.finish().unwrap(); // what is left is null or false: off
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

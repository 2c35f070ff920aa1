//! The values that a `scheduler_config.json` has.

use std::ops::RangeInclusive;

use serde_json::Value;

use crate::Result;
use crate::keys::Keys;

impl Keys {
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
        if !self.has(key) {
            self.take(key);
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

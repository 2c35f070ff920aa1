//! The values that a `scheduler_config.json` has.

use std::ops::RangeInclusive;

use serde_json::Value;

use crate::Result;
use crate::config::ConfigReader;

impl ConfigReader {
    /// A whole number in `range`.
    pub(super) fn integer(&mut self, key: &str, range: RangeInclusive<i64>) -> Result<Option<i64>> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.value(key, &expected, |value| {
            value.as_i64().filter(|number| range.contains(number))
        })
    }

    /// A number, or minus infinity as Python writes it.
    pub(super) fn number(&mut self, key: &str) -> Result<Option<f64>> {
        self.value(key, "a number", |value| match value.as_str() {
            Some("-Infinity") => Some(f64::NEG_INFINITY),
            _ => value.as_f64(),
        })
    }

    /// A list of numbers; null is as good as nothing.
    pub(super) fn numbers(&mut self, key: &str) -> Result<Option<Vec<f64>>> {
        if !self.has(key) {
            self.take(key);
        }
        self.value(key, "a list of numbers", |value| {
            value.as_array()?.iter().map(Value::as_f64).collect()
        })
    }

    /// One of the given words, as the value beside it.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        self.value(key, &format!("one of {}", words.join(", ")), |value| {
            let word = value.as_str()?;
            choices
                .iter()
                .find(|(choice, _)| *choice == word)
                .map(|(_, meaning)| *meaning)
        })
    }

    fn value<T>(
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

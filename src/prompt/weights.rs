//! Weights of words: the brackets of the A1111 web UI.
//!
//! `(word)` has 1.1 times the weight, `[word]` a 1.1th of it, `(word:1.3)` has 1.3; brackets in brackets multiply, and
//! one that is left open goes to the end. A backslash takes a bracket's or a backslash's meaning away: `\(`.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::{Error, Result};

/// A text in which stretches have weights; by itself every text has weight 1.
///
/// ```
/// use cones::prompt::WeightedText;
///
/// let text: WeightedText = r"a (red dog:1.3) \(sharp\)".parse().unwrap();
/// assert_eq!(text.text(), "a red dog (sharp)");
/// assert_eq!(text.to_string(), r"a (red dog:1.3) \(sharp\)");
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WeightedText {
    text: String,
    /// Where each stretch ends, and its weight; none is empty, and no two neighbours have one weight.
    runs: Vec<(usize, f32)>,
}

/// Of a pair of brackets.
const STEP: f64 = 1.1;

/// Reads brackets.
///
/// # Errors
/// If a weight is no number: `(word:1.2.3)`.
impl FromStr for WeightedText {
    type Err = Error;

    fn from_str(marked: &str) -> Result<Self> {
        let mut pieces: Vec<(String, f64)> = Vec::new();
        let (mut round, mut square) = (Vec::new(), Vec::new());
        let weigh = |pieces: &mut [(String, f64)], from: usize, factor: f64| {
            pieces[from..]
                .iter_mut()
                .for_each(|(_, weight)| *weight *= factor);
        };
        let mut rest = marked;
        while let Some(c) = rest.chars().next() {
            let mut used = c.len_utf8();
            match c {
                '\\' => {
                    // One that stands before anything else says nothing.
                    let escaped = rest[1..].chars().next().filter(|c| "()[]\\".contains(*c));
                    used += usize::from(escaped.is_some());
                    pieces.push((escaped.map_or_else(String::new, String::from), 1.0));
                }
                '(' => round.push(pieces.len()),
                '[' => square.push(pieces.len()),
                ')' if !round.is_empty() => weigh(&mut pieces, round.pop().unwrap_or(0), STEP),
                ']' if !square.is_empty() => {
                    weigh(&mut pieces, square.pop().unwrap_or(0), 1.0 / STEP)
                }
                ':' if !round.is_empty() && weight(rest).is_some() => {
                    let (number, length) = weight(rest).unwrap_or_default();
                    weigh(&mut pieces, round.pop().unwrap_or(0), finite(number)?);
                    used = length;
                }
                _ => {
                    let end = rest[used..].find(['\\', '(', ')', '[', ']', ':']);
                    used = end.map_or(rest.len(), |end| used + end);
                    pieces.push((rest[..used].to_owned(), 1.0));
                }
            }
            rest = &rest[used..];
        }
        for from in round {
            weigh(&mut pieces, from, STEP);
        }
        for from in square {
            weigh(&mut pieces, from, 1.0 / STEP);
        }
        let mut parsed = Self::default();
        for (piece, weight) in pieces {
            let weight = weight as f32;
            if !weight.is_finite() {
                return Err(not_a_weight(&weight.to_string()));
            }
            parsed.push(&piece, weight);
        }
        Ok(parsed)
    }
}

impl WeightedText {
    /// Appends a stretch.
    pub(super) fn push(&mut self, text: &str, weight: f32) {
        if text.is_empty() {
            return;
        }
        self.text.push_str(text);
        let end = self.text.len();
        match self.runs.last_mut() {
            Some((last, before)) if before.to_bits() == weight.to_bits() => *last = end,
            _ => self.runs.push((end, weight)),
        }
    }

    /// The text without brackets.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The stretches that it is made of, each with its weight, in order.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (Range<usize>, f32)> + '_ {
        let starts = std::iter::once(0).chain(self.runs.iter().map(|(end, _)| *end));
        starts
            .zip(&self.runs)
            .map(|(start, (end, weight))| (start..*end, *weight))
    }

    /// The weight of the text at a byte.
    pub(super) fn weight_at(&self, at: usize) -> f32 {
        let run = self
            .runs
            .get(self.runs.partition_point(|(end, _)| *end <= at));
        run.map_or(1.0, |(_, weight)| *weight)
    }
}

/// The number in `:1.3)` at the beginning of a text, and how many bytes that is.
fn weight(text: &str) -> Option<(&str, usize)> {
    let inner = text.strip_prefix(':')?;
    let inner = inner.trim_start();
    let signed = inner.strip_prefix(['+', '-']).unwrap_or(inner);
    let digits = signed.len()
        - signed
            .trim_start_matches(|c: char| c == '.' || c.is_ascii_digit())
            .len();
    let number = &inner[..inner.len() - signed.len() + digits];
    let after = inner[number.len()..].trim_start().strip_prefix(')')?;
    (digits > 0).then(|| (number, text.len() - after.len()))
}

fn finite(number: &str) -> Result<f64> {
    let parsed = number.parse().ok().filter(|n: &f64| n.is_finite());
    parsed.ok_or_else(|| not_a_weight(number))
}

fn not_a_weight(found: &str) -> Error {
    let expected = "a number as weight, as in `(word:1.3)`";
    Error::value("prompt", expected, format!("`{found}`"))
}

/// With brackets, as [`WeightedText::from_str`] reads them; what is a bracket itself has a backslash.
impl fmt::Display for WeightedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (span, weight) in self.runs() {
            let mut escaped = String::new();
            for c in self.text[span].chars() {
                if "()[]\\".contains(c) {
                    escaped.push('\\');
                }
                escaped.push(c);
            }
            match weight.to_bits() == 1f32.to_bits() {
                true => f.write_str(&escaped)?,
                false => write!(f, "({escaped}:{weight})")?,
            }
        }
        Ok(())
    }
}

/// As it is, with weight 1.
impl From<&str> for WeightedText {
    fn from(text: &str) -> Self {
        let mut plain = Self::default();
        plain.push(text, 1.0);
        plain
    }
}

/// As it is, with weight 1.
impl From<String> for WeightedText {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

/// As it is, with weight 1.
impl From<&String> for WeightedText {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<&WeightedText> for WeightedText {
    fn from(text: &WeightedText) -> Self {
        text.clone()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The cases of the web UI's own documentation, and what its rule says of odd ones.
    #[test]
    fn brackets_are_read_as_the_web_ui_reads_them() {
        let rows: &[(&str, &[(&str, f32)])] = &[
            ("", &[]),
            ("normal text", &[("normal text", 1.0)]),
            (
                "an (important) word",
                &[("an ", 1.0), ("important", 1.1), (" word", 1.0)],
            ),
            ("(unbalanced", &[("unbalanced", 1.1)]),
            (r"\(literal\]", &[("(literal]", 1.0)]),
            ("(unnecessary)(parens)", &[("unnecessaryparens", 1.1)]),
            (
                "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
                &[
                    ("a ", 1.0),
                    ("house", 1.573),
                    (" ", 1.1),
                    ("on", 1.0),
                    (" a ", 1.1),
                    ("hill", 0.55),
                    (", sun, ", 1.1),
                    ("sky", 1.4641),
                    (".", 1.1),
                ],
            ),
            ("((word))", &[("word", 1.21)]),
            ("[[word]]", &[("word", 0.826_446_3)]),
            (
                "a: b :) c] (d : 1.5 )",
                &[("a: b :) c] ", 1.0), ("d ", 1.5)],
            ),
            ("(a:-1)(b:0)(c:+.5)", &[("a", -1.0), ("b", 0.0), ("c", 0.5)]),
            ("x:1.3)", &[("x:1.3)", 1.0)]),
            ("(a:b)", &[("a:b", 1.1)]),
            (r"C:\\x \y", &[(r"C:\x y", 1.0)]),
            ("(犬:2)", &[("犬", 2.0)]),
        ];
        for (marked, want) in rows {
            let parsed = WeightedText::from_str(marked).unwrap();
            let got: Vec<(&str, f32)> = parsed
                .runs()
                .map(|(span, w)| (&parsed.text()[span], w))
                .collect();
            assert_eq!(got.len(), want.len(), "{marked}: {got:?}");
            for ((text, weight), (want, wanted)) in got.iter().zip(*want) {
                assert_eq!(text, want, "{marked}");
                assert!(
                    (weight - wanted).abs() < 1e-6,
                    "{marked}: {weight}, not {wanted}"
                );
            }
        }
        for wrong in ["(a:1.2.3)", "(a:.)", &format!("(a:{})", "9".repeat(400))] {
            let error = WeightedText::from_str(wrong).unwrap_err().to_string();
            assert!(error.contains("as in `(word:1.3)`"), "{error}");
        }
    }

    proptest! {
        /// What is written is read again as what it was; a plain text comes back whatever is in it.
        #[test]
        fn what_is_written_is_read_again(text in r"[a-c()\[\]\\:.13 é-]{0,24}") {
            if let Ok(parsed) = WeightedText::from_str(&text) {
                prop_assert_eq!(WeightedText::from_str(&parsed.to_string()).unwrap(), parsed);
            }
            let plain = WeightedText::from(&text);
            prop_assert_eq!(WeightedText::from_str(&plain.to_string()).unwrap(), plain);
        }
    }
}

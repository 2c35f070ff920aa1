//! What is written to a terminal or a file of several lines.

use cones::is_unseen;

/// Text of several lines: [`cones::escaped`], but for line breaks and tabs.
pub(crate) fn escaped_lines(text: &str) -> String {
    escape(text, "\n\t", |c| c.escape_unicode().to_string())
}

/// JSON of several lines with the same value, in which nothing is unseen: what is can only stand in its strings.
pub(crate) fn escaped_json(text: &str) -> String {
    escape(text, "\n\t\r", |c| {
        let mut units = [0; 2];
        let units = c.encode_utf16(&mut units).iter();
        units.map(|unit| format!("\\u{unit:04x}")).collect()
    })
}

fn escape(text: &str, kept: &str, written: impl Fn(char) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match is_unseen(c) && !kept.contains(c) {
            true => out.push_str(&written(c)),
            false => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_unseen_is_left_of_lines() {
        for text in [
            "ä 犬 👨‍👩‍👧",
            "a\nb\r\tc",
            "\u{9b}2J",
            "gpj.\u{202e}exe",
            "\u{e0041}",
        ] {
            let lines = escaped_lines(text);
            assert!(
                !lines
                    .chars()
                    .any(|c| is_unseen(c) && c != '\n' && c != '\t')
            );
            let json = serde_json::json!([text]);
            let written = escaped_json(&format!("{json:#}"));
            assert!(
                !written.chars().any(|c| is_unseen(c) && c != '\n'),
                "{written}"
            );
            assert_eq!(
                serde_json::from_str::<serde_json::Value>(&written).unwrap(),
                json
            );
        }
        assert_eq!(escaped_lines("a\tb\n\u{1b}"), "a\tb\n\\u{1b}");
    }
}

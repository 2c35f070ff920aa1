//! Text from files, names and the command line, made fit for a terminal: nothing in it can move the cursor, turn the
//! direction of writing, or begin a line of its own.

/// Characters that act on a terminal or hide in a text instead of being seen: control characters, line and paragraph
/// separators, marks of direction, and formats without width. Joiners (U+200C, U+200D) are parts of words and emoji,
/// and stay.
pub fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{feff}'
        )
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}')
        || matches!(c, '\u{e0000}'..='\u{e007f}')
}

/// Text for one line: what is unseen is written as in Rust's literals, `\n` or `\u{1b}`.
///
/// ```
/// assert_eq!(cones::escaped("a\u{1b}[2J\nb"), r"a\u{1b}[2J\nb");
/// ```
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => out.extend(c.escape_default()),
            _ if is_unseen(c) => out.extend(c.escape_unicode()),
            _ => out.push(c),
        }
    }
    out
}

/// Text of a file for a message: in quotes, [`escaped`], not longer than 80 characters.
pub(crate) fn shown(text: &str) -> String {
    let start: String = text.chars().take(80).collect();
    let more = if start.len() < text.len() { "…" } else { "" };
    format!("`{}{more}`", escaped(&start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_unseen_is_left() {
        for (text, line) in [
            ("a dog", "a dog"),
            ("ä 犬 👨‍👩‍👧", "ä 犬 👨‍👩‍👧"),
            (r"C:\photos", r"C:\photos"),
            ("a\nb\r\tc", r"a\nb\r\tc"),
            ("\u{1b}]0;title\u{7}", r"\u{1b}]0;title\u{7}"),
            ("\u{9b}2J", r"\u{9b}2J"),
            ("\u{7f}", r"\u{7f}"),
            ("gpj.\u{202e}exe", r"gpj.\u{202e}exe"),
            ("\u{2066}a\u{2069}", r"\u{2066}a\u{2069}"),
            ("a\u{200b}b\u{feff}", r"a\u{200b}b\u{feff}"),
            ("a\u{2028}b", r"a\u{2028}b"),
            ("\u{e0041}", r"\u{e0041}"),
        ] {
            assert_eq!(escaped(text), line);
            assert_eq!(escaped(line), line);
        }
    }
}

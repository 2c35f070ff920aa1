//! The command line that made a page, without the folders of this machine.

use std::path::Path;

/// The words of this run's command line as a shell takes them. Of paths the last part is left, but not of `names`,
/// which are of no files here.
pub(super) fn command_line(names: &[&str]) -> String {
    let given = std::env::args_os().skip(1);
    let words = given.map(|word| word.to_string_lossy().into_owned());
    let words = words.map(|word| quoted(&without_folders(&word, names)));
    let all: Vec<String> = std::iter::once("cones".to_owned()).chain(words).collect();
    all.join(" ")
}

/// `--images=dog=/home/me/dogs` as `--images=dog=dogs`.
fn without_folders(word: &str, names: &[&str]) -> String {
    let path = word.rsplit_once('=').map_or(word, |(_, path)| path);
    let parts = Path::new(path).components().count();
    if parts < 2 || names.contains(&path) {
        return word.to_owned();
    }
    let last = Path::new(path).file_name();
    let last = last.map_or("…".into(), |last| last.to_string_lossy());
    format!("{}{last}", &word[..word.len() - path.len()])
}

/// A word in single quotes, where a shell would read it otherwise.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=,:%@+".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_folder_is_left() {
        for (word, want) in [
            ("dog.idx", "dog.idx"),
            ("photos/", "photos/"),
            ("/home/me/dog.idx", "dog.idx"),
            ("../my dogs/a.idx", "a.idx"),
            ("../..", "…"),
            ("/", "/"),
            ("--report=/tmp/dog.html", "--report=dog.html"),
            ("dog=/home/me/dogs", "dog=dogs"),
            ("--images=sks dog=x/y", "--images=sks dog=y"),
            ("openai/clip", "openai/clip"),
            ("other/clip", "clip"),
            ("1%,2%", "1%,2%"),
        ] {
            assert_eq!(without_folders(word, &["openai/clip"]), want, "{word}");
        }
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        for (word, want) in [
            ("dog.idx", "dog.idx"),
            ("my dog", "'my dog'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
            ("up_blocks.*", "'up_blocks.*'"),
        ] {
            assert_eq!(quoted(word), want);
        }
    }
}

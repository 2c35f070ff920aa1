//! What the hub says a repository holds, none of it believed: names that lead anywhere, more files than any model has
//! and hashes that are none are refused before a file is made.

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::cache;

/// More files than any model has.
const MOST_FILES: usize = 5_000;

/// The longest listing that is read: each file takes some 300 bytes of it.
pub(super) const LONGEST: u64 = 8 << 20;

/// Larger than the files of any model.
const LARGEST: u64 = 1 << 40;

/// A repository's files at one commit.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) commit: String,
    pub(super) files: Vec<Listed>,
}

/// A file, as the hub lists it.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) name: String,
    size: Option<u64>,
    hash: Option<Hash>,
}

/// A file that is to be fetched.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) hash: Hash,
}

/// What a file's bytes must give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hash {
    /// Of the bytes, for large files.
    Sha256(String),
    /// Git's own, SHA-1 behind a header, for small ones.
    Git(String),
}

impl Hash {
    /// What the cache calls the bytes.
    pub(super) fn etag(&self) -> &str {
        let (Self::Sha256(hash) | Self::Git(hash)) = self;
        hash
    }
}

impl Listed {
    /// The file with all that is needed to fetch and check it.
    ///
    /// # Errors
    /// What the hub has not said, or cannot be.
    pub(super) fn wanted(&self) -> Result<Wanted, String> {
        let name = self.name.escape_debug();
        let size = self.size.ok_or_else(|| format!("no size of `{name}`"))?;
        if size > LARGEST {
            return Err(format!(
                "`{name}` of {size} bytes, more than any model's file has"
            ));
        }
        let hash = self
            .hash
            .clone()
            .ok_or_else(|| format!("no hash of `{name}`"))?;
        Ok(Wanted {
            name: self.name.clone(),
            size,
            hash,
        })
    }
}

#[derive(Deserialize)]
struct Answer {
    sha: String,
    #[serde(deserialize_with = "files")]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    #[serde(alias = "oid")]
    sha256: String,
    size: Option<u64>,
}

/// The list, as far as it may go.
fn files<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Sibling>, D::Error> {
    struct Files;
    impl<'de> Visitor<'de> for Files {
        type Value = Vec<Sibling>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list of files")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut files = Vec::new();
            while let Some(file) = list.next_element()? {
                if files.len() == MOST_FILES {
                    return Err(A::Error::custom(format!("more than {MOST_FILES} files")));
                }
                files.push(file);
            }
            Ok(files)
        }
    }
    deserializer.deserialize_seq(Files)
}

/// Reads a listing.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(json: &[u8]) -> Result<Listing, String> {
    let answer: Answer = serde_json::from_slice(json)
        .map_err(|error| format!("a listing that cannot be read: {error}"))?;
    if !cache::is_commit(&answer.sha) {
        let commit: String = answer.sha.chars().take(60).collect();
        return Err(format!("\"{}\" for a commit", commit.escape_debug()));
    }
    let files = answer
        .siblings
        .into_iter()
        .map(checked)
        .collect::<Result<_, _>>()?;
    Ok(Listing {
        commit: answer.sha,
        files,
    })
}

fn checked(file: Sibling) -> Result<Listed, String> {
    let name = file.rfilename;
    let shown = || {
        name.chars()
            .take(100)
            .collect::<String>()
            .escape_debug()
            .to_string()
    };
    if !cache::is_revision(&name) {
        return Err(format!(
            "\"{}\" for the name of a file, which is no name of one in it",
            shown()
        ));
    }
    let hex = |hash: &str, length: usize| {
        hash.len() == length && hash.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let hash = match (file.lfs.as_ref(), file.blob) {
        (Some(lfs), _) if hex(&lfs.sha256, 64) => {
            Some(Hash::Sha256(lfs.sha256.to_ascii_lowercase()))
        }
        (None, Some(blob)) if hex(&blob, 40) => Some(Hash::Git(blob.to_ascii_lowercase())),
        (None, None) => None,
        _ => return Err(format!("a hash of `{}` that is none", shown())),
    };
    let size = file.lfs.and_then(|lfs| lfs.size).or(file.size);
    Ok(Listed { name, size, hash })
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn listing(siblings: &str) -> Result<Listing, String> {
        parse(
            format!(r#"{{"id": "a/b", "sha": "{COMMIT}", "siblings": [{siblings}], "x": [1]}}"#)
                .as_bytes(),
        )
    }

    #[test]
    fn files_have_sizes_and_hashes() {
        let sha = "ab".repeat(32);
        let small = format!(r#"{{"rfilename": "a.json", "size": 3, "blobId": "{COMMIT}"}}"#);
        let large = format!(
            r#"{{"rfilename": "b/c", "size": 9, "blobId": "{COMMIT}", "lfs": {{"sha256": "{sha}", "size": 9}}}}"#
        );
        let found = listing(&format!(r#"{small}, {large}, {{"rfilename": "bare"}}"#)).unwrap();
        assert_eq!(found.commit, COMMIT);
        let wanted: Vec<_> = found.files.iter().map(Listed::wanted).collect();
        assert_eq!(
            wanted[0].as_ref().unwrap().hash,
            Hash::Git(COMMIT.to_owned())
        );
        assert_eq!(wanted[1].as_ref().unwrap().hash, Hash::Sha256(sha));
        assert_eq!(wanted[1].as_ref().unwrap().size, 9);
        assert!(
            wanted[2]
                .as_ref()
                .unwrap_err()
                .contains("no size of `bare`")
        );
    }

    #[test]
    fn hostile_listings_are_refused() {
        for name in [
            "../x",
            "a/../../x",
            "/etc/x",
            "a//b",
            "a\\\\b",
            "a\\u0000b",
            "",
            ".",
            "a/.",
            "a\\nb",
        ] {
            let error = listing(&format!(r#"{{"rfilename": "{name}", "size": 1}}"#)).unwrap_err();
            assert!(error.contains("no name of one in it"), "{name}: {error}");
        }
        let lfs = |sha: &str| format!(r#"{{"rfilename": "a", "lfs": {{"sha256": "{sha}"}}}}"#);
        for text in [
            lfs("../../x"),
            lfs(""),
            r#"{"rfilename": "a", "blobId": "../x"}"#.to_owned(),
        ] {
            assert!(
                listing(&text).unwrap_err().contains("a hash of `a`"),
                "{text}"
            );
        }
        let huge = listing(&format!(
            r#"{{"rfilename": "a", "size": {}, "blobId": "{COMMIT}"}}"#,
            u64::MAX
        ))
        .unwrap();
        assert!(
            huge.files[0]
                .wanted()
                .unwrap_err()
                .contains("more than any")
        );
        assert!(
            listing(r#"{"rfilename": "a", "size": -1}"#)
                .unwrap_err()
                .contains("cannot be read")
        );
        let many = vec![r#"{"rfilename": "a"}"#; MOST_FILES + 1].join(",");
        assert!(listing(&many).unwrap_err().contains("more than 5000 files"));
        assert!(
            parse(br#"{"sha": "../..", "siblings": []}"#)
                .unwrap_err()
                .contains("for a commit")
        );
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
    }
}

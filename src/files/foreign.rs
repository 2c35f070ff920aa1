//! What a file is that is not what its name says, by its first bytes: one table, for every file of a model and every
//! index.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::Error;

/// What is done about a file of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cure {
    /// It stands for the contents, which Git LFS has.
    GitLfs,
    /// A server answered something else.
    Page,
    /// The download did not finish.
    Again,
    /// It is packed; the program that unpacks it.
    Unpack(&'static str),
    /// It is pickled: the thing that it is part of says how to convert it.
    Convert,
    /// It is text in another encoding.
    Utf8,
    /// It is something else altogether.
    Other,
}

/// First bytes of files, from which byte on, what the file then is, and the cure. The first row that fits counts.
const TABLE: &[(usize, &[u8], &str, Cure)] = &[
    (
        0,
        b"version https://git-lfs",
        "a Git LFS pointer",
        Cure::GitLfs,
    ),
    (
        0,
        b"version https://hawser",
        "a Git LFS pointer",
        Cure::GitLfs,
    ),
    (0, b"../../.git/annex", "a git-annex pointer", Cure::GitLfs),
    (0, b"/annex/objects", "a git-annex pointer", Cure::GitLfs),
    (0, b"\x80\x02", "pickled data", Cure::Convert),
    (0, b"\x80\x03", "pickled data", Cure::Convert),
    (0, b"\x80\x04", "pickled data", Cure::Convert),
    (0, b"\x80\x05", "pickled data", Cure::Convert),
    (0, b"PK\x03\x04", "a zip archive", Cure::Unpack("unzip")),
    (0, b"PK\x05\x06", "an empty zip archive", Cure::Again),
    (0, b"\x1f\x8b", "packed by gzip", Cure::Unpack("gunzip")),
    (0, b"BZh", "packed by bzip2", Cure::Unpack("bunzip2")),
    (0, b"\xfd7zXZ\0", "packed by xz", Cure::Unpack("unxz")),
    (
        0,
        b"\x28\xb5\x2f\xfd",
        "packed by zstd",
        Cure::Unpack("unzstd"),
    ),
    (
        0,
        b"7z\xbc\xaf\x27\x1c",
        "a 7z archive",
        Cure::Unpack("7z x"),
    ),
    (0, b"Rar!", "a RAR archive", Cure::Unpack("unrar x")),
    (257, b"ustar", "a tar archive", Cure::Unpack("tar -xf")),
    (0, b"GGUF", "a GGUF file", Cure::Other),
    (0, b"\x89HDF\r\n", "an HDF5 file", Cure::Other),
    (0, b"\x89PNG", "a PNG picture", Cure::Other),
    (0, b"\xff\xd8\xff", "a JPEG picture", Cure::Other),
    (0, b"GIF8", "a GIF picture", Cure::Other),
    (8, b"WEBP", "a WebP picture", Cure::Other),
    (0, b"%PDF", "a PDF document", Cure::Other),
    (0, b"\x7fELF", "a program", Cure::Other),
    (0, b"SQLite format 3", "a database", Cure::Other),
    (0, b"\xff\xfe", "text in UTF-16", Cure::Utf8),
    (0, b"\xfe\xff", "text in UTF-16", Cure::Utf8),
];

/// Beginnings of pages, in small letters, behind white space and a byte order mark.
const PAGES: [&str; 6] = ["<!doctype", "<html", "<head", "<body", "<?xml", "<!--"];

/// What hubs answer instead of a file.
const ANSWERS: [&str; 5] = [
    "Entry not found",
    "Repository not found",
    "Invalid username or password",
    "Access to model",
    "Invalid credentials",
];

/// How much of a file is looked at.
const HEAD: usize = 512;

/// A file that is not what its name says.
#[derive(Debug)]
pub(crate) struct Foreign {
    what: String,
    cure: Cure,
}

/// What a file of any kind is if it cannot be a file of text in UTF-8 or of tensors; `None` if it may be one.
pub(crate) fn of(bytes: &[u8]) -> Option<Foreign> {
    let head = &bytes[..bytes.len().min(HEAD)];
    let foreign = |what: &str, cure| {
        let what = what.to_owned();
        Some(Foreign { what, cure })
    };
    if head.is_empty() {
        return foreign("an empty file", Cure::Again);
    }
    // PyTorch's own zip archives, whose first member is pickled.
    if head.starts_with(b"PK") && has(head, b"data.pkl") {
        return foreign("pickled data (a zip archive of PyTorch)", Cure::Convert);
    }
    let row = TABLE
        .iter()
        .find(|(at, magic, ..)| head.get(*at..).is_some_and(|rest| rest.starts_with(magic)));
    if let Some((.., what, cure)) = row {
        return foreign(what, *cure);
    }
    let text = String::from_utf8_lossy(head);
    let start = text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    let small = start.to_ascii_lowercase();
    if PAGES.iter().any(|page| small.starts_with(page)) {
        return foreign("a web page", Cure::Page);
    }
    if ANSWERS.iter().any(|answer| start.starts_with(answer)) {
        let line: String = start
            .lines()
            .next()
            .unwrap_or("")
            .chars()
            .take(60)
            .collect();
        return foreign(
            &format!("a server's answer, \"{}\"", line.escape_debug()),
            Cure::Page,
        );
    }
    if head.iter().all(|&byte| byte == 0) {
        return foreign("nothing but zeros", Cure::Again);
    }
    None
}

/// What a file is that should be text in UTF-8.
pub(crate) fn of_text(bytes: &[u8]) -> Option<Foreign> {
    let foreign = |what: &str, cure| {
        let what = what.to_owned();
        Some(Foreign { what, cure })
    };
    if bytes.starts_with(b"\xef\xbb\xbf") && of(bytes).is_none() {
        return foreign("a byte order mark before its text", Cure::Utf8);
    }
    if is_tensors(bytes) {
        return foreign("a safetensors file", Cure::Other);
    }
    // UTF-16 without a mark has a zero in every other place.
    if bytes.len() > 3 && (bytes[..2] == [b'{', 0] || bytes[..2] == [0, b'{']) {
        return foreign("text in UTF-16", Cure::Utf8);
    }
    of(bytes).or_else(|| match std::str::from_utf8(bytes) {
        Ok(_) => None,
        Err(_) => foreign("bytes that are no text in UTF-8", Cure::Utf8),
    })
}

/// What a file is that should hold tensors, and what is missing of it where it breaks off.
pub(crate) fn of_tensors(bytes: &[u8]) -> Option<Foreign> {
    let foreign = |what: String, cure| Some(Foreign { what, cure });
    if is_tensors(bytes) {
        let (has, needs) = (bytes.len(), whole(bytes)?);
        return match has < needs {
            true => {
                let missing = needs - has;
                let what =
                    format!("{has} of at least {needs} bytes: {missing} are missing at its end");
                foreign(what, Cure::Again)
            }
            false if has > needs => {
                let what = format!("{} bytes behind its last tensor", has - needs);
                foreign(what, Cure::Again)
            }
            false => None,
        };
    }
    of(bytes).or_else(|| match bytes[0] {
        _ if bytes.len() < 9 => foreign(format!("{} bytes", bytes.len()), Cure::Again),
        b'{' | b'[' => foreign("JSON text".to_owned(), Cure::Other),
        _ => None,
    })
}

/// Whether this begins as a safetensors file does: the length of a header in eight bytes, and the header, JSON.
pub(crate) fn is_tensors(bytes: &[u8]) -> bool {
    bytes.get(5..9).is_some_and(|rest| rest == b"\0\0\0{")
}

/// How long a safetensors file of this header is, or at least; `None` where the header is no JSON.
fn whole(bytes: &[u8]) -> Option<usize> {
    let start = start(bytes)?;
    match bytes.get(8..start) {
        None => Some(start),
        Some(header) => start.checked_add(usize::try_from(extent(header)?.end).ok()?),
    }
}

/// How many entries the header of a safetensors file has; `None` where it is cut short or no JSON.
pub(crate) fn count_tensors(bytes: &[u8]) -> Option<usize> {
    Some(extent(bytes.get(8..start(bytes)?)?)?.count)
}

/// Where in a safetensors file the header ends.
fn start(bytes: &[u8]) -> Option<usize> {
    let length = u64::from_le_bytes(*bytes.first_chunk()?);
    usize::try_from(length).ok()?.checked_add(8)
}

/// What the tensors of a header take together.
#[derive(Default)]
struct Extent {
    count: usize,
    /// The end of the last.
    end: u64,
}

/// Goes through a header without keeping anything of it, as it may be long and lie.
fn extent(header: &[u8]) -> Option<Extent> {
    #[derive(Deserialize)]
    struct Entry {
        #[serde(default)]
        data_offsets: Option<(IgnoredAny, u64)>,
    }
    struct Entries;
    impl<'de> Visitor<'de> for Entries {
        type Value = Extent;
        fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
            f.write_str("the header of a safetensors file")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Extent, A::Error> {
            let mut extent = Extent::default();
            while let Some(name) = map.next_key::<Cow<str>>()? {
                if name == "__metadata__" {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                let entry: Entry = map.next_value()?;
                let end = entry.data_offsets.map_or(0, |(_, end)| end);
                extent.end = extent.end.max(end);
                extent.count += 1;
            }
            Ok(extent)
        }
    }
    let mut json = serde_json::Deserializer::from_slice(header);
    json.deserialize_map(Entries).ok()
}

fn has(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

impl Foreign {
    /// The error about it; `convert` says how to convert what it is part of if it is pickled, and nothing where that is
    /// none.
    pub(crate) fn error(&self, file: &str, expected: &str, convert: &str) -> Error {
        let hint = match self.cure {
            Cure::GitLfs => {
                "get the contents with `git lfs pull` (or `git annex get`), or fetch the model with \
                 `hf download`"
                    .to_owned()
            }
            Cure::Page => {
                "the download brought this instead of the file, perhaps because it asks for a login or for \
                 terms to be accepted: fetch it with `hf download`"
                    .to_owned()
            }
            Cure::Again => "the file did not come whole: fetch it again".to_owned(),
            Cure::Unpack(program) => format!("unpack it first: `{program}`"),
            Cure::Convert if !convert.is_empty() => convert.to_owned(),
            Cure::Utf8 => "save it as UTF-8 without a byte order mark".to_owned(),
            Cure::Convert | Cure::Other => format!("put {expected} in its place"),
        };
        let found = match self.cure {
            Cure::Convert => format!(
                "{}, which can run any code when it is read and is refused",
                self.what
            ),
            _ => self.what.clone(),
        };
        Error::file(file, expected, found, hint)
    }
}

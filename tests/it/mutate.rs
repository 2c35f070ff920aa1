//! Index files changed at random: their bytes, their headers, and their data under a right SHA-256.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, helpers and all"
)]

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::index::Random;

/// A file in parts that can be changed: the entries of the header, and the data.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) header: serde_json::Map<String, Value>,
    pub(crate) data: Vec<u8>,
}

impl Parts {
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk()?;
        let (header, data) =
            rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        Some(Self {
            header: serde_json::from_slice(header).ok()?,
            data: data.to_vec(),
        })
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let header = serde_json::to_vec(&self.header).unwrap();
        [
            &(header.len() as u64).to_le_bytes()[..],
            &header,
            &self.data,
        ]
        .concat()
    }

    /// Makes the SHA-256 right again, as the documentation defines it, so that the checks behind it are reached.
    pub(crate) fn seal(&mut self) -> Option<()> {
        let mut entries: Vec<(String, Value)> = self
            .header
            .iter()
            .filter(|(name, _)| *name != "__metadata__")
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        let mut hash = Sha256::new();
        for (name, entry) in &entries {
            for part in [name, entry.get("dtype")?.as_str()?] {
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part);
            }
            let place = entry.get("data_offsets")?;
            let [start, end] =
                [0, 1].map(|at| place.get(at).and_then(Value::as_u64).map(|at| at as usize));
            let bytes = self.data.get(start?..end?)?;
            hash.update(entry.get("shape")?.get(0)?.as_u64()?.to_le_bytes());
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        }
        let hash: String = hash
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        self.set("sha256", hash)
    }

    pub(crate) fn set(&mut self, key: &str, value: impl Into<String>) -> Option<()> {
        self.header
            .get_mut("__metadata__")?
            .as_object_mut()?
            .insert(key.to_owned(), Value::String(value.into()));
        Some(())
    }
}

/// Changes bytes: flips, cuts, repeats, and pieces of another file.
fn mutate_bytes(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len());
        let length = random.below(64).min(bytes.len() - at);
        match random.below(8) {
            0..=2 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            3 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            4 => bytes.truncate(at),
            5 => drop(bytes.drain(at..at + length)),
            6 => {
                let from = random.below(other.len());
                let piece = &other[from..(from + length).min(other.len())];
                bytes.splice(at..at + length.min(random.below(64)), piece.iter().copied());
            }
            _ => {
                let piece = bytes[at..at + length].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
}

/// Changes the text of JSON: numbers to extreme ones, or bytes that keep it UTF-8.
fn mutate_text(text: &str, random: &mut Random) -> String {
    const NUMBERS: [&str; 10] = [
        "0",
        "1",
        "-1",
        "255",
        "65536",
        "65537",
        "4294967295",
        "4294967296",
        "9223372036854775808",
        "1e999",
    ];
    let digits: Vec<(usize, &str)> = text.match_indices(|c: char| c.is_ascii_digit()).collect();
    if !digits.is_empty() && random.below(3) > 0 {
        let (at, _) = digits[random.below(digits.len())];
        let number = if random.below(2) == 0 {
            NUMBERS[random.below(10)].to_owned()
        } else {
            random.next().to_string()
        };
        let end = text[at..]
            .find(|c: char| !c.is_ascii_digit())
            .map_or(text.len(), |length| at + length);
        return format!("{}{number}{}", &text[..at], &text[end..]);
    }
    let mut bytes = text.as_bytes().to_vec();
    mutate_bytes(
        &mut bytes,
        br#"{"a":[1,2],"b":""}[[[[nulltrue-1.5e9\u0000"#,
        random,
    );
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Changes one value somewhere in the header.
fn mutate_header(parts: &mut Parts, random: &mut Random) {
    let names: Vec<String> = parts.header.keys().cloned().collect();
    let name = &names[random.below(names.len())];
    match random.below(5) {
        0 => drop(parts.header.remove(name)),
        1 => {
            let moved = parts.header.remove(name).unwrap_or_default();
            parts.header.insert(mutate_text(name, random), moved);
        }
        2 => {
            let text = mutate_text(&parts.header[name].to_string(), random);
            if let Ok(value) = serde_json::from_str(&text) {
                parts.header.insert(name.clone(), value);
            }
        }
        _ => {
            let Some(strings) = parts.header.get("__metadata__").and_then(Value::as_object) else {
                return;
            };
            let keys: Vec<String> = strings.keys().cloned().collect();
            let key = &keys[random.below(keys.len())];
            let value = mutate_text(strings[key].as_str().unwrap_or_default(), random);
            let _ = parts.set(key, value);
        }
    }
}

/// One changed file.
pub(crate) fn mutant(files: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let file = &files[random.below(files.len())];
    let other = &files[random.below(files.len())];
    let seal = random.below(4) > 0;
    match random.below(8) {
        0 | 1 => {
            let mut bytes = file.clone();
            mutate_bytes(&mut bytes, other, random);
            return match Parts::of(&bytes).filter(|_| seal) {
                Some(mut parts) => parts.seal().map_or(bytes, |()| parts.bytes()),
                None => bytes,
            };
        }
        2 => {
            let mut bytes = file.clone();
            let length = u64::from_le_bytes(*bytes.first_chunk().unwrap());
            let lies = [
                0,
                1,
                length - 1,
                length + 1,
                bytes.len() as u64,
                u64::from(u32::MAX),
                1 << 63,
                u64::MAX,
            ];
            bytes[..8].copy_from_slice(&lies[random.below(lies.len())].to_le_bytes());
            return bytes;
        }
        3 => {
            // A key twice: the text of the header, with one of its entries or strings put in again.
            let length = u64::from_le_bytes(*file.first_chunk().unwrap()) as usize;
            let header = std::str::from_utf8(&file[8..8 + length]).unwrap();
            let starts: Vec<usize> = header.match_indices(",\"").map(|(at, _)| at).collect();
            let pick = random.below(starts.len() - 1);
            let piece = &header[starts[pick]..starts[pick + 1]];
            let at = starts[random.below(starts.len())];
            let header = format!("{}{piece}{}", &header[..at], &header[at..]);
            return [
                &(header.len() as u64).to_le_bytes(),
                header.as_bytes(),
                &file[8 + length..],
            ]
            .concat();
        }
        _ => {}
    }
    let mut parts = Parts::of(file).unwrap();
    if random.below(2) == 0 {
        mutate_header(&mut parts, random);
    } else {
        for _ in 0..=random.below(2) {
            let at = random.below(parts.data.len());
            parts.data[at] ^= 1 << random.below(8);
        }
    }
    if seal {
        let _ = parts.seal();
    }
    parts.bytes()
}

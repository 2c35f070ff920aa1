//! The safetensors container of an index: written so that the same content gives the same bytes, read as hostile.
//!
//! The format is the subset of [safetensors](https://github.com/huggingface/safetensors) that index files need, and
//! every safetensors reader reads what is written here. Of its own it asks for
//!
//! - writing: keys sorted, no spaces but those that pad the header to a multiple of 8 bytes, data in order of falling
//!   element size and then of name. The `safetensors` crate keeps its metadata in a `HashMap`, whose order differs
//!   between two runs of one program; this is why the header is written here.
//! - reading: one-dimensional tensors of the types of [`Dtype`] that tile the data exactly, no key twice, and a header
//!   of at most [`MAX_HEADER`] bytes. Nothing is allocated but the parsed header: tensors are slices of the input.
//!
//! [`serialize`] keeps to the same limits, so that what is written can be read.

use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::io::Read;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::files::MAX_FILE;
pub(crate) use crate::shown::shown;
use crate::{Error, IndexError, Result};

/// More than any index needs (a header with the 280 sites of an SDXL model has 80 kB), and little enough to parse.
const MAX_HEADER: u64 = 4 << 20;

/// The metadata's key in the header.
const METADATA: &str = "__metadata__";

/// The element types that an index uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dtype {
    F16,
    U8,
    U32,
}

impl Dtype {
    /// The name of the type in a safetensors header.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F16 => "F16",
            Self::U8 => "U8",
            Self::U32 => "U32",
        }
    }

    /// Bytes of an element.
    fn size(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::U8 => 1,
            Self::U32 => 4,
        }
    }
}

/// A one-dimensional tensor: little-endian elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tensor<B> {
    pub(crate) dtype: Dtype,
    pub(crate) bytes: B,
}

impl<B: AsRef<[u8]>> Tensor<B> {
    /// The number of elements.
    fn len(&self) -> usize {
        self.bytes.as_ref().len() / self.dtype.size()
    }
}

/// Metadata by key.
pub(crate) type Strings = BTreeMap<String, String>;

/// Tensors by name.
pub(crate) type Tensors<B> = BTreeMap<String, Tensor<B>>;

/// A tensor's entry in the header.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: [u64; 1],
    data_offsets: [u64; 2],
}

/// The bytes of a container.
///
/// # Errors
/// [`Error::Index`] if the header or the file would be larger than what is read.
pub(crate) fn serialize<B: AsRef<[u8]>>(
    metadata: &Strings,
    tensors: &Tensors<B>,
) -> Result<Vec<u8>> {
    let mut entries = BTreeMap::new();
    let mut end = 0;
    for (name, tensor) in in_file_order(tensors) {
        let start = end;
        end += tensor.bytes.as_ref().len() as u64;
        let dtype = tensor.dtype.name().to_owned();
        entries.insert(
            name,
            Entry {
                dtype,
                shape: [tensor.len() as u64],
                data_offsets: [start, end],
            },
        );
    }
    // Each part is a map of strings or of plain structs, whose JSON cannot fail; an empty header would be unreadable,
    // not wrong, if it ever did.
    let json = |value: serde_json::Result<String>| value.unwrap_or_default();
    let entries = json(serde_json::to_string(&entries));
    let mut header = match metadata.is_empty() {
        true => entries,
        false => {
            let comma = if tensors.is_empty() { "" } else { "," };
            format!(
                "{{\"{METADATA}\":{}{comma}{}",
                json(serde_json::to_string(metadata)),
                entries.get(1..).unwrap_or_default()
            )
        }
    };
    header.extend(std::iter::repeat_n(
        ' ',
        header.len().next_multiple_of(8) - header.len(),
    ));
    for (part, length, most) in [
        ("header of the index", header.len() as u64, MAX_HEADER),
        ("index", 8 + header.len() as u64 + end, MAX_FILE),
    ] {
        if length > most {
            let too_large = IndexError::TooLargeToWrite {
                part,
                most,
                found: length,
            };
            return Err(too_large.into());
        }
    }
    let mut bytes = Vec::with_capacity(8 + header.len() + end as usize);
    bytes.extend((header.len() as u64).to_le_bytes());
    bytes.extend(header.into_bytes());
    for (_, tensor) in in_file_order(tensors) {
        bytes.extend(tensor.bytes.as_ref());
    }
    Ok(bytes)
}

/// The metadata and the tensors of a container.
///
/// # Errors
/// [`Error::Index`] for anything that [`serialize`] would not write, but for the order of keys and data and for spaces.
pub(crate) fn parse(bytes: &[u8]) -> Result<(Strings, Tensors<&[u8]>)> {
    let foreign = |found: String| Error::from(IndexError::Container { found });
    let Some((length, rest)) = bytes.split_first_chunk() else {
        return Err(foreign(format!("{} bytes", bytes.len())));
    };
    let length = u64::from_le_bytes(*length);
    let split = usize::try_from(length)
        .ok()
        .filter(|_| length <= MAX_HEADER)
        .and_then(|at| rest.split_at_checked(at));
    let Some((header, data)) = split else {
        return Err(foreign(format!(
            "a claim of {length} header bytes in a file of {}",
            bytes.len()
        )));
    };
    let header = Header::parse(header)?;

    let mut tensors = Tensors::new();
    let mut pieces = Vec::with_capacity(header.tensors.len());
    for (name, entry) in header.tensors {
        let damaged = |expected: String, found: String| {
            let name = shown(&name);
            Error::from(IndexError::Tensor {
                name,
                expected,
                found,
            })
        };
        let dtype = [Dtype::F16, Dtype::U8, Dtype::U32]
            .into_iter()
            .find(|dtype| dtype.name() == entry.dtype);
        let Some(dtype) = dtype else {
            return Err(damaged("type U8 or F16".to_owned(), shown(&entry.dtype)));
        };
        let [start, end] = entry.data_offsets;
        let place = usize::try_from(start).ok().zip(usize::try_from(end).ok());
        let Some(place) = place.and_then(|(start, end)| data.get(start..end)) else {
            return Err(damaged(
                format!("a place in {} bytes", data.len()),
                format!("{start} to {end}"),
            ));
        };
        let claim = entry.shape[0].checked_mul(dtype.size() as u64);
        if claim != Some(place.len() as u64) {
            let claim = format!("{} elements of {} bytes", entry.shape[0], dtype.size());
            return Err(damaged(claim, format!("{} bytes", place.len())));
        }
        pieces.push((start, end));
        tensors.insert(
            name,
            Tensor {
                dtype,
                bytes: place,
            },
        );
    }
    // Empty pieces sort before the piece that starts where they lie, so a tiling is a chain.
    pieces.sort_unstable();
    let mut at = 0;
    for (start, end) in pieces {
        if start != at {
            return Err(untiled(
                format!("tensor data from byte {at}"),
                format!("from byte {start}"),
            ));
        }
        at = end;
    }
    if at != data.len() as u64 {
        return Err(untiled(
            format!("{at} bytes of tensor data"),
            data.len().to_string(),
        ));
    }
    Ok((header.metadata, tensors))
}

/// The metadata of the header of a container, whose data are somewhere else: nothing that it says of them is checked.
///
/// # Errors
/// [`Error::Index`] if the file does not begin with a header.
pub(crate) fn parse_metadata(mut file: impl Read) -> Result<Strings> {
    let mut length = [0; 8];
    let mut header = Vec::new();
    let read = file.read_exact(&mut length).and_then(|()| {
        let length = u64::from_le_bytes(length).min(MAX_HEADER);
        file.take(length).read_to_end(&mut header)
    });
    read.map_err(|error| IndexError::Container {
        found: shown(&error.to_string()),
    })?;
    Ok(Header::parse(&header)?.metadata)
}

/// The SHA-256 over tensors, in hexadecimal: for each in order of name, the name, the type's name, the number of
/// elements and the bytes; each of the name, the type's name and the bytes after its own length, all lengths and
/// numbers as little-endian u64.
pub(crate) fn tensors_sha256<B: AsRef<[u8]>>(tensors: &Tensors<B>) -> String {
    let mut hash = Sha256::new();
    for (name, tensor) in tensors {
        for part in [name.as_bytes(), tensor.dtype.name().as_bytes()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.update((tensor.len() as u64).to_le_bytes());
        hash.update((tensor.bytes.as_ref().len() as u64).to_le_bytes());
        hash.update(&tensor.bytes);
    }
    crate::files::hex(&hash.finalize())
}

/// The SHA-256 of everything behind the header, in hexadecimal: ModelSpec's `hash_sha256`, and A1111's AutoV3.
pub(crate) fn data_sha256<B: AsRef<[u8]>>(tensors: &Tensors<B>) -> String {
    let mut hash = Sha256::new();
    for (_, tensor) in in_file_order(tensors) {
        hash.update(&tensor.bytes);
    }
    crate::files::hex(&hash.finalize())
}

/// Tensors in the order of their data: wide elements first, so that all are aligned, then by name.
fn in_file_order<B>(tensors: &Tensors<B>) -> Vec<(&str, &Tensor<B>)> {
    let mut order: Vec<_> = tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor))
        .collect();
    order.sort_by_key(|(_, tensor)| std::cmp::Reverse(tensor.dtype.size())); // stable: names stay sorted
    order
}

fn untiled(expected: String, found: String) -> Error {
    IndexError::TensorData { expected, found }.into()
}

/// A header as read, each key the first time.
struct Header {
    metadata: Strings,
    tensors: BTreeMap<String, Entry>,
    /// A key that is there again.
    twice: Option<String>,
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Self> {
        let header: Self =
            serde_json::from_slice(bytes).map_err(|error| IndexError::Container {
                found: format!(
                    "a header that cannot be read: {}",
                    shown(&error.to_string())
                ),
            })?;
        match header.twice {
            Some(key) => Err(IndexError::KeyTwice { key }.into()),
            None => Ok(header),
        }
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Header;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let (mut metadata, mut tensors) = (None::<Metadata>, BTreeMap::new());
                let mut twice = None;
                while let Some(key) = map.next_key::<String>()? {
                    if key == METADATA {
                        let values: Metadata = map.next_value()?;
                        if metadata.is_some() {
                            twice.get_or_insert_with(|| "metadata".to_owned());
                        }
                        metadata = Some(values);
                        continue;
                    }
                    match tensors.entry(key) {
                        btree_map::Entry::Vacant(place) => {
                            place.insert(map.next_value()?);
                        }
                        btree_map::Entry::Occupied(place) => {
                            map.next_value::<Entry>()?;
                            twice.get_or_insert_with(|| format!("tensor {}", shown(place.key())));
                        }
                    }
                }
                let metadata = metadata.unwrap_or_default();
                Ok(Header {
                    metadata: metadata.values,
                    tensors,
                    twice: twice.or(metadata.twice),
                })
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

/// The metadata as read, each key the first time.
#[derive(Default)]
struct Metadata {
    values: Strings,
    /// A key that is there again.
    twice: Option<String>,
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Metadata;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                let mut metadata = Metadata::default();
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    if metadata.values.contains_key(&key) {
                        metadata
                            .twice
                            .get_or_insert_with(|| format!("metadata {}", shown(&key)));
                    }
                    metadata.values.insert(key, value);
                }
                Ok(metadata)
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

#[cfg(test)]
mod tests;

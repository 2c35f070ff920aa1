//! Arrays of scores as the bytes of a safetensors file, which says whose they are.
//!
//! One F32 tensor for each site, named by it: `[out, in]`, of a part `[blocks, out, in]`. Any reader of safetensors
//! reads them; in Python:
//!
//! ```python
//! from safetensors import safe_open
//! with safe_open("dog.scores", "numpy") as file:
//!     scores, about = {site: file.get_tensor(site) for site in file.keys()}, file.metadata()["cones"]
//! ```
//!
//! The metadata has one key, `cones`, of JSON: `format` (`cones.scores`), `version` (1), `plan` (model, fingerprint,
//! subjects, prompts, method, settings, seed and the SHA-256 of each picture, as an index has them), of a part `part`
//! (`2/8`), and `sha256` over the tensors.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use safetensors::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::files::{hex, read_up_to};
use crate::index::{Provenance, Site};
use crate::shown::shown;
use crate::{Error, Result};

/// The largest file that is read: a part of a model of Stable Diffusion XL's size has some gigabytes.
const MOST: u64 = 16 << 30;
/// The largest header: a thousand sites and thirty thousand pictures have less.
const MOST_HEADER: usize = 4 << 20;
/// The metadata's only key: the library writes several in random order, and the same run is to give the same bytes.
const KEY: &str = "cones";
const FORMAT: &str = "cones.scores";
const VERSION: u32 = 1;

/// Numbers of one site, in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Array {
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f32>,
}

/// Arrays by site.
pub(super) type Arrays = BTreeMap<Site, Array>;

/// What a file says of its arrays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct About {
    format: String,
    version: u32,
    /// What the arrays were found for, on and with.
    pub(super) plan: Provenance,
    /// Which part of the steps they are of; none if of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) part: Option<String>,
    sha256: String,
}

impl View for &Array {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        self.values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    fn data_len(&self) -> usize {
        4 * self.values.len()
    }
}

/// The bytes of a file: the same for the same content.
///
/// # Errors
/// If a shape is not that of its numbers.
pub(super) fn to_bytes(
    plan: &Provenance,
    part: Option<String>,
    arrays: &Arrays,
) -> Result<Vec<u8>> {
    for (site, array) in arrays {
        if array.shape.iter().product::<usize>() != array.values.len() {
            let thing = format!("scores of `{site}`");
            let found = format!("{} for shape {:?}", array.values.len(), array.shape);
            return Err(wrong(thing, "one for each neuron", found));
        }
    }
    let about = About {
        format: FORMAT.to_owned(),
        version: VERSION,
        plan: plan.clone(),
        part,
        sha256: sha256(arrays),
    };
    let json = serde_json::to_string(&about).map_err(|error| wrong("scores", "a plan", error))?;
    let views = arrays.iter().map(|(site, array)| (site.as_str(), array));
    safetensors::serialize(views, Some([(KEY.to_owned(), json)].into()))
        .map_err(|error| wrong("scores", "one for each neuron", error))
}

/// What a file's bytes hold, which are not trusted. Files of other programs need not say whose the scores are.
///
/// # Errors
/// If they are anything but F32 tensors named by sites, or what they say of themselves is not so.
pub(super) fn parse(bytes: &[u8]) -> Result<(Option<About>, Arrays)> {
    let header = header_of(bytes)?;
    let file = SafeTensors::deserialize(bytes)
        .map_err(|error| wrong("scores", "a safetensors file", error))?;
    let about = about(header)?;
    let mut arrays = Arrays::new();
    for (name, tensor) in file.iter() {
        let site: Site = name.parse()?;
        if tensor.dtype() != Dtype::F32 {
            let found = format!("{:?}", tensor.dtype());
            return Err(wrong(format!("scores of `{site}`"), "F32", found));
        }
        let (numbers, _) = tensor.data().as_chunks();
        let array = Array {
            shape: tensor.shape().to_vec(),
            values: numbers.iter().copied().map(f32::from_le_bytes).collect(),
        };
        arrays.insert(site, array);
    }
    if arrays.is_empty() {
        return Err(wrong("scores", "at least one site", "none"));
    }
    if let Some(about) = &about {
        let found = sha256(&arrays);
        if about.sha256 != found {
            let hint = "the file is damaged: make it again";
            return Err(Error::file(
                "scores",
                format!("tensors of SHA-256 {}", shown(&about.sha256)),
                found,
                hint,
            ));
        }
    }
    Ok((about, arrays))
}

/// [`parse`] of a file, which any error names.
pub(super) fn read(path: &Path) -> Result<(Option<About>, Arrays)> {
    parse(&read_up_to(path, MOST)?).map_err(|error| named(path, error))
}

/// What a file says of itself, without its arrays.
pub(super) fn read_about(path: &Path) -> Result<Option<About>> {
    let (file, _) = crate::files::regular::open(path)?;
    let mut start = Vec::new();
    let header =
        |file: File, most: usize, bytes: &mut Vec<u8>| file.take(most as u64).read_to_end(bytes);
    header(file, 8 + MOST_HEADER, &mut start).map_err(Error::io("read", path))?;
    header_of(&start)
        .and_then(about)
        .map_err(|error| named(path, error))
}

/// The length's eight bytes and the header, of bytes that begin as a file does.
fn header_of(bytes: &[u8]) -> Result<&[u8]> {
    let length = bytes
        .first_chunk()
        .map(|length| u64::from_le_bytes(*length));
    length
        .and_then(|length| usize::try_from(length).ok())
        .filter(|length| *length <= MOST_HEADER)
        .and_then(|length| bytes.get(..8 + length))
        .ok_or_else(|| {
            let expected = format!(
                "a safetensors file with a header of at most {} MiB",
                MOST_HEADER >> 20
            );
            wrong(
                "scores",
                &expected,
                format!("{} bytes of another kind", bytes.len()),
            )
        })
}

/// What of a header is told here; its tensors are left to the library.
#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__")]
    metadata: Option<BTreeMap<String, String>>,
}

/// What a header says of its file.
fn about(header: &[u8]) -> Result<Option<About>> {
    let header: Header = serde_json::from_slice(&header[8..])
        .map_err(|error| wrong("scores", "a safetensors file", shown(&error.to_string())))?;
    let Some(text) = header.metadata.as_ref().and_then(|all| all.get(KEY)) else {
        return Ok(None);
    };
    let about: About = serde_json::from_str(text)
        .map_err(|error| wrong("scores", "what their run was", shown(&error.to_string())))?;
    if (about.format.as_str(), about.version) != (FORMAT, VERSION) {
        let found = format!("format {} {}", shown(&about.format), about.version);
        return Err(wrong(
            "scores",
            &format!("format `{FORMAT}` {VERSION}"),
            found,
        ));
    }
    about.plan.check()?; // that no text in it is too long, or steers a terminal
    Ok(Some(about))
}

/// Over all arrays in order of site: the name, its end, the sides of the shape, their end, the numbers; sides are
/// little-endian u64, ends a zero byte and a zero u64.
fn sha256(arrays: &Arrays) -> String {
    let mut hash = Sha256::new();
    for (site, array) in arrays {
        hash.update(site.as_str());
        hash.update([0]);
        for side in array.shape.iter().chain([&0]) {
            hash.update((*side as u64).to_le_bytes());
        }
        for some in array.values.chunks(1 << 14) {
            let bytes: Vec<u8> = some.iter().flat_map(|v| v.to_le_bytes()).collect();
            hash.update(bytes);
        }
    }
    hex(&hash.finalize())
}

/// An error of what a file holds, with its name.
pub(super) fn named(path: &Path, error: Error) -> Error {
    match error {
        Error::File {
            file,
            expected,
            found,
            hint,
        } => Error::file(format!("{}: {file}", path.display()), expected, found, hint),
        other => other,
    }
}

pub(super) fn wrong(thing: impl Into<String>, expected: &str, found: impl ToString) -> Error {
    let hint = "give a file of scores that `cones find` wrote";
    Error::file(thing, expected, found.to_string(), hint)
}

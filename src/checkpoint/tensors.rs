//! Safetensors files: their tensors by name, read in place, and the names that older files have.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use safetensors::{Dtype, SafeTensors, tensor::TensorInfo};
use sha2::{Digest, Sha256};

use crate::files::foreign;
use crate::files::regular::{self, Stamp};
use crate::{Error, Result};

/// The bytes of a safetensors file, mapped from disk or built into the program.
pub(crate) enum Bytes {
    Mapped(memmap2::Mmap, Stamp),
    Embedded(&'static [u8]),
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Mapped(map, _) => map,
            Self::Embedded(bytes) => bytes,
        }
    }
}

/// The memory that the weights of one file take while they are read in place.
#[derive(Clone)]
pub(crate) struct Pages(Arc<Bytes>);

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pages({} bytes)", (*self.0).as_ref().len())
    }
}

impl Pages {
    /// Gives the memory back until the weights are read again: the system keeps the file's contents as long as it has
    /// room.
    pub(crate) fn release(&self) {
        #[cfg(unix)]
        if let Bytes::Mapped(map, _) = &*self.0 {
            // SAFETY: the map is of a file, is only read, and has the file's contents again at the next read.
            #[expect(unsafe_code, reason = "advice on a map")]
            let result = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
            // Without it the program needs more memory, and computes the same.
            drop(result);
        }
    }

    /// That the file on disk is still the one that was mapped.
    ///
    /// # Errors
    /// If it was changed, replaced or removed.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        match &*self.0 {
            Bytes::Mapped(_, stamp) => stamp.check(),
            Bytes::Embedded(_) => Ok(()),
        }
    }

    /// SHA-256 of the whole file.
    pub(crate) fn sha256(&self) -> [u8; 32] {
        Sha256::digest((*self.0).as_ref()).into()
    }
}

/// One safetensors file: its header, checked, and its bytes.
#[derive(Clone)]
pub(crate) struct TensorFile {
    label: String,
    bytes: Arc<Bytes>,
    data_start: usize,
    tensors: BTreeMap<String, TensorInfo>,
}

impl TensorFile {
    /// Maps the file at `path`; `label` is what errors call it, and `convert` says how to convert it if it is pickled.
    pub(crate) fn open(path: &Path, label: &str, convert: &str) -> Result<Self> {
        let (file, metadata) = regular::open(path)?;
        // SAFETY: the map is only read, as bytes or as numbers of which every pattern of bits is one, and what its
        // header claims was copied and checked once. Whoever changes the file while this program runs changes the
        // numbers that it computes with, which [`Pages::check_unchanged`] notices, and whoever makes it shorter ends
        // the program with SIGBUS: weights are read from it all the time.
        #[expect(unsafe_code, reason = "mapping a file")]
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(Error::io("map", path))?;
        if let Some(foreign) = foreign::of_tensors(&map) {
            return Err(foreign.error(label, "a safetensors file", convert));
        }
        Self::new(Bytes::Mapped(map, Stamp::new(path, &metadata)), label)
    }

    /// Reads a file built into the program.
    pub(crate) fn embedded(bytes: &'static [u8], label: &str) -> Result<Self> {
        Self::new(Bytes::Embedded(bytes), label)
    }

    /// The memory of its contents.
    pub(crate) fn pages(&self) -> Pages {
        Pages(self.bytes.clone())
    }

    /// Bytes of the whole file.
    pub(crate) fn size(&self) -> u64 {
        (*self.bytes).as_ref().len() as u64
    }

    /// SHA-256 of the whole file, in hexadecimal.
    pub(crate) fn sha256(&self) -> String {
        crate::files::hex(&Sha256::digest((*self.bytes).as_ref()))
    }

    /// What errors call it.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// Its tensors: name, type and bytes.
    pub(crate) fn contents(&self) -> impl Iterator<Item = (&str, Dtype, &[u8])> {
        let data = &(*self.bytes).as_ref()[self.data_start..];
        self.tensors.iter().map(move |(name, info)| {
            let (from, to) = info.data_offsets;
            (name.as_str(), info.dtype, &data[from..to])
        })
    }

    /// The bytes of the whole file.
    pub(crate) fn bytes(&self) -> &Arc<Bytes> {
        &self.bytes
    }

    /// The names of its weights: today's, and the one in the file.
    pub(crate) fn names(&self) -> impl Iterator<Item = (String, &String)> {
        let weights = self
            .tensors
            .keys()
            .filter(|name| !NOT_WEIGHTS.contains(&name.as_str()));
        weights.map(|name| {
            (
                RENAMED
                    .iter()
                    .fold(name.clone(), |n, (old, new)| n.replace(old, new)),
                name,
            )
        })
    }

    /// Shape, type and place in the file of the tensor that is stored under a name.
    pub(crate) fn place(&self, stored: &str) -> Option<(&[usize], Dtype, Range<usize>)> {
        let info = self.tensors.get(stored)?;
        let (from, to) = info.data_offsets;
        let range = self.data_start + from..self.data_start + to;
        Some((&info.shape, info.dtype, range))
    }

    fn new(bytes: Bytes, label: &str) -> Result<Self> {
        let (header, metadata) = SafeTensors::read_metadata(bytes.as_ref()).map_err(|error| {
            let hint = "the file is damaged, or of another kind: fetch it again";
            Error::file(label, "a safetensors file", error.to_string(), hint)
        })?;
        let tensors = metadata
            .tensors()
            .into_iter()
            .map(|(name, info)| (name, info.clone()))
            .collect();
        // 8 bytes of header length come before the header.
        Ok(Self {
            label: label.to_owned(),
            data_start: 8 + header,
            bytes: Arc::new(bytes),
            tensors,
        })
    }
}

/// Name prefixes of older files, and what they are called today. diffusers renamed the VAE's attention in 2023;
/// Stable Diffusion 1.x is still stored under the old names.
const RENAMED: [(&str, &str); 4] = [
    (".query.", ".to_q."),
    (".key.", ".to_k."),
    (".value.", ".to_v."),
    (".proj_attn.", ".to_out.0."),
];

/// Tensors of older files that are not weights: counters 0, 1, 2, … that later versions no longer store.
const NOT_WEIGHTS: [&str; 3] = [
    "text_model.embeddings.position_ids",
    "vision_model.embeddings.position_ids",
    "embeddings.position_ids",
];

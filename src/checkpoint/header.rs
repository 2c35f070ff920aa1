//! The header of a safetensors file: names, shapes, types and places of its tensors, all checked before any is used.

use std::collections::{BTreeMap, HashMap};

use safetensors::SafeTensors;
use safetensors::tensor::TensorInfo;

use crate::files::foreign;
use crate::{Error, Result};

/// No model has a longer one; the longest hold a picture or the recipe of a merge.
const LONGEST: usize = 16 << 20;
/// No model has more: Stable Diffusion XL has 2,515, and as many averages beside them.
const MOST_TENSORS: usize = 1 << 16;

/// What a header says.
pub(super) struct Header {
    pub(super) tensors: BTreeMap<String, TensorInfo>,
    /// Where in the file the tensors begin.
    pub(super) data_start: usize,
    /// Its notes, such as the keys of ModelSpec.
    pub(super) notes: HashMap<String, String>,
}

impl Header {
    /// Reads the header of a whole file; `label` is what errors call it, and `convert` says how to convert it if it is
    /// pickled.
    ///
    /// # Errors
    /// If this is no safetensors file, is cut short, or is too large to be a model's.
    pub(super) fn parse(bytes: &[u8], label: &str, convert: &str) -> Result<Self> {
        let refuse = |found: String| {
            let hint = "the file is damaged, or of another kind: fetch it again";
            Error::file(label, "a safetensors file", found, hint)
        };
        if foreign::is_tensors(bytes) {
            // These come first, so that refusing takes no memory.
            let length = bytes.first_chunk().map_or(0, |n| u64::from_le_bytes(*n));
            if length > LONGEST as u64 {
                let found = format!("a header of {length} bytes, which is longer than any model's");
                return Err(refuse(found));
            }
            match foreign::count_tensors(bytes) {
                Some(count) if count > MOST_TENSORS => {
                    return Err(refuse(format!("{count} tensors, more than any model has")));
                }
                _ => {}
            }
        }
        if let Some(foreign) = foreign::of_tensors(bytes) {
            return Err(foreign.error(label, "a safetensors file", convert));
        }
        let (length, metadata) =
            SafeTensors::read_metadata(bytes).map_err(|error| refuse(error.to_string()))?;
        let tensors = metadata.tensors().into_iter();
        Ok(Self {
            tensors: tensors.map(|(name, info)| (name, info.clone())).collect(),
            // 8 bytes of the header's length come before it.
            data_start: 8 + length,
            notes: metadata.metadata().clone().unwrap_or_default(),
        })
    }

    /// Whether a tensor's name begins so.
    pub(super) fn starts(&self, prefix: &str) -> bool {
        let from = self.tensors.range::<str, _>((
            std::ops::Bound::Included(prefix),
            std::ops::Bound::Unbounded,
        ));
        from.take(1).any(|(name, _)| name.starts_with(prefix))
    }

    /// Whether a tensor's name holds this.
    pub(super) fn any(&self, part: &str) -> bool {
        self.tensors.keys().any(|name| name.contains(part))
    }

    /// Whether there is a tensor of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The shape of a tensor.
    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(&self.tensors.get(name)?.shape)
    }
}

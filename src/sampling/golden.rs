//! Reads the golden files of the tests in this folder; `tests/golden/make_sampling.py` and `make_schedulers.py` write
//! them.

use std::collections::HashMap;

use safetensors::{Dtype, SafeTensors};

/// One golden file, in memory.
pub(super) struct Golden {
    bytes: &'static [u8],
    tensors: SafeTensors<'static>,
}

impl Golden {
    /// Draws of `torch.Generator`.
    pub(super) fn noise() -> Self {
        Self::read(include_bytes!("../../tests/golden/noise.safetensors"))
    }

    /// Schedules and runs of diffusers' schedulers.
    pub(super) fn samplers() -> Self {
        Self::read(include_bytes!("../../tests/golden/samplers.safetensors"))
    }

    /// Runs of diffusers' schedulers under many files.
    pub(super) fn schedulers() -> Self {
        Self::read(include_bytes!("../../tests/golden/schedulers.safetensors"))
    }

    fn read(bytes: &'static [u8]) -> Self {
        Self {
            bytes,
            tensors: SafeTensors::deserialize(bytes).unwrap(),
        }
    }

    /// The names of all tensors, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let mut names = self.tensors.names();
        names.sort_unstable();
        names.into_iter()
    }

    /// The text of a `scheduler_config.json`.
    pub(super) fn config(&self, name: &str) -> String {
        let (_, metadata) = SafeTensors::read_metadata(self.bytes).unwrap();
        let texts = &metadata.metadata().as_ref().unwrap()["configs"];
        let mut texts: HashMap<String, String> = serde_json::from_str(texts).unwrap();
        texts.remove(name).unwrap()
    }

    /// An F32 tensor, flat.
    #[track_caller]
    pub(super) fn f32(&self, name: &str) -> Vec<f32> {
        let tensor = self.tensors.tensor(name).unwrap();
        assert_eq!(tensor.dtype(), Dtype::F32, "{name}");
        tensor
            .data()
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect()
    }

    /// An I64 tensor, flat.
    #[track_caller]
    pub(super) fn i64(&self, name: &str) -> Vec<i64> {
        let tensor = self.tensors.tensor(name).unwrap();
        assert_eq!(tensor.dtype(), Dtype::I64, "{name}");
        tensor
            .data()
            .as_chunks()
            .0
            .iter()
            .map(|bytes| i64::from_le_bytes(*bytes))
            .collect()
    }
}

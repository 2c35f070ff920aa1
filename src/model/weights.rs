//! Named tensors from safetensors files: loaded by name and shape, and all accounted for.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, SafeTensors, tensor::TensorInfo};
use sha2::{Digest, Sha256};

use crate::nn::{Activation, Conv2d, GroupNorm, LayerNorm, Linear, Weight};
use crate::source::foreign;
use crate::source::regular::{self, Stamp};
use crate::{Error, Result};

/// The bytes of a safetensors file, mapped from disk or built into the program.
enum Bytes {
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
    /// Gives the memory back until the weights are read again: the system keeps the file's contents as long as it has room.
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
        // SAFETY: the map is only read, as bytes or as numbers of which every pattern of bits is one, and what its header
        // claims was copied and checked once. Whoever changes the file while this program runs changes the numbers that it
        // computes with, which [`Pages::check_unchanged`] notices, and whoever makes it shorter ends the program with SIGBUS:
        // weights are read from it all the time.
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
        crate::file::hex(&Sha256::digest((*self.bytes).as_ref()))
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

/// The weights of one network, taken out by name and expected shape; [`Weights::finish`] refuses what is left.
pub(crate) struct Weights {
    file: TensorFile,
    /// Today's name to the name in the file, of those not taken yet.
    left: BTreeMap<String, String>,
    device: Device,
}

impl Weights {
    pub(crate) fn new(file: TensorFile, device: &Device) -> Self {
        let left = file
            .tensors
            .keys()
            .filter(|name| !NOT_WEIGHTS.contains(&name.as_str()))
            .map(|name| {
                let renamed = RENAMED
                    .iter()
                    .fold(name.clone(), |n, (old, new)| n.replace(old, new));
                (renamed, name.clone())
            })
            .collect();
        Self {
            file,
            left,
            device: device.clone(),
        }
    }

    /// Whether a tensor of this name has not been taken yet.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.left.contains_key(name)
    }

    /// Sets aside the tensors whose names begin so: they are of networks that are not used.
    pub(crate) fn ignore(&mut self, prefixes: &[&str]) {
        self.left
            .retain(|name, _| !prefixes.iter().any(|prefix| name.starts_with(prefix)));
    }

    /// The tensor `name` as f32, which must have this shape.
    pub(crate) fn take(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let (range, dtype) = self.find(name, &[shape])?;
        let data = &(*self.file.bytes).as_ref()[range];
        let tensor = Tensor::from_raw_buffer(data, dtype, shape, &Device::Cpu)?;
        Ok(tensor.to_dtype(DType::F32)?.to_device(&self.device)?)
    }

    /// The weight `name` of a linear layer. A 1 × 1 convolution's weight `[out, in, 1, 1]` is the same thing.
    fn matrix(&mut self, name: &str, (to, from): (usize, usize)) -> Result<Weight> {
        self.weight(name, (to, from), &[&[to, from], &[to, from, 1, 1]])
    }

    /// The weight `name` of one of these shapes as a matrix, which stays in the file where the device is the CPU.
    fn weight(
        &mut self,
        name: &str,
        matrix: (usize, usize),
        shapes: &[&[usize]],
    ) -> Result<Weight> {
        let (range, dtype) = self.find(name, shapes)?;
        let bytes = self.file.bytes.clone();
        let weight = Weight::of_file(bytes, range, dtype, matrix)?;
        if self.device.is_cpu() {
            return Ok(weight);
        }
        weight.to_device(&self.device)
    }

    /// Where the tensor `name` lies in the file, and its type; it must have one of these shapes.
    fn find(&mut self, name: &str, shapes: &[&[usize]]) -> Result<(Range<usize>, DType)> {
        let error = |expected: String, found: String| Error::Weight {
            file: self.file.label.clone(),
            name: name.to_owned(),
            expected,
            found,
        };
        let expected = || {
            shapes
                .iter()
                .map(|s| format!("shape {s:?}"))
                .collect::<Vec<_>>()
                .join(" or ")
        };
        let info = self
            .left
            .remove(name)
            .and_then(|stored| self.file.tensors.get(&stored));
        let Some(info) = info else {
            return Err(error(expected(), "no such tensor".to_owned()));
        };
        if !shapes.contains(&info.shape.as_slice()) {
            return Err(error(expected(), format!("shape {:?}", info.shape)));
        }
        let dtype = match info.dtype {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            other => return Err(error("F32, F16 or BF16".to_owned(), format!("{other:?}"))),
        };
        let (from, to) = info.data_offsets;
        let start = self.file.data_start;
        Ok((start + from..start + to, dtype))
    }

    /// A linear layer with bias.
    pub(crate) fn linear(&mut self, name: &str, from: usize, to: usize) -> Result<Linear> {
        let weight = self.matrix(&format!("{name}.weight"), (to, from))?;
        let bias = self.take(&format!("{name}.bias"), &[to])?;
        Ok(Linear::new(weight, Some(bias)))
    }

    /// A linear layer without bias.
    pub(crate) fn linear_no_bias(&mut self, name: &str, from: usize, to: usize) -> Result<Linear> {
        let weight = self.matrix(&format!("{name}.weight"), (to, from))?;
        Ok(Linear::new(weight, None))
    }

    /// A `k` × `k` convolution.
    pub(crate) fn conv(&mut self, name: &str, shape: ConvShape) -> Result<Conv2d> {
        let ConvShape {
            from,
            to,
            k,
            stride,
            padding,
        } = shape;
        let weight = self.weight(
            &format!("{name}.weight"),
            (to, from * k * k),
            &[&[to, from, k, k]],
        )?;
        Ok(Conv2d::new(
            weight,
            k,
            self.take(&format!("{name}.bias"), &[to])?,
            stride,
            padding,
        ))
    }

    /// A 3 × 3 convolution that keeps the size.
    pub(crate) fn conv3(&mut self, name: &str, from: usize, to: usize) -> Result<Conv2d> {
        self.conv(
            name,
            ConvShape {
                from,
                to,
                k: 3,
                stride: 1,
                padding: 1,
            },
        )
    }

    /// A group norm.
    pub(crate) fn group_norm(
        &mut self,
        name: &str,
        c: usize,
        groups: usize,
        eps: f64,
        act: Activation,
    ) -> Result<GroupNorm> {
        let (weight, bias) = self.affine(name, c)?;
        Ok(GroupNorm::new(weight, bias, groups, eps, act))
    }

    /// A layer norm.
    pub(crate) fn layer_norm(&mut self, name: &str, c: usize, eps: f64) -> Result<LayerNorm> {
        let (weight, bias) = self.affine(name, c)?;
        Ok(LayerNorm::new(weight, bias, eps))
    }

    fn affine(&mut self, name: &str, c: usize) -> Result<(Tensor, Tensor)> {
        Ok((
            self.take(&format!("{name}.weight"), &[c])?,
            self.take(&format!("{name}.bias"), &[c])?,
        ))
    }

    /// Refuses tensors that no layer asked for: the configuration is then of another model.
    pub(crate) fn finish(self) -> Result<()> {
        let Some(name) = self.left.keys().next() else {
            return Ok(());
        };
        let more: Cow<str> = match self.left.len() - 1 {
            0 => "".into(),
            n => format!(" and {n} more").into(),
        };
        Err(Error::Weight {
            file: self.file.label.clone(),
            name: name.clone(),
            expected: "only tensors that config.json asks for".to_owned(),
            found: format!("this one{more} besides"),
        })
    }
}

/// The shape of a convolution.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConvShape {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) k: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
}

//! The layers of a network from its tensors: taken by name and shape, and all accounted for.

use std::borrow::Cow;
use std::collections::BTreeSet;

use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;

use crate::checkpoint::{Bytes, Stored, TensorFile};
use crate::nn::{Activation, Conv2d, GroupNorm, LayerNorm, Linear, Weight};
use crate::{Error, Result};

/// The weights of one network, taken out by name and expected shape; [`Weights::finish`] refuses what is left.
pub(crate) struct Weights {
    file: TensorFile,
    /// Names of those not taken yet.
    left: BTreeSet<String>,
    device: Device,
    /// Bytes of what was taken as f32, and not read in its file.
    copied: u64,
}

impl Weights {
    pub(crate) fn new(file: TensorFile, device: &Device) -> Self {
        Self {
            left: file.names().map(str::to_owned).collect(),
            file,
            device: device.clone(),
            copied: 0,
        }
    }

    /// Whether a tensor of this name has not been taken yet.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.left.contains(name)
    }

    /// Sets aside the tensors whose names begin so: they are of networks that are not used.
    pub(crate) fn ignore(&mut self, prefixes: &[&str]) {
        self.left
            .retain(|name| !prefixes.iter().any(|prefix| name.starts_with(prefix)));
    }

    /// The tensor `name` as f32, which must have this shape.
    pub(crate) fn take(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let (place, dtype) = self.find(name, &[shape])?;
        let data = &(**self.file.bytes(&place)).as_ref()[place.range.clone()];
        let mut stored = shape.to_vec();
        if place.transposed {
            stored.reverse();
        }
        let mut tensor = Tensor::from_raw_buffer(data, dtype, &stored, &Device::Cpu)?;
        if place.transposed {
            tensor = tensor.t()?.contiguous()?;
        }
        let tensor = tensor.to_dtype(DType::F32)?;
        self.copied += bytes_of(&tensor);
        Ok(tensor.to_device(&self.device)?)
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
        let transposed = self.file.get(name).filter(|place| place.transposed);
        if let Some(shape) = transposed.map(|place| place.shape.clone()) {
            // It lies otherwise in the file, so that it cannot be read in place.
            return Ok(self.take(name, &shape)?.into());
        }
        let (place, dtype) = self.find(name, shapes)?;
        let bytes = self.file.bytes(&place).clone();
        let weight = Weight::of_file(bytes.clone(), place.range, dtype, matrix)?;
        match (self.device.is_cpu(), &*bytes) {
            // It lies at any address, so that whether its halves can be read in place is the linker's luck. They are
            // few, and faster as f32.
            (true, Bytes::Embedded(_)) => Ok(weight.tensor()?.into()),
            (true, Bytes::Mapped(..)) => {
                self.copied += weight.held().map_or(0, bytes_of);
                Ok(weight)
            }
            (false, _) => weight.to_device(&self.device),
        }
    }

    /// Where the tensor `name` lies, and its type; it must have one of these shapes.
    fn find(&mut self, name: &str, shapes: &[&[usize]]) -> Result<(Stored, DType)> {
        let expected = || {
            let shapes = shapes.iter().map(|shape| format!("shape {shape:?}"));
            shapes.collect::<Vec<_>>().join(" or ")
        };
        let place = match self.left.remove(name) {
            true => self.file.get(name),
            false => None,
        };
        let Some(place) = place else {
            return Err(Error::Weight {
                file: self.file.label().to_owned(),
                name: name.to_owned(),
                expected: expected(),
                found: "no such tensor".to_owned(),
            });
        };
        let error = |expected: String, found: String| Error::Weight {
            file: self.file.file_of(place).to_owned(),
            name: place.name.clone(),
            expected,
            found,
        };
        if !shapes.contains(&&place.shape[..]) {
            return Err(error(expected(), format!("shape {:?}", place.shape)));
        }
        let dtype = match place.dtype {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            other => return Err(error("F32, F16 or BF16".to_owned(), format!("{other:?}"))),
        };
        Ok((place.clone(), dtype))
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

    /// Bytes of what was taken as f32, and is not read in its file.
    pub(crate) fn copied(&self) -> u64 {
        self.copied
    }

    /// Refuses tensors that no layer asked for: the configuration is then of another model.
    pub(crate) fn finish(self) -> Result<()> {
        let Some(name) = self.left.first() else {
            return Ok(());
        };
        let more: Cow<str> = match self.left.len() - 1 {
            0 => "".into(),
            n => format!(" and {n} more").into(),
        };
        let place = self.file.get(name);
        Err(Error::Weight {
            file: place
                .map_or(self.file.label(), |place| self.file.file_of(place))
                .to_owned(),
            name: place.map_or(name, |place| &place.name).clone(),
            expected: "only tensors that config.json asks for".to_owned(),
            found: format!("this one{more} besides"),
        })
    }
}

fn bytes_of(tensor: &Tensor) -> u64 {
    (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64
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

//! Convolutions.

use candle_core::{DType, Tensor};

use super::resample::{upsample_nearest, upsample2x_backward};
use crate::Result;
use crate::nn::layout::Plane;
use crate::nn::parameters::{Addends, Filter};

pub(in crate::nn) fn forward(
    filter: &Filter,
    x: &Tensor,
    seen: Plane,
    addends: Addends,
) -> Result<Tensor> {
    let x = match seen == Plane::of(x)? {
        true => x.clone(),
        false => upsample_nearest(x, seen.height, seen.width)?,
    };
    let kernels = filter.kernels(x.dtype())?;
    let bias = filter.bias.to_dtype(x.dtype())?.reshape((1, (), 1, 1))?;
    let mut y = convolve(&x, &kernels, filter.padding, filter.stride)?.broadcast_add(&bias)?;
    if let Some(shift) = addends.shift {
        y = y.broadcast_add(&shift.unsqueeze(2)?.unsqueeze(3)?)?;
    }
    if let Some(residual) = addends.residual {
        y = (y + residual)?;
    }
    Ok(y)
}

/// The data gradient of a convolution is a convolution of the gradient, with zeros put between its pixels where the
/// stride left some out, with the kernel turned by 180° and its channels exchanged. candle's own way is a transposed
/// convolution, which costs several times as much.
pub(in crate::nn) fn backward(
    filter: &Filter,
    grad: &Tensor,
    stored: Plane,
    seen: Plane,
) -> Result<Tensor> {
    let spread = match filter.stride {
        1 => grad.clone(),
        _ => insert_zeros(grad)?,
    };
    let kernels = filter.kernels(grad.dtype())?;
    let turned = kernels.flip(&[2])?.flip(&[3])?;
    let turned = turned.transpose(0, 1)?.contiguous()?;
    let padding = filter.k - 1 - filter.padding;
    let g = convolve(&spread, &turned, padding, 1)?;
    match stored == seen {
        true => Ok(g),
        false => upsample2x_backward(&g),
    }
}

/// `x: [b, c, h, w]` with `kernels: [o, c, k, k]`.
///
/// candle has cuDNN add products of f16 up in f16: on an H100 a UNet's output was then 6.5e-3 from that in f32, where
/// the CPU's was 1.3e-3, and a forward pass of Stable Diffusion 1.5 took 0.34 s; in bf16 it took 0.33 s. As a matrix
/// product, whose sums are f32, it is 1.9e-3 and 0.07 s.
fn convolve(x: &Tensor, kernels: &Tensor, padding: usize, stride: usize) -> Result<Tensor> {
    match x.dtype() {
        DType::F16 | DType::BF16 => convolve_by_product(x, kernels, padding, stride),
        _ => Ok(x.conv2d(kernels, padding, stride, 1, 1)?),
    }
}

/// The product of the kernels `[o, c·k²]` and what each of them sees, `[b, c·k², h'·w']`.
fn convolve_by_product(
    x: &Tensor,
    kernels: &Tensor,
    padding: usize,
    stride: usize,
) -> Result<Tensor> {
    let ((b, c, h, w), (o, _, k, _)) = (x.dims4()?, kernels.dims4()?);
    let side = |n: usize| (n + 2 * padding - k) / stride + 1;
    let (rows, columns) = (side(h), side(w));
    let seen = match (k, stride, padding) {
        (1, 1, 0) => x.contiguous()?,
        _ => {
            // So much behind the last pixel that every shift has whole strides.
            let behind = padding + stride - 1;
            let x = (x.pad_with_zeros(2, padding, behind)?).pad_with_zeros(3, padding, behind)?;
            let shifts = (0..k * k)
                .map(|at| {
                    let of = x.narrow(2, at / k, stride * rows)?;
                    let of = of.narrow(3, at % k, stride * columns)?;
                    every(&of.contiguous()?, stride)
                })
                .collect::<Result<Vec<_>>>()?;
            Tensor::stack(&shifts, 2)?
        }
    };
    let seen = seen.reshape((b, c * k * k, rows * columns))?;
    let kernels = kernels.reshape((1, o, c * k * k))?;
    let y = kernels.broadcast_as((b, o, c * k * k))?.matmul(&seen)?;
    Ok(y.reshape((b, o, rows, columns))?)
}

/// Every `stride`-th row and column, the first among them.
fn every(x: &Tensor, stride: usize) -> Result<Tensor> {
    if stride == 1 {
        return Ok(x.clone());
    }
    let (b, c, h, w) = x.dims4()?;
    let x = x.reshape((b, c, h / stride, stride, w / stride, stride))?;
    let x = x.narrow(3, 0, 1)?.narrow(5, 0, 1)?.contiguous()?;
    Ok(x.reshape((b, c, h / stride, w / stride))?)
}

/// `[b, c, h, w]` to `[b, c, 2h, 2w]`: every pixel followed by a zero in both directions.
fn insert_zeros(x: &Tensor) -> Result<Tensor> {
    let (b, c, h, w) = x.dims4()?;
    let x = x.reshape((b, c, h, 1, w, 1))?;
    let x = x.pad_with_zeros(3, 0, 1)?.pad_with_zeros(5, 0, 1)?;
    Ok(x.reshape((b, c, 2 * h, 2 * w))?)
}

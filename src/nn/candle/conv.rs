//! Convolutions.

use candle_core::Tensor;

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
    let mut y = x
        .conv2d(&kernels, filter.padding, filter.stride, 1, 1)?
        .broadcast_add(&bias)?;
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
    let g = spread.conv2d(&turned, padding, 1, 1, 1)?;
    match stored == seen {
        true => Ok(g),
        false => upsample2x_backward(&g),
    }
}

/// `[b, c, h, w]` to `[b, c, 2h, 2w]`: every pixel followed by a zero in both directions.
fn insert_zeros(x: &Tensor) -> Result<Tensor> {
    let (b, c, h, w) = x.dims4()?;
    let x = x.reshape((b, c, h, 1, w, 1))?;
    let x = x.pad_with_zeros(3, 0, 1)?.pad_with_zeros(5, 0, 1)?;
    Ok(x.reshape((b, c, 2 * h, 2 * w))?)
}

//! Linear layers.

use candle_core::Tensor;

use super::activation;
use super::wide;
use crate::Result;
use crate::nn::layout::{Direction, Layout};
use crate::nn::parameters::{GegluCall, LinearCall};
use crate::nn::weight::Weight;

pub(in crate::nn) fn apply(call: LinearCall) -> Result<Tensor> {
    let x = match call.from {
        Layout::Tokens => call.x.clone(),
        Layout::Channels => call.x.flatten_from(2)?.transpose(1, 2)?.contiguous()?,
    };
    let y = vectors(call.weight, call.bias, call.direction, &x)?;
    let y = match call.to {
        Layout::Tokens => y,
        Layout::Channels => y.transpose(1, 2)?.contiguous()?,
    };
    let y = y.reshape(call.shape)?;
    Ok(match call.onto {
        Some(onto) => (onto + y)?,
        None => y,
    })
}

/// `bias + x·Wᵀ`, or `x·W` on the way back, of vectors one after the other.
fn vectors(
    weight: &Weight,
    bias: Option<&Tensor>,
    direction: Direction,
    x: &Tensor,
) -> Result<Tensor> {
    let weight = weight.as_dtype(x.dtype())?;
    let matrix = match direction {
        Direction::Forward => weight.t()?,
        Direction::Backward => weight,
    };
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = matrix.dim(1)?;
    }
    let y = rows(x)?.matmul(&matrix)?.reshape(shape)?;
    Ok(match bias {
        Some(bias) => y.broadcast_add(&bias.to_dtype(y.dtype())?)?,
        None => y,
    })
}

pub(in crate::nn) fn geglu(call: GegluCall) -> Result<Tensor> {
    activation::geglu(&whole(call)?)
}

pub(in crate::nn) fn geglu_keeping(call: GegluCall) -> Result<(Tensor, Tensor)> {
    let kept = whole(call)?;
    Ok((activation::geglu(&kept)?, kept))
}

pub(in crate::nn) fn geglu_gradient(call: GegluCall, grad: &Tensor) -> Result<Tensor> {
    activation::geglu_backward(&whole(call)?, grad)
}

/// All of a layer's output.
fn whole(call: GegluCall) -> Result<Tensor> {
    vectors(call.weight, call.bias, Direction::Forward, call.x)
}

pub(in crate::nn) fn weight_gradient(x: &Tensor, grad: &Tensor) -> Result<Tensor> {
    Ok(rows(&wide(grad)?)?.t()?.matmul(&rows(&wide(x)?)?)?)
}

/// `[.., c]` as a matrix `[rows, c]`.
fn rows(x: &Tensor) -> Result<Tensor> {
    Ok(x.flatten_to(x.rank() - 2)?)
}

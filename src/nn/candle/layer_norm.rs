//! Layer normalisation.

use candle_core::{D, Tensor};

use super::wide;
use crate::Result;
use crate::nn::parameters::LayerNormParameters;

pub(in crate::nn) fn forward(norm: &LayerNormParameters, x: &Tensor) -> Result<Tensor> {
    let (wide, weight, bias) = (wide(x)?.contiguous()?, &norm.weight, &norm.bias);
    let y = candle_nn::ops::layer_norm(&wide, weight, bias, norm.epsilon as f32)?;
    Ok(y.to_dtype(x.dtype())?)
}

pub(in crate::nn) fn backward(
    norm: &LayerNormParameters,
    x: &Tensor,
    grad: &Tensor,
) -> Result<Tensor> {
    let (dtype, x, grad) = (x.dtype(), wide(x)?, wide(grad)?);
    let x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let inv_std = (x.sqr()?.mean_keepdim(D::Minus1)? + norm.epsilon)?
        .sqrt()?
        .recip()?;
    let xhat = x.broadcast_mul(&inv_std)?;
    let a = grad.broadcast_mul(&norm.weight)?;
    let mean = a.mean_keepdim(D::Minus1)?;
    let along = (&a * &xhat)?.mean_keepdim(D::Minus1)?;
    Ok(a.broadcast_sub(&mean)?
        .sub(&xhat.broadcast_mul(&along)?)?
        .broadcast_mul(&inv_std)?
        .to_dtype(dtype)?)
}

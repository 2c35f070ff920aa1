//! Group normalisation.

use candle_core::Tensor;

use super::wide;
use crate::Result;
use crate::nn::parameters::{Activation, GroupNormParameters};

pub(in crate::nn) fn forward(norm: &GroupNormParameters, x: &Tensor) -> Result<Tensor> {
    let n = affine(norm, &normalised(norm, x)?.0)?.reshape(x.shape())?;
    let y = match norm.activation {
        Activation::None => n,
        Activation::Silu => n.silu()?,
    };
    Ok(y.to_dtype(x.dtype())?)
}

pub(in crate::nn) fn backward(
    norm: &GroupNormParameters,
    x: &Tensor,
    grad: &Tensor,
) -> Result<Tensor> {
    let (xhat, inv_std) = normalised(norm, x)?; // [b, g, m], [b, g, 1]
    let (b, g, m) = xhat.dims3()?;
    let c = norm.weight.dim(0)?;
    let grad = wide(grad)?.reshape((b, c, ()))?;
    let grad = match norm.activation {
        Activation::None => grad,
        Activation::Silu => {
            // silu'(n) = s·(1 + n·(1 − s)), s = σ(n)
            let n = affine(norm, &xhat)?;
            let s = candle_nn::ops::sigmoid(&n)?;
            (grad * (&s * ((&n * (1.0 - &s)?)? + 1.0)?)?)?
        }
    };
    let a = grad
        .broadcast_mul(&norm.weight.reshape((1, c, 1))?)?
        .reshape((b, g, m))?;
    let mean = a.mean_keepdim(2)?;
    let along = (&a * &xhat)?.mean_keepdim(2)?;
    let dx = a
        .broadcast_sub(&mean)?
        .sub(&xhat.broadcast_mul(&along)?)?
        .broadcast_mul(&inv_std)?;
    Ok(dx.reshape(x.shape())?.to_dtype(x.dtype())?)
}

/// x̂ as `[b, groups, m]` and 1/σ as `[b, groups, 1]`.
fn normalised(norm: &GroupNormParameters, x: &Tensor) -> Result<(Tensor, Tensor)> {
    let x = wide(x)?.reshape((x.dim(0)?, norm.groups, ()))?;
    let x = x.broadcast_sub(&x.mean_keepdim(2)?)?;
    let inv_std = (x.sqr()?.mean_keepdim(2)? + norm.epsilon)?
        .sqrt()?
        .recip()?;
    Ok((x.broadcast_mul(&inv_std)?, inv_std))
}

/// `w·x̂ + b` as `[b, c, m·groups/c]`.
fn affine(norm: &GroupNormParameters, xhat: &Tensor) -> Result<Tensor> {
    let c = norm.weight.dim(0)?;
    let xhat = xhat.reshape((xhat.dim(0)?, c, ()))?;
    Ok(xhat
        .broadcast_mul(&norm.weight.reshape((1, c, 1))?)?
        .broadcast_add(&norm.bias.reshape((1, c, 1))?)?)
}

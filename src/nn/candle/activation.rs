//! Pointwise activations.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use candle_core::Tensor;

use super::wide;
use crate::Result;

pub(in crate::nn) fn gelu(x: &Tensor) -> Result<Tensor> {
    Ok(x.gelu_erf()?)
}

pub(in crate::nn) fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    Ok((x * candle_nn::ops::sigmoid(&(x * 1.702)?)?)?)
}

/// `a·gelu(g)`, where `[a, g]` are the halves of the last dimension: Shazeer 2020.
///
/// # Shapes
/// - `x`: `[.., 2c]`
/// - returns `[.., c]`
pub(super) fn geglu(x: &Tensor) -> Result<Tensor> {
    let (value, gate) = halves(x)?;
    Ok((value * gate.gelu_erf()?)?)
}

/// ∂L/∂x of [`geglu`], `[.., 2c]`, from its input `x` and `grad: [.., c]`.
///
/// With Φ and φ the normal distribution and density: ∂/∂a = gelu(g) = g·Φ(g), ∂/∂g = a·(Φ(g) + g·φ(g)).
pub(in crate::nn) fn geglu_backward(x: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let (dtype, grad) = (x.dtype(), wide(grad)?);
    let (value, gate) = halves(&wide(x)?)?;
    let cdf = (((&gate * FRAC_1_SQRT_2)?.erf()? + 1.0)? * 0.5)?;
    let density = ((gate.sqr()? * -0.5)?.exp()? * (1.0 / (2.0 * PI).sqrt()))?;
    let to_value = (&grad * (&gate * &cdf)?)?;
    let to_gate = (grad * (value * (cdf + (gate * density)?)?)?)?;
    Ok(Tensor::cat(&[to_value, to_gate], x.rank() - 1)?.to_dtype(dtype)?)
}

/// The two halves of the last dimension, each contiguous.
fn halves(x: &Tensor) -> Result<(Tensor, Tensor)> {
    let last = x.rank() - 1;
    let c = x.dim(last)? / 2;
    Ok((
        x.narrow(last, 0, c)?.contiguous()?,
        x.narrow(last, c, c)?.contiguous()?,
    ))
}

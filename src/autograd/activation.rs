//! Pointwise activations.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use candle_core::Tensor;

use crate::Result;

/// `x·σ(x)`: Elfwing et al. 2017.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    Ok(x.silu()?)
}

/// `x·σ(1.702·x)`, the activation of the text encoders of Stable Diffusion 1.x.
pub fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    Ok((x * candle_nn::ops::sigmoid(&(x * 1.702)?)?)?)
}

/// `a·gelu(g)` with the exact (erf) GELU, where `[a, g]` are the halves of the last dimension: Shazeer 2020.
///
/// # Shapes
/// - `x`: `[.., 2c]`
/// - returns `[.., c]`
pub fn geglu(x: &Tensor) -> Result<Tensor> {
    let (value, gate) = halves(x)?;
    Ok((value * gate.gelu_erf()?)?)
}

/// ∂L/∂x of [`geglu`], `[.., 2c]`, from its input `x` and `grad: [.., c]`.
///
/// With Φ and φ the normal distribution and density: ∂/∂a = gelu(g) = g·Φ(g), ∂/∂g = a·(Φ(g) + g·φ(g)).
pub fn geglu_backward(x: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let (value, gate) = halves(x)?;
    let cdf = (((&gate * FRAC_1_SQRT_2)?.erf()? + 1.0)? * 0.5)?;
    let density = ((gate.sqr()? * -0.5)?.exp()? * (1.0 / (2.0 * PI).sqrt()))?;
    let to_value = (grad * (&gate * &cdf)?)?;
    let to_gate = (grad * (value * (cdf + (gate * density)?)?)?)?;
    Ok(Tensor::cat(&[to_value, to_gate], x.rank() - 1)?)
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

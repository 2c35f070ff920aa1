//! Pointwise activations.

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use rayon::prelude::*;
use std::f64::consts::{FRAC_1_SQRT_2, PI};

use super::dispatch::{has_kernels, wide};
use super::math::{normal_cdf, normal_pdf, sigmoid, vectorised};
use crate::Result;

/// `x·σ(x)`: Elfwing et al. 2017.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    Ok(x.silu()?)
}

/// `x·σ(1.702·x)`, the activation of the text encoders of Stable Diffusion 1.x.
pub fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    if has_kernels(x) {
        let kernel = Pointwise(
            "quick-gelu",
            #[inline(always)]
            |x: f32| x * sigmoid(1.702 * x),
        );
        return Ok(x.contiguous()?.apply_op1_no_bwd(&kernel)?);
    }
    quick_gelu_generic(x)
}

fn quick_gelu_generic(x: &Tensor) -> Result<Tensor> {
    Ok((x * candle_nn::ops::sigmoid(&(x * 1.702)?)?)?)
}

/// `x·Φ(x)`, Φ the normal distribution: Hendrycks and Gimpel 2016.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if has_kernels(x) {
        let kernel = Pointwise(
            "gelu",
            #[inline(always)]
            |x: f32| x * normal_cdf(x),
        );
        return Ok(x.contiguous()?.apply_op1_no_bwd(&kernel)?);
    }
    Ok(x.gelu_erf()?)
}

/// A function of each value, on the CPU.
struct Pointwise<F>(&'static str, F);

impl<F: Fn(f32) -> f32 + Sync + Send> CustomOp1 for Pointwise<F> {
    fn name(&self) -> &'static str {
        self.0
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        const BLOCK: usize = 1 << 14;
        let x = super::values(storage, layout)?;
        let mut out = vec![0f32; x.len()];
        let blocks = out.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK));
        blocks.for_each(|(out, x)| {
            vectorised(
                #[inline(always)]
                || {
                    for (y, &x) in out.iter_mut().zip(x) {
                        *y = (self.1)(x);
                    }
                },
            );
        });
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }
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
pub(super) fn geglu_backward(x: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let (dtype, grad) = (x.dtype(), wide(grad)?);
    let (value, gate) = halves(&wide(x)?)?;
    let cdf = (((&gate * FRAC_1_SQRT_2)?.erf()? + 1.0)? * 0.5)?;
    let density = ((gate.sqr()? * -0.5)?.exp()? * (1.0 / (2.0 * PI).sqrt()))?;
    let to_value = (&grad * (&gate * &cdf)?)?;
    let to_gate = (grad * (value * (cdf + (gate * density)?)?)?)?;
    Ok(Tensor::cat(&[to_value, to_gate], x.rank() - 1)?.to_dtype(dtype)?)
}

/// [`geglu`] of one value and its gate.
#[inline(always)]
pub(super) fn gated(value: f32, gate: f32) -> f32 {
    value * (gate * normal_cdf(gate))
}

/// The derivatives of [`gated`] by its value and by its gate.
#[inline(always)]
pub(super) fn gated_slopes(value: f32, gate: f32) -> (f32, f32) {
    let cdf = normal_cdf(gate);
    (gate * cdf, value * (cdf + gate * normal_pdf(gate)))
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

#[cfg(test)]
mod tests {
    use super::super::testing::{random, worst};
    use super::*;

    #[test]
    fn kernels_equal_candles_operations() {
        let x = (random(&[3, 7, 2341], 1) * 4.0).unwrap();
        let error = worst(&gelu(&x).unwrap(), &x.gelu_erf().unwrap());
        assert!(error < 2e-6, "{error}");
        let error = worst(&quick_gelu(&x).unwrap(), &quick_gelu_generic(&x).unwrap());
        assert!(error < 4e-6, "{error}");
    }
}

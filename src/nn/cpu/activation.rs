//! Pointwise activations.

use candle_core::Tensor;
use rayon::prelude::*;

use super::math::{normal_cdf, normal_pdf, sigmoid, vectorised};
use super::zeros::zeros;
use crate::Result;
use crate::nn::tensor::numbers_of;

pub(super) fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    pointwise(
        x,
        #[inline(always)]
        |x| x * sigmoid(1.702 * x),
    )
}

pub(super) fn gelu(x: &Tensor) -> Result<Tensor> {
    pointwise(
        x,
        #[inline(always)]
        |x| x * normal_cdf(x),
    )
}

/// A function of each number.
fn pointwise(x: &Tensor, f: impl Fn(f32) -> f32 + Sync) -> Result<Tensor> {
    /// Numbers of one task.
    const BLOCK: usize = 1 << 14;
    let x = x.contiguous()?;
    let numbers = numbers_of(&x)?;
    let mut out = zeros(numbers.len());
    let blocks = out.par_chunks_mut(BLOCK).zip(numbers.par_chunks(BLOCK));
    blocks.for_each(|(out, x)| {
        vectorised(
            #[inline(always)]
            || {
                for (y, &x) in out.iter_mut().zip(x) {
                    *y = f(x);
                }
            },
        );
    });
    Ok(Tensor::from_vec(out, x.shape(), x.device())?)
}

/// `a·gelu(g)` of one value and its gate.
#[inline(always)]
pub(super) fn gated(value: f32, gate: f32) -> f32 {
    value * (gate * normal_cdf(gate))
}

/// ∂L/∂`kept`, `[.., 2·c]`, of `a·gelu(g)` of its halves, from `grad: [.., c]`.
pub(super) fn geglu_slopes(kept: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let (kept, grad) = (kept.contiguous()?, grad.contiguous()?);
    let (halves, grads) = (numbers_of(&kept)?, numbers_of(&grad)?);
    let c = grad.dims().last().copied().unwrap_or(1).max(1);
    let mut out = zeros(halves.len());
    out.par_chunks_mut(2 * c)
        .zip(halves.par_chunks(2 * c))
        .zip(grads.par_chunks(c))
        .for_each(|((out, halves), grads)| {
            out.copy_from_slice(halves);
            let (values, gates) = out.split_at_mut(c);
            vectorised(
                #[inline(always)]
                || to_slopes(values, gates, grads),
            );
        });
    Ok(Tensor::from_vec(out, kept.shape(), kept.device())?)
}

/// Turns values and gates into ∂L/∂ them, from ∂L/∂ what [`gated`] makes of each pair.
#[inline(always)]
pub(super) fn to_slopes(values: &mut [f32], gates: &mut [f32], grads: &[f32]) {
    for ((value, gate), &grad) in values.iter_mut().zip(gates).zip(grads) {
        let (to_value, to_gate) = gated_slopes(*value, *gate);
        (*value, *gate) = (grad * to_value, grad * to_gate);
    }
}

/// The derivatives of [`gated`] by its value and by its gate.
#[inline(always)]
fn gated_slopes(value: f32, gate: f32) -> (f32, f32) {
    let cdf = normal_cdf(gate);
    (gate * cdf, value * (cdf + gate * normal_pdf(gate)))
}

//! Layer normalisation, by rows.

use candle_core::{D, Tensor};
use rayon::prelude::*;

use super::math::{sum, sum_of, vectorised};
use super::zeros::zeros;
use crate::Result;
use crate::nn::parameters::LayerNormParameters;
use crate::nn::tensor::numbers_of;

pub(super) fn forward(norm: &LayerNormParameters, x: &Tensor) -> Result<Tensor> {
    let (weight, bias) = (norm.weight.to_vec1::<f32>()?, norm.bias.to_vec1::<f32>()?);
    each_row(
        x,
        None,
        #[inline(always)]
        |x, _, out| {
            let (mean, inv_std) = statistics(x, norm.epsilon);
            for (((y, &x), &w), &b) in out.iter_mut().zip(x).zip(&weight).zip(&bias) {
                *y = (x - mean) * inv_std * w + b;
            }
        },
    )
}

pub(super) fn backward(norm: &LayerNormParameters, x: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let weight = norm.weight.to_vec1::<f32>()?;
    each_row(
        x,
        Some(grad),
        #[inline(always)]
        |x, grad, out| {
            let (mean, inv_std) = statistics(x, norm.epsilon);
            for ((a, &g), &w) in out.iter_mut().zip(grad).zip(&weight) {
                *a = g * w;
            }
            let n = x.len() as f32;
            let mean_a = sum(out) / n;
            let along = sum_of(out, x, |a, x| a * (x - mean)) / n * inv_std;
            for (a, &x) in out.iter_mut().zip(x) {
                *a = (*a - mean_a - (x - mean) * inv_std * along) * inv_std;
            }
        },
    )
}

/// Calls `f(x, grad, out)` for every row; without a `grad`, it is an empty row.
fn each_row(
    x: &Tensor,
    grad: Option<&Tensor>,
    f: impl Fn(&[f32], &[f32], &mut [f32]) + Sync,
) -> Result<Tensor> {
    /// Rows of one task.
    const ROWS: usize = 32;
    let c = x.dim(D::Minus1)?;
    let (x, grad) = (x.contiguous()?, grad.map(Tensor::contiguous).transpose()?);
    let (xs, gs) = (numbers_of(&x)?, grad.as_ref().map(numbers_of).transpose()?);
    let (xs, gs): (&[f32], Option<&[f32]>) = (&xs, gs.as_deref());
    let mut out = zeros(xs.len());
    out.par_chunks_mut((ROWS * c).max(1))
        .enumerate()
        .for_each(|(i, out)| {
            let from = i * ROWS * c;
            vectorised(
                #[inline(always)]
                || {
                    for (j, out) in out.chunks_exact_mut(c).enumerate() {
                        let row = from + j * c..from + (j + 1) * c;
                        f(&xs[row.clone()], gs.map_or(&[], |g| &g[row]), out);
                    }
                },
            );
        });
    Ok(Tensor::from_vec(out, x.shape(), x.device())?)
}

/// Mean and 1/σ of a row.
#[inline(always)]
fn statistics(x: &[f32], epsilon: f64) -> (f32, f32) {
    let n = x.len() as f32;
    let mean = sum(x) / n;
    let variance = sum_of(x, x, |x, _| (x - mean) * (x - mean)) / n;
    (mean, 1.0 / (variance + epsilon as f32).sqrt())
}

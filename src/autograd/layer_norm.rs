//! Layer normalisation.

use candle_core::{D, Tensor};
use rayon::prelude::*;

use super::dispatch::{has_kernels, wide};
use super::math::{sum, sum_of, vectorised};
use super::values::{misfit, values_of};
use crate::Result;

/// Layer normalisation over the last dimension: Ba et al. 2016.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    epsilon: f64,
}

impl LayerNorm {
    /// A norm from its weight and bias, both `[c]`.
    pub fn new(weight: Tensor, bias: Tensor, epsilon: f64) -> Self {
        Self {
            weight,
            bias,
            epsilon,
        }
    }

    /// `w·(x − μ)/√(σ² + ε) + b`: `[.., c]` to the same shape.
    ///
    /// # Errors
    /// If the last dimension of `x` is not `c`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if !has_kernels(x) {
            return self.forward_generic(x);
        }
        let (weight, bias) = (self.weight.to_vec1::<f32>()?, self.bias.to_vec1::<f32>()?);
        self.each_row(
            x,
            None,
            #[inline(always)]
            |x, _, out| {
                let (mean, inv_std) = self.statistics(x);
                for (((y, &x), &w), &b) in out.iter_mut().zip(x).zip(&weight).zip(&bias) {
                    *y = (x - mean) * inv_std * w + b;
                }
            },
        )
    }

    /// ∂L/∂x from the input `x` and `grad`, both `[.., c]`; the equation of
    /// [`GroupNorm::backward`](super::GroupNorm::backward), by rows.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn backward(&self, x: &Tensor, grad: &Tensor) -> Result<Tensor> {
        if !has_kernels(x) {
            return self.backward_generic(x, grad);
        }
        let weight = self.weight.to_vec1::<f32>()?;
        self.each_row(
            x,
            Some(grad),
            #[inline(always)]
            |x, grad, out| {
                let (mean, inv_std) = self.statistics(x);
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
        &self,
        x: &Tensor,
        grad: Option<&Tensor>,
        f: impl Fn(&[f32], &[f32], &mut [f32]) + Sync,
    ) -> Result<Tensor> {
        /// Rows of one task.
        const ROWS: usize = 32;
        let c = self.weight.dim(0)?;
        if x.dims().last() != Some(&c) {
            return Err(misfit(&format!("rows of {c} values"), x));
        }
        if let Some(grad) = grad.filter(|g| g.shape() != x.shape()) {
            return Err(misfit(
                &format!("a gradient of shape {:?}", x.shape()),
                grad,
            ));
        }
        let (x, grad) = (x.contiguous()?, grad.map(Tensor::contiguous).transpose()?);
        let (xs, gs) = (values_of(&x)?, grad.as_ref().map(values_of).transpose()?);
        let (xs, gs): (&[f32], Option<&[f32]>) = (&xs, gs.as_deref());
        let mut out = vec![0f32; xs.len()];
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
    fn statistics(&self, x: &[f32]) -> (f32, f32) {
        let n = x.len() as f32;
        let mean = sum(x) / n;
        let variance = sum_of(x, x, |x, _| (x - mean) * (x - mean)) / n;
        (mean, 1.0 / (variance + self.epsilon as f32).sqrt())
    }

    fn forward_generic(&self, x: &Tensor) -> Result<Tensor> {
        let (wide, weight, bias) = (wide(x)?.contiguous()?, &self.weight, &self.bias);
        let y = candle_nn::ops::layer_norm(&wide, weight, bias, self.epsilon as f32)?;
        Ok(y.to_dtype(x.dtype())?)
    }

    fn backward_generic(&self, x: &Tensor, grad: &Tensor) -> Result<Tensor> {
        let (dtype, x, grad) = (x.dtype(), wide(x)?, wide(grad)?);
        let x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let inv_std = (x.sqr()?.mean_keepdim(D::Minus1)? + self.epsilon)?
            .sqrt()?
            .recip()?;
        let xhat = x.broadcast_mul(&inv_std)?;
        let a = grad.broadcast_mul(&self.weight)?;
        let mean = a.mean_keepdim(D::Minus1)?;
        let along = (&a * &xhat)?.mean_keepdim(D::Minus1)?;
        Ok(a.broadcast_sub(&mean)?
            .sub(&xhat.broadcast_mul(&along)?)?
            .broadcast_mul(&inv_std)?
            .to_dtype(dtype)?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::super::testing::{random, worst};
    use super::*;

    /// The forward pass as it is defined; candle's own takes no f64.
    fn plain(norm: &LayerNorm, x: &Tensor) -> Result<Tensor> {
        let x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let deviation = (x.sqr()?.mean_keepdim(D::Minus1)? + norm.epsilon)?.sqrt()?;
        let y = x.broadcast_div(&deviation)?.broadcast_mul(&norm.weight)?;
        Ok(y.broadcast_add(&norm.bias)?)
    }

    /// The kernels and what other devices run against the same in f64, off centre and at odd sizes.
    #[test]
    fn both_paths_equal_f64() {
        let f64_of = |x: &Tensor| x.to_dtype(DType::F64).unwrap();
        let close = |got: Tensor, want: &Tensor, tolerance: f32| {
            let error = worst(&got, &want.to_dtype(DType::F32).unwrap());
            assert!(error < tolerance, "{:?}: {error:e}", got.shape());
        };
        for shape in [&[1, 1, 5][..], &[2, 33, 70], &[3, 7, 320]] {
            let c = shape[2];
            let x = ((random(shape, 1) * 3.0).unwrap() + 10.0).unwrap();
            let grad = random(shape, 2);
            let (weight, bias) = (random(&[c], 3), random(&[c], 4));
            let exact = LayerNorm::new(f64_of(&weight), f64_of(&bias), 1e-5);
            let norm = LayerNorm::new(weight, bias, 1e-5);
            let want = plain(&exact, &f64_of(&x)).unwrap();
            close(norm.forward(&x).unwrap(), &want, 5e-6);
            // candle's takes the variance as E[x²] − E[x]², of which little is left off centre.
            close(norm.forward_generic(&x).unwrap(), &want, 1e-4);
            let want = exact.backward_generic(&f64_of(&x), &f64_of(&grad)).unwrap();
            close(norm.backward(&x, &grad).unwrap(), &want, 5e-6);
            close(norm.backward_generic(&x, &grad).unwrap(), &want, 5e-6);
        }
    }
}

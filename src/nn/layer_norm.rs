//! Layer normalisation.

use candle_core::Tensor;

use super::dispatch::backend_of;
use super::parameters::LayerNormParameters;
use super::tensor::{expect_shape, misfit};
use crate::Result;

/// Layer normalisation over the last dimension: Ba et al. 2016.
#[derive(Debug, Clone)]
pub(crate) struct LayerNorm(LayerNormParameters);

impl LayerNorm {
    /// A norm from its weight and bias, both `[c]`.
    pub(crate) fn new(weight: Tensor, bias: Tensor, epsilon: f64) -> Self {
        Self(LayerNormParameters {
            weight,
            bias,
            epsilon,
        })
    }

    /// `w·(x − μ)/√(σ² + ε) + b`: `[.., c]` to the same shape.
    ///
    /// # Errors
    /// If the last dimension of `x` is not `c`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.check(x)?;
        backend_of([x]).layer_norm(&self.0, x)
    }

    /// ∂L/∂x from the input `x` and `grad`, both `[.., c]`; the equation of
    /// [`GroupNorm::backward`](super::GroupNorm::backward), by rows.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub(crate) fn backward(&self, x: &Tensor, grad: &Tensor) -> Result<Tensor> {
        self.check(x)?;
        expect_shape("a gradient", grad, x.dims())?;
        backend_of([x]).layer_norm_backward(&self.0, x, grad)
    }

    fn check(&self, x: &Tensor) -> Result<()> {
        let c = self.0.weight.dim(0)?;
        if x.dims().last() != Some(&c) {
            return Err(misfit(&format!("rows of {c} values"), x));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{D, DType};

    use super::super::dispatch::by_candle;
    use super::super::testing::{random, worst};
    use super::*;

    /// The forward pass as it is defined; candle's own takes no f64.
    fn plain(norm: &LayerNorm, x: &Tensor) -> Result<Tensor> {
        let norm = &norm.0;
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
            close(by_candle(|| norm.forward(&x).unwrap()), &want, 1e-4);
            let want = exact.backward(&f64_of(&x), &f64_of(&grad)).unwrap();
            close(norm.backward(&x, &grad).unwrap(), &want, 5e-6);
            close(by_candle(|| norm.backward(&x, &grad).unwrap()), &want, 5e-6);
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let norm = LayerNorm::new(random(&[4], 1), random(&[4], 2), 1e-5);
        let x = random(&[3, 4], 3);
        for shape in [&[3, 5][..], &[4, 3], &[1], &[]] {
            assert!(norm.forward(&random(shape, 4)).is_err(), "{shape:?}");
        }
        for shape in [&[3, 3][..], &[2, 4], &[1, 3, 4]] {
            assert!(norm.backward(&x, &random(shape, 4)).is_err(), "{shape:?}");
        }
    }
}

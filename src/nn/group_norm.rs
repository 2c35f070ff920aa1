//! Group normalisation.

use candle_core::Tensor;

use super::dispatch::backend_of;
use super::parameters::{Activation, GroupNormParameters};
use super::tensor::{expect_shape, misfit};
use crate::Result;

/// Group normalisation with an optional SiLU behind it: Wu and He 2018.
///
/// `y = act(w·(x − μ)/√(σ² + ε) + b)`, with μ and σ² over each group of channels of each sample.
#[derive(Debug, Clone)]
pub(crate) struct GroupNorm(GroupNormParameters);

impl GroupNorm {
    /// A norm from its weight and bias, both `[c]`; `groups` divides c.
    pub(crate) fn new(
        weight: Tensor,
        bias: Tensor,
        groups: usize,
        epsilon: f64,
        activation: Activation,
    ) -> Self {
        Self(GroupNormParameters {
            weight,
            bias,
            groups,
            epsilon,
            activation,
        })
    }

    /// `[b, c, ..]` to the same shape.
    ///
    /// # Errors
    /// If `x` has not c channels.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.check(x)?;
        backend_of([x]).group_norm(&self.0, x)
    }

    /// ∂L/∂x from the input `x` and `grad`, both `[b, c, ..]`; the statistics are taken from `x` again.
    ///
    /// With x̂ = (x − μ)/σ and a = ∂L/∂x̂: ∂L/∂x = (a − mean(a) − x̂·mean(a·x̂))/σ, means over the group.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub(crate) fn backward(&self, x: &Tensor, grad: &Tensor) -> Result<Tensor> {
        self.check(x)?;
        expect_shape("a gradient", grad, x.dims())?;
        backend_of([x]).group_norm_backward(&self.0, x, grad)
    }

    fn check(&self, x: &Tensor) -> Result<()> {
        let c = self.0.weight.dim(0)?;
        if x.rank() < 2 || x.dim(1)? != c {
            return Err(misfit(&format!("{c} channels"), x));
        }
        let groups = self.0.groups;
        if groups == 0 || c % groups != 0 {
            return Err(misfit(&format!("channels that {groups} groups divide"), x));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::super::dispatch::by_candle;
    use super::super::testing::{random, worst};
    use super::*;

    /// The kernels and what other devices run against the same in f64: far off centre, at odd sizes, with groups of a
    /// million members.
    #[test]
    fn both_paths_equal_f64() {
        let f64_of = |x: &Tensor| x.to_dtype(DType::F64).unwrap();
        for (shape, groups, mean) in [
            (&[2, 12, 5, 7][..], 3, 10.0),
            (&[1, 6, 1, 1], 2, 0.0),
            (&[3, 40, 37, 3], 8, 1000.0),
            (&[1, 4, 512, 1100], 2, 3.0),
        ] {
            let c = shape[1];
            let x = ((random(shape, 1) * 3.0).unwrap() + mean).unwrap();
            let grad = random(shape, 2);
            let (weight, bias) = (random(&[c], 3), random(&[c], 4));
            for activation in [Activation::None, Activation::Silu] {
                let exact =
                    GroupNorm::new(f64_of(&weight), f64_of(&bias), groups, 1e-5, activation);
                let norm = GroupNorm::new(weight.clone(), bias.clone(), groups, 1e-5, activation);
                // The mean is rounded to f32, and the deviations are in units of about 3.
                let tolerance = 4e-6 + mean as f32 * 1.5e-7;
                let close = |got: Tensor, want: Tensor| {
                    let error = worst(&got, &want.to_dtype(DType::F32).unwrap());
                    assert!(error < tolerance, "{activation:?} {shape:?}: {error:e}");
                };
                // candle computes what is not f32.
                let want = || exact.forward(&f64_of(&x)).unwrap();
                close(norm.forward(&x).unwrap(), want());
                let want = || exact.backward(&f64_of(&x), &f64_of(&grad)).unwrap();
                close(norm.backward(&x, &grad).unwrap(), want());
                if mean < 100.0 {
                    close(by_candle(|| norm.backward(&x, &grad).unwrap()), want());
                }
            }
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let norm = GroupNorm::new(random(&[4], 1), random(&[4], 2), 2, 1e-5, Activation::Silu);
        let x = random(&[1, 4, 3], 3);
        for shape in [&[1, 6, 2][..], &[1, 2, 4], &[4], &[]] {
            assert!(norm.forward(&random(shape, 4)).is_err(), "{shape:?}");
        }
        for shape in [&[1, 4, 2][..], &[2, 4, 3], &[4, 3]] {
            assert!(norm.backward(&x, &random(shape, 4)).is_err(), "{shape:?}");
        }
        for groups in [0, 3, 8] {
            let (weight, bias) = (random(&[4], 1), random(&[4], 2));
            let norm = GroupNorm::new(weight, bias, groups, 1e-5, Activation::None);
            assert!(norm.forward(&x).is_err(), "{groups} groups");
        }
    }
}

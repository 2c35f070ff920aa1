//! The linear layer.

use candle_core::Tensor;

use super::dispatch::{has_kernels, wide};
use super::linear_kernel::{self, Side};
use super::{Weight, geglu, geglu_backward};
use crate::Result;

/// `y = x·Wᵀ + b`, with W frozen: the backward pass gives ∂L/∂x, and ∂L/∂W only when asked.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
}

/// How a tensor holds n vectors of each sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// One after the other: `[.., n, c]`.
    Tokens,
    /// Channel by channel: `[b, c, h, w]`, n = h·w.
    Channels,
}

impl Linear {
    /// A layer from its weight `[out, in]` and bias `[out]`.
    ///
    /// # Panics
    /// If the weight is no matrix.
    pub fn new(weight: impl Into<Weight>, bias: Option<Tensor>) -> Self {
        Self {
            weight: weight.into(),
            bias,
        }
    }

    /// The weight, `[out, in]`.
    pub fn weight(&self) -> &Weight {
        &self.weight
    }

    /// Puts another weight of the same shape in place of this one.
    pub(crate) fn set_weight(&mut self, weight: Weight) {
        debug_assert_eq!(weight.shape(), self.weight.shape());
        self.weight = weight;
    }

    /// `[.., in]` to `[.., out]`.
    ///
    /// # Errors
    /// If the last dimension of `x` is not `in`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.apply(Side::Forward, (x, Order::Tokens), Order::Tokens, None)
    }

    /// `residual + x·Wᵀ + b`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward_onto(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        let (from, to) = (Order::Tokens, Order::Tokens);
        self.apply(Side::Forward, (x, from), to, Some(residual))
    }

    /// The vectors of `x: [b, in, h, w]` as tokens `[b, h·w, out]`.
    ///
    /// # Errors
    /// If `x` has not `in` channels.
    pub fn forward_from_channels(&self, x: &Tensor) -> Result<Tensor> {
        self.apply(Side::Forward, (x, Order::Channels), Order::Tokens, None)
    }

    /// The tokens `x: [b, h·w, in]` as channels, added to `residual: [b, out, h, w]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward_to_channels(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        let (from, to) = (Order::Tokens, Order::Channels);
        self.apply(Side::Forward, (x, from), to, Some(residual))
    }

    /// `a·gelu(g)` of the two halves `[a, g]` of the output: `[.., in]` to `[.., out/2]`, without the output being whole.
    ///
    /// # Errors
    /// If the last dimension of `x` is not `in`, or `out` is odd.
    pub fn forward_geglu(&self, x: &Tensor) -> Result<Tensor> {
        if has_kernels(x) {
            return linear_kernel::geglu(&self.weight, self.bias.as_ref(), x);
        }
        geglu(&self.forward(x)?)
    }

    /// ∂L/∂x of [`Linear::forward_geglu`], `[.., in]`, from its input `x` and `grad: [.., out/2]`; the output is computed
    /// again.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn backward_geglu(&self, x: &Tensor, grad: &Tensor) -> Result<Tensor> {
        if has_kernels(x) {
            let grad = linear_kernel::geglu_gradient(&self.weight, self.bias.as_ref(), x, grad)?;
            return self.backward(&grad);
        }
        self.backward(&geglu_backward(&self.forward(x)?, grad)?)
    }

    /// ∂L/∂x = grad·W: `[.., out]` to `[.., in]`.
    ///
    /// # Errors
    /// If the last dimension of `grad` is not `out`.
    pub fn backward(&self, grad: &Tensor) -> Result<Tensor> {
        self.apply(Side::Backward, (grad, Order::Tokens), Order::Tokens, None)
    }

    /// `sum + ∂L/∂x`, for an input that other layers read too.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn backward_onto(&self, grad: &Tensor, sum: &Tensor) -> Result<Tensor> {
        let (from, to) = (Order::Tokens, Order::Tokens);
        self.apply(Side::Backward, (grad, from), to, Some(sum))
    }

    /// ∂L/∂x of [`Linear::forward_from_channels`], of the shape of `like`, from `grad: [b, h·w, out]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn backward_to_channels(&self, grad: &Tensor, like: &Tensor) -> Result<Tensor> {
        let (from, to) = (Order::Tokens, Order::Channels);
        let g = self.apply(Side::Backward, (grad, from), to, None)?;
        Ok(g.reshape(like.shape())?)
    }

    /// ∂L/∂x of [`Linear::forward_to_channels`], `[b, h·w, in]`, from `grad: [b, out, h, w]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn backward_from_channels(&self, grad: &Tensor) -> Result<Tensor> {
        self.apply(Side::Backward, (grad, Order::Channels), Order::Tokens, None)
    }

    /// ∂L/∂W = gradᵀ·x, summed over all leading dimensions: `[out, in]`.
    ///
    /// # Shapes
    /// - `x`: `[.., in]`, what `forward` was given
    /// - `grad`: `[.., out]`
    ///
    /// # Errors
    /// If the leading dimensions differ.
    pub fn weight_gradient(x: &Tensor, grad: &Tensor) -> Result<Tensor> {
        if has_kernels(x) && has_kernels(grad) {
            return linear_kernel::weight_gradient(x, grad);
        }
        weight_gradient_generic(x, grad)
    }

    fn apply(
        &self,
        side: Side,
        x: (&Tensor, Order),
        to: Order,
        onto: Option<&Tensor>,
    ) -> Result<Tensor> {
        // The bias is no part of the derivative.
        let bias = self.bias.as_ref().filter(|_| side == Side::Forward);
        match has_kernels(x.0) {
            true => linear_kernel::apply(&self.weight, side, bias, x, to, onto),
            false => apply_generic(&self.weight, side, bias, x, to, onto),
        }
    }
}

fn apply_generic(
    weight: &Weight,
    side: Side,
    bias: Option<&Tensor>,
    (x, from): (&Tensor, Order),
    to: Order,
    onto: Option<&Tensor>,
) -> Result<Tensor> {
    let x = match from {
        Order::Tokens => x.clone(),
        Order::Channels => x.flatten_from(2)?.transpose(1, 2)?.contiguous()?,
    };
    let weight = weight.as_dtype(x.dtype())?;
    let matrix = match side {
        Side::Forward => weight.t()?,
        Side::Backward => weight,
    };
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = matrix.dim(1)?;
    }
    let mut y = rows(&x)?.matmul(&matrix)?.reshape(shape)?;
    if let Some(bias) = bias {
        y = y.broadcast_add(&bias.to_dtype(y.dtype())?)?;
    }
    if to == Order::Channels {
        y = y.transpose(1, 2)?.contiguous()?;
    }
    Ok(match onto {
        Some(onto) => (onto + y.reshape(onto.shape())?)?,
        None => y,
    })
}

fn weight_gradient_generic(x: &Tensor, grad: &Tensor) -> Result<Tensor> {
    Ok(rows(&wide(grad)?)?.t()?.matmul(&rows(&wide(x)?)?)?)
}

/// `[.., c]` as a matrix `[rows, c]`.
fn rows(x: &Tensor) -> Result<Tensor> {
    Ok(x.flatten_to(x.rank() - 2)?)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{random, worst};
    use super::*;

    /// The kernels against what other devices run: every order, with and without bias and summand, odd sizes.
    #[test]
    fn kernels_equal_the_generic_path() {
        for (b, h, w, from, to) in [
            (1, 1, 1, 1, 1),
            (2, 3, 7, 5, 9),
            (3, 20, 31, 33, 70),
            (1, 1, 2, 600, 1030),
        ] {
            let (weight, bias) = (Weight::from(random(&[to, from], 1)), random(&[to], 2));
            for side in [Side::Forward, Side::Backward] {
                let (from, to) = side.widths(&weight);
                let tensor = |order, c, seed| match order {
                    Order::Tokens => random(&[b, h * w, c], seed),
                    Order::Channels => random(&[b, c, h, w], seed),
                };
                for (input, output) in [
                    (Order::Tokens, Order::Tokens),
                    (Order::Tokens, Order::Channels),
                    (Order::Channels, Order::Tokens),
                    (Order::Channels, Order::Channels),
                ] {
                    let (x, onto) = (tensor(input, from, 3), tensor(output, to, 4));
                    for onto in [None, Some(&onto)] {
                        let bias = Some(&bias)
                            .filter(|_| side == Side::Forward && onto.is_none() == (b == 2));
                        let got =
                            linear_kernel::apply(&weight, side, bias, (&x, input), output, onto);
                        let want = apply_generic(&weight, side, bias, (&x, input), output, onto);
                        let error = worst(&got.unwrap(), &want.unwrap());
                        assert!(
                            error < 1e-5 * (from as f32).sqrt() * 3.0,
                            "{side:?} {input:?} {output:?}: {error}"
                        );
                    }
                }
            }
            let (x, grad) = (random(&[b, h * w, from], 5), random(&[b, h * w, to], 6));
            let got = Linear::weight_gradient(&x, &grad).unwrap();
            let error = worst(&got, &weight_gradient_generic(&x, &grad).unwrap());
            assert!(error < 3e-4, "{error}");
        }
    }

    #[test]
    fn geglu_in_blocks_is_geglu_of_the_whole() {
        for (rows, from, inner) in [(1, 3, 1), (67, 5, 9), (700, 33, 300)] {
            for bias in [None, Some(random(&[2 * inner], 1))] {
                let gate = Linear::new(random(&[2 * inner, from], 2), bias);
                let (x, grad) = (random(&[1, rows, from], 3), random(&[1, rows, inner], 4));
                let y = gate.forward(&x).unwrap();
                let error = worst(&gate.forward_geglu(&x).unwrap(), &geglu(&y).unwrap());
                assert!(error < 1e-4, "{error}");
                let want = gate.backward(&geglu_backward(&y, &grad).unwrap()).unwrap();
                let error = worst(&gate.backward_geglu(&x, &grad).unwrap(), &want);
                assert!(error < 2e-3, "{error}");
            }
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let layer = Linear::new(random(&[4, 3], 1), Some(random(&[4], 2)));
        let x = random(&[1, 6, 3], 3);
        assert!(layer.backward(&x).is_err());
        assert!(layer.forward(&random(&[2, 4], 4)).is_err());
        assert!(layer.forward_onto(&x, &random(&[1, 5, 4], 5)).is_err());
        assert!(
            layer
                .forward_to_channels(&x, &random(&[1, 4, 5, 1], 5))
                .is_err()
        );
        assert!(layer.backward_geglu(&x, &random(&[1, 6, 4], 5)).is_err());
        assert!(Linear::weight_gradient(&x, &random(&[1, 5, 4], 5)).is_err());
    }
}

//! The linear layer.

use candle_core::Tensor;

use super::dispatch::backend_of;
use super::layout::{Direction, Layout};
use super::parameters::{GegluCall, LinearCall};
use super::tensor::{expect_shape, misfit};
use super::weight::Weight;
use crate::Result;

/// `y = x·Wᵀ + b`, with W frozen: the backward pass gives ∂L/∂x, and ∂L/∂W only when asked.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
}

impl Linear {
    /// A layer from its weight `[out, in]` and bias `[out]`.
    ///
    /// # Panics
    /// If the weight is no matrix.
    pub(crate) fn new(weight: impl Into<Weight>, bias: Option<Tensor>) -> Self {
        Self {
            weight: weight.into(),
            bias,
        }
    }

    /// The weight, `[out, in]`.
    pub(crate) fn weight(&self) -> &Weight {
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
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.apply(Direction::Forward, x, [Layout::Tokens; 2], None)
    }

    /// `residual + x·Wᵀ + b`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub(crate) fn forward_onto(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        self.apply(Direction::Forward, x, [Layout::Tokens; 2], Some(residual))
    }

    /// The vectors of `x: [b, in, h, w]` as tokens `[b, h·w, out]`.
    ///
    /// # Errors
    /// If `x` has not `in` channels.
    pub(crate) fn forward_from_channels(&self, x: &Tensor) -> Result<Tensor> {
        let layouts = [Layout::Channels, Layout::Tokens];
        self.apply(Direction::Forward, x, layouts, None)
    }

    /// The tokens `x: [b, h·w, in]` as channels, added to `residual: [b, out, h, w]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub(crate) fn forward_to_channels(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        let layouts = [Layout::Tokens, Layout::Channels];
        self.apply(Direction::Forward, x, layouts, Some(residual))
    }

    /// `a·gelu(g)` of the two halves `[a, g]` of the output: `[.., in]` to `[.., out/2]`. On the CPU the output is
    /// never whole.
    ///
    /// # Errors
    /// If the last dimension of `x` is not `in`, or `out` is odd.
    pub(crate) fn forward_geglu(&self, x: &Tensor) -> Result<Tensor> {
        backend_of([x]).geglu(self.geglu_call(x)?)
    }

    /// [`Linear::forward_geglu`], and the layer's own output before it, `[.., out]`.
    ///
    /// # Errors
    /// As [`Linear::forward_geglu`].
    pub(crate) fn forward_geglu_keeping(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        backend_of([x]).geglu_keeping(self.geglu_call(x)?)
    }

    /// ∂L/∂x of [`Linear::forward_geglu`], `[.., in]`, from the output before it, `kept: [.., out]`, and
    /// `grad: [.., out/2]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub(crate) fn backward_geglu_of(&self, kept: &Tensor, grad: &Tensor) -> Result<Tensor> {
        let (mut half, last) = (kept.dims().to_vec(), kept.rank().saturating_sub(1));
        if half.get(last) != Some(&self.weight.shape().0) {
            return Err(misfit(&format!("{} channels", self.weight.shape().0), kept));
        }
        half[last] /= 2;
        expect_shape("a gradient", grad, &half)?;
        self.backward(&backend_of([kept]).geglu_slopes(kept, grad)?)
    }

    /// ∂L/∂x of [`Linear::forward_geglu`], `[.., in]`, from its input `x` and `grad: [.., out/2]`; the output is
    /// computed again.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub(crate) fn backward_geglu(&self, x: &Tensor, grad: &Tensor) -> Result<Tensor> {
        let call = self.geglu_call(x)?;
        expect_shape("a gradient", grad, &call.shape(call.inner()))?;
        self.backward(&backend_of([x]).geglu_gradient(call, grad)?)
    }

    fn geglu_call<'a>(&'a self, x: &'a Tensor) -> Result<GegluCall<'a>> {
        let (out, width) = self.weight.shape();
        Layout::Tokens.vectors(x, width)?;
        if out % 2 != 0 {
            return Err(misfit(&format!("two halves of {out} channels"), x));
        }
        let (weight, bias) = (&self.weight, self.bias.as_ref());
        Ok(GegluCall { weight, bias, x })
    }

    /// ∂L/∂x = grad·W: `[.., out]` to `[.., in]`.
    ///
    /// # Errors
    /// If the last dimension of `grad` is not `out`.
    pub(crate) fn backward(&self, grad: &Tensor) -> Result<Tensor> {
        self.apply(Direction::Backward, grad, [Layout::Tokens; 2], None)
    }

    /// `sum + ∂L/∂x`, for an input that other layers read too.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub(crate) fn backward_onto(&self, grad: &Tensor, sum: &Tensor) -> Result<Tensor> {
        self.apply(Direction::Backward, grad, [Layout::Tokens; 2], Some(sum))
    }

    /// ∂L/∂x of [`Linear::forward_from_channels`], of the shape of `like`, from `grad: [b, h·w, out]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub(crate) fn backward_to_channels(&self, grad: &Tensor, like: &Tensor) -> Result<Tensor> {
        let layouts = [Layout::Tokens, Layout::Channels];
        let g = self.apply(Direction::Backward, grad, layouts, None)?;
        Ok(g.reshape(like.shape())?)
    }

    /// ∂L/∂x of [`Linear::forward_to_channels`], `[b, h·w, in]`, from `grad: [b, out, h, w]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub(crate) fn backward_from_channels(&self, grad: &Tensor) -> Result<Tensor> {
        let layouts = [Layout::Channels, Layout::Tokens];
        self.apply(Direction::Backward, grad, layouts, None)
    }

    /// ∂L/∂W = gradᵀ·x, summed over all leading dimensions: `[out, in]`.
    ///
    /// # Shapes
    /// - `x`: `[.., in]`, what `forward` was given
    /// - `grad`: `[.., out]`
    ///
    /// # Errors
    /// If the leading dimensions differ, or there are none.
    pub(crate) fn weight_gradient(x: &Tensor, grad: &Tensor) -> Result<Tensor> {
        match (x.dims(), grad.dims()) {
            ([of_x @ .., _], [of_grad @ .., _]) if of_x == of_grad && !of_x.is_empty() => {
                backend_of([x, grad]).weight_gradient(x, grad)
            }
            (dims, _) => Err(misfit(&format!("a gradient for inputs {dims:?}"), grad)),
        }
    }

    /// Walks the layer with `x` in the first layout to an output in the second, added to `onto`.
    fn apply(
        &self,
        direction: Direction,
        x: &Tensor,
        [from, to]: [Layout; 2],
        onto: Option<&Tensor>,
    ) -> Result<Tensor> {
        let widths = direction.widths(self.weight.shape());
        from.vectors(x, widths.input)?;
        let shape = output_shape(x, from, to, widths.output)?;
        if let Some(onto) = onto.filter(|onto| !fits(onto, &shape, to)) {
            return Err(misfit(&format!("a summand of shape {shape:?}"), onto));
        }
        let bias = self.bias.as_ref();
        backend_of([x]).linear(LinearCall {
            weight: &self.weight,
            bias: bias.filter(|_| direction == Direction::Forward),
            direction,
            x,
            from,
            to,
            onto,
            shape: onto.map_or(&shape, |onto| onto.dims()),
        })
    }
}

/// `[.., c]`, or `[b, c, n]` of channels, for vectors that fit.
fn output_shape(x: &Tensor, from: Layout, to: Layout, c: usize) -> Result<Vec<usize>> {
    let mut shape = match (from, x.dims()) {
        (Layout::Channels, &[b, _, h, w]) => vec![b, h * w, c],
        (_, dims) => [&dims[..dims.len() - 1], &[c]].concat(),
    };
    if to == Layout::Channels {
        if shape.len() != 3 {
            return Err(misfit("the tokens of pictures, [b, n, c]", x));
        }
        shape.swap(1, 2);
    }
    Ok(shape)
}

/// Whether a summand has the shape of the output, `[b, c, h, w]` standing for `[b, c, h·w]`.
fn fits(onto: &Tensor, shape: &[usize], to: Layout) -> bool {
    match (to, onto.dims()) {
        (Layout::Channels, &[b, c, h, w]) => shape == [b, c, h * w],
        (_, dims) => dims == shape,
    }
}

#[cfg(test)]
mod tests {
    use super::super::dispatch::by_candle;
    use super::super::testing::{random, worst};
    use super::*;

    /// The kernels against what other devices run: every layout, with and without bias and summand, odd sizes.
    #[test]
    fn kernels_equal_the_generic_path() {
        for (b, h, w, from, to) in [
            (1, 1, 1, 1, 1),
            (2, 3, 7, 5, 9),
            (3, 20, 31, 33, 70),
            (1, 1, 2, 600, 1030),
        ] {
            let (weight, bias) = (random(&[to, from], 1), random(&[to], 2));
            let layers = [None, Some(bias)].map(|bias| Linear::new(weight.clone(), bias));
            let cases = [Direction::Forward, Direction::Backward]
                .into_iter()
                .flat_map(|direction| layers.iter().map(move |layer| (direction, layer)));
            for (direction, layer) in cases {
                let widths = direction.widths((to, from));
                let tensor = |layout, c, seed| match layout {
                    Layout::Tokens => random(&[b, h * w, c], seed),
                    Layout::Channels => random(&[b, c, h, w], seed),
                };
                for layouts in [
                    [Layout::Tokens, Layout::Tokens],
                    [Layout::Tokens, Layout::Channels],
                    [Layout::Channels, Layout::Tokens],
                    [Layout::Channels, Layout::Channels],
                ] {
                    let x = tensor(layouts[0], widths.input, 3);
                    let summand = tensor(layouts[1], widths.output, 4);
                    for onto in [None, Some(&summand)] {
                        let run = || layer.apply(direction, &x, layouts, onto).unwrap();
                        let error = worst(&run(), &by_candle(run));
                        let tolerance = 3e-5 * (widths.input as f32).sqrt();
                        assert!(error < tolerance, "{direction:?} {layouts:?}: {error}");
                    }
                }
            }
            let (x, grad) = (random(&[b, h * w, from], 5), random(&[b, h * w, to], 6));
            let run = || Linear::weight_gradient(&x, &grad).unwrap();
            let error = worst(&run(), &by_candle(run));
            assert!(error < 3e-4, "{error}");
        }
    }

    #[test]
    fn geglu_in_blocks_is_geglu_of_the_whole() {
        for (rows, from, inner) in [(1, 3, 1), (67, 5, 9), (700, 33, 300)] {
            for bias in [None, Some(random(&[2 * inner], 1))] {
                let gate = Linear::new(random(&[2 * inner, from], 2), bias);
                let (x, grad) = (random(&[1, rows, from], 3), random(&[1, rows, inner], 4));
                let run = || gate.forward_geglu(&x).unwrap();
                let error = worst(&run(), &by_candle(run));
                assert!(error < 1e-4, "{error}");
                let run = || gate.backward_geglu(&x, &grad).unwrap();
                let error = worst(&run(), &by_candle(run));
                assert!(error < 2e-3, "{error}");
                // What is kept is the same to the last bit, and what comes of it.
                for here in [true, false] {
                    let all = || {
                        let (y, kept) = gate.forward_geglu_keeping(&x).unwrap();
                        let g = gate.backward_geglu_of(&kept, &grad).unwrap();
                        let y = worst(&y, &gate.forward_geglu(&x).unwrap());
                        (y, worst(&g, &gate.backward_geglu(&x, &grad).unwrap()))
                    };
                    assert_eq!(if here { all() } else { by_candle(all) }, (0.0, 0.0));
                }
            }
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let layer = Linear::new(random(&[4, 3], 1), Some(random(&[4], 2)));
        let x = random(&[1, 6, 3], 3);
        for shape in [&[2, 4][..], &[3], &[], &[1, 3, 6]] {
            assert!(layer.forward(&random(shape, 4)).is_err(), "{shape:?}");
        }
        assert!(layer.backward(&x).is_err());
        for shape in [&[1, 5, 4][..], &[6, 4], &[1, 4, 6], &[2, 6, 4]] {
            assert!(layer.forward_onto(&x, &random(shape, 5)).is_err());
        }
        for shape in [&[1, 4, 5, 1][..], &[1, 6, 4], &[1, 3, 2, 3]] {
            let residual = random(shape, 5);
            assert!(layer.forward_to_channels(&x, &residual).is_err());
        }
        let rows = random(&[6, 3], 3);
        assert!(
            layer
                .forward_to_channels(&rows, &random(&[6, 4], 5))
                .is_err()
        );
        assert!(layer.forward_from_channels(&x).is_err());
        assert!(
            layer
                .backward_from_channels(&random(&[1, 3, 2, 2], 5))
                .is_err()
        );
        for shape in [&[1, 6, 4][..], &[6, 2], &[1, 5, 2]] {
            assert!(layer.backward_geglu(&x, &random(shape, 5)).is_err());
            let kept = random(&[1, 6, 4], 4);
            assert!(layer.backward_geglu_of(&kept, &random(shape, 5)).is_err());
        }
        let odd = Linear::new(random(&[5, 3], 1), None);
        assert!(odd.forward_geglu(&x).is_err());
        for (x, grad) in [
            (&[1, 6, 3][..], &[1, 5, 4][..]),
            (&[6, 3], &[1, 6, 4]),
            (&[3], &[4]),
            (&[], &[]),
        ] {
            let gradient = Linear::weight_gradient(&random(x, 6), &random(grad, 7));
            assert!(gradient.is_err(), "{x:?} {grad:?}");
        }
    }
}

//! The 2-d convolution.

#[cfg(test)]
mod tests;

use candle_core::Tensor;

use super::dispatch::backend_of;
use super::layout::Plane;
use super::parameters::{Addends, Channels, Filter};
use super::tensor::{expect_shape, misfit};
use super::weight::Weight;
use crate::{Error, Result};

/// A frozen convolution with a square kernel: the backward pass gives ∂L/∂x and nothing else.
#[derive(Debug, Clone)]
pub(crate) struct Conv2d(Filter);

impl Conv2d {
    /// A convolution from its weight `[c_out, c_in·k·k]` and bias `[c_out]`; padding is by zeros on all sides.
    ///
    /// # Panics
    /// If the rows of the weight are not whole kernels, the stride is not 1 or 2, or the padding is as wide as the
    /// kernel.
    pub(crate) fn new(
        weight: impl Into<Weight>,
        k: usize,
        bias: Tensor,
        stride: usize,
        padding: usize,
    ) -> Self {
        let weight = weight.into();
        assert!(padding < k && (1..=2).contains(&stride));
        assert!(weight.shape().1.is_multiple_of(k * k));
        Self(Filter {
            weight,
            k,
            bias,
            stride,
            padding,
        })
    }

    /// c_out and c_in.
    pub(crate) fn channels(&self) -> (usize, usize) {
        let Channels { input, output } = self.0.channels();
        (output, input)
    }

    /// `[b, c_in, h, w]` to `[b, c_out, h', w']`, h' = (h + 2·padding − k) / stride + 1.
    ///
    /// # Errors
    /// If `x` has not c_in channels, or is smaller than the kernel.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_adding(x, Addends::default())
    }

    /// [`Conv2d::forward`] plus `addends`.
    ///
    /// # Errors
    /// If a shape does not fit.
    pub(crate) fn forward_adding(&self, x: &Tensor, addends: Addends) -> Result<Tensor> {
        self.apply(x, Plane::of(x)?, addends)
    }

    /// [`Conv2d::forward`] of `x: [b, c_in, h, w]` enlarged by nearest neighbours to twice its height and width, or
    /// one less.
    ///
    /// # Errors
    /// If the size is another.
    pub(crate) fn forward_upsampled(
        &self,
        x: &Tensor,
        height: usize,
        width: usize,
    ) -> Result<Tensor> {
        let (stored, seen) = (Plane::of(x)?, Plane { height, width });
        if seen.halved() != stored {
            let Plane {
                height: h,
                width: w,
            } = stored;
            return Err(Error::value(
                "size",
                format!("twice {h} x {w}, or one less"),
                format!("{height} x {width}"),
            ));
        }
        self.apply(x, seen, Addends::default())
    }

    /// ∂L/∂x, `[b, c_in, stride·h', stride·w']`, from `grad: [b, c_out, h', w']`.
    ///
    /// Where the stride does not divide a side of x, the last row or column here is of a pixel that x has not, and is
    /// to be cut off.
    ///
    /// # Errors
    /// If `grad` has not c_out channels, or is of no input.
    pub(crate) fn backward(&self, grad: &Tensor) -> Result<Tensor> {
        let Plane { height, width } = Plane::of(grad)?;
        let Filter {
            k, stride, padding, ..
        } = self.0;
        let side = |n: usize| (stride * n + k).saturating_sub(1 + 2 * padding);
        let seen = Plane {
            height: side(height),
            width: side(width),
        };
        self.apply_backward(grad, seen, seen)
    }

    /// ∂L/∂x of [`Conv2d::forward_upsampled`], `[b, c_in, h, w]`.
    ///
    /// # Errors
    /// If `grad` has not c_out channels, or is of no input.
    pub(crate) fn backward_upsampled(&self, grad: &Tensor) -> Result<Tensor> {
        let seen = Plane::of(grad)?;
        self.apply_backward(grad, seen.halved(), seen)
    }

    fn apply(&self, x: &Tensor, seen: Plane, addends: Addends) -> Result<Tensor> {
        let (b, c_in, _, _) = x.dims4()?;
        let Channels { input, output } = self.0.channels();
        if c_in != input {
            return Err(misfit(&format!("{input} channels"), x));
        }
        let shape = self.output_shape(b, seen).ok_or_else(|| {
            let Filter { k, padding, .. } = self.0;
            misfit(
                &format!("pixels for a kernel of {k} x {k} in a padding of {padding}"),
                x,
            )
        })?;
        if let Some(residual) = addends.residual {
            expect_shape("a residual", residual, &shape)?;
        }
        if let Some(shift) = addends.shift.filter(|s| s.dims() != [1, output]) {
            expect_shape("a shift", shift, &[b, output])?;
        }
        backend_of([x]).conv(&self.0, x, seen, addends)
    }

    fn apply_backward(&self, grad: &Tensor, stored: Plane, seen: Plane) -> Result<Tensor> {
        match self.output_shape(grad.dim(0)?, seen) {
            Some(shape) => expect_shape("a gradient", grad, &shape)?,
            None => return Err(misfit("a gradient of an output", grad)),
        }
        backend_of([grad]).conv_backward(&self.0, grad, stored, seen)
    }

    /// Of `b` pictures of `seen` pixels; `None` if the kernel is larger than a padded picture.
    fn output_shape(&self, b: usize, seen: Plane) -> Option<[usize; 4]> {
        let Filter {
            k, stride, padding, ..
        } = self.0;
        let side = |n: usize| Some((n + 2 * padding).checked_sub(k)? / stride + 1);
        let c_out = self.0.channels().output;
        Some([b, c_out, side(seen.height)?, side(seen.width)?])
    }
}

//! The 2-d convolution.

#[cfg(test)]
mod tests;

use candle_core::{DType, Tensor};

use super::dispatch::has_kernels;
use super::resample::{upsample_nearest, upsample2x_backward};
use super::start::Start;
use super::unfold::{self, Window};
use super::values::values_of;
use super::{Weight, winograd};
use crate::{Error, Result};

/// A frozen convolution with a square kernel: the backward pass gives ∂L/∂x and nothing else.
///
/// On the CPU wide 3 × 3 convolutions are computed by Winograd's minimal filtering and all others by unfolding.
#[derive(Debug, Clone)]
pub struct Conv2d {
    /// `[c_out, c_in·k·k]`
    weight: Weight,
    k: usize,
    bias: Tensor,
    stride: usize,
    padding: usize,
}

/// What is added to the output of a convolution.
#[derive(Debug, Clone, Copy, Default)]
pub struct Addends<'a> {
    /// A value for each channel of each sample, `[b, c_out]`.
    pub shift: Option<&'a Tensor>,
    /// As large as the output, `[b, c_out, h', w']`.
    pub residual: Option<&'a Tensor>,
}

/// How the CPU computes a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Unfold,
    Winograd,
}

impl Conv2d {
    /// A convolution from its weight `[c_out, c_in·k·k]` and bias `[c_out]`; padding is by zeros on all sides.
    ///
    /// # Panics
    /// If the rows of the weight are not whole kernels.
    pub fn new(
        weight: impl Into<Weight>,
        k: usize,
        bias: Tensor,
        stride: usize,
        padding: usize,
    ) -> Self {
        let weight = weight.into();
        assert!(weight.shape().1.is_multiple_of(k * k));
        Self {
            weight,
            k,
            bias,
            stride,
            padding,
        }
    }

    /// c_out and c_in.
    pub(crate) fn channels(&self) -> (usize, usize) {
        let (c_out, columns) = self.weight.shape();
        (c_out, columns / (self.k * self.k))
    }

    /// The whole weight, `[c_out, c_in, k, k]`.
    fn kernels(&self, dtype: DType) -> Result<Tensor> {
        let (c_out, c_in) = self.channels();
        Ok(self
            .weight
            .as_dtype(dtype)?
            .reshape((c_out, c_in, self.k, self.k))?)
    }

    /// `[b, c_in, h, w]` to `[b, c_out, h', w']`, h' = (h + 2·padding − k) / stride + 1.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_adding(x, Addends::default())
    }

    /// [`Conv2d::forward`] plus `addends`.
    ///
    /// # Errors
    /// If a shape does not fit.
    pub fn forward_adding(&self, x: &Tensor, addends: Addends) -> Result<Tensor> {
        let (_, _, h, w) = x.dims4()?;
        self.apply(x, (h, w), addends)
    }

    /// [`Conv2d::forward`] of `x: [b, c_in, h, w]` enlarged by nearest neighbours to twice its height and width, or one less.
    ///
    /// # Errors
    /// If the size is another.
    pub fn forward_upsampled(&self, x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
        let (_, _, h, w) = x.dims4()?;
        if height.div_ceil(2) != h || width.div_ceil(2) != w {
            return Err(Error::value(
                "size",
                format!("twice {h} x {w}, or one less"),
                format!("{height} x {width}"),
            ));
        }
        self.apply(x, (height, width), Addends::default())
    }

    /// ∂L/∂x, `[b, c_in, stride·h', stride·w']`, from `grad: [b, c_out, h', w']`.
    ///
    /// Where the stride does not divide a side of x, the last row or column here is of a pixel that x has not, and is to be
    /// cut off.
    pub fn backward(&self, grad: &Tensor) -> Result<Tensor> {
        let (_, _, rows, columns) = grad.dims4()?;
        let side = |n: usize| (self.stride * n + self.k).saturating_sub(1 + 2 * self.padding);
        let size = (side(rows), side(columns));
        if !has_kernels(grad) {
            return self.backward_generic(grad);
        }
        self.backward_kernel(grad, size, size)
    }

    /// ∂L/∂x of [`Conv2d::forward_upsampled`], `[b, c_in, h, w]`.
    pub fn backward_upsampled(&self, grad: &Tensor) -> Result<Tensor> {
        let (_, _, height, width) = grad.dims4()?;
        if !has_kernels(grad) {
            return upsample2x_backward(&self.backward_generic(grad)?);
        }
        let stored = (height.div_ceil(2), width.div_ceil(2));
        self.backward_kernel(grad, stored, (height, width))
    }

    fn apply(&self, x: &Tensor, seen: (usize, usize), addends: Addends) -> Result<Tensor> {
        let (b, c_in, h, w) = x.dims4()?;
        let (c_out, from) = self.channels();
        let least = self.k.saturating_sub(2 * self.padding);
        // What does not fit is candle's to say.
        if !has_kernels(x) || c_in != from || seen.0 < least || seen.1 < least {
            return self.apply_generic(x, seen, addends);
        }
        let window = self.window((h, w), seen);
        let (rows, columns) = window.output();
        let shape = (b, c_out, rows, columns);
        if let Some(residual) = addends.residual
            && residual.dims() != [b, c_out, rows, columns]
        {
            return Err(Error::value(
                "residual",
                format!("{:?}", [b, c_out, rows, columns]),
                format!("{:?}", residual.dims()),
            ));
        }
        let device = x.device();
        let x = x.contiguous()?;
        let x = values_of(&x)?;
        let bias = values_of(&self.bias)?;
        let residual = addends.residual.map(Tensor::contiguous).transpose()?;
        let residual = residual.as_ref().map(values_of).transpose()?;
        let channels = match addends.shift {
            None => bias.repeat(b),
            Some(shift) => {
                let shift = shift.broadcast_add(&self.bias)?.broadcast_as((b, c_out))?;
                shift.flatten_all()?.to_vec1()?
            }
        };
        let start = Start {
            channels,
            residual: residual.as_deref(),
        };
        let mut out = vec![0f32; b * c_out * rows * columns];
        self.weight
            .with_f32(|weight| match self.method(&window, c_in.min(c_out)) {
                Method::Unfold => {
                    unfold::convolve(&x, (c_in, c_out), &window, weight, &start, &mut out);
                }
                Method::Winograd => {
                    let input = winograd::Input {
                        x: &x,
                        pictures: b,
                        window: &window,
                    };
                    let kernel = winograd::Kernel::new(weight, c_in, c_out);
                    winograd::convolve(input, kernel, &start, 1, &mut out);
                }
            })?;
        Ok(Tensor::from_vec(out, shape, device)?)
    }

    fn backward_kernel(
        &self,
        grad: &Tensor,
        stored: (usize, usize),
        seen: (usize, usize),
    ) -> Result<Tensor> {
        let b = grad.dim(0)?;
        let (c_out, c_in) = self.channels();
        let window = self.window(stored, seen);
        let (rows, columns) = window.output();
        if grad.dims() != [b, c_out, rows, columns] {
            return Err(Error::value(
                "gradient",
                format!("{:?}", [b, c_out, rows, columns]),
                format!("{:?}", grad.dims()),
            ));
        }
        let device = grad.device();
        let grad = grad.contiguous()?;
        let grad = values_of(&grad)?;
        let mut out = vec![0f32; b * c_in * stored.0 * stored.1];
        let halves = seen.0 == window.zoom() * stored.0 && seen.1 == window.zoom() * stored.1;
        self.weight
            .with_f32(|weight| match self.method(&window, c_in.min(c_out)) {
                Method::Winograd if halves => {
                    let same = self.window(seen, seen);
                    let input = winograd::Input {
                        x: &grad,
                        pictures: b,
                        window: &same,
                    };
                    let kernel = winograd::Kernel::new(weight, c_in, c_out).transposed();
                    let start = Start::zeros(b * c_in);
                    winograd::convolve(input, kernel, &start, window.zoom(), &mut out);
                }
                _ => unfold::convolve_backward(&grad, (c_in, c_out), &window, weight, &mut out),
            })?;
        Ok(Tensor::from_vec(
            out,
            (b, c_in, stored.0, stored.1),
            device,
        )?)
    }

    fn window(&self, stored: (usize, usize), seen: (usize, usize)) -> Window {
        Window {
            k: self.k,
            stride: self.stride,
            padding: self.padding,
            stored,
            seen,
        }
    }

    /// The method that measures faster. `narrowest` is the smaller number of channels.
    fn method(&self, window: &Window, narrowest: usize) -> Method {
        let same = (window.k, window.stride, window.padding) == (3, 1, 1);
        let (h, w) = window.seen;
        if same && narrowest >= NARROWEST && h * w >= FEWEST_PIXELS {
            Method::Winograd
        } else {
            Method::Unfold
        }
    }

    /// [`Conv2d::forward_adding`] by candle's operations.
    fn apply_generic(&self, x: &Tensor, seen: (usize, usize), addends: Addends) -> Result<Tensor> {
        let (_, _, h, w) = x.dims4()?;
        let x = if seen == (h, w) {
            x.clone()
        } else {
            upsample_nearest(x, seen.0, seen.1)?
        };
        let mut y = x
            .conv2d(&self.kernels(x.dtype())?, self.padding, self.stride, 1, 1)?
            .broadcast_add(&self.bias.to_dtype(x.dtype())?.reshape((1, (), 1, 1))?)?;
        if let Some(shift) = addends.shift {
            y = y.broadcast_add(&shift.unsqueeze(2)?.unsqueeze(3)?)?;
        }
        if let Some(residual) = addends.residual {
            y = (y + residual)?;
        }
        Ok(y)
    }

    /// [`Conv2d::backward`] by candle's operations.
    ///
    /// The data gradient of a convolution is a convolution of the gradient, with zeros put between its pixels
    /// where the stride left some out, with the kernel turned by 180° and its channels exchanged. candle's own way
    /// is a transposed convolution, which costs several times as much.
    fn backward_generic(&self, grad: &Tensor) -> Result<Tensor> {
        let spread = (1..self.stride)
            .try_fold(grad.clone(), |g, _| -> Result<Tensor> { insert_zeros(&g) })?;
        let kernel = flip(&flip(&self.kernels(grad.dtype())?, 2)?, 3)?
            .transpose(0, 1)?
            .contiguous()?;
        let padding = self.k - 1 - self.padding;
        Ok(spread.conv2d(&kernel, padding, 1, 1, 1)?)
    }
}

/// Where Winograd's method starts to pay: channels on the narrower side, and pixels of a picture.
const NARROWEST: usize = 32;
const FEWEST_PIXELS: usize = 256;

/// `[b, c, h, w]` to `[b, c, 2h, 2w]`: every pixel followed by a zero in both directions.
fn insert_zeros(x: &Tensor) -> Result<Tensor> {
    let (b, c, h, w) = x.dims4()?;
    let x = x.reshape((b, c, h, 1, w, 1))?;
    let x = x.pad_with_zeros(3, 0, 1)?.pad_with_zeros(5, 0, 1)?;
    Ok(x.reshape((b, c, 2 * h, 2 * w))?)
}

/// Reverses one dimension.
fn flip(x: &Tensor, dim: usize) -> Result<Tensor> {
    Ok(x.flip(&[dim])?)
}

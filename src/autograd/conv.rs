//! The 2-d convolution.

use candle_core::Tensor;

use crate::Result;

/// A frozen convolution with a square kernel: the backward pass gives ∂L/∂x and nothing else.
#[derive(Debug, Clone)]
pub struct Conv2d {
    weight: Tensor,
    bias: Tensor,
    stride: usize,
    padding: usize,
}

impl Conv2d {
    /// A convolution from its weight `[c_out, c_in, k, k]` and bias `[c_out]`; padding is by zeros on all sides.
    pub fn new(weight: Tensor, bias: Tensor, stride: usize, padding: usize) -> Self {
        Self {
            weight,
            bias,
            stride,
            padding,
        }
    }

    /// `[b, c_in, h, w]` to `[b, c_out, h', w']`, h' = (h + 2·padding − k) / stride + 1.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = x.conv2d(&self.weight, self.padding, self.stride, 1, 1)?;
        Ok(y.broadcast_add(&self.bias.reshape((1, (), 1, 1))?)?)
    }

    /// ∂L/∂x, `[b, c_in, stride·h', stride·w']`, from `grad: [b, c_out, h', w']`.
    ///
    /// The data gradient of a convolution is a convolution of the gradient, with zeros put between its pixels
    /// where the stride left some out, with the kernel turned by 180° and its channels exchanged. candle's own way
    /// is a transposed convolution, which costs several times as much.
    ///
    /// Holds for inputs whose sides the stride divides, which is what a UNet has wherever gradients are taken.
    pub fn backward(&self, grad: &Tensor) -> Result<Tensor> {
        let spread = (1..self.stride)
            .try_fold(grad.clone(), |g, _| -> Result<Tensor> { insert_zeros(&g) })?;
        let kernel = flip(&flip(&self.weight, 2)?, 3)?
            .transpose(0, 1)?
            .contiguous()?;
        let padding = self.weight.dim(2)? - 1 - self.padding;
        Ok(spread.conv2d(&kernel, padding, 1, 1, 1)?)
    }
}

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

//! Nearest-neighbour upsampling.

use candle_core::Tensor;

use crate::Result;

/// Nearest-neighbour upsampling, `[b, c, h, w]` to `[b, c, height, width]`.
pub fn upsample_nearest(x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    Ok(x.upsample_nearest2d(height, width)?)
}

/// ∂L/∂x of [`upsample_nearest`] to exactly twice the size: each pixel takes the sum over its 2 × 2 copies.
///
/// # Errors
/// If a side of `grad: [b, c, 2h, 2w]` is odd.
pub fn upsample2x_backward(grad: &Tensor) -> Result<Tensor> {
    let (b, c, h, w) = grad.dims4()?;
    let rows = grad.reshape((b, c, h / 2, 2, w / 2, 2))?;
    Ok(rows.sum((3, 5))?)
}

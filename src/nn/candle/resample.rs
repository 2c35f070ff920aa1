//! Nearest-neighbour upsampling.

use candle_core::Tensor;

use crate::Result;

/// Nearest-neighbour upsampling, `[b, c, h, w]` to `[b, c, height, width]`.
pub(super) fn upsample_nearest(x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    Ok(x.upsample_nearest2d(height, width)?)
}

/// ∂L/∂x of [`upsample_nearest`] to twice the size, or one less where the way down rounded up: each pixel takes the sum
/// over its copies. `grad: [b, c, 2h or 2h − 1, 2w or 2w − 1]`; returns `[b, c, h, w]`.
pub(super) fn upsample2x_backward(grad: &Tensor) -> Result<Tensor> {
    let (b, c, h, w) = grad.dims4()?;
    let even = grad
        .pad_with_zeros(2, 0, h % 2)?
        .pad_with_zeros(3, 0, w % 2)?;
    let rows = even.reshape((b, c, h.div_ceil(2), 2, w.div_ceil(2), 2))?;
    Ok(rows.sum((3, 5))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::testing::random;

    /// ⟨up(x), g⟩ = ⟨x, backward(g)⟩: the backward pass is the transpose, at odd sizes too.
    #[test]
    fn the_backward_pass_is_the_transpose() {
        for (h, w) in [(6usize, 8usize), (5, 8), (6, 7), (5, 1)] {
            let x = random(&[2, 3, h.div_ceil(2), w.div_ceil(2)], 1);
            let g = random(&[2, 3, h, w], 2);
            let dot = |a: &Tensor, b: &Tensor| {
                let product = (a * b).unwrap().sum_all().unwrap();
                product.to_scalar::<f32>().unwrap()
            };
            let left = dot(&upsample_nearest(&x, h, w).unwrap(), &g);
            let right = dot(&x, &upsample2x_backward(&g).unwrap());
            assert!((left - right).abs() < 1e-4, "{h} {w}: {left} {right}");
        }
    }
}

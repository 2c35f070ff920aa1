//! The 2-d convolution.

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use rayon::prelude::*;

use crate::Result;

/// Most values of an unfolded input held at a time: 64 MiB of f32.
const MAX_UNFOLDED: usize = 16 << 20;

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
        let y = convolve(x, &self.weight, self.stride, self.padding)?;
        Ok(y.broadcast_add(&self.bias.reshape((1, (), 1, 1))?)?)
    }

    /// ∂L/∂x, `[b, c_in, stride·h', stride·w']`, from `grad: [b, c_out, h', w']`.
    ///
    /// The data gradient of a convolution is a convolution of the gradient, with zeros put between its pixels
    /// where the stride left some out, with the kernel turned by 180° and its channels exchanged. candle's own way
    /// is a transposed convolution, which costs several times as much.
    ///
    /// Where the stride does not divide a side of x, the last row or column here is of a pixel that x has not, and is to be
    /// cut off.
    pub fn backward(&self, grad: &Tensor) -> Result<Tensor> {
        let spread = (1..self.stride)
            .try_fold(grad.clone(), |g, _| -> Result<Tensor> { insert_zeros(&g) })?;
        let kernel = flip(&flip(&self.weight, 2)?, 3)?
            .transpose(0, 1)?
            .contiguous()?;
        let padding = self.weight.dim(2)? - 1 - self.padding;
        convolve(&spread, &kernel, 1, padding)
    }
}

/// The convolution of `x: [b, c_in, h, w]` with `kernel: [c_out, c_in, k, k]`, `[b, c_out, h', w']`.
///
/// On the CPU as one matrix product of the kernel with the unfolded input, a block of output rows at a time; candle's
/// own convolution there spends more time on copies than on products.
fn convolve(x: &Tensor, kernel: &Tensor, stride: usize, padding: usize) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return Ok(x.conv2d(kernel, padding, stride, 1, 1)?);
    }
    let (b, c_in, h, w) = x.dims4()?;
    let (c_out, k_in, k, _) = kernel.dims4()?;
    if c_in != k_in || h + 2 * padding < k || w + 2 * padding < k {
        // candle's error says what does not fit.
        return Ok(x.conv2d(kernel, padding, stride, 1, 1)?);
    }
    let (rows, columns) = (
        (h + 2 * padding - k) / stride + 1,
        (w + 2 * padding - k) / stride + 1,
    );
    let kernel =
        kernel
            .reshape((1, c_out, c_in * k * k))?
            .broadcast_as((b, c_out, c_in * k * k))?;
    let block = (MAX_UNFOLDED / (b * c_in * k * k * columns).max(1)).clamp(1, rows);
    let x = x.contiguous()?;
    let blocks = (0..rows)
        .step_by(block)
        .map(|from| {
            let height = block.min(rows - from);
            let unfold = Unfold {
                k,
                stride,
                padding,
                from,
                height,
                columns,
            };
            let y = kernel.matmul(&x.apply_op1_no_bwd(&unfold)?)?; // [b, c_out, height·columns]
            Ok(y.reshape((b, c_out, height, columns))?)
        })
        .collect::<Result<Vec<_>>>()?;
    match blocks.as_slice() {
        [whole] => Ok(whole.clone()),
        blocks => Ok(Tensor::cat(blocks, 2)?),
    }
}

/// The inputs that each output pixel sees, as columns: `[b, c, h, w]` to `[b, c·k·k, height·columns]`, for `height`
/// output rows starting at `from`.
struct Unfold {
    k: usize,
    stride: usize,
    padding: usize,
    from: usize,
    height: usize,
    columns: usize,
}

impl CustomOp1 for Unfold {
    fn name(&self) -> &'static str {
        "unfold"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (b, c, h, w) = layout.shape().dims4()?;
        let x = super::values(storage, layout)?;
        let &Self {
            k, height, columns, ..
        } = self;
        let mut out = vec![0f32; b * c * k * k * height * columns];
        // One chunk for each tap (ky, kx) of each channel.
        out.par_chunks_mut((height * columns).max(1))
            .enumerate()
            .for_each(|(i, out)| {
                let (plane, ky, kx) = (i / (k * k), i / k % k, i % k);
                let plane = &x[plane * h * w..][..h * w];
                for (oy, out) in out.chunks_mut(columns.max(1)).enumerate() {
                    let y = (self.from + oy) * self.stride + ky;
                    if (self.padding..h + self.padding).contains(&y) {
                        self.row(&plane[(y - self.padding) * w..][..w], kx, out);
                    }
                }
            });
        Ok((
            CpuStorage::F32(out),
            Shape::from((b, c * k * k, height * columns)),
        ))
    }
}

impl Unfold {
    /// Copies what tap `kx` of each pixel of one output row sees; what lies in the padding stays zero.
    fn row(&self, input: &[f32], kx: usize, out: &mut [f32]) {
        if self.stride == 1 {
            let first = self.padding.saturating_sub(kx).min(out.len());
            let start = first + kx - self.padding.min(first + kx);
            let n = (out.len() - first).min(input.len().saturating_sub(start));
            out[first..first + n].copy_from_slice(&input[start..start + n]);
            return;
        }
        for (ox, out) in out.iter_mut().enumerate() {
            if let Some(&v) = (ox * self.stride + kx)
                .checked_sub(self.padding)
                .and_then(|x| input.get(x))
            {
                *out = v;
            }
        }
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

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::testing::random;
    use super::*;

    fn close(got: &Tensor, want: &Tensor) {
        assert_eq!(got.dims(), want.dims());
        let worst = (got - want)
            .unwrap()
            .abs()
            .unwrap()
            .max_all()
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        assert!(worst < 1e-4, "{worst}");
    }

    #[test]
    fn convolutions_equal_candles() {
        for (k, stride, padding) in [
            (1, 1, 0),
            (3, 1, 1),
            (3, 2, 1),
            (3, 2, 0),
            (3, 1, 0),
            (5, 1, 2),
        ] {
            for (h, w) in [(5, 7), (8, 8), (6, 5)] {
                let (x, kernel) = (random(&[2, 3, h, w], 1), random(&[4, 3, k, k], 2));
                let want = x.conv2d(&kernel, padding, stride, 1, 1).unwrap();
                close(&convolve(&x, &kernel, stride, padding).unwrap(), &want);
            }
        }
    }

    /// ⟨conv(x), g⟩ = ⟨x, backward(g)⟩ without the bias: the backward pass is the transpose.
    #[test]
    fn the_backward_pass_is_the_transpose() {
        for (k, stride, padding) in [(1, 1, 0), (3, 1, 1), (3, 2, 1)] {
            let bias = Tensor::zeros(4, candle_core::DType::F32, &Device::Cpu).unwrap();
            let conv = Conv2d::new(random(&[4, 3, k, k], 2), bias, stride, padding);
            let x = random(&[2, 3, 8, 6], 3);
            let y = conv.forward(&x).unwrap();
            let g = random(y.dims(), 4);
            let dot = |a: &Tensor, b: &Tensor| {
                (a * b)
                    .unwrap()
                    .sum_all()
                    .unwrap()
                    .to_scalar::<f32>()
                    .unwrap()
            };
            let (left, right) = (dot(&y, &g), dot(&x, &conv.backward(&g).unwrap()));
            assert!(
                (left - right).abs() < 1e-3 * left.abs().max(1.0),
                "{left} {right}"
            );
        }
    }
}

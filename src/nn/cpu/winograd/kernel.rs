//! The kernels of a convolution, transformed.

use pulp::{Simd, WithSimd};

use super::band::{LANES, ROOT_HALF, SEEN};
use crate::nn::cpu::math::instructions;
use crate::nn::parameters::Channels;

/// Input channels whose kernels are read at a time.
const BLOCK: usize = 64;

/// The kernel of a convolution, `[out, in, 3, 3]` as the convolution sees it.
#[derive(Clone, Copy)]
pub(in super::super) struct Kernel<'a> {
    weight: &'a [f32],
    pub(super) from: usize,
    pub(super) to: usize,
    /// Distance of the kernels of neighbouring output and input channels in `weight`.
    strides: (usize, usize),
    turned: bool,
}

impl<'a> Kernel<'a> {
    /// `weight: [c_out, c_in, 3, 3]`.
    pub(in super::super) fn new(weight: &'a [f32], channels: Channels) -> Self {
        let (from, to) = (channels.input, channels.output);
        Self {
            weight,
            from,
            to,
            strides: (9 * from, 9),
            turned: false,
        }
    }

    /// The kernel of the data gradient: turned by 180°, with its channels exchanged.
    pub(in super::super) fn transposed(self) -> Self {
        Self {
            from: self.to,
            to: self.from,
            strides: (self.strides.1, self.strides.0),
            turned: !self.turned,
            ..self
        }
    }

    /// Numbers of one tap, or one point, of `n` output channels: whole vectors.
    pub(super) fn plane(&self, n: usize) -> usize {
        (n * self.from).next_multiple_of(LANES)
    }

    /// The kernels of output channels `first..first + n`, `[9, plane]`: a plane is `[n, c_in]`.
    #[inline(always)]
    pub(super) fn taps(&self, first: usize, n: usize, out: &mut [f32]) {
        let (o_stride, i_stride) = self.strides;
        let plane = self.plane(n);
        // By blocks of kernels that lie in a core's first cache while each tap is taken out of them.
        for i in (0..self.from).step_by(BLOCK) {
            let block = BLOCK.min(self.from - i);
            for o in 0..n {
                let kernels = &self.weight[(first + o) * o_stride + i * i_stride..];
                for (tap, out) in out.chunks_exact_mut(plane).enumerate() {
                    let kernels = &kernels[if self.turned { 8 - tap } else { tap }..];
                    let out = &mut out[o * self.from + i..][..block];
                    for (v, kernel) in out.iter_mut().zip(kernels.chunks(i_stride)) {
                        *v = kernel[0];
                    }
                }
            }
        }
    }
}

/// Row `y` of `G·g·Gᵀ` of the kernels whose 9 taps are in `taps`, each a plane of equally many numbers: [`SEEN`]
/// planes.
pub(super) fn transform_row(y: usize, taps: &[f32], out: &mut [f32]) {
    instructions().dispatch(Row { y, taps, out });
}

struct Row<'a> {
    y: usize,
    taps: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (taps, _) = S::as_simd_f32s(self.taps);
        let (out, _) = S::as_mut_simd_f32s(self.out);
        let plane = out.len() / SEEN;
        for at in 0..plane {
            let mut half = [simd.splat_f32s(0.0); 3];
            for (x, half) in half.iter_mut().enumerate() {
                let at = x * plane + at;
                let column = [taps[at], taps[3 * plane + at], taps[6 * plane + at]];
                *half = weigh(simd, G[self.y], column);
            }
            for x in 0..SEEN {
                out[x * plane + at] = weigh(simd, G[x], half);
            }
        }
    }
}

/// Σ weights·values.
#[inline(always)]
fn weigh<S: Simd>(simd: S, [c0, c1, c2]: [f32; 3], [g0, g1, g2]: [S::f32s; 3]) -> S::f32s {
    let sum = simd.mul_f32s(simd.splat_f32s(c0), g0);
    let sum = simd.mul_add_e_f32s(simd.splat_f32s(c1), g1, sum);
    simd.mul_add_e_f32s(simd.splat_f32s(c2), g2, sum)
}

/// At 0; at ±1/√2, over −3/2; at ±√2, over 6; at ∞.
const G: [[f32; 3]; SEEN] = [
    [1.0, 0.0, 0.0],
    [-2.0 / 3.0, -2.0 / 3.0 * ROOT_HALF, -1.0 / 3.0],
    [-2.0 / 3.0, 2.0 / 3.0 * ROOT_HALF, -1.0 / 3.0],
    [1.0 / 6.0, 2.0 / 6.0 * ROOT_HALF, 1.0 / 3.0],
    [1.0 / 6.0, -2.0 / 6.0 * ROOT_HALF, 1.0 / 3.0],
    [0.0, 0.0, 1.0],
];

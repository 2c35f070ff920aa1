//! The kernels of a convolution, transformed.

use super::band::{LANES, POINTS, ROOT_HALF, SEEN};
use crate::nn::parameters::Channels;

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

    /// `G·g·Gᵀ` of the kernels of output channels `from..from + n`: `[POINTS, n, c_in]`.
    #[inline(always)]
    pub(super) fn transform(&self, from: usize, n: usize, out: &mut [f32]) {
        let (o_stride, i_stride) = self.strides;
        let plane = n * self.from;
        for i in (0..self.from).step_by(LANES) {
            let lanes = LANES.min(self.from - i);
            for o in 0..n {
                let mut taps = [[0f32; LANES]; 9];
                let start = (from + o) * o_stride + i * i_stride;
                for lane in 0..lanes {
                    let kernel = &self.weight[start + lane * i_stride..][..9];
                    for (tap, &v) in taps.iter_mut().zip(kernel) {
                        tap[lane] = v;
                    }
                }
                if self.turned {
                    taps.reverse();
                }
                let mut points = [[0f32; LANES]; POINTS];
                for lane in 0..LANES {
                    let mut half = [[0f32; 3]; SEEN];
                    for x in 0..3 {
                        let column = [taps[x][lane], taps[3 + x][lane], taps[6 + x][lane]];
                        for (row, v) in half.iter_mut().zip(kernel_1d(column)) {
                            row[x] = v;
                        }
                    }
                    for (y, row) in half.into_iter().enumerate() {
                        for (x, v) in kernel_1d(row).into_iter().enumerate() {
                            points[SEEN * y + x][lane] = v;
                        }
                    }
                }
                let at = o * self.from + i;
                for (p, values) in points.iter().enumerate() {
                    let out = &mut out[p * plane + at..];
                    match out.first_chunk_mut::<LANES>() {
                        Some(out) if lanes == LANES => *out = *values,
                        _ => out[..lanes].copy_from_slice(&values[..lanes]),
                    }
                }
            }
        }
    }
}

/// `G·g`.
#[inline(always)]
fn kernel_1d([g0, g1, g2]: [f32; 3]) -> [f32; SEEN] {
    // At ±1/√2, over −3/2, and at ±√2, over 6.
    let (even_a, odd_a) = (
        (-2.0 / 3.0) * g0 - (1.0 / 3.0) * g2,
        (-2.0 / 3.0 * ROOT_HALF) * g1,
    );
    let (even_b, odd_b) = (
        (1.0 / 6.0) * g0 + (1.0 / 3.0) * g2,
        (2.0 / 6.0 * ROOT_HALF) * g1,
    );
    [
        g0,
        even_a + odd_a,
        even_a - odd_a,
        even_b + odd_b,
        even_b - odd_b,
        g2,
    ]
}

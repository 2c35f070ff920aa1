//! The outputs of a convolution, transformed back.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::band::{Band, LANES, ROOT_HALF, ROOT_TWO, SEEN, TILE};
use crate::nn::cpu::math::instructions;
use crate::nn::layout::Plane;

/// Column y of `Aᵀ`: the share of row y of the products in the rows of the outputs.
const A: [[f32; TILE]; SEEN] = [
    [1.0, 0.0, 0.0, 0.0],
    [1.0, ROOT_HALF, 0.5, 0.5 * ROOT_HALF],
    [1.0, -ROOT_HALF, 0.5, -0.5 * ROOT_HALF],
    [1.0, ROOT_TWO, 2.0, 2.0 * ROOT_TWO],
    [1.0, -ROOT_TWO, 2.0, -2.0 * ROOT_TWO],
    [0.0, 0.0, 0.0, 1.0],
];

/// Adds row `y` of the products of `n` channels with some tiles, `m: [SEEN, n, width]`, to their outputs,
/// `[n, 4, 4, width]`; row 0 is the first and replaces them.
pub(super) fn add_row(y: usize, m: &[f32], n: usize, width: usize, outputs: &mut [f32]) {
    instructions().dispatch(Row {
        y,
        m,
        n,
        width,
        outputs,
    });
}

struct Row<'a> {
    y: usize,
    m: &'a [f32],
    n: usize,
    width: usize,
    outputs: &'a mut [f32],
}

impl WithSimd for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (m, _) = S::as_simd_f32s(self.m);
        let (outputs, _) = S::as_mut_simd_f32s(self.outputs);
        let (n, width) = (self.n, self.width / S::F32_LANES);
        for (o, outputs) in outputs.chunks_exact_mut(TILE * TILE * width).enumerate() {
            for t in 0..width {
                let mut points = [simd.splat_f32s(0.0); SEEN];
                for x in 0..SEEN {
                    points[x] = m[(x * n + o) * width + t];
                }
                let columns = output_1d(simd, points);
                for i in 0..TILE {
                    let share = A[self.y][i];
                    for j in 0..TILE {
                        let out = &mut outputs[(TILE * i + j) * width + t];
                        let added = simd.mul_f32s(simd.splat_f32s(share), columns[j]);
                        *out = match self.y {
                            0 => added,
                            _ => simd.add_f32s(*out, added),
                        };
                    }
                }
            }
        }
    }
}

/// `Aᵀ·m`.
#[inline(always)]
fn output_1d<S: Simd>(simd: S, [m0, m1, m2, m3, m4, m5]: [S::f32s; SEEN]) -> [S::f32s; TILE] {
    let (even_a, odd_a) = (simd.add_f32s(m1, m2), simd.sub_f32s(m1, m2));
    let (even_b, odd_b) = (simd.add_f32s(m3, m4), simd.sub_f32s(m3, m4));
    [
        simd.add_f32s(simd.add_f32s(m0, even_a), even_b),
        weigh(simd, ROOT_HALF, odd_a, ROOT_TWO, odd_b),
        weigh(simd, 0.5, even_a, 2.0, even_b),
        simd.add_f32s(
            weigh(simd, 0.5 * ROOT_HALF, odd_a, 2.0 * ROOT_TWO, odd_b),
            m5,
        ),
    ]
}

/// a·x + b·y.
#[inline(always)]
fn weigh<S: Simd>(simd: S, a: f32, x: S::f32s, b: f32, y: S::f32s) -> S::f32s {
    let by = simd.mul_f32s(simd.splat_f32s(b), y);
    simd.mul_add_e_f32s(simd.splat_f32s(a), x, by)
}

impl Band {
    /// Hands over the outputs of some tiles of a channel, `[4, 4, width]`, in pieces of rows: picture, row and column
    /// of the first value, values.
    #[inline(always)]
    pub(super) fn write_outputs(
        &self,
        tiles: Range<usize>,
        outputs: &[f32],
        width: usize,
        size: Plane,
        shrink: usize,
        mut each: impl FnMut(usize, usize, usize, &[f32]),
    ) {
        let side = TILE / shrink;
        for t in tiles.clone().step_by(LANES) {
            let lanes = LANES.min(tiles.end - t);
            // Row i of all tiles, one tile after the other.
            let mut lines = [[0f32; TILE * LANES]; TILE];
            for (i, line) in lines.iter_mut().enumerate() {
                for j in 0..TILE {
                    let from = (TILE * i + j) * width + t - tiles.start;
                    for (lane, &v) in outputs[from..][..LANES].iter().enumerate() {
                        line[TILE * lane + j] = v;
                    }
                }
            }
            if shrink == 2 {
                for y in 0..side {
                    for x in 0..side * LANES {
                        let at = |dy: usize, dx: usize| lines[2 * y + dy][2 * x + dx];
                        lines[y][x] = at(0, 0) + at(0, 1) + at(1, 0) + at(1, 1);
                    }
                }
            }
            let mut lane = 0;
            while lane < lanes {
                let (row, tx) = ((t + lane) / self.across, (t + lane) % self.across);
                let run = (self.across - tx).min(lanes - lane);
                let row = self.rows.start + row;
                let (picture, ty) = (row / self.down, row % self.down);
                let x = side * tx;
                let n = (side * run).min(size.width - x);
                for (i, line) in lines[..side].iter().enumerate() {
                    let y = side * ty + i;
                    if y < size.height {
                        each(picture, y, x, &line[side * lane..][..n]);
                    }
                }
                lane += run;
            }
        }
    }
}

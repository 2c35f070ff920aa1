//! The outputs of a convolution, transformed back.

use super::band::{Band, LANES, POINTS, ROOT_HALF, ROOT_TWO, SEEN, TILE};
use crate::nn::layout::Plane;

/// `Aᵀ·m`.
#[inline(always)]
fn output_1d([m0, m1, m2, m3, m4, m5]: [f32; SEEN]) -> [f32; TILE] {
    let (even_a, odd_a) = (m1 + m2, m1 - m2);
    let (even_b, odd_b) = (m3 + m4, m3 - m4);
    [
        m0 + even_a + even_b,
        ROOT_HALF * odd_a + ROOT_TWO * odd_b,
        0.5 * even_a + 2.0 * even_b,
        (0.5 * ROOT_HALF) * odd_a + (2.0 * ROOT_TWO) * odd_b + m5,
    ]
}

impl Band {
    /// Hands over `Aᵀ·m·A` in pieces of rows: picture, row and column of the first value, values.
    #[inline(always)]
    pub(super) fn transform_outputs<'a>(
        &self,
        source: impl Fn(usize, usize) -> &'a [f32],
        size: Plane,
        shrink: usize,
        mut each: impl FnMut(usize, usize, usize, &[f32]),
    ) {
        let side = TILE / shrink;
        for t in (0..self.tiles()).step_by(LANES) {
            let lanes = LANES.min(self.tiles() - t);
            let mut points = [[0f32; LANES]; POINTS];
            for (p, values) in points.iter_mut().enumerate() {
                values.copy_from_slice(source(p, t));
            }
            // Row i of all tiles, one tile after the other.
            let mut lines = [[0f32; TILE * LANES]; TILE];
            for lane in 0..LANES {
                let mut half = [[0f32; SEEN]; TILE];
                for x in 0..SEEN {
                    let column = std::array::from_fn(|y| points[SEEN * y + x][lane]);
                    let column = output_1d(column);
                    for y in 0..TILE {
                        half[y][x] = column[y];
                    }
                }
                for y in 0..TILE {
                    let row = output_1d(half[y]);
                    for x in 0..TILE {
                        lines[y][TILE * lane + x] = row[x];
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

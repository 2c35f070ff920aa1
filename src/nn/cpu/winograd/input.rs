//! The inputs of a convolution, transformed.

use super::band::{Band, LANES, POINTS, ROOT_HALF, ROOT_TWO, SEEN, TILE};
use crate::nn::cpu::unfold::Window;

/// `Bᵀ·d`.
#[inline(always)]
fn input_1d([d0, d1, d2, d3, d4, d5]: [f32; SEEN]) -> [f32; SEEN] {
    let (even_a, odd_a) = (d4 - 2.0 * d2, ROOT_HALF * d3 - ROOT_TWO * d1);
    let (even_b, odd_b) = (d4 - 0.5 * d2, ROOT_TWO * d3 - ROOT_HALF * d1);
    [
        d0 - 2.5 * d2 + d4,
        even_a + odd_a,
        even_a - odd_a,
        even_b + odd_b,
        even_b - odd_b,
        d1 - 2.5 * d3 + d5,
    ]
}

/// The input of a convolution, `[b, c_in, h, w]`, and how it sees it.
#[derive(Clone, Copy)]
pub(in crate::nn::cpu) struct Pictures<'a> {
    pub(in crate::nn::cpu) x: &'a [f32],
    pub(in crate::nn::cpu) pictures: usize,
    pub(in crate::nn::cpu) window: &'a Window,
}

impl Pictures<'_> {
    /// Row `y` of a channel as the convolution sees it, behind the first number of `line`. Whether there is such a row.
    #[inline(always)]
    fn line(&self, channel: usize, y: Option<usize>, line: &mut [f32]) -> bool {
        let (stored, seen, zoom) = (self.window.stored, self.window.seen, self.window.zoom());
        let (h, w) = (stored.height, stored.width);
        let Some(y) = y.filter(|y| *y < seen.height) else {
            return false;
        };
        let pixels = &self.x[(channel * h + y / zoom) * w..][..w];
        let line = &mut line[1..=seen.width];
        if zoom == 1 {
            line.copy_from_slice(pixels);
        } else {
            for (pair, &v) in line.chunks_mut(2).zip(pixels) {
                pair.fill(v);
            }
        }
        true
    }
}

/// Every fourth number of a line to each of four planes, or zeros.
#[inline(always)]
fn split(line: &[f32], inside: bool, plane: usize, pitch: usize, planes: &mut [f32]) {
    if !inside {
        for j in 0..TILE {
            planes[j * plane..][..pitch].fill(0.0);
        }
        return;
    }
    let (p0, rest) = planes.split_at_mut(plane);
    let (p1, rest) = rest.split_at_mut(plane);
    let (p2, p3) = rest.split_at_mut(plane);
    let targets = p0.iter_mut().zip(p1).zip(p2).zip(p3);
    for ((((a, b), c), d), four) in targets.zip(line.chunks_exact(TILE)) {
        (*a, *b, *c, *d) = (four[0], four[1], four[2], four[3]);
    }
}

impl Band {
    /// Numbers that [`Band::transform_inputs`] needs room for.
    pub(super) fn phases(&self) -> usize {
        let rows = self.rows.len() + self.pictures();
        TILE * (TILE * rows + 1) * (self.across + 1)
    }

    /// `Bᵀ·d·B` of all tiles of input channel `c`: point p of the tiles from t on to `store(p, t, ..)`.
    #[inline(always)]
    pub(super) fn transform_inputs(
        &self,
        input: &Pictures,
        channels: usize,
        c: usize,
        buffer: &mut [f32],
        mut store: impl FnMut(usize, usize, &[f32; LANES]),
    ) {
        // Pixel (4·ty + i − 1, 4·tx + j − 1) of the input, for i and j below 4, at `phases[i][j][(row, tx)]`; each
        // picture's part of the band has a row more than it has rows of tiles.
        let pitch = self.across + 1;
        let plane = (self.rows.len() + self.pictures()) * pitch;
        let (phases, line) = buffer.split_at_mut(TILE * TILE * plane);
        line.fill(0.0);
        let mut row = 0;
        for r in self.rows.clone() {
            let (picture, ty) = (r / self.down, r % self.down);
            // The last two rows that a tile sees are the first two of the next, where there is one.
            let last = ty + 1 == self.down || r + 1 == self.rows.end;
            for i in 0..if last { SEEN } else { TILE } {
                let y = (TILE * ty + i).checked_sub(1);
                let at = i % TILE * TILE * plane + (row + i / TILE) * pitch;
                let inside = input.line(picture * channels + c, y, line);
                split(line, inside, plane, pitch, &mut phases[at..]);
            }
            row += if last { 2 } else { 1 };
        }
        let first_picture = self.rows.start / self.down;
        // Where a tile's own pixels begin in a plane.
        let place = |t: usize| {
            let row = t / self.across;
            let picture = (self.rows.start + row) / self.down;
            (row + picture - first_picture) * pitch + t % self.across
        };
        let run = [16, 8, 4, 2]
            .into_iter()
            .find(|n| self.across.is_multiple_of(*n));
        for t in (0..self.tiles()).step_by(LANES) {
            let lanes = LANES.min(self.tiles() - t);
            let mut d = [[0f32; LANES]; POINTS];
            match run {
                Some(16) => gather::<16>(phases, plane, pitch, t, lanes, place, &mut d),
                Some(8) => gather::<8>(phases, plane, pitch, t, lanes, place, &mut d),
                Some(4) => gather::<4>(phases, plane, pitch, t, lanes, place, &mut d),
                Some(2) => gather::<2>(phases, plane, pitch, t, lanes, place, &mut d),
                _ => gather::<1>(phases, plane, pitch, t, lanes, place, &mut d),
            }
            let mut points = [[0f32; LANES]; POINTS];
            for lane in 0..LANES {
                let mut half = [[0f32; SEEN]; SEEN];
                for x in 0..SEEN {
                    let column = std::array::from_fn(|y| d[SEEN * y + x][lane]);
                    let column = input_1d(column);
                    for y in 0..SEEN {
                        half[y][x] = column[y];
                    }
                }
                for y in 0..SEEN {
                    let row = input_1d(half[y]);
                    for x in 0..SEEN {
                        points[SEEN * y + x][lane] = row[x];
                    }
                }
            }
            for (p, values) in points.iter().enumerate() {
                store(p, t, values);
            }
        }
    }
}

/// The pixels that `lanes` tiles from `t` on see: (i, j) of each at `d[6·i + j]`. Every `RUN` tiles, counted from a
/// multiple of it, lie side by side.
#[inline(always)]
fn gather<const RUN: usize>(
    phases: &[f32],
    plane: usize,
    pitch: usize,
    t: usize,
    lanes: usize,
    place: impl Fn(usize) -> usize,
    d: &mut [[f32; LANES]; POINTS],
) {
    for lane in (0..lanes).step_by(RUN) {
        let at = place(t + lane);
        for i in 0..SEEN {
            for j in 0..SEEN {
                let phase = TILE * (i % TILE) + j % TILE;
                let from = phase * plane + at + i / TILE * pitch + j / TILE;
                d[SEEN * i + j][lane..lane + RUN].copy_from_slice(&phases[from..from + RUN]);
            }
        }
    }
}

//! 3 × 3 convolutions by Winograd's F(4 × 4, 3 × 3): Lavin and Gray 2015.
//!
//! A tile of 4 × 4 outputs takes 36 products for each pair of channels instead of 144. With Y the outputs, g the kernel and d
//! the 6 × 6 inputs that a tile sees, `Y = Aᵀ[(G·g·Gᵀ) ∘ (Bᵀ·d·B)]A`, summed over the input channels inside the brackets:
//! 36 matrix products.
//!
//! # Numerics
//! The matrices are those of the points 0, ±1/√2, ±√2, ∞. Over 320 channels of unit normals the error is 1.6e-6 of the
//! outputs' size, in the root mean square, where a plain f32 convolution has 3e-7 and the usual points 0, ±1, ±2 have 3e-6.

mod kernel;

use rayon::prelude::*;

pub(super) use self::kernel::Kernel;
use super::gemm::{Onto, Strides, product};
use super::math::vectorised;
use super::scratch;
use super::start::Start;
use super::tile::tiles;
use super::unfold::{Window, channel_blocks};

/// Outputs of a tile in each direction, inputs that it sees, and products that it takes.
const TILE: usize = 4;
const SEEN: usize = 6;
const POINTS: usize = SEEN * SEEN;

/// Tiles, or input channels, that are transformed at a time: one register of AVX-512.
const LANES: usize = 16;

/// Most numbers of transformed inputs held at a time: 24 MiB, which a last-level cache takes.
const MAX_BAND: usize = 6 << 20;

/// Output channels that one task takes at a time, at most: no more than a product takes without packing its other operand.
const MAX_CHANNELS: usize = 48;

/// Input channels that one task transforms.
const CHANNELS_AT_A_TIME: usize = 8;

const ROOT_HALF: f32 = std::f32::consts::FRAC_1_SQRT_2;
const ROOT_TWO: f32 = std::f32::consts::SQRT_2;

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

/// The input of a convolution, `[b, c_in, h, w]`, and how it sees it.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub(super) x: &'a [f32],
    pub(super) pictures: usize,
    pub(super) window: &'a Window,
}

impl Input<'_> {
    /// Row `y` of a channel as the convolution sees it, behind the first number of `line`. Whether there is such a row.
    #[inline(always)]
    fn line(&self, channel: usize, y: Option<usize>, line: &mut [f32]) -> bool {
        let ((h, w), seen, zoom) = (self.window.stored, self.window.seen, self.window.zoom());
        let Some(y) = y.filter(|y| *y < seen.0) else {
            return false;
        };
        let pixels = &self.x[(channel * h + y / zoom) * w..][..w];
        let line = &mut line[1..=seen.1];
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

/// `start` plus the convolution of `input` with `kernel`, stride 1, padding 1: `[b, c_out, height, width]` as seen.
///
/// With `shrink` 2 the outputs, of even sizes, are summed over squares of 2 × 2.
pub(super) fn convolve(
    input: Input,
    kernel: Kernel,
    start: &Start,
    shrink: usize,
    out: &mut [f32],
) {
    let (height, across_pixels) = input.window.seen;
    let (across, down) = (across_pixels.div_ceil(TILE), height.div_ceil(TILE));
    let rows = input.pictures * down;
    let most = (MAX_BAND / (POINTS * kernel.from * across).max(1)).clamp(1, rows.max(1));
    // Bands of nearly equal size.
    let bands = rows.div_ceil(most).max(1);
    let per_band = rows.div_ceil(bands).max(1);
    for first in (0..rows).step_by(per_band) {
        let band = Band::new((across, down), first..rows.min(first + per_band));
        let padded = band.padded();
        scratch::with(POINTS * kernel.from * padded, |v| {
            let width = kernel.from * padded;
            tiles(v, width, POINTS, CHANNELS_AT_A_TIME * padded)
                .into_par_iter()
                .for_each(|mut v| {
                    let first = v.from.1 / padded;
                    scratch::with(band.phases(), |buffer| {
                        for c in 0..v.columns / padded {
                            vectorised(
                                #[inline(always)]
                                || {
                                    band.transform_inputs(
                                        &input,
                                        kernel.from,
                                        first + c,
                                        buffer,
                                        #[inline(always)]
                                        |p, t, values| {
                                            v.row(p)[c * padded + t..][..LANES]
                                                .copy_from_slice(values)
                                        },
                                    );
                                },
                            );
                        }
                    });
                });
            let size = (height / shrink, across_pixels / shrink);
            band.multiply(v, kernel, start, size, shrink, out);
        });
    }
}

/// Some rows of tiles, counted through all pictures.
struct Band {
    /// Tiles in a row, and rows in a picture.
    across: usize,
    down: usize,
    rows: std::ops::Range<usize>,
}

impl Band {
    fn new((across, down): (usize, usize), rows: std::ops::Range<usize>) -> Self {
        Self { across, down, rows }
    }

    fn tiles(&self) -> usize {
        self.rows.len() * self.across
    }

    /// Tiles, rounded up to whole registers.
    fn padded(&self) -> usize {
        self.tiles().next_multiple_of(LANES)
    }

    /// Pictures that the band has a part of.
    fn pictures(&self) -> usize {
        self.rows.end.div_ceil(self.down) - self.rows.start / self.down
    }

    /// Numbers that [`Band::transform_inputs`] needs room for.
    fn phases(&self) -> usize {
        let rows = self.rows.len() + self.pictures();
        TILE * (TILE * rows + 1) * (self.across + 1)
    }

    /// `Bᵀ·d·B` of all tiles of input channel `c`: point p of the tiles from t on to `store(p, t, ..)`.
    #[inline(always)]
    fn transform_inputs(
        &self,
        input: &Input,
        channels: usize,
        c: usize,
        buffer: &mut [f32],
        mut store: impl FnMut(usize, usize, &[f32; LANES]),
    ) {
        // Pixel (4·ty + i − 1, 4·tx + j − 1) of the input, for i and j below 4, at `phases[i][j][(row, tx)]`; each picture's
        // part of the band has a row more than it has rows of tiles.
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

    /// The products and `Aᵀ·m·A`, by blocks of output channels.
    fn multiply(
        &self,
        v: &[f32],
        kernel: Kernel,
        start: &Start,
        size: (usize, usize),
        shrink: usize,
        out: &mut [f32],
    ) {
        let Kernel { from, to, .. } = kernel;
        let pixels = size.0 * size.1;
        let blocks = channel_blocks(out, to, pixels, MAX_CHANNELS);
        let padded = self.padded();
        blocks.into_par_iter().for_each(|(channels, mut parts)| {
            let (first, n) = (channels.start, channels.len());
            scratch::with(POINTS * n * (from + padded), |buffer| {
                let (u, m) = buffer.split_at_mut(POINTS * n * from);
                vectorised(
                    #[inline(always)]
                    || kernel.transform(first, n, u),
                );
                let matrices = u.chunks(n * from).zip(v.chunks(from * padded));
                for ((u, v), m) in matrices.zip(m.chunks_mut(n * padded)) {
                    let (a, b) = ((u, Strides::rows(from)), (v, Strides::rows(padded)));
                    let c = (m, Strides::rows(padded));
                    product((n, from, padded), 1.0, a, b, c, Onto::Nothing);
                }
                for o in 0..n {
                    vectorised(
                        #[inline(always)]
                        || {
                            self.transform_outputs(
                                #[inline(always)]
                                |p, t| &m[(p * n + o) * padded + t..][..LANES],
                                size,
                                shrink,
                                #[inline(always)]
                                |picture, y, x, values| {
                                    let at = o * pixels + y * size.1 + x;
                                    let plane = picture * to + first + o;
                                    let out = &mut parts[picture][at..at + values.len()];
                                    start.add(plane, y * size.1 + x, pixels, values, out);
                                },
                            );
                        },
                    );
                }
            });
        });
    }

    /// Hands over `Aᵀ·m·A` in pieces of rows: picture, row and column of the first value, values.
    #[inline(always)]
    fn transform_outputs<'a>(
        &self,
        source: impl Fn(usize, usize) -> &'a [f32],
        (height, width): (usize, usize),
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
                let n = (side * run).min(width - x);
                for (i, line) in lines[..side].iter().enumerate() {
                    let y = side * ty + i;
                    if y < height {
                        each(picture, y, x, &line[side * lane..][..n]);
                    }
                }
                lane += run;
            }
        }
    }
}

/// The pixels that `lanes` tiles from `t` on see: (i, j) of each at `d[6·i + j]`. Every `RUN` tiles, counted from a multiple of
/// it, lie side by side.
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

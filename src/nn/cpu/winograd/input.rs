//! The inputs of a convolution, transformed.

use pulp::{Simd, WithSimd};

use super::band::{Band, LANES, POINTS, ROOT_HALF, ROOT_TWO, SEEN, TILE};
use crate::nn::cpu::math::{instructions, vectorised};
use crate::nn::cpu::tile::Tile;
use crate::nn::cpu::unfold::Window;

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
    /// Numbers that [`Channel::transform`] needs room for.
    pub(super) fn phases(&self) -> usize {
        TILE * TILE * self.plane() + TILE * self.pitch()
    }

    /// Numbers of a row of a plane, which has every fourth pixel of a line and one more.
    fn pitch(&self) -> usize {
        self.across + 1
    }

    /// Numbers of a plane.
    fn plane(&self) -> usize {
        (self.rows.len() + self.pictures()) * self.pitch()
    }
}

/// A channel of the input, and the tiles of it that are transformed.
pub(super) struct Channel<'a> {
    pub(super) band: &'a Band,
    pub(super) input: &'a Pictures<'a>,
    pub(super) channels: usize,
    pub(super) channel: usize,
}

impl Channel<'_> {
    /// `Bᵀ·d·B` of all tiles: point p of tile t to row p · `panels` + t / `width` of `out`, as number t mod `width` of
    /// the `c`-th part of it.
    pub(super) fn transform(
        &self,
        buffer: &mut [f32],
        (width, panels, c): (usize, usize, usize),
        out: &mut Tile,
    ) {
        let band = self.band;
        let (pitch, plane) = (band.pitch(), band.plane());
        let run = [16, 8, 4, 2]
            .into_iter()
            .find(|n| band.across.is_multiple_of(*n));
        vectorised(
            #[inline(always)]
            || self.lay(plane, pitch, buffer),
        );
        for t in (0..band.tiles()).step_by(LANES) {
            let mut d = [[0f32; LANES]; POINTS];
            vectorised(
                #[inline(always)]
                || match run {
                    Some(16) => band.gather::<16>(buffer, plane, pitch, t, &mut d),
                    Some(8) => band.gather::<8>(buffer, plane, pitch, t, &mut d),
                    Some(4) => band.gather::<4>(buffer, plane, pitch, t, &mut d),
                    Some(2) => band.gather::<2>(buffer, plane, pitch, t, &mut d),
                    _ => band.gather::<1>(buffer, plane, pitch, t, &mut d),
                },
            );
            instructions().dispatch(Points(&mut d));
            for (p, values) in d.iter().enumerate() {
                let out = out.row(p * panels + t / width);
                out[c * width + t % width..][..LANES].copy_from_slice(values);
            }
        }
    }

    /// Pixel (4·ty + i − 1, 4·tx + j − 1) of the input, for i and j below 4, to `buffer[i][j][(row, tx)]`; each
    /// picture's part of the band has a row more than it has rows of tiles.
    #[inline(always)]
    fn lay(&self, plane: usize, pitch: usize, buffer: &mut [f32]) {
        let band = self.band;
        let (phases, line) = buffer.split_at_mut(TILE * TILE * plane);
        line.fill(0.0);
        let mut row = 0;
        for r in band.rows.clone() {
            let (picture, ty) = (r / band.down, r % band.down);
            // The last two rows that a tile sees are the first two of the next, where there is one.
            let last = ty + 1 == band.down || r + 1 == band.rows.end;
            for i in 0..if last { SEEN } else { TILE } {
                let y = (TILE * ty + i).checked_sub(1);
                let at = i % TILE * TILE * plane + (row + i / TILE) * pitch;
                let channel = picture * self.channels + self.channel;
                let inside = self.input.line(channel, y, line);
                split(line, inside, plane, pitch, &mut phases[at..]);
            }
            row += if last { 2 } else { 1 };
        }
    }
}

impl Band {
    /// The pixels that tiles from `t` on see, in the order of [`Channel::lay`]: (i, j) of each at `d[6·i + j]`. Every
    /// `RUN` tiles, counted from a multiple of it, lie side by side.
    #[inline(always)]
    fn gather<const RUN: usize>(
        &self,
        phases: &[f32],
        plane: usize,
        pitch: usize,
        t: usize,
        d: &mut [[f32; LANES]; POINTS],
    ) {
        let first_picture = self.rows.start / self.down;
        for lane in (0..LANES.min(self.tiles() - t)).step_by(RUN) {
            let (row, tx) = ((t + lane) / self.across, (t + lane) % self.across);
            let picture = (self.rows.start + row) / self.down;
            let at = (row + picture - first_picture) * pitch + tx;
            for i in 0..SEEN {
                for j in 0..SEEN {
                    let phase = TILE * (i % TILE) + j % TILE;
                    let from = phase * plane + at + i / TILE * pitch + j / TILE;
                    d[SEEN * i + j][lane..lane + RUN].copy_from_slice(&phases[from..from + RUN]);
                }
            }
        }
    }
}

/// Tiles of inputs, (y, x) of each at `6·y + x`, which become `Bᵀ·d·B`.
struct Points<'a>(&'a mut [[f32; LANES]; POINTS]);

impl WithSimd for Points<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (d, _) = S::as_mut_simd_f32s(self.0.as_flattened_mut());
        let vectors = LANES / S::F32_LANES;
        for v in 0..vectors {
            for x in 0..SEEN {
                transform_line(simd, d, x * vectors + v, SEEN * vectors);
            }
            for y in 0..SEEN {
                transform_line(simd, d, SEEN * y * vectors + v, vectors);
            }
        }
    }
}

/// `Bᵀ` times the six vectors that lie `step` apart from `from` on, in their place.
#[inline(always)]
fn transform_line<S: Simd>(simd: S, d: &mut [S::f32s], from: usize, step: usize) {
    let mut line = [simd.splat_f32s(0.0); SEEN];
    for i in 0..SEEN {
        line[i] = d[from + i * step];
    }
    let line = input_1d(simd, line);
    for i in 0..SEEN {
        d[from + i * step] = line[i];
    }
}

/// `Bᵀ·d`.
#[inline(always)]
fn input_1d<S: Simd>(simd: S, [d0, d1, d2, d3, d4, d5]: [S::f32s; SEEN]) -> [S::f32s; SEEN] {
    let (even_a, even_b) = (fma(simd, -2.0, d2, d4), fma(simd, -0.5, d2, d4));
    let half = simd.mul_f32s(simd.splat_f32s(ROOT_HALF), d3);
    let two = simd.mul_f32s(simd.splat_f32s(ROOT_TWO), d3);
    let (odd_a, odd_b) = (
        fma(simd, -ROOT_TWO, d1, half),
        fma(simd, -ROOT_HALF, d1, two),
    );
    [
        fma(simd, -2.5, d2, simd.add_f32s(d0, d4)),
        simd.add_f32s(even_a, odd_a),
        simd.sub_f32s(even_a, odd_a),
        simd.add_f32s(even_b, odd_b),
        simd.sub_f32s(even_b, odd_b),
        fma(simd, -2.5, d3, simd.add_f32s(d1, d5)),
    ]
}

/// a·x + y.
#[inline(always)]
fn fma<S: Simd>(simd: S, a: f32, x: S::f32s, y: S::f32s) -> S::f32s {
    simd.mul_add_e_f32s(simd.splat_f32s(a), x, y)
}

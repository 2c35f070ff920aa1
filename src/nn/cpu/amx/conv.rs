//! 3 × 3 convolutions without unfolding: a tile of the right operand is a piece of a row of pixels, wherever it begins.
//!
//! The pixels of two channels lie pair by pair, row after row with one zero between, so that 16 pixels that a tap sees
//! are 64 bytes some way off those in the middle: Georganas et al. 2018, "Anatomy of high-performance deep learning
//! convolutions on SIMD architectures", has the same for AVX-512. Sums of outputs between two rows are computed too,
//! and left out.

use std::ops::Range;

use rayon::prelude::*;

use super::super::epilogue::Epilogue;
use super::super::math::vectorised;
use super::super::scratch;
use super::super::unfold::channel_blocks;
use super::super::winograd::{Kernel, Pictures};
use super::operand::{Line, STEP, Side, lines, pack_step};
use super::tiles::{Block, Shape, run, with_tiles};
use super::{BLOCK, PIECES, TERMS};
use crate::nn::layout::Plane;

/// Most words of packed pixels held at a time: 24 MiB, which a last-level cache takes.
const MAX_BAND: usize = 6 << 20;
/// Output channels that one task takes at a time, at most.
const MAX_CHANNELS: usize = 64;
/// Outputs of a channel that are computed one after the other, about: what they see stays in the second cache.
const STRIP: usize = 768;
/// Blocks of 32 input channels that are summed over before the next outputs: as long as what they are multiplied with
/// stays in the second cache.
const DEPTH: usize = 5;
const TAPS: usize = 9;
/// Words behind the last pixel that a tile may read.
const SLACK: usize = 2 * BLOCK;

/// The convolution of `input` with `kernel`, stride 1, padding 1, and `epilogue`: `[b, c_out, height, width]` as seen.
///
/// With `shrink` 2 the outputs, of even sizes, are summed over squares of 2 × 2.
pub(in super::super) fn convolve(
    input: Pictures,
    kernel: Kernel,
    epilogue: &Epilogue,
    shrink: usize,
    out: &mut [f32],
) {
    let Plane { height, width } = input.window.seen;
    let pairs = kernel.from.div_ceil(TERMS) * (TERMS / 2);
    let pitch = width + 1;
    let rows = input.pictures * height;
    let most = (MAX_BAND / (PIECES * pairs * pitch).max(1)).max(1);
    // Bands of nearly equal size, of an even number of rows.
    let per_band = rows.div_ceil(rows.div_ceil(most).max(1)).max(1);
    let per_band = per_band.next_multiple_of(shrink);
    for first in (0..rows).step_by(per_band) {
        let band = Band::new(first..rows.min(first + per_band), input.window.seen);
        let piece = pairs * band.plane;
        scratch::with(PIECES * piece, |words| {
            band.pack(&input, kernel.from, words, piece);
            band.multiply(words, piece, kernel, epilogue, shrink, out);
        });
    }
}

/// Some rows of one picture, in a band.
struct Part {
    picture: usize,
    rows: Range<usize>,
    /// Where its first row of pixels begins: behind a row above it.
    at: usize,
}

/// Some rows, counted through all pictures, as they are packed.
struct Band {
    parts: Vec<Part>,
    size: Plane,
    /// Words from a row of pixels to the next.
    pitch: usize,
    /// Words of two channels, of one piece.
    plane: usize,
}

impl Band {
    fn new(rows: Range<usize>, size: Plane) -> Self {
        let (height, pitch) = (size.height, size.width + 1);
        let (mut parts, mut lines, mut row) = (Vec::new(), 0, rows.start);
        while row < rows.end {
            let (picture, y) = (row / height, row % height);
            let n = (height - y).min(rows.end - row);
            parts.push(Part {
                picture,
                rows: y..y + n,
                at: 1 + (lines + 1) * pitch,
            });
            (lines, row) = (lines + n + 2, row + n);
        }
        // An odd number of lines of the cache, so that the channels of a tile lie in different sets of it.
        let plane = (1 + lines * pitch + SLACK).div_ceil(16) | 1;
        Self {
            parts,
            size,
            pitch,
            plane: 16 * plane,
        }
    }

    /// Packs all input channels: two of them in a word.
    fn pack(&self, input: &Pictures, channels: usize, words: &mut [f32], piece: usize) {
        let (first, rest) = words.split_at_mut(piece);
        let (second, third) = rest.split_at_mut(piece);
        let planes = first
            .par_chunks_mut(self.plane)
            .zip(second.par_chunks_mut(self.plane))
            .zip(third.par_chunks_mut(self.plane));
        planes
            .enumerate()
            .for_each(|(pair, ((first, second), third))| {
                let (width, mut pieces) = (self.size.width, [first, second, third]);
                scratch::with(2 * (width + 2), |buffers| {
                    let (even, odd) = buffers.split_at_mut(width + 2);
                    for piece in &mut pieces {
                        piece[0] = 0.0;
                    }
                    for part in &self.parts {
                        for i in 0..part.rows.len() + 2 {
                            let at = part.at - self.pitch + i * self.pitch;
                            let y = (part.rows.start + i).checked_sub(1);
                            let line = |channel: usize, line: &mut [f32]| {
                                let inside = channel < channels
                                    && input.line(part.picture * channels + channel, y, line);
                                if !inside {
                                    line.fill(0.0);
                                }
                            };
                            line(2 * pair, even);
                            line(2 * pair + 1, odd);
                            let mut lines =
                                pieces.each_mut().map(|piece| &mut piece[at..][..width]);
                            vectorised(
                                #[inline(always)]
                                || join(&even[1..=width], &odd[1..=width], &mut lines),
                            );
                            for piece in &mut pieces {
                                piece[at + width] = 0.0;
                            }
                        }
                    }
                });
            });
    }

    /// The products, by blocks of output channels.
    fn multiply(
        &self,
        words: &[f32],
        piece: usize,
        kernel: Kernel,
        epilogue: &Epilogue,
        shrink: usize,
        out: &mut [f32],
    ) {
        let Plane { height, width } = self.size;
        let pixels = (height / shrink) * (width / shrink);
        let steps = kernel.from.div_ceil(TERMS) * TAPS;
        let offsets: Vec<usize> = (0..steps)
            .map(|step| {
                let (block, tap) = (step / TAPS, step % TAPS);
                4 * (block * (TERMS / 2) * self.plane + tap / 3 * self.pitch + tap % 3)
            })
            .collect();
        let strips: Vec<Strip> = self
            .parts
            .iter()
            .flat_map(|part| self.strips(part, shrink))
            .collect();
        let longest = strips.iter().map(|strip| strip.len).max().unwrap_or(0);
        let stride = longest.next_multiple_of(BLOCK) + 16;
        let panel = steps * STEP;
        let blocks = channel_blocks(out, kernel.to, pixels, MAX_CHANNELS);
        blocks.into_par_iter().for_each(|(channels, mut outs)| {
            let panels = channels.len().div_ceil(BLOCK);
            lines(panels * panel, |weights| {
                pack_kernel(&kernel, &channels, weights, panel);
                scratch::with(panels * BLOCK * stride, |sums| {
                    for strip in &strips {
                        let right = &words[strip.at - self.pitch - 1..];
                        let products = Products {
                            weights,
                            panel,
                            channels: channels.len(),
                            right,
                            right_stride: 4 * self.plane,
                            right_piece: 4 * piece,
                            offsets: &offsets,
                            columns: strip.len,
                        };
                        products.run(sums, stride);
                        for (o, sums) in sums.chunks_exact(stride).take(channels.len()).enumerate()
                        {
                            let plane = strip.picture * kernel.to + channels.start + o;
                            let out = &mut outs[strip.picture][o * pixels..][..pixels];
                            vectorised(
                                #[inline(always)]
                                || strip.put(sums, self.size, shrink, epilogue, plane, out),
                            );
                        }
                    }
                });
            });
        });
    }

    /// A part in strips of whole rows, a multiple of `shrink`.
    fn strips(&self, part: &Part, shrink: usize) -> Vec<Strip> {
        let rows = STRIP.div_ceil(self.pitch).next_multiple_of(shrink);
        let starts = part.rows.clone().step_by(rows);
        starts
            .map(|y| {
                let rows = y..part.rows.end.min(y + rows);
                Strip {
                    picture: part.picture,
                    at: part.at + (y - part.rows.start) * self.pitch,
                    len: rows.len() * self.pitch - 1,
                    rows,
                }
            })
            .collect()
    }
}

/// The numbers of two channels, word by word, in pieces.
#[inline(always)]
fn join(even: &[f32], odd: &[f32], [first, second, third]: &mut [&mut [f32]; PIECES]) {
    let round = |x: f32| x.to_bits().wrapping_add(0x8000) & 0xffff_0000;
    let words = first
        .iter_mut()
        .zip(second.iter_mut())
        .zip(third.iter_mut());
    for ((&even, &odd), ((first, second), third)) in even.iter().zip(odd).zip(words) {
        let (mut even, mut odd) = (even, odd);
        for word in [first, second, third] {
            let (a, b) = (round(even), round(odd));
            *word = f32::from_bits(a >> 16 | b);
            (even, odd) = (even - f32::from_bits(a), odd - f32::from_bits(b));
        }
    }
}

/// Packs the kernels of some output channels, a panel for each 32 of them: for each 32 input channels, tap by tap.
fn pack_kernel(kernel: &Kernel, channels: &Range<usize>, out: &mut [Line], panel: usize) {
    for (i, panel) in out.chunks_exact_mut(panel).enumerate() {
        let o = i * BLOCK;
        for (j, steps) in panel.chunks_exact_mut(TAPS * STEP).enumerate() {
            let size = (channels.len() - o, kernel.from - j * TERMS);
            for (tap, step) in steps.chunks_exact_mut(STEP).enumerate() {
                let matrix = kernel.tap(tap).from(channels.start + o, j * TERMS);
                pack_step(Side::Left, matrix, size, 1.0, step);
            }
        }
    }
}

/// Some rows of a picture's output.
struct Strip {
    picture: usize,
    rows: Range<usize>,
    /// Where the pixels of the first one begin.
    at: usize,
    /// Sums, with those between rows.
    len: usize,
}

impl Strip {
    /// Puts the sums of a channel into its plane.
    #[inline(always)]
    fn put(
        &self,
        sums: &[f32],
        size: Plane,
        shrink: usize,
        epilogue: &Epilogue,
        plane: usize,
        out: &mut [f32],
    ) {
        let (width, pitch) = (size.width / shrink, size.width + 1);
        let n = out.len();
        for (i, y) in self.rows.clone().step_by(shrink).enumerate() {
            let from = y / shrink * width;
            let out = &mut out[from..][..width];
            let sums = &sums[i * shrink * pitch..];
            if shrink == 1 {
                epilogue.add(plane, from, n, &sums[..width], out);
            } else {
                let pairs = sums.chunks_exact(2).zip(sums[pitch..].chunks_exact(2));
                for (out, (a, b)) in out.iter_mut().zip(pairs) {
                    *out = a[0] + a[1] + b[0] + b[1];
                }
            }
        }
    }
}

/// The products for one strip.
struct Products<'a> {
    weights: &'a [Line],
    /// Lines of 32 output channels.
    panel: usize,
    channels: usize,
    /// From the first pixel that the first output sees.
    right: &'a [f32],
    right_stride: usize,
    right_piece: usize,
    offsets: &'a [usize],
    columns: usize,
}

impl Products<'_> {
    /// Computes rows of sums, `stride` apart.
    fn run(&self, sums: &mut [f32], stride: usize) {
        let panels = self.weights.chunks_exact(self.panel);
        assert!(
            sums.len() >= panels.len() * BLOCK * stride
                && stride >= self.columns.next_multiple_of(BLOCK)
        );
        let farthest = self.offsets.iter().max().map_or(0, |at| at / 4);
        let last = (PIECES - 1) * self.right_piece / 4
            + farthest
            + (TERMS / 2 - 1) * self.right_stride / 4;
        let read = last + (self.columns - 1) / BLOCK * BLOCK + BLOCK;
        assert!(self.right.len() >= read);
        let all = || {
            for (chunk, offsets) in self.offsets.chunks(DEPTH * TAPS).enumerate() {
                let first = chunk * DEPTH * TAPS;
                for (i, weights) in panels.clone().enumerate() {
                    let rows = (self.channels - i * BLOCK).min(BLOCK);
                    for j in (0..self.columns).step_by(BLOCK) {
                        let columns = (self.columns - j).min(BLOCK);
                        let block = Block {
                            c: sums[i * BLOCK * stride + j..].as_mut_ptr(),
                            c_stride: 4 * stride,
                            add: usize::from(chunk > 0),
                            left: weights[first * STEP..].as_ptr().cast(),
                            right: self.right[j..].as_ptr().cast(),
                            offsets: offsets.as_ptr(),
                            steps: offsets.len(),
                            right_stride: self.right_stride,
                            right_piece: self.right_piece,
                        };
                        // SAFETY: the assertions hold what is read and written within the slices.
                        #[expect(unsafe_code, reason = "instructions that not every processor has")]
                        unsafe {
                            run(&block, Shape::of(rows, columns));
                        }
                    }
                }
            }
        };
        // SAFETY: the weights were packed, so that the unit is available.
        #[expect(unsafe_code, reason = "instructions that not every processor has")]
        unsafe {
            with_tiles(all);
        }
    }
}

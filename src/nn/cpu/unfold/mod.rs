//! Convolutions of any kernel and stride as matrix products with the unfolded input, and their data gradients.

mod bf16;

use std::ops::Range;

use rayon::prelude::*;

use super::bf16::LINES;
use super::epilogue::Epilogue;
use super::gemm::{Accumulate, Sizes, View, ViewMut, product};
use super::scratch;
use crate::nn::dispatch::in_bf16;
use crate::nn::layout::Plane;
use crate::nn::parameters::{Channels, Filter};

/// Most numbers of an unfolded input held at a time: 8 MiB, which a last-level cache takes.
const MAX_UNFOLDED: usize = 2 << 20;

/// Most numbers of unfolded gradients that one task holds: 2 MiB.
const MAX_FOLDED: usize = 1 << 19;

/// Output channels that one task takes at a time, at most.
const MAX_CHANNELS: usize = 128;

/// The pixels that a convolution goes over, in its input and its output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) k: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
    /// Of the input as it is stored.
    pub(super) stored: Plane,
    /// The same as the convolution sees it: as stored, or twice as large by nearest neighbours, or one less.
    pub(super) seen: Plane,
}

impl Window {
    pub(super) fn new(filter: &Filter, stored: Plane, seen: Plane) -> Self {
        Self {
            k: filter.k,
            stride: filter.stride,
            padding: filter.padding,
            stored,
            seen,
        }
    }

    /// Of the output.
    ///
    /// # Panics
    /// If the kernel is larger than the padded input.
    pub(super) fn output(&self) -> Plane {
        let side = |n: usize| (n + 2 * self.padding - self.k) / self.stride + 1;
        Plane {
            height: side(self.seen.height),
            width: side(self.seen.width),
        }
    }

    /// How much larger the input is seen than it is stored.
    pub(super) fn zoom(&self) -> usize {
        1 << self.shift()
    }

    /// The same as a shift to the right, which takes a pixel that is seen to the one that is stored.
    fn shift(&self) -> u32 {
        u32::from(self.stored != self.seen)
    }

    /// Whether the unfolded input is the input itself.
    fn is_pointwise(&self) -> bool {
        self.k == 1 && self.stride == 1 && self.padding == 0 && self.zoom() == 1
    }

    /// Along one side: the outputs of which tap `tap` lies in an input of `seen` pixels.
    fn inside(&self, tap: usize, seen: usize, outputs: usize) -> Range<usize> {
        let first = self.padding.saturating_sub(tap).div_ceil(self.stride);
        let end = (seen + self.padding)
            .saturating_sub(tap)
            .div_ceil(self.stride)
            .min(outputs);
        first.min(end)..end
    }

    /// Where tap `tap` of a kernel, counted by rows, meets the input; `None` where it lies in the padding alone.
    fn tap(&self, tap: usize) -> Option<Tap> {
        let (ky, kx) = (tap / self.k, tap % self.k);
        let inside = self.inside(kx, self.seen.width, self.output().width);
        let first = (inside.start * self.stride + kx).checked_sub(self.padding)?;
        (!inside.is_empty()).then_some(Tap { ky, inside, first })
    }

    /// Calls `f(output row, input row)` for those output rows of `rows` of which tap `ky` lies in the input.
    fn each_row(&self, ky: usize, rows: &Range<usize>, mut f: impl FnMut(usize, usize)) {
        let inside = self.inside(ky, self.seen.height, self.output().height);
        let shift = self.shift();
        for oy in inside.start.max(rows.start)..inside.end.min(rows.end) {
            f(oy, (oy * self.stride + ky - self.padding) >> shift);
        }
    }
}

/// One number of a kernel, over a picture.
struct Tap {
    /// Its row in the kernel.
    ky: usize,
    /// The columns of the output at which it lies in the input.
    inside: Range<usize>,
    /// The column that it sees at the first of them.
    first: usize,
}

/// The convolution of `x: [b, c_in, ..]` with `kernel: [c_out, c_in, k, k]`, and `epilogue`: `[b, c_out, ..]`.
pub(super) fn convolve(
    x: &[f32],
    channels: Channels,
    window: &Window,
    kernel: &[f32],
    epilogue: &Epilogue,
    out: &mut [f32],
) {
    let (output, plane) = (window.output(), window.stored.pixels());
    let (c_in, taps) = (channels.input, window.k * window.k);
    let depth = c_in * taps;
    let pictures = x.len() / (c_in * plane).max(1);
    let product = Multiplication {
        kernel,
        depth,
        output,
        c_out: channels.output,
        epilogue,
    };
    let whole = Part {
        pictures: 0..pictures,
        rows: 0..output.height,
    };
    if in_bf16() {
        return bf16::convolve(x, channels, window, &product, out);
    }
    if window.is_pointwise() {
        let columns = |picture: usize| View::rows(&x[picture * c_in * plane..], plane);
        return product.run(whole, columns, out);
    }
    for part in whole.cut(MAX_UNFOLDED / (depth * output.width).max(1)) {
        let n = part.rows.len() * output.width;
        // At least 2: a single column would be multiplied, and rounded, in another way than one of several.
        let width = (part.pictures.len() * n).max(2);
        scratch::with(depth * width, |unfolded| {
            unfolded
                .par_chunks_mut((taps * width).max(1))
                .enumerate()
                .for_each(|(c, unfolded)| {
                    for (i, picture) in part.pictures.clone().enumerate() {
                        let x = &x[(picture * c_in + c) * plane..][..plane];
                        for (tap, line) in unfolded.chunks_mut(width).enumerate() {
                            unfold(x, window, tap, &part.rows, &mut line[i * n..][..n]);
                        }
                    }
                });
            let first = part.pictures.start;
            let columns = |picture: usize| View::rows(&unfolded[(picture - first) * n..], width);
            product.run(part, columns, out);
        });
    }
}

/// Some rows of some pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    pictures: Range<usize>,
    rows: Range<usize>,
}

impl Part {
    /// Parts of at most `most` rows in all, but at least one.
    fn cut(&self, most: usize) -> Vec<Self> {
        let (most, rows) = (most.max(1), self.rows.len().max(1));
        let (pictures, rows) = ((most / rows).max(1), most.min(rows));
        let starts = self.pictures.clone().step_by(pictures);
        starts
            .flat_map(|p| self.rows.clone().step_by(rows).map(move |r| (p, r)))
            .map(|(p, r)| Self {
                pictures: p..self.pictures.end.min(p + pictures),
                rows: r..self.rows.end.min(r + rows),
            })
            .collect()
    }
}

/// The products of a convolution with unfolded inputs.
struct Multiplication<'a> {
    /// `[c_out, depth]`
    kernel: &'a [f32],
    depth: usize,
    output: Plane,
    c_out: usize,
    epilogue: &'a Epilogue<'a>,
}

impl Multiplication<'_> {
    /// Computes a part of the output from `columns(picture): [depth, the part's pixels]`.
    fn run<'a>(&self, part: Part, columns: impl Fn(usize) -> View<'a> + Sync, out: &mut [f32]) {
        let (pixels, width) = (self.output.pixels(), self.output.width);
        let (from, n) = (part.rows.start * width, part.rows.len() * width);
        let blocks = channel_blocks(out, self.c_out, pixels, MAX_CHANNELS);
        blocks.into_par_iter().for_each(|(channels, mut parts)| {
            let kernel = &self.kernel[channels.start * self.depth..];
            let sizes = Sizes {
                m: channels.len(),
                k: self.depth,
                n,
            };
            for picture in part.pictures.clone() {
                let c = &mut parts[picture][from..];
                for (o, line) in c.chunks_mut(pixels).enumerate() {
                    let plane = picture * self.c_out + channels.start + o;
                    self.epilogue.lay(plane, from, pixels, &mut line[..n]);
                }
                let (a, b) = (View::rows(kernel, self.depth), columns(picture));
                product(sizes, 1.0, a, b, ViewMut::rows(c, pixels), Accumulate::Add);
            }
        });
    }
}

/// Cuts `[b, c, n]` into blocks of at most `most` channels, as many for each thread as for any other: the channels,
/// and their part of each sample.
pub(super) fn channel_blocks(
    x: &mut [f32],
    c: usize,
    n: usize,
    most: usize,
) -> Vec<(Range<usize>, Vec<&mut [f32]>)> {
    let threads = rayon::current_num_threads();
    let blocks = c.div_ceil(most).next_multiple_of(threads);
    let len = c.div_ceil(blocks).max(1);
    let mut cut: Vec<_> = (0..c)
        .step_by(len)
        .map(|from| (from..c.min(from + len), Vec::new()))
        .collect();
    for sample in x.chunks_mut((c * n).max(1)) {
        for ((_, parts), part) in cut.iter_mut().zip(sample.chunks_mut((len * n).max(1))) {
            parts.push(part);
        }
    }
    cut
}

/// What tap `tap` of each pixel of some output rows sees of one channel; zero in the padding.
fn unfold(x: &[f32], window: &Window, tap: usize, rows: &Range<usize>, out: &mut [f32]) {
    out.fill(0.0);
    let Some(Tap { ky, inside, first }) = window.tap(tap) else {
        return;
    };
    let (width, columns) = (window.stored.width, window.output().width);
    let (stride, shift) = (window.stride, window.shift());
    window.each_row(ky, rows, |oy, y| {
        let line = &x[y * width..][..width];
        let out = &mut out[(oy - rows.start) * columns..][..columns][inside.clone()];
        if stride == 1 && shift == 0 {
            out.copy_from_slice(&line[first..][..out.len()]);
        } else {
            for (i, out) in out.iter_mut().enumerate() {
                *out = line[(first + i * stride) >> shift];
            }
        }
    });
}

/// ∂L/∂x of [`convolve`], `[b, c_in, ..]`, from `grad: [b, c_out, ..]`: what each tap of each output has of it,
/// kernelᵀ·grad, summed where they meet. `out` is overwritten.
pub(super) fn convolve_backward(
    grad: &[f32],
    channels: Channels,
    window: &Window,
    kernel: &[f32],
    out: &mut [f32],
) {
    let Channels {
        input: c_in,
        output: c_out,
    } = channels;
    let (output, plane) = (window.output(), window.stored.pixels());
    let (rows, columns, pixels) = (output.height, output.width, output.pixels());
    let taps = window.k * window.k;
    // As many rows as fit with one channel, and then as many channels as fit with so many rows.
    let height = (MAX_FOLDED / (taps * columns).max(1)).clamp(1, rows.max(1));
    let most = match window.is_pointwise() {
        true => MAX_CHANNELS,
        false => (MAX_FOLDED / (taps * height * columns).max(1)).clamp(1, MAX_CHANNELS),
    };
    let blocks = channel_blocks(out, c_in, plane, most);
    if in_bf16() {
        // A band begins where a tile does.
        let whole = (height * columns).is_multiple_of(LINES);
        let height = if whole { height } else { rows };
        let folding = bf16::Folding {
            window,
            kernel: View::rows(kernel, c_in * taps),
            c_out,
            height,
        };
        return folding.run(grad, blocks);
    }
    blocks.into_par_iter().for_each(|(channels, parts)| {
        let a = View::rows(&kernel[channels.start * taps..], c_in * taps).transposed();
        let (m, k) = (channels.len() * taps, c_out);
        for (grad, out) in grad.chunks((c_out * pixels).max(1)).zip(parts) {
            if window.is_pointwise() {
                let (sizes, b) = (Sizes { m, k, n: pixels }, View::rows(grad, pixels));
                let c = ViewMut::rows(out, pixels);
                product(sizes, 1.0, a, b, c, Accumulate::Replace);
                continue;
            }
            out.fill(0.0);
            for from in (0..rows).step_by(height) {
                let band = from..rows.min(from + height);
                let n = band.len() * columns;
                scratch::with(m * n, |unfolded| {
                    let b = View::rows(&grad[from * columns..], pixels);
                    let c = ViewMut::rows(unfolded, n);
                    product(Sizes { m, k, n }, 1.0, a, b, c, Accumulate::Replace);
                    for (i, line) in unfolded.chunks(n.max(1)).enumerate() {
                        let out = &mut out[i / taps * plane..][..plane];
                        fold(line, window, i % taps, &band, out);
                    }
                });
            }
        }
    });
}

/// The transpose of [`unfold`], added to `out`.
fn fold(line: &[f32], window: &Window, tap: usize, rows: &Range<usize>, out: &mut [f32]) {
    let Some(Tap { ky, inside, first }) = window.tap(tap) else {
        return;
    };
    let (width, columns) = (window.stored.width, window.output().width);
    let (stride, shift) = (window.stride, window.shift());
    window.each_row(ky, rows, |oy, y| {
        let line = &line[(oy - rows.start) * columns..][..columns][inside.clone()];
        let out = &mut out[y * width..][..width];
        if stride == 1 && shift == 0 {
            let out = &mut out[first..][..line.len()];
            for (out, v) in out.iter_mut().zip(line) {
                *out += v;
            }
        } else {
            for (i, v) in line.iter().enumerate() {
                out[(first + i * stride) >> shift] += v;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_all_rows_once() {
        let whole = Part {
            pictures: 0..3,
            rows: 0..5,
        };
        for most in 0..20 {
            let parts = whole.cut(most);
            let mut seen = Vec::new();
            for part in &parts {
                assert!(part.pictures.len() * part.rows.len() <= most.max(1));
                for picture in part.pictures.clone() {
                    seen.extend(part.rows.clone().map(|row| (picture, row)));
                }
            }
            let want: Vec<_> = (0..3).flat_map(|p| (0..5).map(move |r| (p, r))).collect();
            assert_eq!(seen, want);
        }
    }
}

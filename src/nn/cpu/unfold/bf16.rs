//! The same products in bf16: what is unfolded is packed at once, and never there in f32.

use std::ops::Range;

use rayon::prelude::*;

use super::super::bf16::{Lines, Packed, Side, add_product, pack, pack_rows, packed_len};
use super::super::gemm::View;
use super::super::scratch;
use super::super::tile::{by_sample, tiles};
use super::{Multiplication, Window, fold, unfold};
use crate::nn::parameters::Channels;

/// Output pixels for which the input is unfolded at a time.
const BAND: usize = 256;

/// [`convolve`](super::convolve) with products in bf16: bands of rows of a picture, each unfolded as it is packed.
pub(super) fn convolve(
    x: &[f32],
    channels: Channels,
    window: &Window,
    product: &Multiplication,
    out: &mut [f32],
) {
    let (output, plane, depth) = (product.output, window.stored.pixels(), product.depth);
    let (c_out, taps, pixels) = (channels.output, window.k * window.k, output.pixels());
    let rows = (BAND / output.width.max(1)).clamp(1, output.height.max(1));
    scratch::with(packed_len(c_out, depth), |words| {
        let kernel = View::rows(product.kernel, depth);
        pack(Lines::rows(kernel), c_out, depth, Side::Left, words);
        let kernel = Packed::new(words, depth);
        by_sample(out, c_out * pixels, |out| {
            tiles(out, pixels, c_out, rows * output.width)
        })
        .into_par_iter()
        .for_each(|(picture, mut tile)| {
            let (from, n) = (tile.from.1, tile.columns);
            for o in 0..c_out {
                let plane = picture * c_out + o;
                product.epilogue.lay(plane, from, pixels, tile.row(o));
            }
            let rows = from / output.width..(from + n) / output.width;
            let x = &x[picture * channels.input * plane..];
            scratch::with(packed_len(n, depth), |words| {
                let lines = |line: usize, out: &mut [f32]| {
                    let (c, tap) = (line / taps, line % taps);
                    unfold(&x[c * plane..][..plane], window, tap, &rows, out);
                };
                pack_rows(lines, n, depth, words);
                add_product(kernel, Packed::new(words, depth), &mut tile);
            });
        });
    });
}

/// Some channels of all pictures: which, and their part of each.
type Block<'a> = (Range<usize>, Vec<&'a mut [f32]>);

/// The data gradient of a convolution.
pub(super) struct Folding<'a> {
    pub(super) window: &'a Window,
    /// `[c_out, c_in·taps]`
    pub(super) kernel: View<'a>,
    pub(super) c_out: usize,
    /// Rows of a band.
    pub(super) height: usize,
}

impl Folding<'_> {
    /// [`convolve_backward`](super::convolve_backward) with products in bf16.
    pub(super) fn run(&self, grad: &[f32], blocks: Vec<Block>) {
        let (output, stored) = (self.window.output(), self.window.stored.pixels());
        let (pixels, columns, k) = (output.pixels(), output.width, self.c_out);
        let taps = self.window.k * self.window.k;
        let of_picture = packed_len(pixels, k);
        let pictures = grad.len() / (k * pixels).max(1);
        scratch::with(pictures * of_picture, |grads| {
            let each = grads
                .chunks_mut(of_picture.max(1))
                .zip(grad.chunks((k * pixels).max(1)));
            for (words, grad) in each {
                let lines = Lines::columns(View::rows(grad, pixels));
                pack(lines, pixels, k, Side::Right, words);
            }
            let grads = &*grads;
            blocks.into_par_iter().for_each(|(channels, parts)| {
                let m = channels.len() * taps;
                scratch::with(packed_len(m, k), |words| {
                    let (kernel, width, _) = self.kernel.parts();
                    let kernel = View::rows(&kernel[channels.start * taps..], width);
                    pack(Lines::columns(kernel), m, k, Side::Left, words);
                    let kernel = Packed::new(words, k);
                    for (picture, out) in parts.into_iter().enumerate() {
                        let grad = Packed::new(&grads[picture * of_picture..], k);
                        out.fill(0.0);
                        if self.window.is_pointwise() {
                            for mut tile in tiles(out, pixels, m, pixels) {
                                add_product(kernel, grad, &mut tile);
                            }
                            continue;
                        }
                        for from in (0..output.height).step_by(self.height) {
                            let band = from..output.height.min(from + self.height);
                            let n = band.len() * columns;
                            scratch::with(m * n, |unfolded| {
                                unfolded.fill(0.0);
                                for mut tile in tiles(unfolded, n, m, n) {
                                    add_product(kernel, grad.from(from * columns), &mut tile);
                                }
                                for (i, line) in unfolded.chunks(n.max(1)).enumerate() {
                                    let out = &mut out[i / taps * stored..][..stored];
                                    fold(line, self.window, i % taps, &band, out);
                                }
                            });
                        }
                    }
                });
            });
        });
    }
}

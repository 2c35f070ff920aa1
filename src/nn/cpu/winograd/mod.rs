//! 3 × 3 convolutions by Winograd's F(4 × 4, 3 × 3): Lavin and Gray 2015.
//!
//! A tile of 4 × 4 outputs takes 36 products for each pair of channels instead of 144. With Y the outputs, g the
//! kernel and d the 6 × 6 inputs that a tile sees, `Y = Aᵀ[(G·g·Gᵀ) ∘ (Bᵀ·d·B)]A`, summed over the input channels
//! inside the brackets: 36 matrix products.
//!
//! # Numerics
//! The matrices are those of the points 0, ±1/√2, ±√2, ∞. Over 320 channels of unit normals the error is 1.0e-6 of
//! the outputs' size, in the root mean square, where a plain f32 convolution has 3.6e-7; the usual points 0, ±1, ±2
//! round nearly twice as much.
//!
//! # Order
//! The inputs of all tiles are transformed first, into the panels that the products read. Then each task takes some
//! output channels and one row of the 6 × 6 points at a time: it computes that row of their kernels, its products, and
//! their share in the outputs. So what is computed of kernels, four times the kernels' own size, and the products never
//! leave a core's second cache.

mod band;
mod input;
mod kernel;
mod output;

use rayon::prelude::*;

use self::band::{Band, POINTS, SEEN, TILE};
use self::input::Channel;
pub(super) use self::input::Pictures;
pub(super) use self::kernel::Kernel;
use self::kernel::transform_row;
use self::output::add_row;
use super::epilogue::Epilogue;
use super::gemm::{Accumulate, Panels, View, ViewMut, product_of_panels};
use super::math::vectorised;
use super::scratch;
use super::tile::tiles;
use super::unfold::channel_blocks;
use crate::nn::layout::Plane;

/// Most numbers of transformed inputs held at a time: 24 MiB, which a last-level cache takes.
const MAX_BAND: usize = 6 << 20;

/// Most numbers of kernels that one task holds, as they are and one row of their points: 2 MiB.
const MAX_KERNELS: usize = 1 << 19;

/// Output channels that one task takes at a time.
const FEWEST: usize = 12;
const MAX_CHANNELS: usize = 96;

/// Input channels that one task transforms.
const CHANNELS_AT_A_TIME: usize = 8;

/// The convolution of `input` with `kernel`, stride 1, padding 1, and `epilogue`: `[b, c_out, height, width]` as seen.
///
/// With `shrink` 2 the outputs, of even sizes, are summed over squares of 2 × 2.
pub(super) fn convolve(
    input: Pictures,
    kernel: Kernel,
    epilogue: &Epilogue,
    shrink: usize,
    out: &mut [f32],
) {
    let Plane { height, width } = input.window.seen;
    let (across, down) = (width.div_ceil(TILE), height.div_ceil(TILE));
    let size = Plane {
        height: height / shrink,
        width: width / shrink,
    };
    let rows = input.pictures * down;
    let most = (MAX_BAND / (POINTS * kernel.from * across).max(1)).clamp(1, rows.max(1));
    // Bands of nearly equal size.
    let bands = rows.div_ceil(most).max(1);
    let per_band = rows.div_ceil(bands).max(1);
    for first in (0..rows).step_by(per_band) {
        let band = Band {
            across,
            down,
            rows: first..rows.min(first + per_band),
        };
        // `[points, panels, channels, width]`: the right operands of the products.
        let (width, panels) = band.panels();
        let numbers = POINTS * panels * kernel.from * width;
        scratch::with(numbers, |v| {
            let rows = POINTS * panels;
            tiles(v, kernel.from * width, rows, CHANNELS_AT_A_TIME * width)
                .into_par_iter()
                .for_each(|mut v| {
                    let first = v.from.1 / width;
                    scratch::with(band.phases(), |buffer| {
                        for c in 0..v.columns / width {
                            let channel = Channel {
                                band: &band,
                                input: &input,
                                channels: kernel.from,
                                channel: first + c,
                            };
                            channel.transform(buffer, (width, panels, c), &mut v);
                        }
                    });
                });
            band.multiply(v, kernel, epilogue, size, shrink, out);
        });
    }
}

impl Band {
    /// The products and `Aᵀ·m·A`, by blocks of output channels and rows of points: what is computed of a kernel and of
    /// its products is used while it is in a core's second cache.
    fn multiply(
        &self,
        v: &[f32],
        kernel: Kernel,
        epilogue: &Epilogue,
        size: Plane,
        shrink: usize,
        out: &mut [f32],
    ) {
        let Kernel { from, to, .. } = kernel;
        let pixels = size.pixels();
        let (width, panels) = self.panels();
        let most = (MAX_KERNELS / ((9 + SEEN) * from).max(1)).clamp(FEWEST, MAX_CHANNELS);
        let tiles = |panel: usize| panel * width..self.tiles().min((panel + 1) * width);
        let blocks = channel_blocks(out, to, pixels, most);
        blocks.into_par_iter().for_each(|(channels, mut parts)| {
            let (first, n) = (channels.start, channels.len());
            let plane = kernel.plane(n);
            let of_panel = n * TILE * TILE * width;
            let lengths = [9 * plane, SEEN * plane, SEEN * n * width];
            scratch::with(
                lengths.iter().sum::<usize>() + panels * of_panel,
                |buffer| {
                    let (taps, buffer) = buffer.split_at_mut(lengths[0]);
                    let (u, buffer) = buffer.split_at_mut(lengths[1]);
                    let (m, outputs) = buffer.split_at_mut(lengths[2]);
                    vectorised(
                        #[inline(always)]
                        || kernel.taps(first, n, taps),
                    );
                    for y in 0..SEEN {
                        transform_row(y, taps, u);
                        for (panel, outputs) in outputs.chunks_exact_mut(of_panel).enumerate() {
                            for (x, m) in m.chunks_exact_mut(n * width).enumerate() {
                                let u = View::rows(&u[x * plane..], from);
                                let at = (y * SEEN + x) * panels + panel;
                                let v = &v[at * from * width..][..from * width];
                                let v = Panels::new(v, from, width, width);
                                let m = ViewMut::rows(m, width);
                                product_of_panels(n, u, v, m, Accumulate::Replace);
                            }
                            add_row(y, m, n, width, outputs);
                        }
                    }
                    for (i, outputs) in outputs.chunks_exact(TILE * TILE * width).enumerate() {
                        let (panel, o) = (i / n, i % n);
                        vectorised(
                            #[inline(always)]
                            || {
                                self.write_outputs(
                                    tiles(panel),
                                    outputs,
                                    width,
                                    size,
                                    shrink,
                                    #[inline(always)]
                                    |picture, y, x, values| {
                                        let at = o * pixels + y * size.width + x;
                                        let plane = picture * to + first + o;
                                        let out = &mut parts[picture][at..at + values.len()];
                                        epilogue.add(
                                            plane,
                                            y * size.width + x,
                                            pixels,
                                            values,
                                            out,
                                        );
                                    },
                                );
                            },
                        );
                    }
                },
            );
        });
    }
}

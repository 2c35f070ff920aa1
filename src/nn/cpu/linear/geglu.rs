//! Linear layers with a GEGLU behind: neither their whole output nor its gradient is stored on the way.

use std::ops::Range;

use candle_core::Tensor;
use rayon::prelude::*;

use super::super::activation::{gated, gated_slopes};
use super::super::amx::{self, Packed, Side};
use super::super::gemm::{Accumulate, Sizes, ViewMut, product};
use super::super::math::vectorised;
use super::super::tile::{Tile, tiles};
use super::blocks::{CHANNELS, Matrix, TERMS, TOKENS, TokenRows, blocks, by_sample};
use super::packed;
use crate::Result;
use crate::nn::layout::{Direction, Layout, Vectors};
use crate::nn::parameters::GegluCall;
use crate::nn::tensor::numbers_of;

/// The two halves of a block of a layer's output, before a GEGLU.
struct Halves<'a> {
    input: TokenRows<'a>,
    matrix: Matrix<'a>,
    bias: Option<&'a [f32]>,
    inner: usize,
}

/// Where a task of a GEGLU keeps its blocks.
#[derive(Default)]
struct Buffers {
    values: Vec<f32>,
    gates: Vec<f32>,
    weight: Vec<f32>,
}

impl Halves<'_> {
    /// Computes both halves for these tokens of a sample and columns of the inner width, `[tokens, columns]` each.
    fn compute(
        &self,
        sample: usize,
        tokens: Range<usize>,
        columns: Range<usize>,
        buffers: &mut Buffers,
    ) {
        let (m, n) = (tokens.len(), columns.len());
        let Buffers {
            values,
            gates,
            weight,
        } = buffers;
        for (half, out) in [values, gates].into_iter().enumerate() {
            let channels = columns.start + half * self.inner..columns.end + half * self.inner;
            self.lay_bias(m, channels.clone(), out);
            for terms in blocks(self.input.width, TERMS) {
                let k = terms.len();
                let x = self.input.from(sample, tokens.start, terms.start);
                let matrix = self.matrix.block(terms, channels.clone(), weight);
                let out = ViewMut::rows(out, n);
                product(Sizes { m, k, n }, 1.0, x, matrix, out, Accumulate::Add);
            }
        }
    }
}

/// Calls `f` with the [`Halves`] of a layer: its inner width is half of what it puts out.
fn with_halves<R>(call: GegluCall, f: impl FnOnce(&Halves) -> Result<R>) -> Result<R> {
    let width = call.weight.shape().1;
    let x = call.x.contiguous()?;
    let values = numbers_of(&x)?;
    let input = TokenRows::new(&x, &values, Layout::Tokens, width)?;
    let bias = call.bias.map(|b| b.to_vec1::<f32>()).transpose()?;
    call.weight.with(|numbers| {
        f(&Halves {
            input,
            matrix: Matrix {
                weight: numbers,
                width,
                direction: Direction::Forward,
            },
            bias: bias.as_deref(),
            inner: call.inner(),
        })
    })
}

/// Inner columns of a tile on AMX: both halves of the weight, packed, fit into the second cache.
const COLUMNS: usize = 64;

/// An output to be cut into tiles.
struct Tiled<'a> {
    out: &'a mut [f32],
    /// Of a sample, and of a row.
    len: usize,
    width: usize,
}

impl<'a> Tiled<'a> {
    fn cut(self, rows: usize, columns: usize) -> Vec<(usize, Tile<'a>)> {
        let Self { out, len, width } = self;
        by_sample(out, len, |out| tiles(out, width, rows, columns))
    }
}

impl Halves<'_> {
    /// Calls `f` with each tile of the output, of `rows` rows a token, its sample, and both halves of its tokens and
    /// columns.
    fn each(&self, rows: usize, out: Tiled, f: impl Fn(usize, &mut Tile, &mut Buffers) + Sync) {
        if amx::available() {
            return self.each_packed(rows, out.cut(rows * TOKENS, COLUMNS), f);
        }
        let tiles = out.cut(rows * TOKENS, CHANNELS).into_par_iter();
        tiles.for_each_init(Buffers::default, |buffers, (sample, mut tile)| {
            let (token, column) = (tile.from.0 / rows, tile.from.1);
            let (tokens, columns) = (tile.rows / rows, tile.columns);
            let (tokens, columns) = (token..token + tokens, column..column + columns);
            self.compute(sample, tokens, columns, buffers);
            f(sample, &mut tile, buffers);
        });
    }

    /// [`Halves::each`] on AMX, for tiles of [`TOKENS`] and [`COLUMNS`].
    fn each_packed(
        &self,
        rows: usize,
        cut: Vec<(usize, Tile)>,
        f: impl Fn(usize, &mut Tile, &mut Buffers) + Sync,
    ) {
        let (samples, tokens) = packed::at_once(&self.input);
        let across = self.input.vectors.tokens.div_ceil(tokens.max(1));
        let parts = packed::parts(&self.input);
        let mut tiles: Vec<Vec<Vec<(usize, Tile)>>> = parts
            .iter()
            .map(|_| {
                (0..self.inner.div_ceil(COLUMNS))
                    .map(|_| Vec::new())
                    .collect()
            })
            .collect();
        for (sample, tile) in cut {
            let part = sample / samples * across + tile.from.0 / rows / tokens;
            tiles[part][tile.from.1 / COLUMNS].push((sample, tile));
        }
        let width = self.input.width;
        for (part, tiles) in parts.iter().zip(tiles) {
            packed::with_tokens(&self.input, part, Side::Left, |tokens| {
                let blocks = tiles.into_par_iter().enumerate();
                let buffers = <(Buffers, Vec<f32>, Vec<f32>)>::default;
                blocks.for_each_init(
                    buffers,
                    |(buffers, converted, converted_too), (i, mut tiles)| {
                        let of_values = i * COLUMNS..self.inner.min((i + 1) * COLUMNS);
                        let of_gates = of_values.start + self.inner..of_values.end + self.inner;
                        let (matrix, side, all) = (&self.matrix, Side::Right, 0..width);
                        let (values, gates) = (of_values.clone(), of_gates.clone());
                        let mut run = |values: Packed, gates: Packed| {
                            for (sample, mut tile) in tiles.drain(..) {
                                let (first, n) = (tile.from.0 / rows, tile.rows / rows);
                                let first = first - part.tokens.start;
                                let tokens = tokens.of(sample).vectors(first, n);
                                let halves = [(values, of_values.start), (gates, of_gates.start)];
                                self.compute_packed(tokens, halves, buffers);
                                f(sample, &mut tile, buffers);
                            }
                        };
                        packed::with_block(
                            matrix,
                            side,
                            all.clone(),
                            values,
                            converted,
                            |values| {
                                packed::with_block(
                                    matrix,
                                    side,
                                    all,
                                    gates,
                                    converted_too,
                                    |gates| {
                                        run(values, gates);
                                    },
                                );
                            },
                        );
                    },
                );
            });
        }
    }

    /// Both halves for these tokens: of each the packed columns and the first one's bias.
    fn compute_packed(&self, tokens: Packed, halves: [(Packed, usize); 2], buffers: &mut Buffers) {
        let outputs = [&mut buffers.values, &mut buffers.gates];
        for ((weight, channel), out) in halves.into_iter().zip(outputs) {
            let (m, n) = (tokens.count(), weight.count());
            self.lay_bias(m, channel..channel + n, out);
            for mut tile in tiles(out, n, m, n) {
                tile.add_packed(tokens, weight);
            }
        }
    }

    /// Puts `m` times the bias of some channels into `out`.
    fn lay_bias(&self, m: usize, channels: Range<usize>, out: &mut Vec<f32>) {
        out.clear();
        match self.bias {
            Some(bias) => (0..m).for_each(|_| out.extend(&bias[channels.clone()])),
            None => out.resize(m * channels.len(), 0.0),
        }
    }
}

pub(in super::super) fn geglu(call: GegluCall) -> Result<Tensor> {
    with_halves(call, |halves| {
        let inner = halves.inner;
        let Vectors { samples, tokens } = halves.input.vectors;
        let mut out = vec![0f32; samples * tokens * inner];
        let tiled = Tiled {
            out: &mut out,
            len: tokens * inner,
            width: inner,
        };
        halves.each(1, tiled, |_, tile, buffers| {
            let n = tile.columns;
            vectorised(
                #[inline(always)]
                || {
                    for i in 0..tile.rows {
                        let of_row = i * n..(i + 1) * n;
                        let halves = buffers.values[of_row.clone()]
                            .iter()
                            .zip(&buffers.gates[of_row]);
                        for (out, (&value, &gate)) in tile.row(i).iter_mut().zip(halves) {
                            *out = gated(value, gate);
                        }
                    }
                },
            );
        });
        Ok(Tensor::from_vec(out, call.shape(inner), call.x.device())?)
    })
}

pub(in super::super) fn geglu_gradient(call: GegluCall, grad: &Tensor) -> Result<Tensor> {
    let grad = grad.contiguous()?;
    let grads = numbers_of(&grad)?;
    let grads = &*grads;
    with_halves(call, |halves| {
        let inner = halves.inner;
        let Vectors { samples, tokens } = halves.input.vectors;
        let of_sample = tokens * inner;
        let mut out = vec![0f32; samples * 2 * of_sample];
        // Rows of `inner` values: first of a token's value, then of its gate.
        let tiled = Tiled {
            out: &mut out,
            len: 2 * of_sample,
            width: inner,
        };
        halves.each(2, tiled, |sample, tile, buffers| {
            let grads = &grads[sample * of_sample..];
            let (token, column) = (tile.from.0 / 2, tile.from.1);
            let (tokens, n) = (tile.rows / 2, tile.columns);
            let Buffers { values, gates, .. } = buffers;
            vectorised(
                #[inline(always)]
                || {
                    for i in 0..tokens {
                        let of_row = i * n..(i + 1) * n;
                        let grad = &grads[(token + i) * inner + column..][..n];
                        let halves = values[of_row.clone()]
                            .iter_mut()
                            .zip(&mut gates[of_row.clone()]);
                        for ((value, gate), &grad) in halves.zip(grad) {
                            let (to_value, to_gate) = gated_slopes(*value, *gate);
                            (*value, *gate) = (grad * to_value, grad * to_gate);
                        }
                        tile.row(2 * i).copy_from_slice(&values[of_row.clone()]);
                        tile.row(2 * i + 1).copy_from_slice(&gates[of_row]);
                    }
                },
            );
        });
        Ok(Tensor::from_vec(
            out,
            call.shape(2 * inner),
            call.x.device(),
        )?)
    })
}

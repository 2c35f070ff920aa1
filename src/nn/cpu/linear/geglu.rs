//! Linear layers with a GEGLU behind: neither their whole output nor its gradient is stored on the way.

use std::ops::Range;

use candle_core::Tensor;
use rayon::prelude::*;

use super::super::activation::{gated, gated_slopes};
use super::super::bf16::{Lines, Packed, Side, add_product, pack, packed_len};
use super::super::gemm::{Accumulate, Sizes, View, ViewMut, product};
use super::super::math::vectorised;
use super::super::scratch;
use super::super::tile::{by_sample, tiles};
use super::super::weight::with_f32;
use super::blocks::{CHANNELS, Matrix, TERMS, TOKENS, TokenRows, blocks};
use crate::Result;
use crate::nn::dispatch::in_bf16;
use crate::nn::layout::{Direction, Layout, Vectors};
use crate::nn::parameters::GegluCall;
use crate::nn::tensor::numbers_of;

/// The two halves of a block of a layer's output, before a GEGLU.
struct Halves<'a> {
    input: TokenRows<'a>,
    matrix: Matrix<'a>,
    bias: Option<&'a [f32]>,
    inner: usize,
    /// The samples' tokens and the matrix, where their products are taken in bf16.
    packed: Option<(&'a [f32], &'a [f32])>,
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
            out.clear();
            match self.bias {
                Some(bias) => (0..m).for_each(|_| out.extend(&bias[channels.clone()])),
                None => out.resize(m * n, 0.0),
            }
            if let Some((x, matrix)) = self.packed {
                let (k, tokens_of_sample) = (self.input.width, self.input.vectors.tokens);
                let x = &x[sample * packed_len(tokens_of_sample, k)..];
                let matrix = &matrix[half * packed_len(self.inner, k)..];
                let (a, b) = (Packed::new(x, k).from(tokens.start), Packed::new(matrix, k));
                for mut tile in tiles(out, n.max(1), m.max(1), n.max(1)) {
                    add_product(a, b.from(columns.start), &mut tile);
                }
                continue;
            }
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
        let halves = Halves {
            input,
            matrix: Matrix {
                weight: numbers,
                width,
                direction: Direction::Forward,
            },
            bias: bias.as_deref(),
            inner: call.inner(),
            packed: None,
        };
        match in_bf16() {
            true => with_f32(call.weight, |weight| packed(halves, weight, f))?,
            false => f(&halves),
        }
    })
}

/// Calls `f` with halves whose products are taken in bf16, of a weight `[2·inner, k]`.
fn packed<R>(halves: Halves, weight: &[f32], f: impl FnOnce(&Halves) -> Result<R>) -> Result<R> {
    let (k, inner) = (halves.input.width, halves.inner);
    let Vectors { samples, tokens } = halves.input.vectors;
    let (of_sample, of_half) = (packed_len(tokens, k), packed_len(inner, k));
    scratch::with(samples * of_sample, |x| {
        for (sample, x) in x.chunks_mut(of_sample.max(1)).enumerate() {
            let rows = Lines::rows(halves.input.from(sample, 0, 0));
            pack(rows, tokens, k, Side::Left, x);
        }
        scratch::with(2 * of_half, |matrix| {
            for (half, matrix) in matrix.chunks_mut(of_half.max(1)).enumerate() {
                let columns = View::rows(&weight[half * inner * k..], k).transposed();
                pack(Lines::columns(columns), inner, k, Side::Right, matrix);
            }
            f(&Halves {
                packed: Some((x, matrix)),
                ..halves
            })
        })
    })
}

pub(in super::super) fn geglu(call: GegluCall) -> Result<Tensor> {
    with_halves(call, |halves| {
        let inner = halves.inner;
        let Vectors { samples, tokens } = halves.input.vectors;
        let mut out = vec![0f32; samples * tokens * inner];
        by_sample(&mut out, tokens * inner, |out| {
            tiles(out, inner, TOKENS, CHANNELS)
        })
        .into_par_iter()
        .for_each_init(Buffers::default, |buffers, (sample, mut tile)| {
            let (row, column) = tile.from;
            let n = tile.columns;
            halves.compute(sample, row..row + tile.rows, column..column + n, buffers);
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
        by_sample(&mut out, 2 * of_sample, |out| {
            tiles(out, inner, 2 * TOKENS, CHANNELS)
        })
        .into_par_iter()
        .for_each_init(Buffers::default, |buffers, (sample, mut tile)| {
            let grads = &grads[sample * of_sample..];
            let (token, column) = (tile.from.0 / 2, tile.from.1);
            let (tokens, n) = (tile.rows / 2, tile.columns);
            halves.compute(sample, token..token + tokens, column..column + n, buffers);
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

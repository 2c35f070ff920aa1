//! Linear layers with a GEGLU behind: neither their whole output nor its gradient is stored on the way.

use std::ops::Range;

use candle_core::Tensor;
use rayon::prelude::*;

use super::super::activation::{gated, to_slopes};
use super::super::bf16::{Lines, Packed, Side, add_product, pack, packed_len};
use super::super::gemm::{Accumulate, Panels, View, ViewMut, product_of_panels};
use super::super::math::vectorised;
use super::super::scratch;
use super::super::tile::{by_sample, tiles};
use super::super::weight::with_f32;
use super::super::zeros::zeros;
use super::blocks::{Matrix, TOKENS, Task, TokenRows, blocks};
use crate::Result;
use crate::nn::dispatch::in_bf16;
use crate::nn::layout::{Direction, Layout, Vectors};
use crate::nn::parameters::GegluCall;
use crate::nn::tensor::numbers_of;

/// Most columns of each half that one task takes.
const COLUMNS: usize = 128;

/// The two halves of a layer's output, before a GEGLU: value and gate.
struct Halves<'a> {
    input: TokenRows<'a>,
    matrix: Matrix<'a>,
    bias: Option<&'a [f32]>,
    inner: usize,
    /// The samples' tokens and the matrix, where their products are taken in bf16.
    packed: Option<(&'a [f32], &'a [f32])>,
}

/// Some columns of the matrix, of either half, as products read them.
enum Strip<'a> {
    Panels([Panels<'a>; 2]),
    /// With all tokens.
    Packed(&'a [f32], [Packed<'a>; 2]),
}

/// Where a task of a GEGLU keeps its blocks.
#[derive(Default)]
struct Buffers {
    values: Vec<f32>,
    gates: Vec<f32>,
}

impl Halves<'_> {
    /// The samples, and the tokens of each, whose products are taken apart.
    fn vectors(&self) -> Vectors {
        let Vectors { samples, tokens } = self.input.vectors;
        match self.packed {
            Some(_) => self.input.vectors,
            None => Vectors {
                samples: 1,
                tokens: samples * tokens,
            },
        }
    }

    /// The tokens of one task, and the columns of either half.
    fn task(&self) -> Task {
        match self.packed {
            Some(_) => Task {
                rows: TOKENS,
                columns: COLUMNS,
            },
            None => Task::of(self.vectors().tokens, self.inner, COLUMNS),
        }
    }

    /// Calls `f` with these columns of either half.
    fn with_strip(&self, columns: Range<usize>, f: impl FnOnce(&Strip)) {
        let k = self.input.width;
        if let Some((x, matrix)) = self.packed {
            let of_half = packed_len(self.inner, k);
            let half = |i: usize| Packed::new(&matrix[i * of_half..], k).from(columns.start);
            return f(&Strip::Packed(x, [half(0), half(1)]));
        }
        let half = |i: usize| columns.start + i * self.inner..columns.end + i * self.inner;
        let mut buffer = Vec::new();
        self.matrix.with_panels(k, half(0), &mut buffer, |values| {
            let mut buffer = Vec::new();
            self.matrix.with_panels(k, half(1), &mut buffer, |gates| {
                f(&Strip::Panels([values, gates]));
            });
        });
    }

    /// Computes both halves for these tokens of a sample and columns of the inner width, `[tokens, columns]` each.
    fn compute(
        &self,
        sample: usize,
        tokens: Range<usize>,
        columns: Range<usize>,
        strip: &Strip,
        buffers: &mut Buffers,
    ) {
        let (m, n, k) = (tokens.len(), columns.len(), self.input.width);
        let Buffers { values, gates } = buffers;
        for (half, out) in [values, gates].into_iter().enumerate() {
            let channels = columns.start + half * self.inner..columns.end + half * self.inner;
            out.clear();
            match self.bias {
                Some(bias) => (0..m).for_each(|_| out.extend(&bias[channels.clone()])),
                None => out.resize(m * n, 0.0),
            }
            match strip {
                Strip::Panels(halves) => {
                    let x = View::rows(&self.input.values[tokens.start * k..], k);
                    let out = ViewMut::rows(out, n);
                    product_of_panels(m, x, halves[half], out, Accumulate::Add);
                }
                Strip::Packed(x, halves) => {
                    let x = &x[sample * packed_len(self.input.vectors.tokens, k)..];
                    let x = Packed::new(x, k).from(tokens.start);
                    for mut tile in tiles(out, n.max(1), m.max(1), n.max(1)) {
                        add_product(x, halves[half], &mut tile);
                    }
                }
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
    Ok(forward(call, false)?.0)
}

pub(in super::super) fn geglu_keeping(call: GegluCall) -> Result<(Tensor, Tensor)> {
    let (y, halves) = forward(call, true)?;
    let shape = call.shape(2 * call.inner());
    Ok((y, Tensor::from_vec(halves, shape, call.x.device())?))
}

/// The output, and where they are to be kept both halves of each row.
fn forward(call: GegluCall, keep: bool) -> Result<(Tensor, Vec<f32>)> {
    with_halves(call, |halves| {
        let (inner, Vectors { samples, tokens }) = (halves.inner, halves.vectors());
        let (Task { rows, columns }, of_sample) = (halves.task(), tokens * inner);
        let mut out = zeros(samples * of_sample);
        let cut = by_sample(&mut out, of_sample, |out| tiles(out, inner, rows, columns));
        // Rows of `inner` values, as in `geglu_gradient`.
        let mut kept = zeros(if keep { 2 * samples * of_sample } else { 0 });
        let of_kept = by_sample(&mut kept, 2 * of_sample, |kept| {
            tiles(kept, inner, 2 * rows, columns)
        });
        let of_kept = of_kept.into_iter().map(|(_, tile)| Some(tile));
        let of_kept = of_kept.chain(std::iter::repeat_with(|| None));
        let cut: Vec<_> = cut.into_iter().zip(of_kept).collect();
        cut.into_par_iter().for_each_init(
            Buffers::default,
            |buffers, ((sample, mut tile), mut kept)| {
                let ((row, column), n) = (tile.from, tile.columns);
                let columns = column..column + n;
                halves.with_strip(columns.clone(), |strip| {
                    for rows in blocks(tile.rows, TOKENS) {
                        let tokens = row + rows.start..row + rows.end;
                        halves.compute(sample, tokens, columns.clone(), strip, buffers);
                        let values = buffers.values.chunks_exact(n);
                        let halves = rows.zip(values.zip(buffers.gates.chunks_exact(n)));
                        vectorised(
                            #[inline(always)]
                            || {
                                for (i, (values, gates)) in halves {
                                    let halves = values.iter().zip(gates);
                                    let out = tile.row(i).iter_mut().zip(halves);
                                    for (out, (&value, &gate)) in out {
                                        *out = gated(value, gate);
                                    }
                                    if let Some(kept) = &mut kept {
                                        kept.row(2 * i).copy_from_slice(values);
                                        kept.row(2 * i + 1).copy_from_slice(gates);
                                    }
                                }
                            },
                        );
                    }
                });
            },
        );
        let y = Tensor::from_vec(out, call.shape(inner), call.x.device())?;
        Ok((y, kept))
    })
}

pub(in super::super) fn geglu_gradient(call: GegluCall, grad: &Tensor) -> Result<Tensor> {
    let grad = grad.contiguous()?;
    let grads = numbers_of(&grad)?;
    let grads = &*grads;
    with_halves(call, |halves| {
        let (inner, Vectors { samples, tokens }) = (halves.inner, halves.vectors());
        let of_sample = tokens * inner;
        let mut out = zeros(samples * 2 * of_sample);
        let Task { rows, columns } = halves.task();
        // Rows of `inner` values: first of a token's value, then of its gate.
        by_sample(&mut out, 2 * of_sample, |out| {
            tiles(out, inner, 2 * rows, columns)
        })
        .into_par_iter()
        .for_each_init(Buffers::default, |buffers, (sample, mut tile)| {
            let grads = &grads[sample * of_sample..];
            let (token, column) = (tile.from.0 / 2, tile.from.1);
            let n = tile.columns;
            let columns = column..column + n;
            halves.with_strip(columns.clone(), |strip| {
                for rows in blocks(tile.rows / 2, TOKENS) {
                    let tokens = token + rows.start..token + rows.end;
                    halves.compute(sample, tokens, columns.clone(), strip, buffers);
                    let Buffers { values, gates } = &mut *buffers;
                    let halves = values.chunks_exact_mut(n).zip(gates.chunks_exact_mut(n));
                    vectorised(
                        #[inline(always)]
                        || {
                            for (i, (values, gates)) in rows.zip(halves) {
                                let grad = &grads[(token + i) * inner + column..][..n];
                                to_slopes(values, gates, grad);
                                tile.row(2 * i).copy_from_slice(values);
                                tile.row(2 * i + 1).copy_from_slice(gates);
                            }
                        },
                    );
                }
            });
        });
        Ok(Tensor::from_vec(
            out,
            call.shape(2 * inner),
            call.x.device(),
        )?)
    })
}

//! Linear layers: tiles of the output, each a sum of products with blocks of the weight.

mod blocks;
mod geglu;

use std::ops::Range;

use candle_core::Tensor;
use rayon::prelude::*;

use self::blocks::{CHANNELS, Matrix, TERMS, TOKENS, Task, TokenRows, blocks};
pub(super) use self::geglu::{geglu, geglu_gradient, geglu_keeping};
use super::bf16::{Lines, Packed, Side, add_product, pack, packed_len};
use super::gemm::{Accumulate, View};
use super::scratch;
use super::tile::{Tile, by_sample, tiles};
use super::weight::with_f32;
use super::zeros::zeros;
use crate::Result;
use crate::nn::dispatch::in_bf16;
use crate::nn::layout::{Direction, Layout, Vectors};
use crate::nn::parameters::LinearCall;
use crate::nn::tensor::numbers_of;

pub(super) fn apply(call: LinearCall) -> Result<Tensor> {
    let widths = call.direction.widths(call.weight.shape());
    let x = call.x.contiguous()?;
    let values = numbers_of(&x)?;
    let input = TokenRows::new(&x, &values, call.from, widths.input)?;
    let Vectors { samples, tokens } = input.vectors;
    let bias = call.bias.map(|b| b.to_vec1::<f32>()).transpose()?;
    let onto = call.onto.map(Tensor::contiguous).transpose()?;
    let onto = onto.as_ref().map(numbers_of).transpose()?;
    let output = Output {
        tokens,
        channels: widths.output,
        layout: call.to,
        bias: bias.as_deref(),
        onto: onto.as_deref(),
    };
    let mut out = zeros(samples * tokens * widths.output);
    if in_bf16() {
        with_f32(call.weight, |weight| {
            let weight = View::rows(weight, call.weight.shape().1);
            let matrix = match call.direction {
                Direction::Forward => weight.transposed(),
                Direction::Backward => weight,
            };
            output.multiply_in_bf16(&input, matrix, &mut out);
        })?;
        return Ok(Tensor::from_vec(out, call.shape, x.device())?);
    }
    call.weight.with(|numbers| {
        let matrix = Matrix {
            weight: numbers,
            width: call.weight.shape().1,
            direction: call.direction,
        };
        if (call.from, call.to) == (Layout::Tokens, Layout::Tokens) {
            output.multiply_rows(&values, widths.input, &matrix, &mut out);
            return Ok(());
        }
        output.cut(&mut out).into_par_iter().for_each_init(
            Vec::new,
            |buffer, (sample, mut tile)| {
                let rows = 0..tile.rows;
                output.lay_in(sample, rows, &mut tile);
                output.multiply(&input, &matrix, sample, &mut tile, buffer);
            },
        );
        Ok(())
    })?;
    Ok(Tensor::from_vec(out, call.shape, x.device())?)
}

/// What a layer puts out, and what its products are added to.
struct Output<'a> {
    /// Of a sample.
    tokens: usize,
    channels: usize,
    layout: Layout,
    /// For each channel.
    bias: Option<&'a [f32]>,
    /// As large and laid out as the output.
    onto: Option<&'a [f32]>,
}

impl Output<'_> {
    /// The tiles of each sample, with its number.
    fn cut<'a>(&self, out: &'a mut [f32]) -> Vec<(usize, Tile<'a>)> {
        by_sample(out, self.tokens * self.channels, |out| match self.layout {
            Layout::Tokens => tiles(out, self.channels, TOKENS, CHANNELS),
            Layout::Channels => tiles(out, self.tokens, CHANNELS, TOKENS),
        })
    }

    /// Puts into some rows of a tile what its products are added to.
    fn lay_in(&self, sample: usize, rows: Range<usize>, tile: &mut Tile) {
        let (row, column) = tile.from;
        let width = match self.layout {
            Layout::Tokens => self.channels,
            Layout::Channels => self.tokens,
        };
        let offset = sample * self.tokens * self.channels;
        for i in rows {
            let out = tile.row(i);
            if let Some(onto) = self.onto {
                let from = offset + (row + i) * width + column;
                out.copy_from_slice(&onto[from..from + out.len()]);
            }
            match (self.bias, self.layout) {
                (Some(bias), Layout::Tokens) => {
                    for (out, bias) in out.iter_mut().zip(&bias[column..]) {
                        *out += bias;
                    }
                }
                (Some(bias), Layout::Channels) => {
                    let bias = bias[row + i];
                    out.iter_mut().for_each(|out| *out += bias);
                }
                (None, _) => {}
            }
        }
    }

    /// Computes all of the output from tokens to tokens: `x: [tokens, k]`, of all samples. Each task lays some columns
    /// of the matrix out as panels once for all its rows.
    fn multiply_rows(&self, x: &[f32], k: usize, matrix: &Matrix, out: &mut [f32]) {
        let n = self.channels;
        let Task { rows, columns } = Task::of(out.len() / n.max(1), n, CHANNELS);
        tiles(out, n.max(1), rows, columns)
            .into_par_iter()
            .for_each_init(Vec::new, |buffer, mut tile| {
                let (first, column) = tile.from;
                let channels = column..column + tile.columns;
                matrix.with_panels(k, channels, buffer, |panels| {
                    // So few rows at a time that they and their sums stay in a core's second cache.
                    for rows in blocks(tile.rows, TOKENS) {
                        self.lay_in(0, rows.clone(), &mut tile);
                        let x = View::rows(&x[(first + rows.start) * k..], k);
                        tile.product_of_panels(rows, x, panels, Accumulate::Add);
                    }
                });
            });
    }

    /// Adds to a tile the product of its tokens with its columns of the matrix.
    fn multiply(
        &self,
        input: &TokenRows,
        matrix: &Matrix,
        sample: usize,
        tile: &mut Tile,
        buffer: &mut Vec<f32>,
    ) {
        let (row, column) = tile.from;
        let (token, channels) = match self.layout {
            Layout::Tokens => (row, column..column + tile.columns),
            Layout::Channels => (column, row..row + tile.rows),
        };
        for terms in blocks(input.width, TERMS) {
            let (x, k) = (input.from(sample, token, terms.start), terms.len());
            let m = matrix.block(terms, channels.clone(), buffer);
            let (a, b) = match self.layout {
                Layout::Tokens => (x, m),
                Layout::Channels => (m.transposed(), x.transposed()),
            };
            tile.product(k, 1.0, a, b, Accumulate::Add);
        }
    }
}

impl Output<'_> {
    /// Computes all of the output with a matrix `[input, output]`, in bf16.
    fn multiply_in_bf16(&self, input: &TokenRows, matrix: View, out: &mut [f32]) {
        let (k, tokens, channels) = (input.width, self.tokens, self.channels);
        let (x_side, matrix_side) = match self.layout {
            Layout::Tokens => (Side::Left, Side::Right),
            Layout::Channels => (Side::Right, Side::Left),
        };
        scratch::with(packed_len(channels, k), |words| {
            pack(Lines::columns(matrix), channels, k, matrix_side, words);
            let matrix = Packed::new(words, k);
            for (sample, out) in out.chunks_mut((tokens * channels).max(1)).enumerate() {
                scratch::with(packed_len(tokens, k), |words| {
                    let x = Lines::rows(input.from(sample, 0, 0));
                    pack(x, tokens, k, x_side, words);
                    let x = Packed::new(words, k);
                    let (a, b) = match self.layout {
                        Layout::Tokens => (x, matrix),
                        Layout::Channels => (matrix, x),
                    };
                    self.cut(out).into_par_iter().for_each(|(_, mut tile)| {
                        let (row, column) = tile.from;
                        let rows = 0..tile.rows;
                        self.lay_in(sample, rows, &mut tile);
                        add_product(a.from(row), b.from(column), &mut tile);
                    });
                });
            }
        });
    }
}

pub(super) fn weight_gradient(x: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let (x, grad) = (x.contiguous()?, grad.contiguous()?);
    let (from, to) = (x.dims()[x.rank() - 1], grad.dims()[grad.rank() - 1]);
    let (xs, gs) = (numbers_of(&x)?, numbers_of(&grad)?);
    let (xs, gs) = (&*xs, &*gs);
    let tokens = xs.len() / from.max(1);
    let mut out = zeros(from * to);
    tiles(&mut out, from.max(1), TOKENS, CHANNELS)
        .into_par_iter()
        .for_each(|mut tile| {
            let (row, column) = tile.from;
            let grad = View::rows(&gs[row..], to).transposed();
            let x = View::rows(&xs[column..], from);
            tile.product(tokens, 1.0, grad, x, Accumulate::Replace);
        });
    Ok(Tensor::from_vec(out, (to, from), x.device())?)
}

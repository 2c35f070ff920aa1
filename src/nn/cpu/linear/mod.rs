//! Linear layers: tiles of the output, each a sum of products with blocks of the weight.

mod geglu;

use std::ops::Range;

use candle_core::Tensor;
use rayon::prelude::*;

pub(super) use self::geglu::{geglu, geglu_gradient};
use super::gemm::{Accumulate, Strides, View};
use super::tile::{Tile, tiles};
use super::weight::block;
use crate::Result;
use crate::nn::layout::{Direction, Layout, Vectors};
use crate::nn::parameters::LinearCall;
use crate::nn::tensor::numbers_of;
use crate::nn::weight::Numbers;

/// Tokens and channels of a tile.
const TOKENS: usize = 256;
const CHANNELS: usize = 320;
/// Terms of a sum for which a block of a weight is converted at a time.
const TERMS: usize = 512;

/// The vectors that a layer is given, each of `width` values. No product takes those of two samples, because its size may
/// decide how its sums are rounded: a picture is the same beside any others.
struct Input<'a> {
    values: &'a [f32],
    vectors: Vectors,
    width: usize,
    layout: Layout,
}

impl<'a> Input<'a> {
    /// The vectors of a tensor whose numbers are `values`.
    fn new(x: &Tensor, values: &'a [f32], layout: Layout, width: usize) -> Result<Self> {
        Ok(Self {
            values,
            vectors: layout.vectors(x, width)?,
            width,
            layout,
        })
    }

    /// The tokens of a sample from `token` on and their values from `term` on, as a matrix of rows of values.
    fn from(&self, sample: usize, token: usize, term: usize) -> View<'_> {
        let tokens = self.vectors.tokens;
        let start = sample * tokens * self.width;
        match self.layout {
            Layout::Tokens => View::rows(
                &self.values[start + token * self.width + term..],
                self.width,
            ),
            Layout::Channels => {
                View::rows(&self.values[start + term * tokens + token..], tokens).transposed()
            }
        }
    }
}

/// The matrix that input vectors are multiplied with.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    weight: Numbers<'a>,
    /// Of a row of the weight.
    width: usize,
    direction: Direction,
}

impl Matrix<'_> {
    /// Its rows `terms` and columns `channels`.
    fn block<'b>(
        &'b self,
        terms: Range<usize>,
        channels: Range<usize>,
        buffer: &'b mut Vec<f32>,
    ) -> View<'b> {
        match self.direction {
            Direction::Forward => {
                block(self.weight, self.width, channels, terms, buffer).transposed()
            }
            Direction::Backward => block(self.weight, self.width, terms, channels, buffer),
        }
    }
}

/// Blocks of at most `len` of a range from 0 on.
fn blocks(whole: usize, len: usize) -> impl Iterator<Item = Range<usize>> {
    (0..whole)
        .step_by(len)
        .map(move |from| from..whole.min(from + len))
}

pub(super) fn apply(call: LinearCall) -> Result<Tensor> {
    let widths = call.direction.widths(call.weight.shape());
    let x = call.x.contiguous()?;
    let values = numbers_of(&x)?;
    let input = Input::new(&x, &values, call.from, widths.input)?;
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
    let mut out = vec![0f32; samples * tokens * widths.output];
    let cut = output.cut(&mut out);
    call.weight.with(|numbers| {
        let matrix = Matrix {
            weight: numbers,
            width: call.weight.shape().1,
            direction: call.direction,
        };
        cut.into_par_iter()
            .for_each_init(Vec::new, |buffer, (sample, mut tile)| {
                output.lay_in(sample, &mut tile);
                output.multiply(&input, &matrix, sample, &mut tile, buffer);
            });
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

    /// Puts into a tile what its products are added to.
    fn lay_in(&self, sample: usize, tile: &mut Tile) {
        let (row, column) = tile.from;
        let width = match self.layout {
            Layout::Tokens => self.channels,
            Layout::Channels => self.tokens,
        };
        let offset = sample * self.tokens * self.channels;
        for i in 0..tile.rows {
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

    /// Adds to a tile the product of its tokens with its columns of the matrix.
    fn multiply(
        &self,
        input: &Input,
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

/// The tiles that `cut` makes of each sample of `len` values, with its number.
fn by_sample<'a>(
    out: &'a mut [f32],
    len: usize,
    cut: impl Fn(&'a mut [f32]) -> Vec<Tile<'a>>,
) -> Vec<(usize, Tile<'a>)> {
    out.chunks_mut(len.max(1))
        .enumerate()
        .flat_map(|(i, out)| cut(out).into_iter().map(move |tile| (i, tile)))
        .collect()
}

pub(super) fn weight_gradient(x: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let (x, grad) = (x.contiguous()?, grad.contiguous()?);
    let (from, to) = (x.dims()[x.rank() - 1], grad.dims()[grad.rank() - 1]);
    let (xs, gs) = (numbers_of(&x)?, numbers_of(&grad)?);
    let (xs, gs) = (&*xs, &*gs);
    let tokens = xs.len() / from.max(1);
    let mut out = vec![0f32; from * to];
    tiles(&mut out, from.max(1), TOKENS, CHANNELS)
        .into_par_iter()
        .for_each(|mut tile| {
            let (row, column) = tile.from;
            let grad = View::new(&gs[row..], Strides::rows(to).transposed());
            let x = View::rows(&xs[column..], from);
            tile.product(tokens, 1.0, grad, x, Accumulate::Replace);
        });
    Ok(Tensor::from_vec(out, (to, from), x.device())?)
}

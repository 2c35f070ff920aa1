//! Linear layers on the CPU: tiles of the output, each a sum of products with blocks of the weight.

mod geglu;

use std::ops::Range;

use candle_core::Tensor;
use rayon::prelude::*;

pub(super) use self::geglu::{geglu, geglu_gradient};
use super::Weight;
use super::gemm::{Onto, Strides};
use super::linear::Order;
use super::tile::{Tile, tiles};
use super::values::{misfit, values_of};
use super::weight::Numbers;
use crate::Result;

/// Tokens and channels of a tile.
const TOKENS: usize = 256;
const CHANNELS: usize = 320;
/// Terms of a sum for which a block of a weight is converted at a time.
const TERMS: usize = 512;

/// Which way a layer is walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// `x·Wᵀ`.
    Forward,
    /// `grad·W`.
    Backward,
}

impl Side {
    /// How many values the vectors have that are given, and those that come out.
    pub(super) fn widths(self, weight: &Weight) -> (usize, usize) {
        let (rows, columns) = weight.shape();
        match self {
            Self::Forward => (columns, rows),
            Self::Backward => (rows, columns),
        }
    }
}

/// The vectors that a layer is given: `samples` times `tokens` of `width` values. No product takes those of two samples,
/// because its size may decide how its sums are rounded: a picture is the same beside any others.
struct Input<'a> {
    values: &'a [f32],
    samples: usize,
    tokens: usize,
    width: usize,
    order: Order,
}

impl Input<'_> {
    /// The tokens of a sample from `token` on and their values from `term` on, as a matrix of rows of values.
    fn from(&self, sample: usize, token: usize, term: usize) -> (&[f32], Strides) {
        let start = sample * self.tokens * self.width;
        match self.order {
            Order::Tokens => (
                &self.values[start + token * self.width + term..],
                Strides::rows(self.width),
            ),
            Order::Channels => (
                &self.values[start + term * self.tokens + token..],
                Strides::rows(self.tokens).transposed(),
            ),
        }
    }
}

/// The matrix that input vectors are multiplied with.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    weight: Numbers<'a>,
    /// Of a row of the weight.
    width: usize,
    side: Side,
}

impl Matrix<'_> {
    /// Its rows `terms` and columns `channels`.
    fn block<'b>(
        &'b self,
        terms: Range<usize>,
        channels: Range<usize>,
        buffer: &'b mut Vec<f32>,
    ) -> (&'b [f32], Strides) {
        match self.side {
            Side::Forward => {
                let (block, strides) = self.weight.block(self.width, channels, terms, buffer);
                (block, strides.transposed())
            }
            Side::Backward => self.weight.block(self.width, terms, channels, buffer),
        }
    }
}

/// Blocks of at most `len` of a range from 0 on.
fn blocks(whole: usize, len: usize) -> impl Iterator<Item = Range<usize>> {
    (0..whole)
        .step_by(len)
        .map(move |from| from..whole.min(from + len))
}

/// `onto + bias + x·Wᵀ`, or `onto + grad·W`, as `to` has it: of the shape of `onto`, or `[.., c]`, or `[b, c, n]`.
pub(super) fn apply(
    weight: &Weight,
    side: Side,
    bias: Option<&Tensor>,
    (x, from): (&Tensor, Order),
    to: Order,
    onto: Option<&Tensor>,
) -> Result<Tensor> {
    let (width, channels) = side.widths(weight);
    let x = x.contiguous()?;
    let values = values_of(&x)?;
    let input = input(&x, &values, from, width)?;
    let count = input.samples * input.tokens;
    let bias = bias.map(|b| b.to_vec1::<f32>()).transpose()?;
    let onto = onto.map(Tensor::contiguous).transpose()?;
    let mut shape = match (from, x.dims()) {
        (Order::Channels, &[b, _, h, w]) => vec![b, h * w, channels],
        (_, dims) => [&dims[..dims.len() - 1], &[channels]].concat(),
    };
    if to == Order::Channels {
        let last = shape.len() - 1;
        shape.swap(last - 1, last);
    }
    let mut out = vec![0f32; count * channels];
    let start = match &onto {
        Some(onto) if onto.elem_count() == out.len() && fits(onto, &shape, to) => {
            Some(values_of(onto)?)
        }
        Some(onto) => return Err(misfit(&format!("a summand of shape {shape:?}"), onto)),
        None => None,
    };
    let (start, bias) = (start.as_deref(), bias.as_deref());
    let cut = cut(&mut out, &input, channels, to);
    weight.with(|numbers| {
        let matrix = Matrix {
            weight: numbers,
            width: weight.shape().1,
            side,
        };
        cut.into_par_iter()
            .for_each_init(Vec::new, |buffer, (sample, mut tile)| {
                let offset = sample * input.tokens * channels;
                lay_in(
                    &mut tile,
                    to,
                    start.map(|s| &s[offset..]),
                    bias,
                    (input.tokens, channels),
                );
                multiply(&input, &matrix, to, (sample, &mut tile), buffer);
            });
        Ok(())
    })?;
    let shape = onto.as_ref().map_or(shape, |onto| onto.dims().to_vec());
    Ok(Tensor::from_vec(out, shape, x.device())?)
}

/// Whether a summand has the shape of the output, `[b, c, h, w]` standing for `[b, c, h·w]`.
fn fits(onto: &Tensor, shape: &[usize], to: Order) -> bool {
    match (to, onto.dims()) {
        (Order::Channels, &[b, c, h, w]) => shape == [b, c, h * w],
        (_, dims) => dims == shape,
    }
}

fn input<'a>(x: &Tensor, values: &'a [f32], order: Order, width: usize) -> Result<Input<'a>> {
    let (samples, tokens) = match (order, x.dims()) {
        (Order::Channels, &[b, c, h, w]) if c == width => (b, h * w),
        (Order::Tokens, &[ref b @ .., n, c]) if c == width && !b.is_empty() => {
            (b.iter().product(), n)
        }
        (Order::Tokens, &[b, c]) if c == width => (b, 1),
        _ => return Err(misfit(&format!("vectors of {width} values"), x)),
    };
    Ok(Input {
        values,
        samples,
        tokens,
        width,
        order,
    })
}

/// The tiles of each sample of the output, with its number.
fn cut<'a>(
    out: &'a mut [f32],
    input: &Input,
    channels: usize,
    to: Order,
) -> Vec<(usize, Tile<'a>)> {
    by_sample(out, input.tokens * channels, |out| match to {
        Order::Tokens => tiles(out, channels, TOKENS, CHANNELS),
        Order::Channels => tiles(out, input.tokens, CHANNELS, TOKENS),
    })
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

/// Puts into a tile what its products are added to.
fn lay_in(
    tile: &mut Tile,
    to: Order,
    start: Option<&[f32]>,
    bias: Option<&[f32]>,
    (tokens, channels): (usize, usize),
) {
    let (row, column) = tile.from;
    let width = match to {
        Order::Tokens => channels,
        Order::Channels => tokens,
    };
    for i in 0..tile.rows {
        let out = tile.row(i);
        if let Some(start) = start {
            let from = (row + i) * width + column;
            out.copy_from_slice(&start[from..from + out.len()]);
        }
        match (bias, to) {
            (Some(bias), Order::Tokens) => {
                for (out, bias) in out.iter_mut().zip(&bias[column..]) {
                    *out += bias;
                }
            }
            (Some(bias), Order::Channels) => {
                let bias = bias[row + i];
                out.iter_mut().for_each(|out| *out += bias);
            }
            (None, _) => {}
        }
    }
}

/// Adds to a tile the product of its tokens with its columns of the matrix.
fn multiply(
    input: &Input,
    matrix: &Matrix,
    to: Order,
    (sample, tile): (usize, &mut Tile),
    buffer: &mut Vec<f32>,
) {
    let (row, column) = tile.from;
    let (token, channels) = match to {
        Order::Tokens => (row, column..column + tile.columns),
        Order::Channels => (column, row..row + tile.rows),
    };
    for terms in blocks(input.width, TERMS) {
        let (x, x_strides) = input.from(sample, token, terms.start);
        let len = terms.len();
        let (m, m_strides) = matrix.block(terms, channels.clone(), buffer);
        match to {
            Order::Tokens => tile.product(len, 1.0, (x, x_strides), (m, m_strides), Onto::Sum),
            Order::Channels => {
                let (m, x) = ((m, m_strides.transposed()), (x, x_strides.transposed()));
                tile.product(len, 1.0, m, x, Onto::Sum);
            }
        }
    }
}

/// ∂L/∂W = gradᵀ·x, `[out, in]`.
pub(super) fn weight_gradient(x: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let leading = |t: &Tensor| t.dims()[..t.rank() - 1].to_vec();
    if leading(x) != leading(grad) {
        return Err(misfit(
            &format!("a gradient for inputs {:?}", x.dims()),
            grad,
        ));
    }
    let (x, grad) = (x.contiguous()?, grad.contiguous()?);
    let (from, to) = (x.dims()[x.rank() - 1], grad.dims()[grad.rank() - 1]);
    let (xs, gs) = (values_of(&x)?, values_of(&grad)?);
    let (xs, gs) = (&*xs, &*gs);
    let tokens = xs.len() / from.max(1);
    let mut out = vec![0f32; from * to];
    tiles(&mut out, from.max(1), TOKENS, CHANNELS)
        .into_par_iter()
        .for_each(|mut tile| {
            let (row, column) = tile.from;
            let (x, grad) = (&xs[column..], &gs[row..]);
            let grad = (grad, Strides::rows(to).transposed());
            tile.product(tokens, 1.0, grad, (x, Strides::rows(from)), Onto::Nothing);
        });
    Ok(Tensor::from_vec(out, (to, from), x.device())?)
}

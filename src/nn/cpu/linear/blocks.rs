//! What a linear layer multiplies, and the blocks in which it does.

use std::ops::Range;

use candle_core::Tensor;

use crate::Result;
use crate::nn::cpu::gemm::View;
use crate::nn::cpu::weight::block;
use crate::nn::layout::{Direction, Layout, Vectors};
use crate::nn::weight::Numbers;

/// Tokens and channels of a tile.
pub(super) const TOKENS: usize = 256;
pub(super) const CHANNELS: usize = 320;
/// Terms of a sum for which a block of a weight is converted at a time.
pub(super) const TERMS: usize = 512;

/// The vectors that a layer is given, each of `width` values. No product takes those of two samples, because its size
/// may decide how its sums are rounded: a picture is the same beside any others.
pub(super) struct TokenRows<'a> {
    pub(super) values: &'a [f32],
    pub(super) vectors: Vectors,
    pub(super) width: usize,
    pub(super) layout: Layout,
}

impl<'a> TokenRows<'a> {
    /// The vectors of a tensor whose numbers are `values`.
    pub(super) fn new(x: &Tensor, values: &'a [f32], layout: Layout, width: usize) -> Result<Self> {
        Ok(Self {
            values,
            vectors: layout.vectors(x, width)?,
            width,
            layout,
        })
    }

    /// The tokens of a sample from `token` on and their values from `term` on, as a matrix of rows of values.
    pub(super) fn from(&self, sample: usize, token: usize, term: usize) -> View<'_> {
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
pub(super) struct Matrix<'a> {
    pub(super) weight: Numbers<'a>,
    /// Of a row of the weight.
    pub(super) width: usize,
    pub(super) direction: Direction,
}

impl Matrix<'_> {
    /// Its rows `terms` and columns `channels`.
    pub(super) fn block<'b>(
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
pub(super) fn blocks(whole: usize, len: usize) -> impl Iterator<Item = Range<usize>> {
    (0..whole)
        .step_by(len)
        .map(move |from| from..whole.min(from + len))
}

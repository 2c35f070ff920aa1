//! What a linear layer multiplies, and the blocks in which it does.

use std::ops::Range;

use candle_core::Tensor;

use crate::Result;
use crate::nn::cpu::gemm::{PANEL, Panels, View};
use crate::nn::cpu::scratch;
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

impl Matrix<'_> {
    /// Calls `f` with columns `channels`, of `terms` values each, laid out as panels.
    pub(super) fn with_panels<R>(
        &self,
        terms: usize,
        channels: Range<usize>,
        buffer: &mut Vec<f32>,
        f: impl FnOnce(Panels) -> R,
    ) -> R {
        let numbers = channels.len().next_multiple_of(PANEL) * terms;
        scratch::with(numbers, |values| {
            let panels = values.chunks_exact_mut((PANEL * terms).max(1));
            for (first, panel) in channels.clone().step_by(PANEL).zip(panels) {
                let columns = first..channels.end.min(first + PANEL);
                for terms in blocks(terms, TERMS) {
                    let lines = &mut panel[PANEL * terms.start..PANEL * terms.end];
                    let (rows, n) = (terms.len(), columns.len());
                    self.block(terms, columns.clone(), buffer)
                        .lay(rows, n, lines);
                }
            }
            f(Panels::new(values, terms, channels.len(), PANEL))
        })
    }
}

/// What one task computes of an output: so many rows of so many columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl Task {
    /// Of `rows` rows of `columns` columns, some for each of the threads and none wider than `widest`: of many rows, so
    /// that what was laid out as panels is used often. The numbers are the same however an output is cut.
    pub(super) fn of(rows: usize, columns: usize, widest: usize) -> Self {
        Self::for_threads(rayon::current_num_threads(), rows, columns, widest)
    }

    fn for_threads(threads: usize, rows: usize, columns: usize, widest: usize) -> Self {
        /// For each thread.
        const TASKS: usize = 4;
        /// Of which laying out a panel is a small part.
        const MANY: usize = 4 * TOKENS;
        let (tasks, panels) = (TASKS * threads, columns.div_ceil(PANEL).max(1));
        let fewest = columns.div_ceil(widest).max(1);
        let groups = (rows / MANY).max(1);
        let strips = tasks.div_ceil(groups).clamp(fewest, panels);
        let groups = match strips == panels {
            true => tasks.div_ceil(strips),
            false => tasks.div_ceil(strips).min(groups),
        };
        // The panels of the thread that has most to do, of strips of `width` each: 7 tasks would keep one of two
        // threads waiting for a seventh of the time.
        let longest = |width: &usize| (panels.div_ceil(*width) * groups).div_ceil(threads) * width;
        let width = (1..=panels.div_ceil(strips)).rev().min_by_key(longest);
        Self {
            rows: rows.div_ceil(groups).max(1).next_multiple_of(TOKENS),
            columns: width.unwrap_or(1) * PANEL,
        }
    }
}

/// Blocks of at most `len` of a range from 0 on.
pub(super) fn blocks(whole: usize, len: usize) -> impl Iterator<Item = Range<usize>> {
    (0..whole)
        .step_by(len)
        .map(move |from| from..whole.min(from + len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_large_and_enough() {
        let of = |threads, rows, columns| {
            let Task { rows, columns } = Task::for_threads(threads, rows, columns, CHANNELS);
            (rows, columns)
        };
        assert_eq!(of(2, 8192, 320), (1024, 320));
        assert_eq!(of(2, 2048, 640), (1024, 128));
        assert_eq!(of(2, 512, 1280), (512, 128));
        assert_eq!(of(16, 512, 1280), (256, 64));
        assert_eq!(of(1, 77, 1), (256, 64));
        assert_eq!(of(1, 0, 0), (256, 64));
    }
}

//! Matrices rounded to bf16, in the order in which the instructions take them.

use rayon::prelude::*;

use super::super::gemm::View;
use super::super::math::vectorised;
use super::super::scratch;
use super::{LINES, TILE, VALUES};

/// Which operand lines are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Side {
    /// Rows of the left one: a tile has a line's words one after the other.
    Left,
    /// Columns of the right one: a tile has the words of its lines beside one another.
    Right,
}

/// Lines of numbers to pack.
#[derive(Clone, Copy)]
pub(in super::super) struct Lines<'a> {
    values: &'a [f32],
    /// From one line to the next.
    line: usize,
    /// From one value of a line to the next.
    step: usize,
}

impl<'a> Lines<'a> {
    /// The rows of a matrix.
    pub(in super::super) fn rows(matrix: View<'a>) -> Self {
        let (values, line, step) = matrix.parts();
        Self { values, line, step }
    }

    /// The columns of a matrix.
    pub(in super::super) fn columns(matrix: View<'a>) -> Self {
        Self::rows(matrix.transposed())
    }
}

/// Words of so many packed lines of `k` values: whole pairs of tiles, so that two by two are multiplied.
pub(in super::super) fn packed_len(lines: usize, k: usize) -> usize {
    lines.next_multiple_of(2 * LINES) * k.next_multiple_of(VALUES) / 2
}

/// Packs `count` lines of `k` values, in parallel; beyond them there are zeros.
pub(in super::super) fn pack(lines: Lines, count: usize, k: usize, side: Side, out: &mut [f32]) {
    debug_assert_eq!(out.len(), packed_len(count, k));
    out.par_chunks_mut(block_len(k))
        .enumerate()
        .for_each(|(block, out)| lines.pack(block, count, k, side, out));
}

/// [`pack`] on the calling thread.
pub(in super::super) fn pack_here(
    lines: Lines,
    count: usize,
    k: usize,
    side: Side,
    out: &mut [f32],
) {
    debug_assert_eq!(out.len(), packed_len(count, k));
    for (block, out) in out.chunks_mut(block_len(k)).enumerate() {
        lines.pack(block, count, k, side, out);
    }
}

/// Words of 16 lines of `k` values, and at least one.
fn block_len(k: usize) -> usize {
    (k.div_ceil(VALUES) * TILE).max(1)
}

/// Packs `n` lines of the right operand of which `row(i, ..)` writes the values number `i`, one of each of `k`, on the
/// calling thread.
pub(in super::super) fn pack_rows(
    row: impl Fn(usize, &mut [f32]),
    n: usize,
    k: usize,
    out: &mut [f32],
) {
    debug_assert_eq!(out.len(), packed_len(n, k));
    let (depth, width) = (k.div_ceil(VALUES), n.next_multiple_of(2 * LINES));
    scratch::with(2 * width, |values| {
        values.fill(0.0);
        let (lower, upper) = values.split_at_mut(width);
        for pair in 0..depth * LINES {
            for (i, values) in [(2 * pair, &mut *lower), (2 * pair + 1, &mut *upper)] {
                match i < k {
                    true => row(i, &mut values[..n]),
                    false => values.fill(0.0),
                }
            }
            let at = pair / LINES * TILE + pair % LINES * LINES;
            vectorised(
                #[inline(always)]
                || {
                    let values = lower.chunks_exact(LINES).zip(upper.chunks_exact(LINES));
                    for (block, (lower, upper)) in values.enumerate() {
                        let out = &mut out[block * depth * TILE + at..][..LINES];
                        for ((out, &lower), &upper) in out.iter_mut().zip(lower).zip(upper) {
                            *out = f32::from_bits(word(lower, upper));
                        }
                    }
                },
            );
        }
    });
}

/// The words of a tile.
struct Words {
    words: [[u32; LINES]; LINES],
    /// Whether a row of them is of one line, not of one place in all lines.
    by_line: bool,
}

impl Lines<'_> {
    /// Packs 16 lines, those of a block, as far as there are so many.
    fn pack(&self, block: usize, count: usize, k: usize, side: Side, out: &mut [f32]) {
        let first = block * LINES;
        let own = count.saturating_sub(first).min(LINES);
        vectorised(
            #[inline(always)]
            || {
                for (at, tile) in out.chunks_exact_mut(TILE).enumerate() {
                    let from = at * VALUES;
                    let words = self.tile(first, own, from, VALUES.min(k - from));
                    words.write(side, tile);
                }
            },
        );
    }

    /// The words of `own` lines from `first` on, of `terms` values from `from` on.
    #[inline(always)]
    fn tile(&self, first: usize, own: usize, from: usize, terms: usize) -> Words {
        let mut words = [[0; LINES]; LINES];
        let by_line = self.step == 1;
        let at = |line: usize, term: usize| (first + line) * self.line + (from + term) * self.step;
        if by_line {
            for (line, words) in words[..own].iter_mut().enumerate() {
                let values = &self.values[at(line, 0)..][..terms];
                for (word, pair) in words.iter_mut().zip(values.chunks(2)) {
                    *word = self::word(pair[0], pair.get(1).copied().unwrap_or(0.0));
                }
            }
        } else if self.line == 1 && terms == VALUES && own == LINES {
            for (pair, words) in words.iter_mut().enumerate() {
                let [lower, upper] = [0, 1].map(|i| &self.values[at(0, 2 * pair + i)..][..LINES]);
                for ((word, &lower), &upper) in words.iter_mut().zip(lower).zip(upper) {
                    *word = self::word(lower, upper);
                }
            }
        } else {
            for (pair, words) in words[..terms.div_ceil(2)].iter_mut().enumerate() {
                for (line, word) in words[..own].iter_mut().enumerate() {
                    let value = |i: usize| match 2 * pair + i < terms {
                        true => self.values[at(line, 2 * pair + i)],
                        false => 0.0,
                    };
                    *word = self::word(value(0), value(1));
                }
            }
        }
        Words { words, by_line }
    }
}

impl Words {
    #[inline(always)]
    fn write(&self, side: Side, tile: &mut [f32]) {
        for (i, out) in tile.chunks_exact_mut(LINES).enumerate() {
            if self.by_line == (side == Side::Left) {
                for (out, &word) in out.iter_mut().zip(&self.words[i]) {
                    *out = f32::from_bits(word);
                }
            } else {
                for (out, words) in out.iter_mut().zip(&self.words) {
                    *out = f32::from_bits(words[i]);
                }
            }
        }
    }
}

/// Two numbers as bf16 in one word.
#[inline(always)]
pub(super) fn word(lower: f32, upper: f32) -> u32 {
    rounded(lower) | rounded(upper) << 16
}

/// The bits of the nearest bf16, of two equally near ones the even one; a number that is none stays none.
#[inline(always)]
fn rounded(x: f32) -> u32 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    if x.is_nan() { 0x7fc0 } else { nearest }
}

//! Products of f32 matrices whose elements are rounded to bf16, with sums in f32: on processors with AMX, which do
//! sixteen times as many of them in a cycle as of f32, or with AVX-512 BF16, which do twice as many.
//!
//! Both operands are packed before, as tiles of 16 lines of 32 values: a line is a row of the left operand, or a column
//! of the right one. Two values that follow one another in a line are one word, the first in its lower half.
//!
//! Each element is within 2⁻⁸·Σ|a||b| of the exact sum, and with unit normals within 2⁻⁸ of its root mean square.

#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
mod amx;
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod dot;
mod instructions;
mod pack;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub(super) use self::instructions::Instructions;
pub(crate) use self::instructions::available;
pub(super) use self::pack::{Lines, Side, pack, pack_here, pack_rows, packed_len};
use super::tile::Tile;

/// Lines of a tile, and words of each.
pub(super) const LINES: usize = 16;
/// Words of a tile.
const TILE: usize = LINES * LINES;
/// Values of a line in a tile.
const VALUES: usize = 2 * LINES;
/// Tiles that follow one another in a line and are multiplied at a time, so that those of many lines stay in the
/// second cache.
const DEPTH: usize = 32;

/// Lines of an operand, packed: their words as numbers of the same bits.
#[derive(Clone, Copy)]
pub(super) struct Packed<'a> {
    words: &'a [f32],
    /// Tiles of a line.
    depth: usize,
    /// Tiles from 16 lines to the next 16.
    stride: usize,
}

impl<'a> Packed<'a> {
    /// What [`pack()`] wrote of lines of `k` values.
    pub(super) fn new(words: &'a [f32], k: usize) -> Self {
        let depth = k.div_ceil(VALUES);
        Self {
            words,
            depth,
            stride: depth,
        }
    }

    /// These values of each line, from a multiple of 32 on.
    pub(super) fn within(self, values: Range<usize>) -> Self {
        debug_assert!(values.start.is_multiple_of(VALUES));
        Self {
            words: &self.words[values.start / VALUES * TILE..],
            depth: values.len().div_ceil(VALUES),
            ..self
        }
    }

    /// Lines from `line` on, which is a multiple of 16.
    pub(super) fn from(self, line: usize) -> Self {
        debug_assert!(line.is_multiple_of(LINES));
        Self {
            words: &self.words[line / LINES * self.stride * TILE..],
            ..self
        }
    }

    /// `count` tiles of 16 lines, from the tile `first` of them on.
    fn run(self, line: usize, first: usize, count: usize) -> &'a [f32] {
        &self.words[(line / LINES * self.stride + first) * TILE..][..count * TILE]
    }
}

/// Adds to a tile of a matrix the products of the first lines of `a`, its rows, and of `b`, its columns.
///
/// # Panics
/// If an operand has fewer lines, in whole pairs of tiles, or other values.
pub(super) fn add_product(a: Packed, b: Packed, tile: &mut Tile) {
    assert_eq!(a.depth, b.depth);
    let instructions = Instructions::new();
    let mut sums = Sums([0.0; 4 * TILE]);
    for first in (0..a.depth).step_by(DEPTH) {
        let count = DEPTH.min(a.depth - first);
        for i in (0..tile.rows).step_by(2 * LINES) {
            let a = [i, i + LINES].map(|line| a.run(line, first, count));
            for j in (0..tile.columns).step_by(2 * LINES) {
                let b = [j, j + LINES].map(|line| b.run(line, first, count));
                instructions.multiply(a, b, &mut sums.0);
                let columns = (2 * LINES).min(tile.columns - j);
                for row in 0..(2 * LINES).min(tile.rows - i) {
                    let out = &mut tile.row(i + row)[j..j + columns];
                    // Four tiles: the upper left and right, the lower left and right.
                    let left = row / LINES * 2 * TILE + row % LINES * LINES;
                    for (out, from) in out.chunks_mut(LINES).zip([left, left + TILE]) {
                        for (out, sum) in out.iter_mut().zip(&sums.0[from..from + LINES]) {
                            *out += sum;
                        }
                    }
                }
            }
        }
    }
}

/// The products of two by two tiles, from the start of a cache line on.
#[repr(align(64))]
struct Sums([f32; 4 * TILE]);

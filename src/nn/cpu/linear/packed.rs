//! Linear layers on AMX: the tokens of some samples are packed once, and the weight block by block, once for them all.

use std::ops::Range;

use rayon::prelude::*;

use super::blocks::{Matrix, TOKENS, TokenRows};
use crate::nn::cpu::amx::{Operand, Packed, Side, lines};
use crate::nn::cpu::tile::Tile;
use crate::nn::layout::Layout;

/// Most numbers of tokens that are packed at a time: 32 MiB, in pieces.
const MAX_PACKED: usize = 5 << 20;
/// Channels of a block of the weight, at most, and terms: packed they fit into the second cache.
const CHANNELS: usize = 160;
const TERMS: usize = 1024;

/// Some tokens of some samples, which are packed at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) samples: Range<usize>,
    pub(super) tokens: Range<usize>,
}

/// How many tokens of how many samples are packed at a time.
pub(super) fn at_once(input: &TokenRows) -> (usize, usize) {
    let rows = (MAX_PACKED / input.width.max(1)).max(TOKENS) / TOKENS * TOKENS;
    let tokens = input.vectors.tokens.max(1);
    ((rows / tokens).max(1), rows.min(tokens))
}

/// Channels of a block, so that all threads have some.
pub(super) fn block_of(channels: usize, most: usize) -> usize {
    let share = channels.div_ceil(rayon::current_num_threads());
    share.next_multiple_of(32).min(most)
}

/// All parts.
pub(super) fn parts(input: &TokenRows) -> Vec<Part> {
    let (samples, tokens) = at_once(input);
    let all = input.vectors;
    let starts = (0..all.samples).step_by(samples);
    starts
        .flat_map(|s| (0..all.tokens).step_by(tokens).map(move |t| (s, t)))
        .map(|(s, t)| Part {
            samples: s..all.samples.min(s + samples),
            tokens: t..all.tokens.min(t + tokens),
        })
        .collect()
}

/// The packed tokens of a [`Part`].
pub(super) struct PackedTokens<'a> {
    each: Vec<Packed<'a>>,
    first: usize,
}

impl<'a> PackedTokens<'a> {
    /// Those of a sample.
    pub(super) fn of(&self, sample: usize) -> Packed<'a> {
        self.each[sample - self.first]
    }
}

/// Calls `f` with the tokens of a part, packed in parallel for one side of a product.
pub(super) fn with_tokens<R>(
    input: &TokenRows,
    part: &Part,
    side: Side,
    f: impl FnOnce(&PackedTokens) -> R,
) -> R {
    let whole = Operand {
        side,
        vectors: part.tokens.len(),
        terms: input.width,
    };
    lines(part.samples.len() * whole.len(), |buffer| {
        let panel = Operand {
            vectors: 32,
            ..whole
        };
        let panels = whole.len() / panel.len().max(1);
        let each = buffer.par_chunks_mut(panel.len().max(1)).enumerate();
        each.for_each(|(i, out)| {
            let (sample, first) = (part.samples.start + i / panels, i % panels * 32);
            let panel = Operand {
                vectors: (whole.vectors - first).min(32),
                ..whole
            };
            panel.pack(input.from(sample, part.tokens.start + first, 0), 1.0, out);
        });
        let each = buffer.chunks_exact(whole.len().max(1));
        f(&PackedTokens {
            each: each.map(|lines| Packed::new(whole, lines)).collect(),
            first: part.samples.start,
        })
    })
}

/// Calls `f` with a block of the matrix, packed.
pub(super) fn with_block<R>(
    matrix: &Matrix,
    side: Side,
    terms: Range<usize>,
    channels: Range<usize>,
    buffer: &mut Vec<f32>,
    f: impl FnOnce(Packed) -> R,
) -> R {
    let operand = Operand {
        side,
        vectors: channels.len(),
        terms: terms.len(),
    };
    lines(operand.len(), |lines| {
        operand.pack(
            matrix.block(terms, channels, buffer).transposed(),
            1.0,
            lines,
        );
        f(Packed::new(operand, lines))
    })
}

/// Adds to each sample's tile the product of its tokens with the matrix. `cut(rows, columns)` cuts the output into
/// tiles of so many tokens and channels, whichever are its rows.
pub(super) fn multiply<'a>(
    input: &TokenRows,
    matrix: &Matrix,
    layout: Layout,
    channels: usize,
    cut: impl FnOnce(usize, usize) -> Vec<(usize, Tile<'a>)>,
) {
    let (of_tokens, of_weight) = match layout {
        Layout::Tokens => (Side::Left, Side::Right),
        Layout::Channels => (Side::Right, Side::Left),
    };
    let ((samples, tokens), block) = (at_once(input), block_of(channels, CHANNELS));
    // By part, and there by block of channels.
    let parts = parts(input);
    let across = input.vectors.tokens.div_ceil(tokens.max(1));
    let mut tiles: Vec<Vec<Vec<(usize, Tile)>>> = parts
        .iter()
        .map(|_| {
            (0..channels.div_ceil(block.max(1)))
                .map(|_| Vec::new())
                .collect()
        })
        .collect();
    for (sample, tile) in cut(tokens, block) {
        let (token, channel) = match layout {
            Layout::Tokens => tile.from,
            Layout::Channels => (tile.from.1, tile.from.0),
        };
        tiles[sample / samples * across + token / tokens][channel / block].push((sample, tile));
    }
    for (part, tiles) in parts.iter().zip(tiles) {
        with_tokens(input, part, of_tokens, |packed| {
            let blocks = tiles.into_par_iter().enumerate();
            blocks.for_each_init(Vec::new, |buffer, (i, mut tiles)| {
                let channels = i * block..channels.min((i + 1) * block);
                for first in (0..input.width).step_by(TERMS) {
                    let terms = first..input.width.min(first + TERMS);
                    let len = terms.len();
                    with_block(
                        matrix,
                        of_weight,
                        terms,
                        channels.clone(),
                        buffer,
                        |weight| {
                            for (sample, tile) in &mut tiles {
                                let tokens = packed.of(*sample).terms(first, len);
                                match layout {
                                    Layout::Tokens => tile.add_packed(tokens, weight),
                                    Layout::Channels => tile.add_packed(weight, tokens),
                                }
                            }
                        },
                    );
                }
            });
        });
    }
}

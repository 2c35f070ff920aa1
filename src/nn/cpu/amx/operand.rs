//! Operands as the unit takes them: in pieces of bf16, tile by tile.

use super::super::gemm::View;
use super::super::scratch;
use super::{BLOCK, PIECES, TERMS};

/// A row of a tile.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(in super::super) struct Line(pub(super) [u32; 16]);

/// Calls `f` with `len` lines of any content.
pub(in super::super) fn lines<R>(len: usize, f: impl FnOnce(&mut [Line]) -> R) -> R {
    scratch::with(16 * (len + 1), |numbers| {
        // SAFETY: any bits are a line.
        #[expect(unsafe_code, reason = "numbers are bits")]
        let (_, lines, _) = unsafe { numbers.align_to_mut::<Line>() };
        f(&mut lines[..len])
    })
}

/// Which side of a product an operand is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Side {
    /// Its vectors are the rows of the output. A line holds 32 terms of one of them.
    Left,
    /// Its vectors are the columns of the output. A line holds two terms of 16 of them.
    Right,
}

/// A packed operand: `vectors` of `terms` numbers, by 32 vectors, 32 terms, and pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Operand {
    pub(in super::super) side: Side,
    pub(in super::super) vectors: usize,
    pub(in super::super) terms: usize,
}

/// Lines of a piece of 32 vectors and 32 terms.
pub(super) const PIECE: usize = BLOCK;
/// Lines of all pieces of them.
pub(super) const STEP: usize = PIECES * PIECE;

impl Operand {
    /// Steps of a sum.
    pub(super) fn steps(&self) -> usize {
        self.terms.div_ceil(TERMS)
    }

    /// Lines of 32 vectors.
    pub(super) fn panel(&self) -> usize {
        self.steps() * STEP
    }

    /// Lines of all.
    pub(in super::super) fn len(&self) -> usize {
        self.vectors.div_ceil(BLOCK) * self.panel()
    }

    /// Packs the matrix whose rows are the vectors, each times `scale`.
    ///
    /// # Panics
    /// If `out` is not of [`Operand::len`] lines, or as [`pack_step`].
    pub(in super::super) fn pack(&self, matrix: View, scale: f32, out: &mut [Line]) {
        assert!(out.len() == self.len());
        for (i, panel) in out.chunks_exact_mut(self.panel().max(1)).enumerate() {
            for (j, step) in panel.chunks_exact_mut(STEP).enumerate() {
                let from = (i * BLOCK, j * TERMS);
                let size = (self.vectors - from.0, self.terms - from.1);
                let matrix = matrix.from(from.0, from.1);
                pack_step(self.side, matrix, size, scale, step);
            }
        }
    }
}

/// A packed operand, or a part of one.
#[derive(Clone, Copy)]
pub(in super::super) struct Packed<'a> {
    pub(super) side: Side,
    pub(super) vectors: usize,
    pub(super) steps: usize,
    /// From the first step of the first panel on.
    lines: &'a [Line],
    /// Lines from a panel to the next.
    panel: usize,
}

impl<'a> Packed<'a> {
    /// What [`Operand::pack`] made.
    ///
    /// # Panics
    /// If there are not so many lines.
    pub(in super::super) fn new(operand: Operand, lines: &'a [Line]) -> Self {
        assert!(lines.len() == operand.len());
        Self {
            side: operand.side,
            vectors: operand.vectors,
            steps: operand.steps(),
            lines,
            panel: operand.panel(),
        }
    }

    /// At most `count` of its vectors from `from` on, a multiple of 32.
    pub(in super::super) fn vectors(self, from: usize, count: usize) -> Self {
        assert!(from.is_multiple_of(BLOCK) && from < self.vectors);
        Self {
            vectors: count.min(self.vectors - from),
            lines: &self.lines[from / BLOCK * self.panel..],
            ..self
        }
    }

    /// At most `count` of its terms from `from` on, a multiple of 32.
    pub(in super::super) fn terms(self, from: usize, count: usize) -> Self {
        let first = from / TERMS;
        assert!(from.is_multiple_of(TERMS) && first < self.steps);
        Self {
            steps: count.div_ceil(TERMS).min(self.steps - first),
            lines: &self.lines[first * STEP..],
            ..self
        }
    }

    /// The same with vectors of zeros up to a multiple of 16, which it was packed with.
    pub(in super::super) fn padded(self) -> Self {
        Self {
            vectors: self.vectors.next_multiple_of(16),
            ..self
        }
    }

    /// How many vectors.
    pub(in super::super) fn count(&self) -> usize {
        self.vectors
    }

    /// How many panels of 32 vectors.
    pub(super) fn panels(&self) -> usize {
        self.vectors.div_ceil(BLOCK)
    }

    /// Steps `first..first + count` of panel `i`, one behind the other.
    pub(super) fn steps_of(&self, i: usize, first: usize, count: usize) -> &'a [Line] {
        &self.lines[i * self.panel + first * STEP..][..count * STEP]
    }
}

/// Packs the first 32 vectors and terms of a matrix that has `size` of them, or as many as it has.
///
/// # Panics
/// If the matrix is smaller, `out` has not room for all pieces, or the unit is not [`available`](super::available).
pub(super) fn pack_step(
    side: Side,
    matrix: View,
    size: (usize, usize),
    scale: f32,
    out: &mut [Line],
) {
    assert!(out.len() >= STEP && super::available());
    let (vectors, terms) = (size.0.min(BLOCK), size.1.min(TERMS));
    for half in 0..2 {
        if vectors <= 16 * half {
            continue; // a tile that no block reads
        }
        let tile = Tile {
            matrix: matrix.from(16 * half, 0),
            vectors: (vectors - 16 * half).min(16),
            terms,
            scale,
        };
        let (start, next) = match side {
            Side::Left => (16 * half, 1),
            Side::Right => (half, 2),
        };
        tile.pack(side, &mut out[start..], next);
    }
}

/// At most 16 vectors of at most 32 terms.
struct Tile<'a> {
    matrix: View<'a>,
    vectors: usize,
    terms: usize,
    scale: f32,
}

#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Line, PIECE, PIECES, Side, Tile};

    impl Tile<'_> {
        /// Packs the tile into every `next`th line of each piece.
        pub(super) fn pack(&self, side: Side, out: &mut [Line], next: usize) {
            assert!(out.len() > (PIECES - 1) * PIECE + 15 * next);
            let (values, strides) = self.matrix.parts(self.vectors, self.terms);
            // SAFETY: where the unit is, AVX-512 is, and `parts` holds the tile within its slice.
            #[expect(unsafe_code, reason = "instructions that not every processor has")]
            unsafe {
                self.pack_from(values, strides, side, out, next);
            }
        }

        /// # Safety
        /// All of the tile lies within `values`, and `out` has room for it.
        #[target_feature(enable = "avx512f,avx512bw")]
        #[expect(unsafe_code, reason = "loads from pointers")]
        unsafe fn pack_from(
            &self,
            values: &[f32],
            (vector, term): (usize, usize),
            side: Side,
            out: &mut [Line],
            next: usize,
        ) {
            let scale = _mm512_set1_ps(self.scale);
            // `count` numbers, of 16, from `at` on, side by side.
            // SAFETY: lanes that are not in the mask are not read, and the caller answers for the others.
            let load = |at: usize, count: usize| unsafe {
                let from = values.as_ptr().wrapping_add(at);
                split(_mm512_mul_ps(
                    _mm512_maskz_loadu_ps(mask(count), from),
                    scale,
                ))
            };
            // The same, the terms of a vector from `at` on, which may lie apart.
            let places = _mm512_mullo_epi32(
                _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                _mm512_set1_epi32(term as i32),
            );
            // SAFETY: as above.
            let gather = |at: usize, count: usize| unsafe {
                if term == 1 {
                    return load(at, count);
                }
                let (from, none) = (values.as_ptr().wrapping_add(at), _mm512_setzero_ps());
                let found = _mm512_mask_i32gather_ps::<4>(none, mask(count), places, from);
                split(_mm512_mul_ps(found, scale))
            };
            let mut words = [[_mm512_setzero_si512(); 16]; PIECES];
            let across = if vector == 1 && term != 1 {
                for i in 0..self.terms.div_ceil(2) {
                    let even = load(2 * i * term, self.vectors);
                    let has_odd = 2 * i + 1 < self.terms;
                    let odd = load((2 * i + 1) * term, if has_odd { self.vectors } else { 0 });
                    for p in 0..PIECES {
                        words[p][i] = _mm512_or_si512(_mm512_srli_epi32(even[p], 16), odd[p]);
                    }
                }
                side == Side::Left
            } else {
                for i in 0..self.vectors {
                    let first = gather(i * vector, self.terms);
                    let rest = self.terms.saturating_sub(16);
                    let second = gather(i * vector + 16 * term, rest);
                    for p in 0..PIECES {
                        words[p][i] = neighbours(first[p], second[p]);
                    }
                }
                side == Side::Right
            };
            for (p, words) in words.iter_mut().enumerate() {
                if across {
                    transpose(words);
                }
                for (i, words) in words.iter().enumerate() {
                    let line = &mut out[p * PIECE + i * next];
                    // SAFETY: a line is 64 bytes that begin at a multiple of 64.
                    unsafe { _mm512_store_si512(line.0.as_mut_ptr().cast(), *words) };
                }
            }
        }
    }

    fn mask(count: usize) -> u16 {
        match count {
            0..16 => (1 << count) - 1,
            _ => u16::MAX,
        }
    }

    /// The pieces of 16 numbers, each in the upper half of its word; the lower half is zero.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn split(x: __m512) -> [__m512i; PIECES] {
        let (half, upper) = (
            _mm512_set1_epi32(0x8000),
            _mm512_set1_epi32(0xffff_0000_u32 as i32),
        );
        let mut rest = x;
        let mut pieces = [_mm512_setzero_si512(); PIECES];
        for piece in &mut pieces {
            *piece = _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(rest), half), upper);
            rest = _mm512_sub_ps(rest, _mm512_castsi512_ps(*piece));
        }
        pieces
    }

    /// The upper halves of 32 words in their order.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn neighbours(first: __m512i, second: __m512i) -> __m512i {
        let mut upper = [0u16; 32];
        for (i, at) in (0u16..).zip(&mut upper) {
            *at = 2 * i + 1;
        }
        // SAFETY: 64 bytes.
        #[expect(unsafe_code, reason = "a load from a pointer")]
        let upper = unsafe { _mm512_loadu_si512(upper.as_ptr().cast()) };
        _mm512_permutex2var_epi16(first, upper, second)
    }

    /// Transposes 16 × 16 words: pairs within each quarter of a register, and then the quarters.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn transpose(rows: &mut [__m512i; 16]) {
        let mut fours = [_mm512_setzero_si512(); 16];
        for i in 0..4 {
            let r = &rows[4 * i..4 * i + 4];
            let (a, b) = (
                _mm512_unpacklo_epi32(r[0], r[1]),
                _mm512_unpackhi_epi32(r[0], r[1]),
            );
            let (c, d) = (
                _mm512_unpacklo_epi32(r[2], r[3]),
                _mm512_unpackhi_epi32(r[2], r[3]),
            );
            fours[4 * i] = _mm512_unpacklo_epi64(a, c);
            fours[4 * i + 1] = _mm512_unpackhi_epi64(a, c);
            fours[4 * i + 2] = _mm512_unpacklo_epi64(b, d);
            fours[4 * i + 3] = _mm512_unpackhi_epi64(b, d);
        }
        // Quarter q of fours[4·i + j] holds column 4·q + j of rows 4·i to 4·i + 3.
        for j in 0..4 {
            let [a, b, c, d] = [fours[j], fours[4 + j], fours[8 + j], fours[12 + j]];
            let (low, high) = (
                (
                    _mm512_shuffle_i32x4(a, b, 0x44),
                    _mm512_shuffle_i32x4(c, d, 0x44),
                ),
                (
                    _mm512_shuffle_i32x4(a, b, 0xee),
                    _mm512_shuffle_i32x4(c, d, 0xee),
                ),
            );
            rows[j] = _mm512_shuffle_i32x4(low.0, low.1, 0x88);
            rows[4 + j] = _mm512_shuffle_i32x4(low.0, low.1, 0xdd);
            rows[8 + j] = _mm512_shuffle_i32x4(high.0, high.1, 0x88);
            rows[12 + j] = _mm512_shuffle_i32x4(high.0, high.1, 0xdd);
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux", not(miri))))]
impl Tile<'_> {
    fn pack(&self, _: Side, _: &mut [Line], _: usize) {
        unreachable!("`pack_step` has asserted that the unit is there");
    }
}

//! The innermost loops of a product of panels.

use pulp::{Arch, Simd, WithSimd};

use super::{Accumulate, Panels, View};
use crate::nn::cpu::cache::{fetch, line};

/// Terms of a sum that are taken in one pass over the output: so much of a panel is 128 KiB, which a core's second
/// cache holds while all rows go by. Reading it from there costs less than reading and writing the output more often.
const TERMS: usize = 512;

/// Rows that a block has at most: of four vectors each their sums are in 24 of 32 registers, of two in 12 of 16. Fewer
/// numbers are read for each sum than in blocks of any other shape.
const ROWS: usize = 6;

/// Terms that are written out one after the other.
const UNROLL: usize = 4;

/// Terms of a row that a cache line holds.
const LINE: usize = line::<f32>();

/// `c = a·b`, or `+=`, for `a: [m, b.terms]` and `c` of rows `stride` apart.
pub(super) struct Product<'a> {
    pub(super) m: usize,
    pub(super) a: View<'a>,
    pub(super) b: Panels<'a>,
    pub(super) c: *mut f32,
    pub(super) stride: usize,
    pub(super) accumulate: Accumulate,
}

impl Product<'_> {
    /// Computes it by these instructions.
    ///
    /// # Safety
    /// `a` lies within its slice; all of `c` is valid for writing and reading, no two of its elements are one, and none
    /// is part of `a` or `b`.
    #[expect(unsafe_code, reason = "the output is given by a pointer")]
    pub(super) unsafe fn run(self, instructions: Arch) {
        instructions.dispatch(Running(self));
    }
}

/// A product of which [`Product::run`] was promised what it needs.
struct Running<'a>(Product<'a>);

impl WithSimd for Running<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Panels {
            terms,
            columns,
            width,
            ..
        } = self.0.b;
        // Once also where there are no terms, which makes zeros of what is overwritten.
        for first in (0..terms.max(1)).step_by(TERMS) {
            let add = first > 0 || self.0.accumulate == Accumulate::Add;
            for j in (0..columns).step_by(width) {
                let panel = &self.0.b.values[j * terms + first * width..];
                let of = Pass {
                    product: &self.0,
                    panel: panel.as_ptr(),
                    first,
                    terms: TERMS.min(terms - first),
                    column: j,
                    columns: width.min(columns - j),
                    add,
                };
                of.rows(simd);
            }
        }
    }
}

/// Some terms of some columns of a product, for all rows.
struct Pass<'a> {
    product: &'a Product<'a>,
    panel: *const f32,
    first: usize,
    terms: usize,
    column: usize,
    columns: usize,
    add: bool,
}

impl Pass<'_> {
    #[inline(always)]
    fn rows<S: Simd>(&self, simd: S) {
        let whole = self.product.m / ROWS * ROWS;
        for i in (0..whole).step_by(ROWS) {
            self.columns::<S, ROWS>(simd, i);
        }
        match self.product.m - whole {
            1 => self.columns::<S, 1>(simd, whole),
            2 => self.columns::<S, 2>(simd, whole),
            3 => self.columns::<S, 3>(simd, whole),
            4 => self.columns::<S, 4>(simd, whole),
            5 => self.columns::<S, 5>(simd, whole),
            _ => {}
        }
    }

    /// All columns of rows `i..i + M`.
    #[inline(always)]
    fn columns<S: Simd, const M: usize>(&self, simd: S, i: usize) {
        let most = if S::REGISTER_COUNT < 32 { 2 } else { 4 };
        for from in (0..self.columns).step_by(most * S::F32_LANES) {
            match (self.columns - from).div_ceil(S::F32_LANES).min(most) {
                1 => self.block::<S, M, 1>(simd, i, from),
                2 => self.block::<S, M, 2>(simd, i, from),
                3 => self.block::<S, M, 3>(simd, i, from),
                _ => self.block::<S, M, 4>(simd, i, from),
            }
        }
    }

    /// `V` vectors of columns, from `from` on, of rows `i..i + M`.
    #[inline(always)]
    #[expect(
        unsafe_code,
        reason = "without bounds checks, which would take as long as the sums"
    )]
    #[expect(
        clippy::needless_range_loop,
        reason = "of places that the compiler knows, so that registers are"
    )]
    fn block<S: Simd, const M: usize, const V: usize>(&self, simd: S, i: usize, from: usize) {
        let (lanes, product) = (S::F32_LANES, self.product);
        let (strides, width) = (product.a.strides, product.b.width);
        let mut sums = [[simd.splat_f32s(0.0); V]; M];
        let mut a = product.a.values.as_ptr();
        let start = i.wrapping_mul(strides.row);
        a = a.wrapping_add(start.wrapping_add(self.first.wrapping_mul(strides.column)));
        let mut b = self.panel.wrapping_add(from);
        // SAFETY: `run` was promised that rows `i..i + M` of `a`, of which all terms are read, lie within its slice. A
        // panel has `width` values for each term, of which `V` vectors from `from` on are read: no more than it has, as
        // `width` is a multiple of a vector. The pointers may lie beyond when nothing more is read.
        unsafe {
            for terms in 0..self.terms / UNROLL {
                if strides.column == 1 && terms % (LINE / UNROLL) == 0 {
                    // What the next rows will read here: they are too short for the processor to see where they go.
                    for row in M..2 * M {
                        fetch(a.wrapping_add(row.wrapping_mul(strides.row)));
                    }
                }
                for l in 0..UNROLL {
                    let (a, b) = (
                        a.wrapping_add(l * strides.column),
                        b.wrapping_add(l * width),
                    );
                    add_products(simd, a, strides.row, b, &mut sums);
                }
                a = a.wrapping_add(UNROLL.wrapping_mul(strides.column));
                b = b.wrapping_add(UNROLL * width);
            }
            for _ in 0..self.terms % UNROLL {
                add_products(simd, a, strides.row, b, &mut sums);
                a = a.wrapping_add(strides.column);
                b = b.wrapping_add(width);
            }
        }
        let n = (self.columns - from).min(V * lanes);
        // SAFETY: `run` was promised that `c` can be read and written; these are `n` of its columns in `M` of its rows.
        unsafe {
            let c = product.c.add(i * product.stride + self.column + from);
            if n == V * lanes {
                for i in 0..M {
                    for v in 0..V {
                        let c = c.add(i * product.stride + v * lanes).cast::<S::f32s>();
                        let sum = match self.add {
                            true => simd.add_f32s(c.read_unaligned(), sums[i][v]),
                            false => sums[i][v],
                        };
                        c.write_unaligned(sum);
                    }
                }
            } else {
                // A copy: what is looked at by a computed place is kept in memory, and the sums are to be in registers.
                let copy = sums;
                for (i, sums) in copy.iter().enumerate() {
                    let c = std::slice::from_raw_parts_mut(c.add(i * product.stride), n);
                    for (c, &sum) in c.chunks_mut(lanes).zip(sums) {
                        let sum = match self.add {
                            true => simd.add_f32s(simd.partial_load_f32s(c), sum),
                            false => sum,
                        };
                        simd.partial_store_f32s(c, sum);
                    }
                }
            }
        }
    }
}

/// Adds to each sum the product of one number of its row, `row` apart, with the vector of its columns at `b`.
///
/// # Safety
/// `M` numbers `row` apart can be read from `a` on, and `V` vectors from `b` on.
#[inline(always)]
#[expect(unsafe_code, reason = "the operands are given by pointers")]
#[expect(
    clippy::needless_range_loop,
    reason = "of places that the compiler knows, so that registers are"
)]
unsafe fn add_products<S: Simd, const M: usize, const V: usize>(
    simd: S,
    a: *const f32,
    row: usize,
    b: *const f32,
    sums: &mut [[S::f32s; V]; M],
) {
    // SAFETY: the caller's.
    unsafe {
        let vectors: [S::f32s; V] = std::array::from_fn(
            #[inline(always)]
            |v| b.add(v * S::F32_LANES).cast::<S::f32s>().read_unaligned(),
        );
        for i in 0..M {
            let a = simd.splat_f32s(*a.add(i * row));
            for v in 0..V {
                sums[i][v] = simd.mul_add_e_f32s(a, vectors[v], sums[i][v]);
            }
        }
    }
}

//! Products of packed operands, and of matrices that are packed on the way.

use super::super::gemm::{Accumulate, Sizes, Strides, View};
use super::BLOCK;
use super::operand::{Line, Operand, PIECE, Packed, STEP, Side, lines};
use super::tiles::{Block, Shape, run, with_tiles};

/// Steps whose sums stay in registers: the right operand's share of them stays in the first cache.
const STEPS: usize = 4;
/// Rows and columns of the output whose operands are packed at a time: together with [`TERMS`] what the second cache
/// holds.
const ROWS: usize = 256;
const COLUMNS: usize = 320;
const TERMS: usize = 512;

/// `c = left·right`, or `c += left·right`, of packed operands; rows of `c` are `c_stride` apart.
///
/// Goes once through the operand of more vectors; the other should fit into the second cache.
///
/// # Panics
/// If the operands do not fit each other.
///
/// # Safety
/// All of `c`, left vectors × right vectors, is valid for reading and writing, and no part of an operand.
#[expect(unsafe_code, reason = "the output is given by a pointer")]
pub(in super::super) unsafe fn multiply(
    left: Packed,
    right: Packed,
    c: *mut f32,
    c_stride: usize,
    accumulate: Accumulate,
) {
    assert!(left.side == Side::Left && right.side == Side::Right && super::available());
    assert!(left.steps == right.steps && left.steps > 0);
    let offsets: [usize; STEPS] = std::array::from_fn(|i| i * STEP * size_of::<Line>());
    let mut edge = [Line([0; 16]); 2 * BLOCK];
    let mut one = |(i, j): (usize, usize), first: usize| {
        let steps = STEPS.min(left.steps - first);
        let add = accumulate == Accumulate::Add || first > 0;
        let rows = (left.vectors - i * BLOCK).min(BLOCK);
        let columns = (right.vectors - j * BLOCK).min(BLOCK);
        let c = c.wrapping_add(i * BLOCK * c_stride + j * BLOCK);
        let whole = rows % 16 == 0 && columns % 16 == 0;
        let block = Block {
            c: if whole { c } else { edge.as_mut_ptr().cast() },
            c_stride: 4 * if whole { c_stride } else { BLOCK },
            add: usize::from(add && whole),
            left: left.steps_of(i, first, steps).as_ptr().cast(),
            right: right.steps_of(j, first, steps).as_ptr().cast(),
            offsets: offsets.as_ptr(),
            steps,
            right_stride: 2 * size_of::<Line>(),
            right_piece: PIECE * size_of::<Line>(),
        };
        // SAFETY: the operands hold so many steps; the output is the caller's, or has room for a block.
        unsafe {
            run(&block, Shape::of(rows, columns));
            if !whole {
                copy(&edge, rows, columns, c, c_stride, add);
            }
        }
    };
    let (rows, columns) = (left.panels(), right.panels());
    let all = || {
        for outer in 0..rows.max(columns) {
            for first in (0..left.steps).step_by(STEPS) {
                for inner in 0..rows.min(columns) {
                    one(
                        if rows > columns {
                            (outer, inner)
                        } else {
                            (inner, outer)
                        },
                        first,
                    );
                }
            }
        }
    };
    // SAFETY: the unit is available.
    unsafe { with_tiles(all) }
}

/// [`multiply`] into rows of a slice.
///
/// # Panics
/// If it has no room for them.
pub(in super::super) fn multiply_rows(
    left: Packed,
    right: Packed,
    c: &mut [f32],
    c_stride: usize,
    accumulate: Accumulate,
) {
    let last = left.vectors.saturating_sub(1) * c_stride;
    assert!(c_stride >= right.vectors && c.len() >= last + right.vectors);
    // SAFETY: the assertion holds the output within the slice, whose exclusive borrow keeps it apart from the operands.
    #[expect(unsafe_code, reason = "the product takes a pointer")]
    unsafe {
        multiply(left, right, c.as_mut_ptr(), c_stride, accumulate);
    }
}

/// Puts `rows` × `columns` sums of a block where they belong.
///
/// # Safety
/// They may be written there, and read.
#[expect(unsafe_code, reason = "the output is given by a pointer")]
unsafe fn copy(
    block: &[Line; 2 * BLOCK],
    rows: usize,
    columns: usize,
    c: *mut f32,
    c_stride: usize,
    add: bool,
) {
    for (i, line) in block.chunks_exact(2).take(rows).enumerate() {
        let sums = line.iter().flat_map(|line| line.0).map(f32::from_bits);
        // SAFETY: the caller answers for these.
        let out = unsafe { std::slice::from_raw_parts_mut(c.add(i * c_stride), columns) };
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = if add { *out + sum } else { sum };
        }
    }
}

/// `c = scale·a·b`, or `c += scale·a·b`, in f32 accuracy. Whether that was done: not without the unit, nor where `c` has
/// no stride of 1.
///
/// # Safety
/// As of `product_at`, which has checked `a` and `b`.
#[expect(unsafe_code, reason = "the output is given by a pointer")]
pub(in super::super) unsafe fn product(
    Sizes { m, k, n }: Sizes,
    scale: f32,
    a: View,
    b: View,
    c: *mut f32,
    strides: Strides,
    accumulate: Accumulate,
) -> bool {
    if !super::available() || k == 0 {
        return false;
    }
    let (row, column) = strides.parts();
    if column != 1 {
        if row != 1 {
            return false;
        }
        let sizes = Sizes { m: n, k, n: m };
        let (a, b, strides) = (b.transposed(), a.transposed(), strides.transposed());
        // SAFETY: the same matrix, transposed.
        return unsafe { product(sizes, scale, a, b, c, strides, accumulate) };
    }
    for first in (0..k).step_by(TERMS) {
        let terms = TERMS.min(k - first);
        let operand = |side, vectors| Operand {
            side,
            vectors,
            terms,
        };
        let accumulate = if first > 0 {
            Accumulate::Add
        } else {
            accumulate
        };
        for j in (0..n).step_by(COLUMNS) {
            let right = operand(Side::Right, COLUMNS.min(n - j));
            lines(right.len(), |of_right| {
                right.pack(b.from(first, j).transposed(), 1.0, of_right);
                for i in (0..m).step_by(ROWS) {
                    let left = operand(Side::Left, ROWS.min(m - i));
                    lines(left.len(), |of_left| {
                        left.pack(a.from(i, first), scale, of_left);
                        let c = c.wrapping_add(i * row + j);
                        // SAFETY: a part of the output, for which the caller answers.
                        unsafe {
                            let (left, right) =
                                (Packed::new(left, of_left), Packed::new(right, of_right));
                            multiply(left, right, c, row, accumulate);
                        }
                    });
                }
            });
        }
    }
    true
}

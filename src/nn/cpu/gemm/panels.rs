//! Products whose right operand is laid out as their kernel reads it: as panels of columns, each a line of vectors one
//! after the other. The left one is read where it lies, a number at a time, in any layout. What makes its own right
//! operand, as transforms and scores of attention are made, writes it as panels at once, and nothing is copied.

use super::kernel::Product;
use super::{Accumulate, View, ViewMut};
use crate::nn::cpu::math::{instructions, vectorised};
use crate::nn::cpu::scratch;

/// Most columns of a panel: four registers of AVX-512.
pub(in super::super) const PANEL: usize = 64;

/// The least that the width of a panel is a multiple of.
const LANES: usize = 16;

/// A matrix `[terms, columns]` cut into panels of `width` columns: element (l, j) at
/// `(j / width · terms + l)·width + j % width`. What the last panel has beyond the matrix may be any number.
#[derive(Clone, Copy)]
pub(in super::super) struct Panels<'a> {
    pub(super) values: &'a [f32],
    pub(super) terms: usize,
    pub(super) columns: usize,
    pub(super) width: usize,
}

impl<'a> Panels<'a> {
    /// What was written as panels, or the first columns of it.
    ///
    /// # Panics
    /// If these are not whole panels, or of a width that the kernel cannot read.
    pub(in super::super) fn new(
        values: &'a [f32],
        terms: usize,
        columns: usize,
        width: usize,
    ) -> Self {
        assert!(width <= PANEL && width.is_multiple_of(LANES) && width > 0);
        assert_eq!(values.len(), columns.next_multiple_of(width) * terms);
        Self {
            values,
            terms,
            columns,
            width,
        }
    }

    /// Of the matrix.
    pub(in super::super) fn columns(&self) -> usize {
        self.columns
    }

    /// Calls `f` with `b: [terms, columns]` laid out so.
    ///
    /// # Panics
    /// If the matrix reaches beyond its slice.
    pub(in super::super) fn with<R>(
        b: View,
        terms: usize,
        columns: usize,
        f: impl FnOnce(Panels) -> R,
    ) -> R {
        scratch::with(columns.next_multiple_of(PANEL) * terms, |values| {
            b.lay(terms, columns, values);
            f(Panels::new(values, terms, columns, PANEL))
        })
    }
}

/// `c = scale·a·b`, or `c += scale·a·b`, for `a: [m, b.terms]` and `c: [m, b.columns]`, on the calling thread. How a
/// sum is rounded depends on its length alone: an element is the same in a product of any other size.
///
/// # Panics
/// If a matrix reaches beyond its slice, or the rows of `c` are not apart, each of contiguous values.
pub(in super::super) fn product_of_panels(
    m: usize,
    scale: f32,
    a: View,
    b: Panels,
    c: ViewMut,
    accumulate: Accumulate,
) {
    let n = b.columns;
    assert!(c.strides.fit(m, n, c.values.len()) && c.strides.are_rows(m, n));
    let (at, stride) = (c.values.as_mut_ptr(), c.strides.row);
    // SAFETY: the assertion holds `c` within its slice and its rows apart, and its exclusive borrow keeps it apart
    // from the others.
    #[expect(unsafe_code, reason = "the product takes pointers")]
    unsafe {
        product_of_panels_at(m, scale, a, b, at, stride, accumulate);
    }
}

/// [`product_of_panels`] with its output at a pointer, of rows `stride` apart.
///
/// # Panics
/// If `a` reaches beyond its slice.
///
/// # Safety
/// All of `c`, `[m, b.columns]`, is valid for writing and reading, no two of its elements are one, and none is part of
/// `a` or `b`.
#[expect(unsafe_code, reason = "the output is given by a pointer")]
pub(in super::super) unsafe fn product_of_panels_at(
    m: usize,
    scale: f32,
    a: View,
    b: Panels,
    c: *mut f32,
    stride: usize,
    accumulate: Accumulate,
) {
    assert!(a.strides.fit(m, b.terms, a.values.len()));
    // SAFETY: the assertion holds `a` within its slice, `Panels` are whole, and the caller answers for `c`.
    unsafe {
        let product = Product {
            m,
            scale,
            a,
            b,
            c,
            stride,
            accumulate,
        };
        product.run(instructions());
    }
}

impl View<'_> {
    /// Lays the matrix, `[terms, columns]`, into `out` as panels; beyond its last column zeros.
    fn lay(&self, terms: usize, columns: usize, out: &mut [f32]) {
        assert!(self.strides.fit(terms, columns, self.values.len()));
        let (row, column) = (self.strides.row, self.strides.column);
        if terms == 0 {
            return;
        }
        for (j, panel) in out.chunks_exact_mut(PANEL * terms).enumerate() {
            let values = &self.values[j * PANEL * column..];
            let n = PANEL.min(columns - j * PANEL);
            if n < PANEL {
                panel.fill(0.0);
            }
            vectorised(
                #[inline(always)]
                || {
                    if column == 1 {
                        for (l, line) in panel.chunks_exact_mut(PANEL).enumerate() {
                            line[..n].copy_from_slice(&values[l * row..][..n]);
                        }
                    } else if row == 1 && n == PANEL {
                        turn(values, column, terms, panel);
                    } else {
                        for (l, line) in panel.chunks_exact_mut(PANEL).enumerate() {
                            for (i, v) in line[..n].iter_mut().enumerate() {
                                *v = values[l * row + i * column];
                            }
                        }
                    }
                },
            );
        }
    }
}

/// Rows and columns of a block that is transposed at a time.
const BLOCK: usize = 16;

/// [`PANEL`] columns of `terms` values each, `column` apart, into rows of [`PANEL`].
#[inline(always)]
fn turn(values: &[f32], column: usize, terms: usize, panel: &mut [f32]) {
    let whole = terms - terms % BLOCK;
    for l in (0..whole).step_by(BLOCK) {
        for half in (0..PANEL).step_by(BLOCK) {
            let mut block = [[0f32; BLOCK]; BLOCK];
            for (i, line) in block.iter_mut().enumerate() {
                line.copy_from_slice(&values[(half + i) * column + l..][..BLOCK]);
            }
            let block = transposed(block);
            for (i, line) in block.iter().enumerate() {
                panel[(l + i) * PANEL + half..][..BLOCK].copy_from_slice(line);
            }
        }
    }
    for l in whole..terms {
        for i in 0..PANEL {
            panel[l * PANEL + i] = values[i * column + l];
        }
    }
}

/// A block transposed by four rounds of interleaving its rows with those half the block away.
#[inline(always)]
fn transposed(mut block: [[f32; BLOCK]; BLOCK]) -> [[f32; BLOCK]; BLOCK] {
    for _ in 0..BLOCK.ilog2() {
        let mut next = [[0f32; BLOCK]; BLOCK];
        for i in 0..BLOCK / 2 {
            let (a, b) = (block[i], block[i + BLOCK / 2]);
            for j in 0..BLOCK / 2 {
                next[2 * i][2 * j] = a[j];
                next[2 * i][2 * j + 1] = b[j];
                next[2 * i + 1][2 * j] = a[BLOCK / 2 + j];
                next[2 * i + 1][2 * j + 1] = b[BLOCK / 2 + j];
            }
        }
        block = next;
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::cpu::gemm::Strides;

    #[test]
    fn panels_hold_a_matrix_of_any_layout() {
        for (terms, columns) in [
            (0, 5),
            (1, 1),
            (7, 33),
            (16, 32),
            (37, 64),
            (50, 70),
            (3, 0),
        ] {
            let values: Vec<f32> = (0..terms * columns).map(|i| i as f32).collect();
            for strides in [Strides::rows(columns), Strides::rows(terms).transposed()] {
                let b = View::new(&values, strides);
                Panels::with(b, terms, columns, |panels| {
                    for (l, j) in (0..terms).flat_map(|l| (0..columns).map(move |j| (l, j))) {
                        let at = (j / PANEL * terms + l) * PANEL + j % PANEL;
                        assert_eq!(panels.values[at], b.at(l, j), "{terms} {columns}");
                    }
                });
            }
        }
    }
}

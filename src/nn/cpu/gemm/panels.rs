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

    /// Calls `f` with `by·b`, `b: [terms, columns]`, laid out so.
    ///
    /// # Panics
    /// If the matrix reaches beyond its slice.
    pub(in super::super) fn with<R>(
        by: f32,
        b: View,
        terms: usize,
        columns: usize,
        f: impl FnOnce(Panels) -> R,
    ) -> R {
        scratch::with(columns.next_multiple_of(PANEL) * terms, |values| {
            b.lay(terms, columns, values);
            if by != 1.0 {
                values.iter_mut().for_each(|v| *v *= by);
            }
            f(Panels::new(values, terms, columns, PANEL))
        })
    }
}

/// `c = a·b`, or `c += a·b`, for `a: [m, b.terms]` and `c: [m, b.columns]`, on the calling thread. How a sum is rounded
/// depends on its length alone: an element is the same in a product of any other size.
///
/// # Panics
/// If a matrix reaches beyond its slice, or the rows of `c` are not apart, each of contiguous values.
pub(in super::super) fn product_of_panels(
    m: usize,
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
        product_of_panels_at(m, a, b, at, stride, accumulate);
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
    ///
    /// # Panics
    /// If the matrix reaches beyond its slice.
    pub(in super::super) fn lay(&self, terms: usize, columns: usize, out: &mut [f32]) {
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

/// Sides of a block that is transposed at a time.
const BLOCK: usize = 4;
/// Terms that are laid at a time. A cache line of each of their rows is 32 KiB, which stays in a core's first cache or
/// near it until it is full.
const RUN: usize = 512;

/// [`PANEL`] columns of `terms` values each, `column` apart, into rows of [`PANEL`].
#[inline(always)]
fn turn(values: &[f32], column: usize, terms: usize, panel: &mut [f32]) {
    for (first, rows) in (0..terms).step_by(RUN).zip(panel.chunks_mut(RUN * PANEL)) {
        let run = RUN.min(terms - first);
        for i in (0..PANEL).step_by(BLOCK) {
            let columns: [&[f32]; BLOCK] =
                std::array::from_fn(|j| &values[(i + j) * column + first..][..run]);
            let [a, b, c, d] = columns.map(|column| column.as_chunks::<BLOCK>());
            let blocks = a.0.iter().zip(b.0).zip(c.0).zip(d.0);
            for (rows, (((a, b), c), d)) in rows.chunks_exact_mut(BLOCK * PANEL).zip(blocks) {
                let turned = transposed([*a, *b, *c, *d]);
                for (row, turned) in rows.chunks_exact_mut(PANEL).zip(turned) {
                    row[i..][..BLOCK].copy_from_slice(&turned);
                }
            }
            for l in run - run % BLOCK..run {
                for (j, column) in columns.iter().enumerate() {
                    rows[l * PANEL + i + j] = column[l];
                }
            }
        }
    }
}

/// A block transposed.
#[inline(always)]
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[expect(unsafe_code, reason = "instructions that the compiler does not find")]
fn transposed(rows: [[f32; BLOCK]; BLOCK]) -> [[f32; BLOCK]; BLOCK] {
    use pulp::bytemuck::cast;
    use std::arch::x86_64::{
        __m128, _mm_movehl_ps, _mm_movelh_ps, _mm_unpackhi_ps, _mm_unpacklo_ps,
    };
    let [a, b, c, d] = rows.map(cast::<_, __m128>);
    // SAFETY: every processor of this architecture has SSE. With what the compiler finds it takes twice the time.
    let turned = unsafe {
        let (low_ab, high_ab) = (_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
        let (low_cd, high_cd) = (_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
        [
            _mm_movelh_ps(low_ab, low_cd),
            _mm_movehl_ps(low_cd, low_ab),
            _mm_movelh_ps(high_ab, high_cd),
            _mm_movehl_ps(high_cd, high_ab),
        ]
    };
    turned.map(cast)
}

/// A block transposed.
#[inline(always)]
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn transposed(rows: [[f32; BLOCK]; BLOCK]) -> [[f32; BLOCK]; BLOCK] {
    std::array::from_fn(|i| rows.map(|row| row[i]))
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
                Panels::with(1.0, b, terms, columns, |panels| {
                    for (l, j) in (0..terms).flat_map(|l| (0..columns).map(move |j| (l, j))) {
                        let at = (j / PANEL * terms + l) * PANEL + j % PANEL;
                        assert_eq!(panels.values[at], b.at(l, j), "{terms} {columns}");
                    }
                });
            }
        }
    }
}

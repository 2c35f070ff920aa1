//! Matrix products on slices, for kernels that run one product in each of their own parallel tasks.

use gemm::Parallelism;

/// Where the elements of a matrix lie in a slice: (i, j) at `i·row + j·column`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strides {
    row: usize,
    column: usize,
}

impl Strides {
    /// Rows one after the other, each of `columns` values.
    pub(super) fn rows(columns: usize) -> Self {
        Self {
            row: columns,
            column: 1,
        }
    }

    /// The same values read as the transposed matrix.
    pub(super) fn transposed(self) -> Self {
        Self {
            row: self.column,
            column: self.row,
        }
    }

    /// Whether every element of an `m` × `n` matrix lies within `len` values.
    fn fit(self, m: usize, n: usize, len: usize) -> bool {
        let last = || {
            let row = (m - 1).checked_mul(self.row)?;
            let column = (n - 1).checked_mul(self.column)?;
            row.checked_add(column)
        };
        m == 0 || n == 0 || last().is_some_and(|last| last < len)
    }

    /// Whether no two elements of an `m` × `n` matrix are one: the rows lie apart, or the columns do.
    fn distinct(self, m: usize, n: usize) -> bool {
        // Whether `stride` is longer than all of `count` steps of `other`, where there is more than one of either.
        let apart = |stride: usize, lines: usize, other: usize, count: usize| {
            let line = count.saturating_sub(1).checked_mul(other);
            lines <= 1 || line.is_some_and(|line| stride > line)
        };
        let lines_are = (m <= 1 || self.row > 0) && (n <= 1 || self.column > 0);
        let rows_apart = apart(self.row, m, self.column, n);
        let columns_apart = apart(self.column, n, self.row, m);
        lines_are && (rows_apart || columns_apart)
    }

    /// Row and column stride as the product takes them. One that does not fit is of a matrix of one row or column,
    /// which it is not used for.
    fn signed(self) -> (isize, isize) {
        let signed = |stride: usize| isize::try_from(stride).unwrap_or(isize::MAX);
        (signed(self.row), signed(self.column))
    }
}

/// A matrix to read.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    values: &'a [f32],
    strides: Strides,
}

impl<'a> View<'a> {
    /// The matrix whose elements lie so in these values.
    pub(super) fn new(values: &'a [f32], strides: Strides) -> Self {
        Self { values, strides }
    }

    /// A matrix of rows of `columns` values one after the other.
    pub(super) fn rows(values: &'a [f32], columns: usize) -> Self {
        Self::new(values, Strides::rows(columns))
    }

    /// The transposed matrix.
    pub(super) fn transposed(self) -> Self {
        Self::new(self.values, self.strides.transposed())
    }

    /// The element of row `i` and column `j`.
    #[cfg(test)]
    pub(super) fn at(&self, i: usize, j: usize) -> f32 {
        self.values[i * self.strides.row + j * self.strides.column]
    }
}

/// A matrix to write.
pub(super) struct ViewMut<'a> {
    values: &'a mut [f32],
    strides: Strides,
}

impl<'a> ViewMut<'a> {
    /// The matrix whose elements lie so in these values.
    pub(super) fn new(values: &'a mut [f32], strides: Strides) -> Self {
        Self { values, strides }
    }

    /// A matrix of rows of `columns` values one after the other.
    pub(super) fn rows(values: &'a mut [f32], columns: usize) -> Self {
        Self::new(values, Strides::rows(columns))
    }
}

/// The sizes of a product `[m, k]` times `[k, n]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) m: usize,
    pub(super) k: usize,
    pub(super) n: usize,
}

/// What becomes of the values that a product finds in its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accumulate {
    /// They are overwritten.
    Replace,
    /// They are a term of the sum.
    Add,
}

/// Most terms of a sum that the library is given at a time. It cuts longer sums by the size of the whole product, so
/// that an element would be rounded in one way in a small product and in another in a large one.
const MAX_TERMS: usize = 512;

/// `c = scale·a·b`, or `c += scale·a·b`, for `a: [m, k]`, `b: [k, n]`, `c: [m, n]`, on the calling thread.
///
/// # Panics
/// If a matrix reaches beyond its slice, or two elements of `c` are one.
pub(super) fn product(
    sizes: Sizes,
    scale: f32,
    a: View,
    b: View,
    c: ViewMut,
    accumulate: Accumulate,
) {
    let Sizes { m, n, .. } = sizes;
    assert!(c.strides.fit(m, n, c.values.len()) && c.strides.distinct(m, n));
    let (at, strides) = (c.values.as_mut_ptr(), c.strides);
    // SAFETY: the assertion holds `c` within its slice and its elements apart, and its exclusive borrow keeps it
    // apart from the others.
    #[expect(unsafe_code, reason = "the product takes pointers")]
    unsafe {
        product_at(sizes, scale, a, b, at, strides, accumulate);
    }
}

/// [`product`] with its output at a pointer.
///
/// # Panics
/// If `a` or `b` reaches beyond its slice.
///
/// # Safety
/// All of `c` is valid for writing and reading, no two of its elements are one, and none is part of `a` or `b`.
#[expect(unsafe_code, reason = "the output is given by a pointer")]
pub(super) unsafe fn product_at(
    Sizes { m, k, n }: Sizes,
    scale: f32,
    a: View,
    b: View,
    c: *mut f32,
    c_strides: Strides,
    accumulate: Accumulate,
) {
    assert!(a.strides.fit(m, k, a.values.len()) && b.strides.fit(k, n, b.values.len()));
    let (a_row, a_column) = a.strides.signed();
    let (b_row, b_column) = b.strides.signed();
    let (c_row, c_column) = c_strides.signed();
    if m == 0 || n == 0 {
        return;
    }
    let terms = k.div_ceil(k.div_ceil(MAX_TERMS).max(1)).max(1);
    // Once also where there are no terms, which makes zeros of what is overwritten.
    for first in (0..k.max(1)).step_by(terms) {
        // A term that is there lies within its slice, so that these do not wrap.
        let (a_first, b_first) = (first * a.strides.column, first * b.strides.row);
        let (a, b) = (&a.values[a_first..], &b.values[b_first..]);
        // SAFETY: the assertion holds `a` and `b` within their slices, and the caller answers for `c`.
        unsafe {
            gemm::gemm(
                m,
                n,
                terms.min(k - first),
                c,
                c_column,
                c_row,
                accumulate == Accumulate::Add || first > 0,
                a.as_ptr(),
                a_column,
                a_row,
                b.as_ptr(),
                b_column,
                b_row,
                1.0,
                scale,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(m: usize, n: usize, seed: u64) -> Vec<f32> {
        crate::sampling::Generator::new(seed).randn(m * n)
    }

    /// Every layout of the three matrices, sums in one piece and in several, against the definition.
    #[test]
    fn products_are_the_definition_in_every_layout() {
        let lengths = [0, 7, 1100];
        for (layouts, k) in (0..8).flat_map(|layouts| lengths.map(|k| (layouts, k))) {
            let (m, n) = (5, 3);
            let strides = |bit: usize, rows: usize, columns: usize| match layouts >> bit & 1 {
                0 => Strides::rows(columns),
                _ => Strides::rows(rows).transposed(),
            };
            let (a, b, before) = (matrix(m, k, 1), matrix(k, n, 2), matrix(m, n, 3));
            let (a, b) = (
                View::new(&a, strides(0, m, k)),
                View::new(&b, strides(1, k, n)),
            );
            let c_strides = strides(2, m, n);
            for accumulate in [Accumulate::Replace, Accumulate::Add] {
                let mut out = before.clone();
                let c = ViewMut::new(&mut out, c_strides);
                product(Sizes { m, k, n }, 0.5, a, b, c, accumulate);
                let (out, before) = (View::new(&out, c_strides), View::new(&before, c_strides));
                for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
                    let term = |l| f64::from(a.at(i, l) * b.at(l, j));
                    let sum = (0..k).map(term).sum::<f64>() as f32;
                    let start = match accumulate {
                        Accumulate::Replace => 0.0,
                        Accumulate::Add => before.at(i, j),
                    };
                    let error = (out.at(i, j) - start - 0.5 * sum).abs();
                    assert!(error < if k < 100 { 1e-5 } else { 1e-4 }, "{k}: {error}");
                }
            }
        }
    }

    #[test]
    fn matrices_beyond_their_slices_do_not_fit() {
        let half = usize::MAX / 2 + 1;
        for (m, n, row, column, len, fits) in [
            (2, 3, 3, 1, 6, true),
            (2, 3, 3, 1, 5, false),
            (2, 3, 1, 2, 6, true),
            (3, 2, 1, 3, 5, false),
            (1, 1, usize::MAX, usize::MAX, 1, true),
            (0, 9, 9, 9, 0, true),
            (9, 0, 9, 9, 0, true),
            (1, 1, 0, 0, 0, false),
            // What wraps round to 0: (m − 1)·row, the same of columns, and their sum.
            (3, 1, half, 1, 4, false),
            (1, 3, 1, half, 4, false),
            (2, 2, half, half, 4, false),
        ] {
            let strides = Strides { row, column };
            assert_eq!(strides.fit(m, n, len), fits, "{m} x {n}: {strides:?}");
        }
    }

    /// Against the places of all elements, written down.
    #[test]
    fn elements_are_told_apart() {
        let sizes = [0usize, 1, 2, 3, 5];
        let pairs = || sizes.into_iter().flat_map(|a| sizes.map(|b| (a, b)));
        for ((m, n), (row, column)) in pairs().flat_map(|a| pairs().map(move |b| (a, b))) {
            let strides = Strides { row, column };
            let mut places: Vec<usize> = (0..m)
                .flat_map(|i| (0..n).map(move |j| i * row + j * column))
                .collect();
            places.sort_unstable();
            places.dedup();
            // Interleaved rows and columns are refused though they may be distinct.
            if strides.distinct(m, n) {
                assert_eq!(places.len(), m * n, "{m} x {n}: {strides:?}");
            }
            let plain = row >= n.max(1) && column == 1 || column >= m.max(1) && row == 1;
            assert!(strides.distinct(m, n) || !plain, "{m} x {n}: {strides:?}");
        }
        assert!(!Strides { row: 0, column: 1 }.distinct(2, 2));
        assert!(!Strides { row: 1, column: 0 }.distinct(2, 2));
        let row = usize::MAX;
        assert!(!Strides { row, column: row }.distinct(3, 3));
    }

    fn write(c: &mut [f32], strides: Strides) {
        let (a, b) = ([0.0; 6], [0.0; 6]);
        let sizes = Sizes { m: 2, k: 3, n: 2 };
        let (a, b, c) = (
            View::rows(&a, 3),
            View::rows(&b, 2),
            ViewMut::new(c, strides),
        );
        product(sizes, 1.0, a, b, c, Accumulate::Replace);
    }

    #[test]
    #[should_panic(expected = "fit")]
    fn a_matrix_beyond_its_slice_is_refused() {
        write(&mut [0.0; 3], Strides::rows(2));
    }

    #[test]
    #[should_panic(expected = "distinct")]
    fn rows_that_are_one_are_refused() {
        write(&mut [0.0; 4], Strides { row: 0, column: 1 });
    }

    #[test]
    #[should_panic(expected = "fit")]
    fn an_input_beyond_its_slice_is_refused() {
        let (a, b, mut c) = ([0.0; 6], [0.0; 5], [0.0; 4]);
        let sizes = Sizes { m: 2, k: 3, n: 2 };
        let (a, b, c) = (
            View::rows(&a, 3),
            View::rows(&b, 2),
            ViewMut::rows(&mut c, 2),
        );
        product(sizes, 1.0, a, b, c, Accumulate::Replace);
    }
}

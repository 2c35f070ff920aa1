//! Matrix products on slices, for kernels that run one product in each of their own parallel tasks: of matrices as they
//! lie by the library gemm, and of a right operand that was written for it by [`product_of_panels`].

mod kernel;
mod panels;

use gemm::Parallelism;

pub(super) use self::panels::{PANEL, Panels, product_of_panels, product_of_panels_at};

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

    /// Whether an `m` × `n` matrix is of rows of contiguous values of which no two share an element.
    fn are_rows(self, m: usize, n: usize) -> bool {
        (n <= 1 || self.column == 1) && (m <= 1 || self.row >= n)
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

    /// The values, and the strides from row to row and from column to column.
    pub(super) fn parts(self) -> (&'a [f32], usize, usize) {
        (self.values, self.strides.row, self.strides.column)
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

impl Accumulate {
    /// [`Self::Add`] if there is something to add to.
    pub(super) fn add_if(there: bool) -> Self {
        if there { Self::Add } else { Self::Replace }
    }
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
mod tests;

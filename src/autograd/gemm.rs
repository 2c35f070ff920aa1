//! Matrix products on slices, for kernels that run one product in each of their own parallel tasks.

use gemm::Parallelism;

/// Where the elements of a matrix lie in a slice: (i, j) at `i·row + j·column`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strides {
    pub(super) row: usize,
    pub(super) column: usize,
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
        m == 0 || n == 0 || (m - 1) * self.row + (n - 1) * self.column < len
    }

    /// Row and column stride as the product takes them; a slice's length, and so a stride within it, fits.
    fn signed(self) -> (isize, isize) {
        (self.row.cast_signed(), self.column.cast_signed())
    }
}

/// What a product finds in its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Onto {
    /// Nothing: what is there is overwritten.
    Nothing,
    /// A term of the sum.
    Sum,
}

/// Most terms of a sum that the library is given at a time. It cuts longer sums by the size of the whole product, so that an
/// element would be rounded in one way in a small product and in another in a large one.
const MAX_TERMS: usize = 512;

/// `c = scale·a·b`, or `c += scale·a·b`, for `a: [m, k]`, `b: [k, n]`, `c: [m, n]`, on the calling thread.
///
/// # Panics
/// If a matrix reaches beyond its slice, or rows and columns of `c` share an element.
pub(super) fn product(
    (m, k, n): (usize, usize, usize),
    scale: f32,
    (a, a_strides): (&[f32], Strides),
    (b, b_strides): (&[f32], Strides),
    (c, c_strides): (&mut [f32], Strides),
    onto: Onto,
) {
    assert!(c_strides.fit(m, n, c.len()));
    assert!(c_strides.row >= n * c_strides.column || c_strides.column >= m * c_strides.row);
    let c = (c.as_mut_ptr(), c_strides);
    // SAFETY: the assertions hold `c` within its slice, and its exclusive borrow keeps it apart from the others.
    #[expect(unsafe_code, reason = "the product takes pointers")]
    unsafe {
        product_at((m, k, n), scale, (a, a_strides), (b, b_strides), c, onto);
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
    (m, k, n): (usize, usize, usize),
    scale: f32,
    (a, a_strides): (&[f32], Strides),
    (b, b_strides): (&[f32], Strides),
    (c, c_strides): (*mut f32, Strides),
    onto: Onto,
) {
    assert!(a_strides.fit(m, k, a.len()) && b_strides.fit(k, n, b.len()));
    let (a_row, a_column) = a_strides.signed();
    let (b_row, b_column) = b_strides.signed();
    let (c_row, c_column) = c_strides.signed();
    if m == 0 || n == 0 {
        return;
    }
    let terms = k.div_ceil(k.div_ceil(MAX_TERMS).max(1)).max(1);
    // Once also where there are no terms, which makes zeros of what is overwritten.
    for first in (0..k.max(1)).step_by(terms) {
        let (a, b) = (&a[first * a_strides.column..], &b[first * b_strides.row..]);
        // SAFETY: the assertion holds `a` and `b` within their slices, and the caller answers for `c`.
        unsafe {
            gemm::gemm(
                m,
                n,
                terms.min(k - first),
                c,
                c_column,
                c_row,
                onto == Onto::Sum || first > 0,
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
        let at = |x: &[f32], s: Strides, i: usize, j: usize| x[i * s.row + j * s.column];
        let lengths = [0, 7, 1100];
        for (layouts, k) in (0..8).flat_map(|layouts| lengths.map(|k| (layouts, k))) {
            let (m, n) = (5, 3);
            let strides = |bit: usize, rows: usize, columns: usize| match layouts >> bit & 1 {
                0 => Strides::rows(columns),
                _ => Strides::rows(rows).transposed(),
            };
            let (a, b) = (matrix(m, k, 1), matrix(k, n, 2));
            let (sa, sb, sc) = (strides(0, m, k), strides(1, k, n), strides(2, m, n));
            let before = matrix(m, n, 3);
            for onto in [Onto::Nothing, Onto::Sum] {
                let mut c = before.clone();
                product((m, k, n), 0.5, (&a, sa), (&b, sb), (&mut c, sc), onto);
                for i in 0..m {
                    for j in 0..n {
                        let term = |l| f64::from(at(&a, sa, i, l) * at(&b, sb, l, j));
                        let sum = (0..k).map(term).sum::<f64>() as f32;
                        let start = match onto {
                            Onto::Nothing => 0.0,
                            Onto::Sum => at(&before, sc, i, j),
                        };
                        let error = (at(&c, sc, i, j) - start - 0.5 * sum).abs();
                        assert!(error < if k < 100 { 1e-5 } else { 1e-4 }, "{k}: {error}");
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "fit")]
    fn a_matrix_beyond_its_slice_is_refused() {
        let (a, b, mut c) = ([0.0; 6], [0.0; 5], [0.0; 4]);
        let rows = Strides::rows;
        product(
            (2, 3, 2),
            1.0,
            (&a, rows(3)),
            (&b, rows(2)),
            (&mut c, rows(2)),
            Onto::Nothing,
        );
    }
}

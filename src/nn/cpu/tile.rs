//! A matrix cut into rectangles that parallel tasks write at the same time.

use std::marker::PhantomData;
use std::ops::Range;

use super::gemm::{Accumulate, Panels, Sizes, Strides, View, product_at, product_of_panels_at};

/// A rectangle of a matrix with contiguous rows; no other tile of the same cut shares an element with it.
pub(super) struct Tile<'a> {
    at: *mut f32,
    /// First row and first column in the matrix.
    pub(super) from: (usize, usize),
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// From one row to the next.
    stride: usize,
    matrix: PhantomData<&'a mut [f32]>,
}

// SAFETY: a tile is an exclusive borrow of its elements, which `f32` lets move between threads.
#[expect(unsafe_code, reason = "the pointer stands for an exclusive borrow")]
unsafe impl Send for Tile<'_> {}

/// Cuts a matrix of rows of `width` values into tiles of at most `rows` × `columns`, row by row.
///
/// # Panics
/// If the matrix has no whole number of rows, or a size is 0.
pub(super) fn tiles(
    matrix: &mut [f32],
    width: usize,
    rows: usize,
    columns: usize,
) -> Vec<Tile<'_>> {
    assert!(rows > 0 && columns > 0 && width > 0 && matrix.len().is_multiple_of(width));
    let mut tiles = Vec::new();
    for (i, band) in matrix.chunks_mut(rows * width).enumerate() {
        let height = band.len() / width;
        let at = band.as_mut_ptr();
        for from in (0..width).step_by(columns) {
            tiles.push(Tile {
                at: at.wrapping_add(from),
                from: (i * rows, from),
                rows: height,
                columns: columns.min(width - from),
                stride: width,
                matrix: PhantomData,
            });
        }
    }
    tiles
}

/// The tiles that `cut` makes of each sample of `len` values, with its number.
pub(super) fn by_sample<'a>(
    out: &'a mut [f32],
    len: usize,
    cut: impl Fn(&'a mut [f32]) -> Vec<Tile<'a>>,
) -> Vec<(usize, Tile<'a>)> {
    out.chunks_mut(len.max(1))
        .enumerate()
        .flat_map(|(i, out)| cut(out).into_iter().map(move |tile| (i, tile)))
        .collect()
}

impl Tile<'_> {
    /// Row `i` of the tile.
    ///
    /// # Panics
    /// If it has no such row.
    pub(super) fn row(&mut self, i: usize) -> &mut [f32] {
        assert!(i < self.rows);
        // SAFETY: `tiles` made the tile of `rows` × `columns` elements that lie in one exclusively borrowed slice,
        // `stride` apart from row to row, and gave none of them to another tile.
        #[expect(unsafe_code, reason = "part of a borrowed slice")]
        unsafe {
            std::slice::from_raw_parts_mut(self.at.add(i * self.stride), self.columns)
        }
    }

    /// The tile `= scale·a·b`, or `+= scale·a·b`, for `a: [rows, k]`, `b: [k, columns]`.
    ///
    /// # Panics
    /// If a matrix reaches beyond its slice.
    pub(super) fn product(
        &mut self,
        k: usize,
        scale: f32,
        a: View,
        b: View,
        accumulate: Accumulate,
    ) {
        let (m, n) = (self.rows, self.columns);
        let (sizes, strides) = (Sizes { m, k, n }, Strides::rows(self.stride));
        // SAFETY: as in `row`; `a` and `b` are borrowed, so that they share no element with the tile.
        #[expect(unsafe_code, reason = "part of a borrowed slice")]
        unsafe {
            product_at(sizes, scale, a, b, self.at, strides, accumulate);
        }
    }

    /// Some of its rows `= a·b`, or `+= a·b`, with `b` in panels, of the tile's first columns.
    ///
    /// # Panics
    /// If `a` reaches beyond its slice, or the product beyond the tile.
    pub(super) fn product_of_panels(
        &mut self,
        rows: Range<usize>,
        a: View,
        b: Panels,
        accumulate: Accumulate,
    ) {
        assert!(rows.start <= rows.end && rows.end <= self.rows && b.columns() <= self.columns);
        let at = self.at.wrapping_add(rows.start * self.stride);
        // SAFETY: as in `row`; `a` and `b` are borrowed, so that they share no element with the tile.
        #[expect(unsafe_code, reason = "part of a borrowed slice")]
        unsafe {
            product_of_panels_at(rows.len(), a, b, at, self.stride, accumulate);
        }
    }
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::*;

    #[test]
    fn tiles_cover_a_matrix_once() {
        for (height, width, rows, columns) in
            [(7, 5, 3, 2), (4, 6, 4, 6), (3, 3, 8, 1), (0, 4, 2, 2)]
        {
            let mut matrix = vec![0f32; height * width];
            tiles(&mut matrix, width, rows, columns)
                .into_par_iter()
                .for_each(|mut tile| {
                    for i in 0..tile.rows {
                        let (row, column) = (tile.from.0 + i, tile.from.1);
                        for (j, v) in tile.row(i).iter_mut().enumerate() {
                            *v += (row * width + column + j + 1) as f32;
                        }
                    }
                });
            let want: Vec<f32> = (1..=height * width).map(|i| i as f32).collect();
            assert_eq!(matrix, want);
        }
    }

    #[test]
    fn a_product_fills_its_tile_alone() {
        let (mut matrix, a, b) = (vec![9f32; 12], [1f32, 2.0, 3.0], [1f32, 10.0]);
        let mut cut = tiles(&mut matrix, 4, 3, 2);
        let (a, b) = (View::rows(&a, 1), View::rows(&b, 2));
        cut[1].product(1, 2.0, a, b, Accumulate::Add);
        cut[0].product(1, 1.0, a, b, Accumulate::Replace);
        assert_eq!(
            matrix,
            [
                1.0, 10.0, 11.0, 29.0, 2.0, 20.0, 13.0, 49.0, 3.0, 30.0, 15.0, 69.0
            ]
        );
    }

    #[test]
    #[should_panic(expected = "rows")]
    fn a_row_beyond_a_tile_is_refused() {
        tiles(&mut [0.0; 4], 2, 1, 2)[0].row(1);
    }
}

use pulp::Arch;

use super::*;
use crate::nn::cpu::math;

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

/// Sizes about the kernel's, `[m, k, n]`.
const SIZES: [[usize; 3]; 10] = [
    [5, 0, 3],
    [5, 7, 3],
    [1, 40, 1],
    [8, 9, 32],
    [9, 300, 33],
    [15, 256, 48],
    [4, 5, 16],
    [22, 13, 70],
    [3, 1100, 8],
    [7, 600, 70],
];

/// Every layout of the operands, sums in one piece and in several, by all instructions that this machine has, against
/// the definition.
#[test]
fn products_of_panels_are_the_definition() {
    let instructions = [Arch::Scalar, math::instructions()].into_iter();
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    let instructions = instructions.chain(pulp::x86::V3::try_new().map(Arch::V3));
    let instructions: Vec<Arch> = instructions.collect();
    for (layouts, [m, k, n]) in (0..4).flat_map(|layouts| SIZES.map(|sizes| (layouts, sizes))) {
        if cfg!(miri) && m * k * n > 3_000 {
            continue; // takes minutes
        }
        let strides = |bit: usize, rows: usize, columns: usize| match layouts >> bit & 1 {
            0 => Strides::rows(columns),
            _ => Strides::rows(rows).transposed(),
        };
        let width = n + 2;
        let (a, b, before) = (matrix(m, k, 1), matrix(k, n, 2), matrix(m, width, 3));
        let (a, b) = (
            View::new(&a, strides(0, m, k)),
            View::new(&b, strides(1, k, n)),
        );
        for (accumulate, &arch) in [Accumulate::Replace, Accumulate::Add]
            .into_iter()
            .flat_map(|accumulate| instructions.iter().map(move |arch| (accumulate, arch)))
        {
            let mut out = before.clone();
            Panels::with(0.5, b, k, n, |b| {
                // SAFETY: `out` has `m` rows of `width` values.
                #[expect(unsafe_code, reason = "the product takes pointers")]
                unsafe {
                    let product = kernel::Product {
                        m,
                        a,
                        b,
                        c: out.as_mut_ptr(),
                        stride: width,
                        accumulate,
                    };
                    product.run(arch);
                }
            });
            for (i, j) in (0..m).flat_map(|i| (0..width).map(move |j| (i, j))) {
                let (out, before) = (out[i * width + j], before[i * width + j]);
                if j >= n {
                    assert_eq!(out, before, "beside the matrix");
                    continue;
                }
                let term = |l| f64::from(a.at(i, l) * b.at(l, j));
                let sum = (0..k).map(term).sum::<f64>() as f32;
                let start = match accumulate {
                    Accumulate::Replace => 0.0,
                    Accumulate::Add => before,
                };
                let error = (out - start - 0.5 * sum).abs();
                assert!(error < if k < 100 { 1e-5 } else { 1e-4 }, "{k}: {error}");
            }
        }
    }
}

/// To the last bit: a picture must not depend on those beside it.
#[test]
fn an_element_is_the_same_in_a_product_of_any_size() {
    let (m, k, n) = if cfg!(miri) {
        (9, 530, 20)
    } else {
        (19, 700, 77)
    };
    let (a, b) = (matrix(m, k, 1), matrix(k, n, 2));
    let stride = n;
    let whole = |m: usize, n: usize| {
        let mut out = vec![0f32; m * n];
        let (a, b) = (View::rows(&a, k), View::rows(&b, stride));
        let c = ViewMut::rows(&mut out, n);
        Panels::with(1.0, b, k, n, |b| {
            product_of_panels(m, a, b, c, Accumulate::Replace)
        });
        out
    };
    let largest = whole(m, n);
    for (rows, columns) in [(1, 1), (3, 16), (8, 33), (12, 76), (17, 40)] {
        let (rows, columns) = (rows.min(m), columns.min(n));
        let part = whole(rows, columns);
        for (i, j) in (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))) {
            assert_eq!(
                part[i * columns + j],
                largest[i * n + j],
                "{rows} x {columns}"
            );
        }
    }
}

#[test]
fn rows_are_told_apart() {
    for (m, n, row, column, are) in [
        (2, 3, 3, 1, true),
        (2, 3, 7, 1, true),
        (2, 3, 2, 1, false),
        (2, 3, 1, 2, false),
        (1, 3, 0, 1, true),
        (3, 1, 1, 9, true),
        (3, 1, 0, 1, false),
        (0, 0, 0, 0, true),
    ] {
        let strides = Strides { row, column };
        assert_eq!(strides.are_rows(m, n), are, "{m} x {n}: {strides:?}");
    }
}

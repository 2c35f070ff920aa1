use super::pack::word;
use super::*;
use crate::nn::cpu::gemm::{Strides, View};
use crate::nn::cpu::tile::tiles;
use crate::sampling::Generator;

fn bf16(x: f32) -> f32 {
    half::bf16::from_f32(x).to_f32()
}

/// Halves are rounded as the library `half` rounds.
#[test]
fn words_are_two_numbers_of_bf16() {
    let special = [
        0.0,
        -0.0,
        1.0,
        f32::INFINITY,
        f32::MIN_POSITIVE,
        1e-40,
        f32::MAX,
        257.0 / 256.0,
        259.0 / 256.0,
    ];
    let random = Generator::new(3).randn(1000);
    for pair in special.iter().chain(&random).collect::<Vec<_>>().windows(2) {
        let want = |x: f32| u32::from(half::bf16::from_f32(x).to_bits());
        assert_eq!(
            word(*pair[0], *pair[1]),
            want(*pair[0]) | want(*pair[1]) << 16
        );
    }
    let nan = word(f32::NAN, 1.0);
    assert!(f32::from_bits(nan << 16).is_nan());
    assert!(f32::from_bits(word(1.0, f32::from_bits(0x7f80_0001)) & 0xffff_0000).is_nan());
}

/// Every layout and sizes about the edges of tiles, against sums in f64 of rounded elements: no error but that of sums
/// in f32, on the instructions of this machine and by the definition.
#[test]
fn products_are_sums_of_rounded_elements() {
    let mut generator = Generator::new(5);
    let sizes: &[(usize, usize, usize)] = match cfg!(miri) {
        true => &[(17, 33, 5)],
        false => &[
            (1, 1, 1),
            (16, 32, 16),
            (17, 33, 5),
            (33, 31, 65),
            (64, 2100, 32),
            (7, 64, 100),
            (40, 0, 9),
        ],
    };
    for &(m, k, n) in sizes {
        let (a, b) = (generator.randn(m * k), generator.randn(k * n));
        let at = |x: &[f32], line: usize, i: usize| f64::from(bf16(x[line * k + i]));
        let start = generator.randn(m * n);
        let want = |i: usize, j: usize| {
            let sum: f64 = (0..k).map(|t| at(&a, i, t) * at(&b, j, t)).sum();
            sum + f64::from(start[i * n + j])
        };
        let turned = |x: &[f32], lines: usize| -> Vec<f32> {
            (0..k * lines)
                .map(|i| x[i % lines * k + i / lines])
                .collect()
        };
        let (a_turned, b_turned) = (turned(&a, m), turned(&b, n));
        // b's lines are its columns.
        let left = [
            View::rows(&a, k),
            View::new(&a_turned, Strides::rows(m).transposed()),
        ];
        let right = [View::rows(&b, k).transposed(), View::rows(&b_turned, n)];
        for a in left {
            for b in right {
                let mut words = [vec![0.0; packed_len(m, k)], vec![0.0; packed_len(n, k)]];
                pack(Lines::rows(a), m, k, Side::Left, &mut words[0]);
                pack(Lines::columns(b), n, k, Side::Right, &mut words[1]);
                let [a, b] = [Packed::new(&words[0], k), Packed::new(&words[1], k)];
                let mut out = start.clone();
                for mut tile in tiles(&mut out, n, 32, 64) {
                    let (row, column) = tile.from;
                    add_product(a.from(row), b.from(column), &mut tile);
                }
                for (i, &got) in out.iter().enumerate() {
                    let error = (f64::from(got) - want(i / n, i % n)).abs();
                    assert!(
                        error < 1e-5 * (k as f64 + 1.0).sqrt(),
                        "{m} {k} {n}: {i} by {error:e}"
                    );
                }
            }
        }
        // Rows that are written one after the other are the same words.
        let mut words = [vec![0.0; packed_len(n, k)], vec![0.0; packed_len(n, k)]];
        pack(Lines::columns(right[1]), n, k, Side::Right, &mut words[0]);
        pack_rows(
            |i, out| out.copy_from_slice(&b_turned[i * n..][..n]),
            n,
            k,
            &mut words[1],
        );
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&words[0]), bits(&words[1]), "{m} {k} {n}");
    }
}

/// All instructions of this machine beside the definition; where there are none, there is nothing to compare.
#[test]
fn instructions_multiply_by_the_definition() {
    let numbers = Generator::new(7).randn(8 * 3 * TILE);
    let words: Vec<f32> = numbers
        .chunks(2)
        .map(|pair| f32::from_bits(word(pair[0], pair[1])))
        .collect();
    let parts: Vec<&[f32]> = words.chunks_exact(3 * TILE).collect();
    let (a, b) = ([parts[0], parts[1]], [parts[2], parts[3]]);
    let mut wanted = Sums([1.0; 4 * TILE]);
    Instructions::None.multiply(a, b, &mut wanted.0);
    for instructions in Instructions::all().chain([Instructions::None]) {
        let mut sums = Sums([1.0; 4 * TILE]);
        instructions.multiply(a, b, &mut sums.0);
        for (want, got) in wanted.0.iter().zip(&sums.0) {
            assert!((want - got).abs() < 1e-4, "{want} {got}");
        }
        instructions.multiply([&[]; 2], [&[]; 2], &mut sums.0);
        assert_eq!(sums.0, [0.0; 4 * TILE]);
    }
}

//! AVX-512 BF16: instructions that add two products to each of sixteen sums.

use std::arch::is_x86_feature_detected;
use std::arch::x86_64::{__m512, __m512bh, _mm512_dpbf16_ps, _mm512_setzero_ps};
use std::array::from_fn;

use super::{LINES, TILE};

/// Rows whose sums are in registers at a time: 16 of 32, beside two of the right operand and one of the left.
const ROWS: usize = 8;

/// That this processor has the instructions.
#[derive(Clone, Copy)]
pub(in super::super) struct Detected(());

impl Detected {
    pub(super) fn new() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16");
        found.then_some(Self(()))
    }

    /// As [`Instructions::multiply`](super::Instructions::multiply), which looked at the lengths.
    pub(super) fn multiply(self, a: [&[f32]; 2], b: [&[f32]; 2], sums: &mut [f32; 4 * TILE]) {
        #[expect(unsafe_code, reason = "instructions that not every processor has")]
        // SAFETY: this one has them.
        unsafe {
            multiply(a, b, sums);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn multiply(a: [&[f32]; 2], b: [&[f32]; 2], sums: &mut [f32; 4 * TILE]) {
    let lines = |x| -> &[[[f32; LINES]; LINES]] { <[f32]>::as_chunks(x).0.as_chunks().0 };
    let b = b.map(lines);
    for (sums, a) in sums.chunks_exact_mut(2 * TILE).zip(a.map(lines)) {
        for first in (0..LINES).step_by(ROWS) {
            let mut rows = [[_mm512_setzero_ps(); 2]; ROWS];
            for ((a, left), right) in a.iter().zip(b[0]).zip(b[1]) {
                let a: [&[f32; LINES]; ROWS] = from_fn(|row| &a[first + row]);
                for (pair, (&left, &right)) in left.iter().zip(right).enumerate() {
                    let columns = [left, right].map(|words| pairs(words));
                    for (row, a) in rows.iter_mut().zip(a) {
                        let a = pairs([a[pair]; LINES]);
                        *row = from_fn(|side| _mm512_dpbf16_ps(row[side], a, columns[side]));
                    }
                }
            }
            for (row, of_row) in rows.into_iter().enumerate() {
                for (sums, of_row) in sums.chunks_exact_mut(TILE).zip(of_row) {
                    sums[(first + row) * LINES..][..LINES].copy_from_slice(&numbers(of_row));
                }
            }
        }
    }
}

/// Words as what they are: two numbers of bf16 each.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn pairs(words: [f32; LINES]) -> __m512bh {
    #[expect(unsafe_code, reason = "bits by another name")]
    // SAFETY: both are 512 bits, of which every pattern is valid.
    unsafe {
        std::mem::transmute(words)
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn numbers(sums: __m512) -> [f32; LINES] {
    #[expect(unsafe_code, reason = "bits by another name")]
    // SAFETY: both are 512 bits, of which every pattern is valid.
    unsafe {
        std::mem::transmute(sums)
    }
}

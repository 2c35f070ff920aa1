//! Weights as the f32 that kernels compute with: where they lie, or converted for one use.

use std::ops::Range;

use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use super::cache::{fetch, line};
use super::gemm::View;
use super::math::vectorised;
use super::scratch;
use crate::Result;
use crate::nn::weight::{Numbers, Weight};

/// Numbers that one task converts.
const RUN: usize = 1 << 16;

/// Calls `f` with all numbers of a matrix.
///
/// # Errors
/// As [`Weight::with`].
pub(super) fn with_f32<R>(weight: &Weight, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    weight.with(|numbers| {
        Ok(match numbers {
            Numbers::F32(x) => f(x),
            Numbers::F16(x) => converted(x, widen, f),
            Numbers::Bf16(x) => converted(x, |from, to| from.convert_to_f32_slice(to), f),
        })
    })
}

/// Calls `f` with numbers that `convert` turns into f32.
fn converted<T: Sync, R>(
    x: &[T],
    convert: impl Fn(&[T], &mut [f32]) + Sync,
    f: impl FnOnce(&[f32]) -> R,
) -> R {
    scratch::with(x.len(), |buffer| {
        x.par_chunks(RUN)
            .zip(buffer.par_chunks_mut(RUN))
            .for_each(|(from, to)| convert(from, to));
        f(buffer)
    })
}

/// Halves as f32. The conversion of `half` calls a function for every eight of them.
fn widen(from: &[f16], to: &mut [f32]) {
    vectorised(
        #[inline(always)]
        || widen_all(from, to),
    );
}

#[inline(always)]
fn widen_all(from: &[f16], to: &mut [f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = widened(from.to_bits());
    }
}

/// The number of these bits of f16: 1 bit of sign, 5 of exponent + 15, 10 of fraction.
#[inline(always)]
fn widened(bits: u16) -> f32 {
    const EXPONENT: u32 = 127 - 15;
    let magnitude = u32::from(bits & 0x7fff) << 13;
    let exponent = magnitude >> 23;
    // Below the least normal number, 2⁻¹⁴, the fraction is what exceeds it in a number with the exponent of it.
    let least = (EXPONENT + 1) << 23;
    let subnormal = f32::from_bits(least | magnitude) - f32::from_bits(least);
    let infinite = if exponent == 31 { EXPONENT << 23 } else { 0 };
    let normal = magnitude + (EXPONENT << 23) + infinite;
    let magnitude = if exponent == 0 {
        subnormal.to_bits()
    } else {
        normal
    };
    f32::from_bits(magnitude | u32::from(bits & 0x8000) << 16)
}

/// A block of a matrix with rows of `width` numbers: where it lies, or converted into `buffer`.
pub(super) fn block<'a>(
    numbers: Numbers<'a>,
    width: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    buffer: &'a mut Vec<f32>,
) -> View<'a> {
    let start = rows.start * width + columns.start;
    let size = (rows.len(), columns.len());
    match numbers {
        Numbers::F32(x) => return View::rows(&x[start..], width),
        Numbers::F16(x) => convert_rows(&x[start..], width, size, widen_all, buffer),
        Numbers::Bf16(x) => convert_rows(
            &x[start..],
            width,
            size,
            |from, to| from.convert_to_f32_slice(to),
            buffer,
        ),
    }
    View::rows(buffer, columns.len())
}

/// Fills `buffer` with what `convert` makes of the first columns of some rows, `width` apart.
fn convert_rows<T>(
    x: &[T],
    width: usize,
    (rows, columns): (usize, usize),
    convert: impl Fn(&[T], &mut [f32]),
    buffer: &mut Vec<f32>,
) {
    /// Rows that are asked for before their turn: they are too short for the processor to see where they go, and come
    /// from memory.
    const AHEAD: usize = 4;
    buffer.resize(rows * columns, 0.0);
    vectorised(
        #[inline(always)]
        || {
            for (i, row) in buffer.chunks_exact_mut(columns.max(1)).enumerate() {
                let later = x.iter().skip((i + AHEAD) * width).take(columns);
                later.step_by(line::<T>()).for_each(
                    #[inline(always)]
                    |number| fetch(number),
                );
                convert(&x[i * width..][..columns], row);
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    /// All there are.
    #[test]
    fn halves_are_the_librarys() {
        for bits in 0..=u16::MAX {
            let (got, want) = (widened(bits), f16::from_bits(bits).to_f32());
            assert!(
                got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(),
                "{bits:04x}: {got} {want}"
            );
        }
    }

    /// Every type, in blocks: at corners, inside, empty, and the whole.
    #[test]
    fn blocks_are_the_matrixs() {
        let values: Vec<f32> = (0..35).map(|i| i as f32 * 0.5 - 3.0).collect();
        let half: Vec<f16> = values.iter().map(|&v| f16::from_f32(v)).collect();
        let brain: Vec<bf16> = values.iter().map(|&v| bf16::from_f32(v)).collect();
        let mut buffer = Vec::new();
        for numbers in [
            Numbers::F32(&values),
            Numbers::F16(&half),
            Numbers::Bf16(&brain),
        ] {
            for (rows, columns) in [(1..4, 2..7), (0..5, 0..7), (4..5, 6..7), (0..1, 3..3)] {
                let block = block(numbers, 7, rows.clone(), columns.clone(), &mut buffer);
                for (i, row) in rows.enumerate() {
                    for (j, column) in columns.clone().enumerate() {
                        assert_eq!(block.at(i, j), values[row * 7 + column]);
                    }
                }
            }
        }
    }
}

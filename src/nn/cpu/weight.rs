//! Weights as the f32 that kernels compute with: where they lie, or converted for one use.

use std::ops::Range;

use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use super::gemm::View;
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
            Numbers::F16(x) => converted(x, |from, to| from.convert_to_f32_slice(to), f),
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

/// A block of a matrix with rows of `width` numbers: where it lies, or converted into `buffer`.
pub(super) fn block<'a>(
    numbers: Numbers<'a>,
    width: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    buffer: &'a mut Vec<f32>,
) -> View<'a> {
    let (start, len) = (rows.start * width + columns.start, columns.len());
    if let Numbers::F32(x) = numbers {
        return View::rows(&x[start..], width);
    }
    buffer.resize(rows.len() * len, 0.0);
    for (i, row) in buffer.chunks_exact_mut(len.max(1)).enumerate() {
        let from = start + i * width;
        match numbers {
            Numbers::F32(x) => row.copy_from_slice(&x[from..from + len]),
            Numbers::F16(x) => x[from..from + len].convert_to_f32_slice(row),
            Numbers::Bf16(x) => x[from..from + len].convert_to_f32_slice(row),
        }
    }
    View::rows(buffer, len)
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;

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

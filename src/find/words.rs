//! The words of one subject, as a row of K or V meets them: their embeddings, what meets one of them alone, and how far
//! shutting neurons reaches at each.

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use crate::model::Conditioning;
use crate::{Error, Result};

/// What is added to the diagonal of EᵀE, as a share of its mean: words of one embedding are two numbers still.
const RIDGE: f64 = 1e-9;

/// The embeddings of the words, and what has a product of one with a single one of them.
pub(super) struct Words {
    /// `[T, e]`
    pub(super) embeddings: Tensor,
    /// p, `[T, e]`
    pub(super) duals: Tensor,
    pub(super) count: usize,
}

impl Words {
    /// Of a prompt with one subject's words.
    pub(super) fn of(context: &Conditioning) -> Result<Self> {
        let [words] = context.words() else {
            return Err(Error::value(
                "prompt",
                "one whose words of one subject are marked",
                format!("{} subjects", context.words().len()),
            ));
        };
        let marked: Vec<u8> = words.flatten_all()?.to_vec1()?;
        let places: Vec<u32> = (0u32..)
            .zip(&marked)
            .filter(|(_, m)| **m != 0)
            .map(|(i, _)| i)
            .collect();
        let device = context.embedding().device();
        let (count, places) = (places.len(), Tensor::new(places, device)?);
        let embeddings = context
            .embedding()
            .squeeze(0)?
            .to_dtype(DType::F32)?
            .index_select(&places, 0)?;
        let rows: Vec<Vec<f32>> = embeddings.to_vec2()?;
        let duals = duals(&rows)?;
        let width = duals.len() / count.max(1);
        let duals = Tensor::from_vec(duals, (count, width), device)?;
        Ok(Self {
            embeddings,
            duals,
            count,
        })
    }
}

/// p = (EᵀE + ridge)⁻¹Eᵀ of embeddings, one after the other.
fn duals(rows: &[Vec<f32>]) -> Result<Vec<f32>> {
    let n = rows.len();
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    };
    let mut gram: Vec<Vec<f64>> = rows
        .iter()
        .map(|a| rows.iter().map(|b| dot(a, b)).collect())
        .collect();
    let mean = (0..n).map(|i| gram[i][i]).sum::<f64>() / n.max(1) as f64;
    let mut solved: Vec<Vec<f64>> = rows
        .iter()
        .map(|row| row.iter().map(|&v| f64::from(v)).collect())
        .collect();
    for (i, row) in gram.iter_mut().enumerate() {
        row[i] += RIDGE * mean;
    }
    // Gauss and Jordan, without a choice of pivots: the matrix is positive definite.
    for i in 0..n {
        let pivot = gram[i][i];
        if pivot.is_nan() || pivot <= 0.0 {
            return Err(Error::value(
                "embeddings of the words",
                "numbers, not all zero",
                pivot,
            ));
        }
        for row in [&mut gram[i], &mut solved[i]] {
            row.iter_mut().for_each(|v| *v /= pivot);
        }
        let (pivots, solution) = (gram[i].clone(), solved[i].clone());
        for j in (0..n).filter(|j| *j != i) {
            let by = gram[j][i];
            gram[j]
                .iter_mut()
                .zip(&pivots)
                .for_each(|(v, p)| *v -= by * p);
            solved[j]
                .iter_mut()
                .zip(&solution)
                .for_each(|(v, p)| *v -= by * p);
        }
    }
    Ok(solved.into_iter().flatten().map(|v| v as f32).collect())
}

/// By how much shutting neurons can lower and raise each row's output at each word, in `unit`s: Σ max(w_j·e_j, 0) and
/// Σ max(−w_j·e_j, 0).
pub(super) fn reach(weight: &[Vec<f32>], words: &[Vec<f32>], unit: f64) -> Vec<(f32, f32)> {
    let pairs: Vec<_> = (weight.iter())
        .flat_map(|row| words.iter().map(move |word| (row, word)))
        .collect();
    let reach = |(row, word): &(&Vec<f32>, &Vec<f32>)| {
        let (mut least, mut most) = (0f64, 0f64);
        for (w, e) in row.iter().zip(*word) {
            let term = f64::from(*w) * f64::from(*e);
            least -= term.max(0.0);
            most += (-term).max(0.0);
        }
        // Where a site gives nothing but zeros there is no unit, and nothing to reach.
        let in_units = |reach: f64| {
            if unit > 0.0 {
                (reach / unit) as f32
            } else {
                0.0
            }
        };
        (in_units(least), in_units(most))
    };
    pairs.par_iter().map(reach).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dual_meets_its_own_word_alone() {
        let rows = vec![
            vec![1.0, 2.0, 0.5, -1.0],
            vec![0.9, 2.1, 0.4, -1.2],
            vec![0.0, 1.0, 1.0, 1.0],
        ];
        let duals = duals(&rows).unwrap();
        for (i, dual) in duals.chunks_exact(4).enumerate() {
            for (j, row) in rows.iter().enumerate() {
                let dot: f32 = dual.iter().zip(row).map(|(a, b)| a * b).sum();
                let expected = f32::from(u8::from(i == j));
                assert!((dot - expected).abs() < 1e-4, "{i} {j}: {dot}");
            }
        }
        assert!(super::duals(&[vec![0.0, 0.0]]).is_err());
    }
}

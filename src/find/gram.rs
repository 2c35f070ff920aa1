//! What the text that a model is asked looks like to its cross-attentions.

use rayon::prelude::*;

use crate::{Error, Result};

/// The matrix of inner products G = mean(x·xᵀ) over text embeddings x, `[width, width]`: how much a change of a row of
/// a K or V weight changes what it computes, for the error of that row's output is (Δw)ᵀ·G·Δw on average.
#[derive(Debug, Clone, PartialEq)]
pub struct Gram {
    width: usize,
    values: Vec<f64>,
}

impl Gram {
    /// From embeddings of `width` numbers each, one after the other.
    ///
    /// # Errors
    /// If there are none, or their number is not a multiple of `width`.
    pub(crate) fn new(embeddings: &[f32], width: usize) -> Result<Self> {
        if embeddings.is_empty() || width == 0 || !embeddings.len().is_multiple_of(width) {
            return Err(Error::value(
                "text embeddings",
                format!("rows of {width} numbers"),
                format!("{} numbers", embeddings.len()),
            ));
        }
        let rows = (embeddings.len() / width) as f64;
        let mut values = vec![0f64; width * width];
        values
            .par_chunks_mut(width)
            .enumerate()
            .for_each(|(i, out)| {
                for x in embeddings.chunks_exact(width) {
                    let scaled = f64::from(x[i]) / rows;
                    for (o, &v) in out.iter_mut().zip(x) {
                        *o += scaled * f64::from(v);
                    }
                }
            });
        Ok(Self { width, values })
    }

    /// The length of an embedding.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Row `i`, which is also column `i`.
    pub(crate) fn row(&self, i: usize) -> &[f64] {
        &self.values[i * self.width..][..self.width]
    }

    /// vᵀ·G·v
    pub(crate) fn square(&self, v: &[f64]) -> f64 {
        v.iter()
            .enumerate()
            .map(|(i, vi)| vi * self.row(i).iter().zip(v).map(|(g, v)| g * v).sum::<f64>())
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gram_matrix_is_the_mean_of_outer_products() {
        let gram = Gram::new(&[1.0, 2.0, 3.0, 4.0], 2).unwrap();
        assert_eq!(gram.row(0), [5.0, 7.0]);
        assert_eq!(gram.row(1), [7.0, 10.0]);
        // The mean of (x·v)² for v = (1, −1).
        assert_eq!(gram.square(&[1.0, -1.0]), 1.0);
        assert!(Gram::new(&[1.0], 2).is_err() && Gram::new(&[], 2).is_err());
    }
}

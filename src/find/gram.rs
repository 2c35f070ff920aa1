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

    /// Row `i`, which is also column `i`.
    pub(crate) fn row(&self, i: usize) -> &[f64] {
        &self.values[i * self.width..][..self.width]
    }
}

/// One word of the text, or all of it, as cross-attentions see it in many prompts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Word {
    gram: Gram,
    mean: Vec<f64>,
}

impl Word {
    /// From its embeddings of `width` numbers each, one after the other.
    ///
    /// # Errors
    /// As of [`Gram::new`].
    pub(crate) fn new(embeddings: &[f32], width: usize) -> Result<Self> {
        let gram = Gram::new(embeddings, width)?;
        let count = (embeddings.len() / width) as f64;
        let mut mean = vec![0f64; width];
        for x in embeddings.chunks_exact(width) {
            for (mean, &v) in mean.iter_mut().zip(x) {
                *mean += f64::from(v) / count;
            }
        }
        Ok(Self { gram, mean })
    }

    pub(crate) fn gram(&self) -> &Gram {
        &self.gram
    }

    pub(crate) fn mean(&self) -> &[f64] {
        &self.mean
    }
}

/// What the weights that are searched see: each word of the subject, in the order of its phrase; or all text as one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    words: Vec<Word>,
}

impl Seen {
    /// # Errors
    /// If there are no words, or not all of one width.
    pub(crate) fn new(words: Vec<Word>) -> Result<Self> {
        let width = words.first().map(|word| word.gram.width);
        match words.iter().all(|word| Some(word.gram.width) == width) && width.is_some() {
            true => Ok(Self { words }),
            false => Err(Error::value(
                "text embeddings",
                "words of one width",
                words.len(),
            )),
        }
    }

    pub(crate) fn words(&self) -> &[Word] {
        &self.words
    }

    /// The length of an embedding.
    pub(crate) fn width(&self) -> usize {
        self.words[0].gram.width
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
        assert!(Gram::new(&[1.0], 2).is_err() && Gram::new(&[], 2).is_err());
        assert_eq!(
            Word::new(&[1.0, 2.0, 3.0, 4.0], 2).unwrap().mean(),
            [2.0, 3.0]
        );
        assert!(Seen::new(Vec::new()).is_err());
    }
}

//! What the cross-attentions are told: the prompt's embedding, and which of its tokens are a subject's own words.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use crate::Result;
use crate::index::Site;

/// Text embeddings, with the tokens of subjects whose neurons are shut at their own words only.
#[derive(Debug, Clone)]
pub struct Conditioning {
    /// `[b, t, e]`
    embedding: Tensor,
    /// For each subject, u8 `[b, t, 1]`: 1 at the tokens of its words.
    words: Vec<Tensor>,
    /// By the site of K; see [`UNet::precompute_kv`](super::unet::UNet::precompute_kv).
    projected: Arc<BTreeMap<Site, KeysValues>>,
}

/// K and V of one cross-attention, `[b, t, width]` each.
pub(super) type KeysValues = (Tensor, Tensor);

impl From<Tensor> for Conditioning {
    /// Embeddings `[b, t, e]` in which no words are a subject's own.
    fn from(embedding: Tensor) -> Self {
        Self::new(embedding, Vec::new())
    }
}

impl Conditioning {
    fn new(embedding: Tensor, words: Vec<Tensor>) -> Self {
        Self {
            embedding,
            words,
            projected: Arc::default(),
        }
    }

    /// Embeddings `[b, t, e]`, and for each subject and each of the b prompts the places of its words among the t
    /// tokens.
    ///
    /// # Errors
    /// If the embedding is not of rank 3.
    ///
    /// # Panics
    /// If there are not b lists of places for a subject, or a place is not below t.
    pub fn with_words(embedding: Tensor, places: &[Vec<Vec<usize>>]) -> Result<Self> {
        let (b, t, _) = embedding.dims3()?;
        let words = places
            .iter()
            .map(|prompts| {
                assert_eq!(prompts.len(), b, "places for each prompt");
                let mut mask = vec![0u8; b * t];
                for (row, places) in prompts.iter().enumerate() {
                    for &place in places {
                        mask[row * t..][..t][place] = 1;
                    }
                }
                Ok(Tensor::from_vec(mask, (b, t, 1), embedding.device())?)
            })
            .collect::<Result<_>>()?;
        Ok(Self::new(embedding, words))
    }

    /// `[b, t, e]`
    pub fn embedding(&self) -> &Tensor {
        &self.embedding
    }

    /// The embedding in the type that a network computes in.
    pub(super) fn embedding_as(&self, dtype: DType) -> Result<Tensor> {
        Ok(self.embedding.to_dtype(dtype)?)
    }

    /// For each subject, u8 `[b, t, 1]`: 1 at the tokens of its words.
    pub fn words(&self) -> &[Tensor] {
        &self.words
    }

    /// The same with K and V of cross-attentions, which then do not compute them.
    pub(super) fn with_projected(&self, projected: BTreeMap<Site, KeysValues>) -> Self {
        Self {
            projected: Arc::new(projected),
            ..self.clone()
        }
    }

    /// K and V of the cross-attention with this site of K, if they have been computed.
    pub(super) fn projected(&self, site: &Site) -> Option<&KeysValues> {
        self.projected.get(site)
    }

    /// Where it is held.
    pub(crate) fn device(&self) -> &Device {
        self.embedding.device()
    }

    /// `count` of the prompts, from `first` on.
    ///
    /// # Errors
    /// If there are not so many.
    pub fn narrow(&self, first: usize, count: usize) -> Result<Self> {
        self.map(|x| Ok(x.narrow(0, first, count)?))
    }

    /// Each prompt `n` times, one after the other.
    ///
    /// # Errors
    /// None that a context allows.
    pub fn repeat(&self, n: usize) -> Result<Self> {
        self.map(|x| {
            let (r, t, e) = x.dims3()?;
            Ok(x.unsqueeze(1)?
                .broadcast_as((r, n, t, e))?
                .reshape((r * n, t, e))?)
        })
    }

    /// The prompts of several contexts, one after the other. A subject is known by its number: where a context has
    /// fewer subjects than another, its prompts have no words of the others.
    ///
    /// # Errors
    /// If there are none, or their embeddings differ in length or width.
    pub fn cat(contexts: &[&Self]) -> Result<Self> {
        let subjects = contexts.iter().map(|c| c.words.len()).max().unwrap_or(0);
        let embeddings: Vec<&Tensor> = contexts.iter().map(|c| &c.embedding).collect();
        let words = (0..subjects)
            .map(|s| {
                let masks = contexts
                    .iter()
                    .map(|c| c.words_of(s))
                    .collect::<Result<Vec<_>>>()?;
                Ok(Tensor::cat(&masks, 0)?)
            })
            .collect::<Result<_>>()?;
        Ok(Self::new(Tensor::cat(&embeddings, 0)?, words))
    }

    fn words_of(&self, subject: usize) -> Result<Tensor> {
        if let Some(words) = self.words.get(subject) {
            return Ok(words.clone());
        }
        let (b, t, _) = self.embedding.dims3()?;
        Ok(Tensor::zeros((b, t, 1), DType::U8, self.device())?)
    }

    fn map(&self, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let words = self.words.iter().map(&f).collect::<Result<_>>()?;
        Ok(Self::new(f(&self.embedding)?, words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(rows: &[f32], places: &[Vec<Vec<usize>>]) -> Conditioning {
        let x = Tensor::from_slice(rows, (rows.len() / 3, 3, 1), &Device::Cpu).unwrap();
        Conditioning::with_words(x, places).unwrap()
    }

    fn words(context: &Conditioning) -> Vec<Vec<u8>> {
        let flat = |w: &Tensor| w.flatten_all().unwrap().to_vec1().unwrap();
        context.words().iter().map(flat).collect()
    }

    #[test]
    fn rows_keep_their_words() {
        let two = context(
            &[0., 1., 2., 3., 4., 5.],
            &[vec![vec![1, 2], vec![]], vec![vec![], vec![0]]],
        );
        assert_eq!(words(&two), [[0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0]]);
        assert_eq!(words(&two.narrow(1, 1).unwrap()), [[0, 0, 0], [1, 0, 0]]);
        let four = two.repeat(2).unwrap();
        assert_eq!(words(&four)[0], [0, 1, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(four.embedding().dims(), [4, 3, 1]);
        let plain = Conditioning::from(two.embedding().narrow(0, 0, 1).unwrap());
        let all = Conditioning::cat(&[&plain, &two]).unwrap();
        assert_eq!(words(&all)[1], [0, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(all.embedding().dims(), [3, 3, 1]);
    }
}

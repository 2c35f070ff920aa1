//! What the UNet is told of a prompt: the embedding of its tokens, which of them are a subject's own words, and for
//! Stable Diffusion XL the embedding of the whole text and the sizes of the picture.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use crate::index::Site;
use crate::{Error, Result, Size};

/// Text embeddings, with the tokens of subjects whose neurons are shut at their own words only.
#[derive(Debug, Clone)]
pub(crate) struct Conditioning {
    /// `[b, t, e]`
    embedding: Tensor,
    /// For each subject, u8 `[b, t, 1]`: 1 at the tokens of its words.
    words: Vec<Tensor>,
    /// By the site of K; see [`UNet::precompute_kv`](super::unet::UNet::precompute_kv).
    projected: Arc<BTreeMap<Site, KeysValues>>,
    whole: Option<Whole>,
}

/// What Stable Diffusion XL is told beside the tokens (Podell et al. 2023, section 2.2).
#[derive(Debug, Clone)]
struct Whole {
    /// The embedding of the whole text, `[b, p]`.
    pooled: Tensor,
    /// [`SizeIds::numbers`], `[b, 6]`.
    sizes: Tensor,
}

/// What Stable Diffusion XL is told of a picture's size: how large it was before it was cut, where the cut began, and
/// how large it is to be. All in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SizeIds {
    /// Before it was cut.
    pub original: Size,
    /// Rows cut off above.
    pub top: usize,
    /// Columns cut off at the left.
    pub left: usize,
    /// Afterwards.
    pub target: Size,
}

impl SizeIds {
    /// Of a picture of this size of which nothing was cut: what diffusers draws with, and trains with on square photos
    /// of the model's size.
    pub(crate) fn uncut(size: Size) -> Self {
        Self {
            original: size,
            top: 0,
            left: 0,
            target: size,
        }
    }

    /// In the order in which diffusers has them (`_get_add_time_ids`), heights first.
    fn numbers(self) -> [f32; 6] {
        let Self {
            original,
            top,
            left,
            target,
        } = self;
        let numbers = [
            original.height,
            original.width,
            top,
            left,
            target.height,
            target.width,
        ];
        numbers.map(|n| n as f32)
    }
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
            whole: None,
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
    pub(crate) fn with_words(embedding: Tensor, places: &[Vec<Vec<usize>>]) -> Result<Self> {
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
    pub(crate) fn embedding(&self) -> &Tensor {
        &self.embedding
    }

    /// The embedding in the type that a network computes in.
    pub(super) fn embedding_as(&self, dtype: DType) -> Result<Tensor> {
        Ok(self.embedding.to_dtype(dtype)?)
    }

    /// For each subject, u8 `[b, t, 1]`: 1 at the tokens of its words.
    pub(crate) fn words(&self) -> &[Tensor] {
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

    /// The same with the embedding of each whole text, `[b, p]`, and the sizes of the pictures.
    ///
    /// # Errors
    /// If `pooled` has not b rows.
    pub(crate) fn with_pooled(self, pooled: Tensor, sizes: SizeIds) -> Result<Self> {
        let (rows, b) = (pooled.dims2()?.0, self.embedding.dim(0)?);
        if rows != b {
            let expected = format!("{b}, one for each prompt");
            return Err(Error::value("embeddings of whole texts", expected, rows));
        }
        let sizes = self.size_rows(sizes)?;
        let whole = Some(Whole { pooled, sizes });
        Ok(Self { whole, ..self })
    }

    /// The same for pictures of these sizes, if the model is told of them; else it is as it was.
    ///
    /// # Errors
    /// None that a conditioning allows.
    pub(crate) fn for_sizes(&self, sizes: SizeIds) -> Result<Self> {
        let whole = match &self.whole {
            None => None,
            Some(whole) => Some(Whole {
                pooled: whole.pooled.clone(),
                sizes: self.size_rows(sizes)?,
            }),
        };
        let same = self.clone();
        Ok(Self { whole, ..same })
    }

    fn size_rows(&self, sizes: SizeIds) -> Result<Tensor> {
        let row = Tensor::from_slice(&sizes.numbers(), (1, 6), self.device())?;
        Ok(row.repeat((self.embedding.dim(0)?, 1))?)
    }

    /// The embedding of each whole text, `[b, p]`, and the sizes of the pictures, `[b, 6]`: original height and width,
    /// top and left of the cut, target height and width.
    pub(crate) fn pooled(&self) -> Option<(&Tensor, &Tensor)> {
        let whole = self.whole.as_ref()?;
        Some((&whole.pooled, &whole.sizes))
    }

    /// As many prompts that say nothing: embeddings of zeros, of tokens and of whole texts, no words, and the same
    /// sizes.
    ///
    /// # Errors
    /// None that a conditioning allows.
    pub(crate) fn zeros(&self) -> Result<Self> {
        let zeros = Self::new(self.embedding.zeros_like()?, Vec::new());
        match &self.whole {
            None => Ok(zeros),
            Some(whole) => Ok(Self {
                whole: Some(Whole {
                    pooled: whole.pooled.zeros_like()?,
                    sizes: whole.sizes.clone(),
                }),
                ..zeros
            }),
        }
    }

    /// Where it is held.
    pub(crate) fn device(&self) -> &Device {
        self.embedding.device()
    }

    /// `count` of the prompts, from `first` on.
    ///
    /// # Errors
    /// If there are not so many.
    pub(crate) fn narrow(&self, first: usize, count: usize) -> Result<Self> {
        self.map(|x| Ok(x.narrow(0, first, count)?))
    }

    /// Each prompt `n` times, one after the other.
    ///
    /// # Errors
    /// None that a context allows.
    pub(crate) fn repeat(&self, n: usize) -> Result<Self> {
        self.map(|x| {
            let dims = x.dims();
            let (many, flat) = (
                [&[dims[0], n], &dims[1..]].concat(),
                [&[dims[0] * n], &dims[1..]].concat(),
            );
            Ok(x.unsqueeze(1)?.broadcast_as(many)?.reshape(flat)?)
        })
    }

    /// The prompts of several contexts, one after the other. A subject is known by its number: where a context has
    /// fewer subjects than another, its prompts have no words of the others.
    ///
    /// # Errors
    /// If there are none, their embeddings differ in length or width, or only some have those of whole texts.
    pub(crate) fn cat(contexts: &[&Self]) -> Result<Self> {
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
        let all = Self::new(Tensor::cat(&embeddings, 0)?, words);
        let wholes: Vec<&Whole> = contexts.iter().filter_map(|c| c.whole.as_ref()).collect();
        if wholes.is_empty() {
            return Ok(all);
        }
        if wholes.len() != contexts.len() {
            let expected = format!("{}, one for each prompt", contexts.len());
            return Err(Error::value(
                "embeddings of whole texts",
                expected,
                wholes.len(),
            ));
        }
        let cat = |part: fn(&Whole) -> &Tensor| {
            let parts: Vec<&Tensor> = wholes.iter().map(|whole| part(whole)).collect();
            Tensor::cat(&parts, 0)
        };
        let whole = Some(Whole {
            pooled: cat(|whole| &whole.pooled)?,
            sizes: cat(|whole| &whole.sizes)?,
        });
        Ok(Self { whole, ..all })
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
        let whole = match &self.whole {
            None => None,
            Some(whole) => Some(Whole {
                pooled: f(&whole.pooled)?,
                sizes: f(&whole.sizes)?,
            }),
        };
        let mapped = Self::new(f(&self.embedding)?, words);
        Ok(Self { whole, ..mapped })
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

    #[test]
    fn rows_keep_their_whole_texts_and_sizes() {
        let x = Tensor::zeros((2, 3, 1), DType::F32, &Device::Cpu).unwrap();
        let pooled = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu).unwrap();
        let sizes = SizeIds {
            original: Size::new(40, 30),
            top: 1,
            left: 2,
            target: Size::new(8, 16),
        };
        let plain = Conditioning::from(x);
        let two = plain.clone().with_pooled(pooled, sizes).unwrap();
        let rows = |c: &Conditioning| {
            let (pooled, sizes) = c.pooled().unwrap();
            (
                pooled.to_vec2::<f32>().unwrap(),
                sizes.to_vec2::<f32>().unwrap(),
            )
        };
        let ids = [30., 40., 1., 2., 16., 8.];
        assert_eq!(
            rows(&two.narrow(1, 1).unwrap()),
            (vec![vec![3., 4.]], vec![ids.to_vec()])
        );
        let four = rows(&two.repeat(2).unwrap()).0;
        assert_eq!(four, [[1., 2.], [1., 2.], [3., 4.], [3., 4.]]);
        let uncut = two.for_sizes(SizeIds::uncut(Size::new(5, 6))).unwrap();
        let both = Conditioning::cat(&[&two.zeros().unwrap(), &uncut]).unwrap();
        let (pooled, sizes) = rows(&both);
        assert_eq!(pooled, [[0., 0.], [0., 0.], [1., 2.], [3., 4.]]);
        assert_eq!(
            (&sizes[0][..], &sizes[3][..]),
            (&ids[..], &[6., 5., 0., 0., 6., 5.][..])
        );
        assert!(Conditioning::cat(&[&plain, &two]).is_err());
        let one = Tensor::zeros((1, 2), DType::F32, &Device::Cpu).unwrap();
        assert!(
            plain
                .with_pooled(one, SizeIds::uncut(Size::square(8)))
                .is_err()
        );
    }
}

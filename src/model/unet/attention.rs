//! Attention with K and V weights that may hold neurons, and the maps of where it looks.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};

use super::super::conditioning::{Conditioning, KeysValues};
use super::super::loader::Weights;
use crate::index::{Site, SiteSelection};
use crate::nn::{
    AttentionGrad, AttentionKept, Linear, Weight, attention, attention_backward, attention_keeping,
    attention_map,
};
use crate::{IndexError, Result, Size};

/// Whose weights a backward pass is after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::model) enum Owner {
    /// The model.
    Model,
    /// Each subject, at its own words.
    Subjects,
}

/// ∂L/∂W of the K and V weights that a backward pass is after.
#[derive(Debug)]
pub(in crate::model) struct SiteGradients {
    /// `None` where the pass is after the gradient of the input.
    selection: Option<SiteSelection>,
    owner: Owner,
    /// By subject; the model's own are alone.
    gradients: Vec<BTreeMap<Site, Tensor>>,
}

impl SiteGradients {
    /// Collects the gradients of the model's weights, or of those of so many subjects.
    pub(in crate::model) fn new(selection: SiteSelection, owner: Owner, subjects: usize) -> Self {
        let count = match owner {
            Owner::Model => 1,
            Owner::Subjects => subjects,
        };
        Self {
            selection: Some(selection),
            owner,
            gradients: vec![BTreeMap::new(); count],
        }
    }

    /// Collects nothing.
    pub(in crate::model) fn none() -> Self {
        Self {
            selection: None,
            owner: Owner::Model,
            gradients: Vec::new(),
        }
    }

    /// Whether only sites that see text are collected, and some are.
    pub(in crate::model) fn are_cross(&self) -> bool {
        self.selection.is_some_and(SiteSelection::is_cross)
    }

    /// The gradients so far, each `[out, in]`.
    pub(in crate::model) fn into_maps(self) -> Vec<BTreeMap<Site, Tensor>> {
        self.gradients
    }

    /// Whether a gradient of this projection's weight is asked for.
    fn ask(&self, projection: &Projection) -> bool {
        self.selection.is_some_and(|s| s.contains(&projection.site))
    }

    /// Adds ∂L/∂W = gradᵀ·x over the tokens at which a weight was used, where `projection`'s site is asked for: a
    /// subject's at its `words`, the model's at all others.
    fn collect(
        &mut self,
        projection: &Projection,
        x: &Tensor,
        words: &[Tensor],
        grad: &Tensor,
    ) -> Result<()> {
        if !self.ask(projection) {
            return Ok(());
        }
        let grads = match self.owner {
            Owner::Model => {
                let others =
                    |grad: Tensor, (_, words): (&Linear, &Tensor)| only(&words.eq(0u8)?, &grad);
                vec![projection.own(words).try_fold(grad.clone(), others)?]
            }
            Owner::Subjects => {
                let of_subject = |words| only(words, grad);
                words.iter().map(of_subject).collect::<Result<_>>()?
            }
        };
        for (grad, gradients) in grads.iter().zip(&mut self.gradients) {
            let gradient = Linear::weight_gradient(x, grad)?;
            gradients.insert(projection.site.clone(), gradient);
        }
        Ok(())
    }
}

/// `x: [b, t, c]` at the tokens of a mask u8 `[b, t, 1]`, and zero at others.
fn only(tokens: &Tensor, x: &Tensor) -> Result<Tensor> {
    Ok(x.broadcast_mul(&tokens.to_dtype(x.dtype())?)?)
}

/// A K or V projection: a weight that may hold neurons.
#[derive(Debug)]
pub(crate) struct Projection {
    pub(crate) site: Site,
    pub(crate) linear: Linear,
    /// For each subject its own layer, at its own words; `None` where it is the model's.
    pub(crate) at_words: Vec<Option<Linear>>,
}

impl Projection {
    fn load(weights: &mut Weights, name: &str, from: usize, to: usize) -> Result<Self> {
        let site = format!("{name}.weight").parse()?;
        Ok(Self {
            site,
            linear: weights.linear_no_bias(name, from, to)?,
            at_words: Vec::new(),
        })
    }

    /// `x: [b, t, from]` to `[b, t, to]`: a subject's words by its own weight, all other tokens by the model's.
    fn forward(&self, x: &Tensor, words: &[Tensor]) -> Result<Tensor> {
        let mut y = self.linear.forward(x)?;
        for (linear, words) in self.own(words) {
            let own = linear.forward(x)?;
            y = words.broadcast_as(y.shape())?.where_cond(&own, &y)?;
        }
        Ok(y)
    }

    /// The subjects that have a layer of their own here: the layer and the mask of their words.
    fn own<'a>(&'a self, words: &'a [Tensor]) -> impl Iterator<Item = (&'a Linear, &'a Tensor)> {
        let both = self.at_words.iter().zip(words);
        both.filter_map(|(own, words)| Some((own.as_ref()?, words)))
    }

    /// A replacement of the weight.
    ///
    /// # Errors
    /// If its shape is another.
    pub(in crate::model) fn fitting(&self, weight: impl Into<Weight>) -> Result<Weight> {
        let (weight, expected) = (weight.into(), self.linear.weight().shape());
        if weight.shape() != expected {
            let other = IndexError::NotInModel {
                site: self.site.to_string(),
                expected: format!("shape {expected:?}"),
                found: format!("shape {:?}", weight.shape()),
            };
            return Err(other.into());
        }
        Ok(weight)
    }
}

/// Multi-head attention from latent pixels to a context, which is the pixels themselves or the prompt.
#[derive(Debug)]
pub(in crate::model) struct Attention {
    to_q: Linear,
    pub(in crate::model) to_k: Projection,
    pub(in crate::model) to_v: Projection,
    to_out: Linear,
    heads: usize,
}

impl Attention {
    pub(in crate::model) fn load(
        weights: &mut Weights,
        name: &str,
        width: usize,
        context: usize,
        heads: usize,
    ) -> Result<Self> {
        Ok(Self {
            to_q: weights.linear_no_bias(&format!("{name}.to_q"), width, width)?,
            to_k: Projection::load(weights, &format!("{name}.to_k"), context, width)?,
            to_v: Projection::load(weights, &format!("{name}.to_v"), context, width)?,
            to_out: weights.linear(&format!("{name}.to_out.0"), width, width)?,
            heads,
        })
    }

    /// `x: [b, n, width]` attends to a context of t tokens, or to itself, and is added to `residual`; with `store`, its
    /// map is kept there. With `keep`, what its products give is saved for the backward pass.
    pub(in crate::model) fn forward(
        &self,
        x: &Tensor,
        context: Option<&Conditioning>,
        residual: &Tensor,
        store: Option<&mut AttentionStore>,
        keep: bool,
    ) -> Result<(Tensor, Option<AttentionSaved>)> {
        let (q, k, v) = self.project_all(x, context)?;
        if let Some(store) = store {
            store.push(&attention_map(&q, &k, self.heads)?)?;
        }
        if !keep {
            let mixed = attention(&q, &k, &v, self.heads)?;
            return Ok((self.to_out.forward_onto(&mixed, residual)?, None));
        }
        let (mixed, softmax) = attention_keeping(&q, &k, &v, self.heads)?;
        let y = self.to_out.forward_onto(&mixed, residual)?;
        let of_pixels = context.is_none().then_some((k, v));
        let saved = AttentionSaved {
            q,
            of_pixels,
            softmax,
        };
        Ok((y, Some(saved)))
    }

    /// Q, K and V.
    fn project_all(
        &self,
        x: &Tensor,
        context: Option<&Conditioning>,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        let (k, v) = self.keys_and_values_of(x, context)?;
        Ok((self.to_q.forward(x)?, k, v))
    }

    /// K and V of the pixels themselves, or of a prompt, which may have them with it.
    fn keys_and_values_of(&self, x: &Tensor, context: Option<&Conditioning>) -> Result<KeysValues> {
        let Some(context) = context else {
            return self.keys_and_values(x, &[]);
        };
        match context.projected(&self.to_k.site) {
            Some(projected) => Ok(projected.clone()),
            None => self.keys_and_values(&context.embedding_as(x.dtype())?, context.words()),
        }
    }

    /// K and V of a context, by the site of K.
    pub(in crate::model) fn precompute_kv(
        &self,
        context: &Conditioning,
        dtype: DType,
    ) -> Result<(Site, KeysValues)> {
        let both = self.keys_and_values(&context.embedding_as(dtype)?, context.words())?;
        Ok((self.to_k.site.clone(), both))
    }

    /// K and V, `[b, t, width]`, of `tokens: [b, t, context]`, among which a subject's `words` have weights of their
    /// own.
    fn keys_and_values(&self, tokens: &Tensor, words: &[Tensor]) -> Result<KeysValues> {
        Ok((
            self.to_k.forward(tokens, words)?,
            self.to_v.forward(tokens, words)?,
        ))
    }

    /// ∂L/∂x without the residual's part, from the input `x` and the context of the forward pass; collects the sites'
    /// gradients. `grad.output` is ∂L/∂y. Q, K and V are computed again where they were not kept, and nothing flows
    /// into a prompt, which is frozen.
    pub(in crate::model) fn backward(
        &self,
        x: &Tensor,
        context: Option<&Conditioning>,
        saved: Option<&AttentionSaved>,
        grad: AttentionGrad,
        sites: &mut SiteGradients,
    ) -> Result<Tensor> {
        let (q, k, v) = match saved {
            None => self.project_all(x, context)?,
            Some(AttentionSaved { q, of_pixels, .. }) => {
                let (k, v) = match of_pixels {
                    Some(both) => both.clone(),
                    None => self.keys_and_values_of(x, context)?,
                };
                (q.clone(), k, v)
            }
        };
        let kept = saved.and_then(|saved| saved.softmax.as_ref());
        let mixed = grad.output.map(|g| self.to_out.backward(g)).transpose()?;
        let grad = AttentionGrad {
            output: mixed.as_ref(),
            map: grad.map,
        };
        let (dq, dk, dv) = attention_backward(&q, &k, &v, self.heads, kept, grad)?;
        let (tokens, words) = context.map_or((x, &[][..]), |c| (c.embedding(), c.words()));
        sites.collect(&self.to_k, tokens, words, &dk)?;
        sites.collect(&self.to_v, tokens, words, &dv)?;
        let dx = self.to_q.backward(&dq)?;
        match context {
            Some(_) => Ok(dx),
            None => {
                let dx = self.to_k.linear.backward_onto(&dk, &dx)?;
                self.to_v.linear.backward_onto(&dv, &dx)
            }
        }
    }
}

/// What the products of an attention give: queries, where pixels attend to themselves keys and values, and what comes
/// of these.
#[derive(Debug)]
pub(in crate::model) struct AttentionSaved {
    q: Tensor,
    of_pixels: Option<KeysValues>,
    softmax: Option<AttentionKept>,
}

/// One cross-attention's look at the prompt: where each latent pixel's attention goes.
#[derive(Debug, Clone)]
pub(crate) struct AttentionMap {
    /// How many latent pixels there are.
    pub size: Size,
    /// `[b, height·width, t]`: the probabilities, averaged over the heads; each pixel's sum to 1 over the tokens.
    pub probabilities: Tensor,
}

/// Keeps the maps of the cross-attentions that a forward pass is told to record, in order of execution.
#[derive(Debug, Default)]
pub(crate) struct AttentionStore {
    first_row: usize,
    size: Size,
    maps: Vec<AttentionMap>,
}

impl AttentionStore {
    /// A store for the rows of a batch from `first_row` on: with guidance, those of the prompt come behind those of
    /// the negative prompt.
    pub(crate) fn new(first_row: usize) -> Self {
        Self {
            first_row,
            ..Self::default()
        }
    }

    /// The maps so far.
    pub(crate) fn maps(&self) -> &[AttentionMap] {
        &self.maps
    }

    /// Says that the next maps are of feature maps of this size.
    pub(in crate::model) fn enter(&mut self, size: Size) {
        self.size = size;
    }

    fn push(&mut self, map: &Tensor) -> Result<()> {
        let rows = map.dim(0)?.saturating_sub(self.first_row);
        self.maps.push(AttentionMap {
            size: self.size,
            probabilities: map.narrow(0, self.first_row, rows)?,
        });
        Ok(())
    }
}

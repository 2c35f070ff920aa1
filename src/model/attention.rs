//! Attention with K and V weights that may hold neurons, and the maps of where it looks.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::weights::Weights;
use crate::autograd::{AttentionGrad, Linear, attention, attention_backward, attention_map};
use crate::concept::{Site, SiteSelection};
use crate::{Error, Result};

/// ∂L/∂W of the K and V weights that a backward pass was asked for.
#[derive(Debug)]
pub struct SiteGradients {
    selection: Option<SiteSelection>,
    gradients: BTreeMap<Site, Tensor>,
}

impl SiteGradients {
    /// Collects the gradients of these sites.
    pub fn new(selection: SiteSelection) -> Self {
        Self {
            selection: Some(selection),
            gradients: BTreeMap::new(),
        }
    }

    /// Collects nothing: for a pass that is after the gradient of the input.
    pub fn none() -> Self {
        Self {
            selection: None,
            gradients: BTreeMap::new(),
        }
    }

    /// Whether these sites, and no others, are collected.
    pub(super) fn are(&self, selection: SiteSelection) -> bool {
        self.selection == Some(selection)
    }

    /// The gradients so far, each `[out, in]`.
    pub fn into_map(self) -> BTreeMap<Site, Tensor> {
        self.gradients
    }

    /// Adds ∂L/∂W = gradᵀ·x where `projection`'s site is asked for.
    fn collect(&mut self, projection: &Projection, x: &Tensor, grad: &Tensor) -> Result<()> {
        if self.selection.is_some_and(|s| s.contains(&projection.site)) {
            self.gradients
                .insert(projection.site.clone(), Linear::weight_gradient(x, grad)?);
        }
        Ok(())
    }
}

/// A K or V projection: a weight that may hold neurons.
#[derive(Debug)]
pub(crate) struct Projection {
    pub(crate) site: Site,
    pub(crate) linear: Linear,
}

impl Projection {
    fn load(weights: &mut Weights, name: &str, from: usize, to: usize) -> Result<Self> {
        let site = format!("{name}.weight").parse()?;
        Ok(Self {
            site,
            linear: weights.linear_no_bias(name, from, to)?,
        })
    }
}

/// Multi-head attention from latent pixels to a context, which is the pixels themselves or the prompt.
#[derive(Debug)]
pub(super) struct Attention {
    to_q: Linear,
    pub(super) to_k: Projection,
    pub(super) to_v: Projection,
    to_out: Linear,
    heads: usize,
}

/// The input of an [`Attention`] and its Q, K and V.
#[derive(Debug)]
pub(super) struct AttentionSaved {
    x: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
}

impl Attention {
    pub(super) fn load(
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

    /// `x: [b, n, width]` attends to `context: [b, t, context]`, or to itself; with `store`, its map is kept there.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        context: Option<&Tensor>,
        store: Option<&mut AttentionStore>,
    ) -> Result<(Tensor, AttentionSaved)> {
        let context = context.unwrap_or(x);
        let q = self.to_q.forward(x)?;
        let k = self.to_k.linear.forward(context)?;
        let v = self.to_v.linear.forward(context)?;
        if let Some(store) = store {
            store.push(&attention_map(&q, &k, self.heads)?)?;
        }
        let mixed = attention(&q, &k, &v, self.heads)?;
        let y = self.to_out.forward(&mixed)?;
        Ok((
            y,
            AttentionSaved {
                x: x.clone(),
                q,
                k,
                v,
            },
        ))
    }

    /// ∂L/∂x; collects the sites' gradients. The prompt's embedding is frozen, so nothing flows into a context
    /// that is not `x` itself. `grad.output` is ∂L/∂y.
    pub(super) fn backward(
        &self,
        saved: &AttentionSaved,
        context: Option<&Tensor>,
        grad: AttentionGrad,
        sites: &mut SiteGradients,
    ) -> Result<Tensor> {
        let AttentionSaved { x, q, k, v } = saved;
        let mixed = grad.output.map(|g| self.to_out.backward(g)).transpose()?;
        let grad = AttentionGrad {
            output: mixed.as_ref(),
            map: grad.map,
        };
        let (dq, dk, dv) = attention_backward(q, k, v, self.heads, grad)?;
        sites.collect(&self.to_k, context.unwrap_or(x), &dk)?;
        sites.collect(&self.to_v, context.unwrap_or(x), &dv)?;
        let dx = self.to_q.backward(&dq)?;
        Ok(match context {
            Some(_) => dx,
            None => ((dx + self.to_k.linear.backward(&dk)?)? + self.to_v.linear.backward(&dv)?)?,
        })
    }
}

/// One cross-attention's look at the prompt: where each latent pixel's attention goes.
#[derive(Debug, Clone)]
pub struct AttentionMap {
    /// Rows of latent pixels.
    pub height: usize,
    /// Columns of latent pixels.
    pub width: usize,
    /// `[b, height·width, t]`: the probabilities, averaged over the heads; each pixel's sum to 1 over the tokens.
    pub probabilities: Tensor,
}

/// Keeps the maps of the cross-attentions that a forward pass is told to record, in order of execution.
#[derive(Debug, Default)]
pub struct AttentionStore {
    first_row: usize,
    size: (usize, usize),
    maps: Vec<AttentionMap>,
}

impl AttentionStore {
    /// A store for the rows of a batch from `first_row` on: with guidance, those of the prompt come behind those of
    /// the negative prompt.
    pub fn new(first_row: usize) -> Self {
        Self {
            first_row,
            ..Self::default()
        }
    }

    /// The maps so far.
    pub fn maps(&self) -> &[AttentionMap] {
        &self.maps
    }

    /// Says that the next maps are of feature maps of this height and width.
    pub(super) fn enter(&mut self, size: (usize, usize)) {
        self.size = size;
    }

    fn push(&mut self, map: &Tensor) -> Result<()> {
        let rows = map.dim(0)?.saturating_sub(self.first_row);
        self.maps.push(AttentionMap {
            height: self.size.0,
            width: self.size.1,
            probabilities: map.narrow(0, self.first_row, rows)?,
        });
        Ok(())
    }
}

/// The weight of `projection`, checked against a replacement of another shape.
pub(crate) fn replace_weight(projection: &mut Projection, weight: Tensor) -> Result<()> {
    let expected = projection.linear.weight().dims().to_vec();
    if weight.dims() != expected {
        return Err(Error::Index {
            thing: format!("site `{}`", projection.site),
            expected: format!("shape {expected:?}"),
            found: format!("shape {:?}", weight.dims()),
            hint: "the index is of another model".to_owned(),
        });
    }
    projection.linear.set_weight(weight);
    Ok(())
}

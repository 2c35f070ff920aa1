//! The spatial transformer of the UNet: self-attention over pixels, cross-attention over the prompt.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::weights::Weights;
use crate::autograd::{
    Activation, GroupNorm, LayerNorm, Linear, attention, attention_backward, geglu, geglu_backward,
};
use crate::concept::{Site, SiteSelection};
use crate::{Error, Result};

/// ∂L/∂W of the K and V weights that a backward pass was asked for.
#[derive(Debug)]
pub struct SiteGradients {
    selection: SiteSelection,
    gradients: BTreeMap<Site, Tensor>,
}

impl SiteGradients {
    /// Collects the gradients of these sites.
    pub fn new(selection: SiteSelection) -> Self {
        Self {
            selection,
            gradients: BTreeMap::new(),
        }
    }

    /// The gradients so far, each `[out, in]`.
    pub fn into_map(self) -> BTreeMap<Site, Tensor> {
        self.gradients
    }

    /// Adds ∂L/∂W = gradᵀ·x where `projection`'s site is asked for.
    fn collect(&mut self, projection: &Projection, x: &Tensor, grad: &Tensor) -> Result<()> {
        if self.selection.contains(&projection.site) {
            self.gradients
                .insert(projection.site.clone(), Linear::weight_gradient(x, grad)?);
        }
        Ok(())
    }
}

/// How far a backward pass goes into a transformer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// To its input: something before it needs a gradient.
    Input,
    /// To its first site only: it holds the first site of the network.
    Sites,
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
struct Attention {
    to_q: Linear,
    to_k: Projection,
    to_v: Projection,
    to_out: Linear,
    heads: usize,
}

/// The input of an [`Attention`] and its Q, K and V.
#[derive(Debug)]
struct AttentionSaved {
    x: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
}

impl Attention {
    fn load(
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

    /// `x: [b, n, width]` attends to `context: [b, t, context]`, or to itself.
    fn forward(&self, x: &Tensor, context: Option<&Tensor>) -> Result<(Tensor, AttentionSaved)> {
        let context = context.unwrap_or(x);
        let q = self.to_q.forward(x)?;
        let k = self.to_k.linear.forward(context)?;
        let v = self.to_v.linear.forward(context)?;
        let y = self.to_out.forward(&attention(&q, &k, &v, self.heads)?)?;
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
    /// that is not `x` itself.
    fn backward(
        &self,
        saved: &AttentionSaved,
        context: Option<&Tensor>,
        grad: &Tensor,
        sites: &mut SiteGradients,
    ) -> Result<Tensor> {
        let AttentionSaved { x, q, k, v } = saved;
        let (dq, dk, dv) = attention_backward(q, k, v, self.heads, &self.to_out.backward(grad)?)?;
        sites.collect(&self.to_k, context.unwrap_or(x), &dk)?;
        sites.collect(&self.to_v, context.unwrap_or(x), &dv)?;
        let dx = self.to_q.backward(&dq)?;
        Ok(match context {
            Some(_) => dx,
            None => ((dx + self.to_k.linear.backward(&dk)?)? + self.to_v.linear.backward(&dv)?)?,
        })
    }
}

/// Self-attention, cross-attention and a feed-forward layer, each behind a layer norm and beside a residual.
#[derive(Debug)]
struct Block {
    norm1: LayerNorm,
    self_attention: Attention,
    norm2: LayerNorm,
    cross_attention: Attention,
    norm3: LayerNorm,
    gate: Linear,
    out: Linear,
}

/// The inputs of a [`Block`]'s norms and of its GEGLU, and what its attentions saved.
#[derive(Debug)]
struct BlockSaved {
    x: Tensor,
    self_attention: AttentionSaved,
    after_self: Tensor,
    cross_attention: AttentionSaved,
    after_cross: Tensor,
    gated: Tensor,
}

impl Block {
    fn load(
        weights: &mut Weights,
        name: &str,
        width: usize,
        context: usize,
        heads: usize,
    ) -> Result<Self> {
        // diffusers' BasicTransformerBlock has a fixed epsilon and a feed-forward layer four times as wide.
        let (epsilon, inner) = (1e-5, 4 * width);
        Ok(Self {
            norm1: weights.layer_norm(&format!("{name}.norm1"), width, epsilon)?,
            self_attention: Attention::load(
                weights,
                &format!("{name}.attn1"),
                width,
                width,
                heads,
            )?,
            norm2: weights.layer_norm(&format!("{name}.norm2"), width, epsilon)?,
            cross_attention: Attention::load(
                weights,
                &format!("{name}.attn2"),
                width,
                context,
                heads,
            )?,
            norm3: weights.layer_norm(&format!("{name}.norm3"), width, epsilon)?,
            gate: weights.linear(&format!("{name}.ff.net.0.proj"), width, 2 * inner)?,
            out: weights.linear(&format!("{name}.ff.net.2"), inner, width)?,
        })
    }

    fn forward(&self, x: &Tensor, context: &Tensor) -> Result<(Tensor, BlockSaved)> {
        let (y, self_attention) = self.self_attention.forward(&self.norm1.forward(x)?, None)?;
        let after_self = (x + y)?;
        let (y, cross_attention) = self
            .cross_attention
            .forward(&self.norm2.forward(&after_self)?, Some(context))?;
        let after_cross = (&after_self + y)?;
        let gated = self.gate.forward(&self.norm3.forward(&after_cross)?)?; // [b, n, 8·width]
        let y = (&after_cross + self.out.forward(&geglu(&gated)?)?)?;
        Ok((
            y,
            BlockSaved {
                x: x.clone(),
                self_attention,
                after_self,
                cross_attention,
                after_cross,
                gated,
            },
        ))
    }

    /// ∂L/∂x, or `None` where the pass ends at this block's first site.
    fn backward(
        &self,
        saved: &BlockSaved,
        context: &Tensor,
        grad: &Tensor,
        sites: &mut SiteGradients,
        reach: Reach,
    ) -> Result<Option<Tensor>> {
        let g = geglu_backward(&saved.gated, &self.out.backward(grad)?)?;
        let g = self
            .norm3
            .backward(&saved.after_cross, &self.gate.backward(&g)?)?;
        let after_cross = (grad + g)?;
        let g = self.cross_attention.backward(
            &saved.cross_attention,
            Some(context),
            &after_cross,
            sites,
        )?;
        if reach == Reach::Sites && sites.selection == SiteSelection::Cross {
            return Ok(None);
        }
        let after_self = (after_cross + self.norm2.backward(&saved.after_self, &g)?)?;
        let g = self
            .self_attention
            .backward(&saved.self_attention, None, &after_self, sites)?;
        if reach == Reach::Sites {
            return Ok(None);
        }
        Ok(Some((after_self + self.norm1.backward(&saved.x, &g)?)?))
    }
}

/// A stack of blocks over the pixels of a feature map, beside a residual: Rombach et al. 2022, section 3.3.
#[derive(Debug)]
pub(crate) struct Transformer {
    norm: GroupNorm,
    proj_in: Linear,
    blocks: Vec<Block>,
    proj_out: Linear,
}

/// What the backward pass of a [`Transformer`] needs.
#[derive(Debug)]
pub(crate) struct TransformerSaved {
    x: Tensor,
    blocks: Vec<BlockSaved>,
}

/// The sizes of a [`Transformer`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct TransformerShape {
    pub(crate) width: usize,
    pub(crate) context: usize,
    pub(crate) heads: usize,
    pub(crate) depth: usize,
    pub(crate) groups: usize,
}

impl Transformer {
    /// Loads a transformer whose projections are linear layers or 1 × 1 convolutions, which compute the same.
    pub(crate) fn load(weights: &mut Weights, name: &str, shape: TransformerShape) -> Result<Self> {
        let TransformerShape {
            width,
            context,
            heads,
            depth,
            groups,
        } = shape;
        Ok(Self {
            norm: weights.group_norm(
                &format!("{name}.norm"),
                width,
                groups,
                1e-6,
                Activation::None,
            )?,
            proj_in: weights.linear(&format!("{name}.proj_in"), width, width)?,
            blocks: (0..depth)
                .map(|i| {
                    Block::load(
                        weights,
                        &format!("{name}.transformer_blocks.{i}"),
                        width,
                        context,
                        heads,
                    )
                })
                .collect::<Result<_>>()?,
            proj_out: weights.linear(&format!("{name}.proj_out"), width, width)?,
        })
    }

    /// `x: [b, c, h, w]` with `context: [b, t, e]` to `[b, c, h, w]`.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        context: &Tensor,
    ) -> Result<(Tensor, TransformerSaved)> {
        let mut hidden = self.proj_in.forward(&to_tokens(&self.norm.forward(x)?)?)?; // [b, n, c]
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let (y, saved) = block.forward(&hidden, context)?;
            hidden = y;
            blocks.push(saved);
        }
        let y = (x + to_pixels(&self.proj_out.forward(&hidden)?, x)?)?;
        Ok((
            y,
            TransformerSaved {
                x: x.clone(),
                blocks,
            },
        ))
    }

    /// ∂L/∂x, or `None` where `reach` ends the pass at the first site.
    pub(crate) fn backward(
        &self,
        saved: &TransformerSaved,
        context: &Tensor,
        grad: &Tensor,
        sites: &mut SiteGradients,
        reach: Reach,
    ) -> Result<Option<Tensor>> {
        let mut g = self.proj_out.backward(&to_tokens(grad)?)?;
        for (i, (block, saved)) in self.blocks.iter().zip(&saved.blocks).enumerate().rev() {
            let reach = if i == 0 { reach } else { Reach::Input };
            match block.backward(saved, context, &g, sites, reach)? {
                Some(before) => g = before,
                None => return Ok(None),
            }
        }
        let g = to_pixels(&self.proj_in.backward(&g)?, &saved.x)?;
        Ok(Some((grad + self.norm.backward(&saved.x, &g)?)?))
    }

    /// Its K and V projections.
    pub(crate) fn projections(&self) -> impl Iterator<Item = &Projection> {
        let attentions = self
            .blocks
            .iter()
            .flat_map(|b| [&b.self_attention, &b.cross_attention]);
        attentions.flat_map(|a| [&a.to_k, &a.to_v])
    }

    /// Its K and V projections, to be changed.
    pub(crate) fn projections_mut(&mut self) -> impl Iterator<Item = &mut Projection> {
        let attentions = self
            .blocks
            .iter_mut()
            .flat_map(|b| [&mut b.self_attention, &mut b.cross_attention]);
        attentions.flat_map(|a| [&mut a.to_k, &mut a.to_v])
    }
}

/// `[b, c, h, w]` to `[b, h·w, c]`.
fn to_tokens(x: &Tensor) -> Result<Tensor> {
    Ok(x.flatten_from(2)?.transpose(1, 2)?.contiguous()?)
}

/// `[b, h·w, c]` to the shape of `like: [b, c, h, w]`.
fn to_pixels(x: &Tensor, like: &Tensor) -> Result<Tensor> {
    Ok(x.transpose(1, 2)?.contiguous()?.reshape(like.shape())?)
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

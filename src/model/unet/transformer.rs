//! The spatial transformer of the UNet: self-attention over pixels, cross-attention over the prompt.

use candle_core::Tensor;

use super::super::conditioning::Conditioning;
use super::super::footprint::{LayerNeeds, bytes};
use super::super::loader::Weights;
use super::attention::{Attention, AttentionSaved, AttentionStore, Projection, SiteGradients};
use crate::nn::{Activation, AttentionGrad, GroupNorm, LayerNorm, Linear};
use crate::{Result, Size};

/// How far a backward pass goes into a transformer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BackwardUntil {
    /// To its input: something before it needs a gradient.
    Input,
    /// To its first site only: it holds the first site of the network.
    Sites,
}

/// What a backward pass reads and collects beside the gradient that it carries.
#[derive(Debug)]
pub(crate) struct BackwardPass<'a> {
    pub(in crate::model) context: &'a Conditioning,
    pub(in crate::model) sites: SiteGradients,
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

/// The inputs of a [`Block`]'s norms. What norms make of these is computed again; what products do, where it was not
/// kept: that is most of the memory of a pass.
#[derive(Debug)]
struct BlockSaved {
    x: Tensor,
    after_self: Tensor,
    after_cross: Tensor,
    products: Option<Products>,
}

/// What the products of a [`Block`] give that its backward pass reads.
#[derive(Debug)]
struct Products {
    self_attention: AttentionSaved,
    cross_attention: AttentionSaved,
    /// What the gate puts out before its GEGLU, `[b, n, 8·width]`.
    gate: Tensor,
}

impl Products {
    /// How many times as wide as the block they are: Q, K, V and output, Q and output, the gate's two halves; and less
    /// than one for two numbers of each head's softmax.
    const WIDTHS: u64 = 4 + 2 + 8 + 1;
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

    fn forward(
        &self,
        x: &Tensor,
        context: &Conditioning,
        store: Option<&mut AttentionStore>,
        keep: bool,
    ) -> Result<(Tensor, BlockSaved)> {
        let (after_self, self_attention) =
            self.self_attention
                .forward(&self.norm1.forward(x)?, None, x, None, keep)?;
        let (after_cross, cross_attention) = self.cross_attention.forward(
            &self.norm2.forward(&after_self)?,
            Some(context),
            &after_self,
            store,
            keep,
        )?;
        let normed = self.norm3.forward(&after_cross)?;
        // [b, n, 4·width]
        let (gated, products) = match self_attention.zip(cross_attention) {
            None => (self.gate.forward_geglu(&normed)?, None),
            Some((self_attention, cross_attention)) => {
                let (gated, gate) = self.gate.forward_geglu_keeping(&normed)?;
                let products = Products {
                    self_attention,
                    cross_attention,
                    gate,
                };
                (gated, Some(products))
            }
        };
        let y = self.out.forward_onto(&gated, &after_cross)?;
        Ok((
            y,
            BlockSaved {
                x: x.clone(),
                after_self,
                after_cross,
                products,
            },
        ))
    }

    /// ∂L/∂x, or `None` where the pass ends at this block's first site.
    fn backward(
        &self,
        saved: &BlockSaved,
        pass: &mut BackwardPass,
        grad: AttentionGrad,
        reach: BackwardUntil,
    ) -> Result<Option<Tensor>> {
        let products = saved.products.as_ref();
        let after_cross = match grad.output {
            Some(grad) => {
                let g = self.out.backward(grad)?;
                let g = match products {
                    Some(products) => self.gate.backward_geglu_of(&products.gate, &g)?,
                    None => {
                        let normed = self.norm3.forward(&saved.after_cross)?;
                        self.gate.backward_geglu(&normed, &g)?
                    }
                };
                let g = self.norm3.backward(&saved.after_cross, &g)?;
                Some((grad + g)?)
            }
            None => None,
        };
        let g = self.cross_attention.backward(
            &self.norm2.forward(&saved.after_self)?,
            Some(pass.context),
            products.map(|kept| &kept.cross_attention),
            AttentionGrad {
                output: after_cross.as_ref(),
                map: grad.map,
            },
            &mut pass.sites,
        )?;
        if reach == BackwardUntil::Sites && pass.sites.are_cross() {
            return Ok(None);
        }
        let g = self.norm2.backward(&saved.after_self, &g)?;
        let after_self = match after_cross {
            Some(after_cross) => (after_cross + g)?,
            None => g,
        };
        let grad = AttentionGrad {
            output: Some(&after_self),
            map: None,
        };
        let g = self.self_attention.backward(
            &self.norm1.forward(&saved.x)?,
            None,
            products.map(|kept| &kept.self_attention),
            grad,
            &mut pass.sites,
        )?;
        if reach == BackwardUntil::Sites {
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

    /// `x: [b, c, h, w]` with b prompts to `[b, c, h, w]`; with `store`, the maps of its cross-attentions are
    /// kept there. With `keep`, what its products give is saved for the backward pass.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        context: &Conditioning,
        mut store: Option<&mut AttentionStore>,
        keep: bool,
    ) -> Result<(Tensor, TransformerSaved)> {
        if let Some(store) = &mut store {
            let (_, _, h, w) = x.dims4()?;
            store.enter(Size::new(w, h));
        }
        let mut hidden = self.proj_in.forward_from_channels(&self.norm.forward(x)?)?; // [b, n, c]
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let (y, saved) = block.forward(&hidden, context, store.as_deref_mut(), keep)?;
            hidden = y;
            blocks.push(saved);
        }
        let y = self.proj_out.forward_to_channels(&hidden, x)?;
        Ok((
            y,
            TransformerSaved {
                x: x.clone(),
                blocks,
            },
        ))
    }

    /// ∂L/∂x, or `None` where `reach` ends the pass at the first site.
    ///
    /// `grad.map` is of every map that the transformer's cross-attentions have. At least one part of `grad` is there.
    pub(crate) fn backward(
        &self,
        saved: &TransformerSaved,
        pass: &mut BackwardPass,
        grad: AttentionGrad,
        reach: BackwardUntil,
    ) -> Result<Option<Tensor>> {
        let after = |g: &Tensor| self.proj_out.backward_from_channels(g);
        let mut g = grad.output.map(after).transpose()?;
        for (i, (block, saved)) in self.blocks.iter().zip(&saved.blocks).enumerate().rev() {
            let reach = if i == 0 { reach } else { BackwardUntil::Input };
            let grad = AttentionGrad {
                output: g.as_ref(),
                map: grad.map,
            };
            match block.backward(saved, pass, grad, reach)? {
                Some(before) => g = Some(before),
                None => return Ok(None),
            }
        }
        let Some(g) = g else {
            return Ok(None);
        };
        let g = self.proj_in.backward_to_channels(&g, &saved.x)?;
        let g = self.norm.backward(&saved.x, &g)?;
        Ok(Some(match grad.output {
            Some(grad) => (grad + g)?,
            None => g,
        }))
    }

    /// What it needs for so many pixels.
    pub(in crate::model) fn needs(&self, pixels: usize) -> LayerNeeds {
        let width = bytes(self.proj_out.weight().shape().0, pixels);
        LayerNeeds {
            input: width,
            inside: 3 * self.blocks.len() as u64 * width,
            products: Products::WIDTHS * self.blocks.len() as u64 * width,
            // Back through the gated layer: its output, four times as wide, and the gradient of both halves behind it;
            // and the norm's output, the gradient and one more to add up.
            working: (4 + 8 + 3) * width,
        }
    }

    /// The attentions that see text.
    pub(in crate::model) fn cross_attentions(&self) -> impl Iterator<Item = &Attention> {
        self.blocks.iter().map(|b| &b.cross_attention)
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

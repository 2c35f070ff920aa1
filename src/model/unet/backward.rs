//! The backward passes of the UNet: to the weights of its sites, and from its attention maps to the latents.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};

use super::super::conditioning::Conditioning;
use super::super::resnet::ResnetSaved;
use super::attention::{AttentionStore, Owner, SiteGradients};
use super::transformer::{BackwardPass, BackwardUntil, TransformerSaved};
use super::{ForwardPass, Kept, Layer, UNet};
use crate::index::{Site, SiteSelection};
use crate::nn::AttentionGrad;
use crate::{Result, Size};

/// What one layer saved for its backward pass.
#[derive(Debug)]
pub(in crate::model) enum LayerSaved {
    Resnet(ResnetSaved),
    Transformer(TransformerSaved),
    /// The size of the input of a [`Layer::Downsample`].
    Downsample(Size),
    /// Channels of the input of a [`Layer::Pop`], in front of the kept ones.
    Pop(usize),
    /// The layer's input: it is computed again.
    Input(Tensor),
    Nothing,
}

/// What a forward pass saved for the backward pass, from the first site onwards.
#[derive(Debug)]
pub(crate) struct Saved {
    layers: Vec<LayerSaved>,
    /// The output before the last norm.
    last: Tensor,
    time: Tensor,
    context: Conditioning,
}

/// Where the UNet's coarsest cross-attentions look, and what [`UNet::latent_gradient`] needs.
#[derive(Debug)]
pub(crate) struct Attended {
    /// Of the map.
    pub size: Size,
    /// `[b, height·width, t]`: attention probabilities, averaged over layers and heads.
    pub map: Tensor,
    /// How many layers the map is the average of.
    maps: usize,
    layers: Vec<LayerSaved>,
    time: Tensor,
    context: Conditioning,
}

impl UNet {
    /// [`UNet::forward`], keeping what [`UNet::backward`] needs.
    ///
    /// # Errors
    /// As [`UNet::forward`].
    pub(crate) fn forward_saving(
        &self,
        x: &Tensor,
        timesteps: &[f32],
        context: &Conditioning,
    ) -> Result<(Tensor, Saved)> {
        let _products = self.products();
        let mut layers = Vec::with_capacity(self.layers.len());
        let (mut hidden, mut state) = self.enter(x, timesteps, context)?;
        for (i, layer) in self.layers.iter().enumerate() {
            let input = hidden.clone();
            let saved;
            state.keep_products = i >= self.first_site && self.kept[i] == Kept::Products;
            (hidden, saved) = self.forward_layer(&mut state, layer, hidden, None)?;
            layers.push(match i < self.first_site {
                true => LayerSaved::Nothing,
                false => self.kept(i, input, saved),
            });
        }
        let y = self.leave(&hidden)?;
        Ok((
            y,
            Saved {
                layers,
                last: hidden,
                time: state.time,
                context: context.clone(),
            },
        ))
    }

    /// What to keep of layer `i`: what it saved, or its input.
    fn kept(&self, i: usize, input: Tensor, saved: LayerSaved) -> LayerSaved {
        match self.kept[i] {
            Kept::Input => LayerSaved::Input(input),
            Kept::Inside | Kept::Products => saved,
        }
    }

    /// The gradients ∂L/∂W of the model's weights at the selected sites, from ∂L/∂output `[b, c, h, w]`.
    ///
    /// Walks the layers in reverse, freeing what each saved, and ends at the first site. A token that is a subject's
    /// own word at a site where the subject has its own weight has no part in the gradient.
    ///
    /// # Errors
    /// If `grad` has not the shape of the output.
    pub(crate) fn backward(
        &self,
        saved: Saved,
        grad: &Tensor,
        selection: SiteSelection,
    ) -> Result<BTreeMap<Site, Tensor>> {
        let _products = self.products();
        let mut gradients = self.walk_back(saved, grad, selection, Owner::Model)?;
        Ok(gradients.pop().unwrap_or_default())
    }

    /// For each subject whose words the context has, the gradients ∂L/∂W of its own weights at the selected sites that
    /// see text; where it has none yet, of the model's weight at its words.
    ///
    /// # Errors
    /// As [`UNet::backward`].
    pub(crate) fn backward_at_words(
        &self,
        saved: Saved,
        grad: &Tensor,
        selection: SiteSelection,
    ) -> Result<Vec<BTreeMap<Site, Tensor>>> {
        let _products = self.products();
        self.walk_back(saved, grad, selection, Owner::Subjects)
    }

    fn walk_back(
        &self,
        saved: Saved,
        grad: &Tensor,
        selection: SiteSelection,
        owner: Owner,
    ) -> Result<Vec<BTreeMap<Site, Tensor>>> {
        let (grad, scale) = self.scaled(grad)?;
        let g = self
            .norm_out
            .backward(&saved.last, &self.conv_out.backward(&grad)?)?;
        let mut walk = Walk {
            unet: self,
            pass: BackwardPass {
                context: &saved.context,
                sites: SiteGradients::new(selection, owner, saved.context.words().len()),
            },
            time: &saved.time,
            skips: Vec::new(),
            gradient: Some(g),
        };
        let layers = self.layers.iter().zip(saved.layers).enumerate();
        for (i, (layer, saved)) in layers.skip(self.first_site).rev() {
            let reach = if i == self.first_site {
                BackwardUntil::Sites
            } else {
                BackwardUntil::Input
            };
            walk.back(layer, saved, None, reach)?;
        }
        let mut maps = walk.pass.sites.into_maps();
        if scale != 1.0 {
            for gradient in maps.iter_mut().flat_map(BTreeMap::values_mut) {
                *gradient = (&*gradient / scale)?;
            }
        }
        Ok(maps)
    }

    /// A gradient in the type to compute in, and the power of two that it was multiplied by: in f16 most of a loss's
    /// gradients would be too small for the type.
    fn scaled(&self, grad: &Tensor) -> Result<(Tensor, f64)> {
        if self.dtype != DType::F16 {
            return Ok((grad.to_dtype(self.dtype)?, 1.0));
        }
        let largest = f64::from(grad.abs()?.max_all()?.to_scalar::<f32>()?);
        let scale = match largest > 0.0 && largest.is_finite() {
            true => (-largest.log2()).floor().exp2(),
            false => 1.0,
        };
        Ok(((grad * scale)?.to_dtype(self.dtype)?, scale))
    }

    /// The layers whose maps [`UNet::attend`] averages: of all transformers those at the lowest resolution at which one
    /// stands outside the middle block, or the middle block's if there is no other.
    ///
    /// At 512 × 512 these are the 16 × 16 maps of Stable Diffusion, which hold most of a prompt's meaning (Hertz et al.
    /// 2022, section 4), and at other sizes those that diffusers' `ceil(side / 32)` gives.
    fn coarsest(&self) -> Vec<usize> {
        let mut halvings = 0;
        let mut found: Vec<(usize, usize, bool)> = Vec::new(); // layer, halvings, in the middle
        for (i, layer) in self.layers.iter().enumerate() {
            match layer {
                Layer::Downsample(_) => halvings += 1,
                Layer::Upsample(_) => halvings -= 1,
                Layer::Transformer(t) => {
                    let middle = t.projections().any(|p| p.site.block() == "mid_block");
                    found.push((i, halvings, middle));
                }
                Layer::Resnet(_) | Layer::Push | Layer::Pop => {}
            }
        }
        let outside = found.iter().filter(|(.., middle)| !middle);
        let depth = outside.map(|(_, halvings, _)| *halvings).max();
        found
            .iter()
            .filter(|(_, halvings, _)| depth.is_none_or(|depth| depth == *halvings))
            .map(|(i, ..)| *i)
            .collect()
    }

    /// Where the coarsest cross-attentions outside the middle block look, and what leads there from the latents; the
    /// layers behind the last of them are not run.
    ///
    /// # Shapes
    /// As [`UNet::forward`].
    ///
    /// # Errors
    /// If the shapes do not fit the model.
    pub(crate) fn attend(
        &self,
        x: &Tensor,
        timesteps: &[f32],
        context: &Conditioning,
    ) -> Result<Attended> {
        let _products = self.products();
        let recorded = self.coarsest();
        let end = recorded.last().map_or(0, |last| last + 1);
        let mut store = AttentionStore::default();
        let mut layers = Vec::with_capacity(end);
        let (mut hidden, mut state) = self.enter(x, timesteps, context)?;
        for (i, layer) in self.layers[..end].iter().enumerate() {
            let saved;
            let (input, store) = (hidden.clone(), recorded.contains(&i).then_some(&mut store));
            state.keep_products = self.kept[i] == Kept::Products;
            (hidden, saved) = self.forward_layer(&mut state, layer, hidden, store)?;
            layers.push(self.kept(i, input, saved));
        }
        let [first, others @ ..] = store.maps() else {
            return Err(crate::Error::value(
                "model",
                "a UNet with cross-attention",
                "none",
            ));
        };
        let mut sum = first.probabilities.clone();
        for map in others {
            sum = (sum + &map.probabilities)?;
        }
        Ok(Attended {
            size: first.size,
            map: (sum / store.maps().len() as f64)?,
            maps: store.maps().len(),
            layers,
            time: state.time,
            context: context.clone(),
        })
    }

    /// ∂L/∂x, `[b, c, h, w]`, of a loss on the map of [`UNet::attend`], from ∂L/∂map `[b, height·width, t]`.
    ///
    /// # Errors
    /// If `grad` has not the shape of the map.
    pub(crate) fn latent_gradient(&self, attended: Attended, grad: &Tensor) -> Result<Tensor> {
        let _products = self.products();
        let recorded = self.coarsest();
        // Maps are f32, and so are their gradients; what they become further down is not.
        let scale = self.scaled(grad)?.1;
        let share = (grad * (scale / attended.maps as f64))?;
        let mut walk = Walk {
            unet: self,
            pass: BackwardPass {
                context: &attended.context,
                sites: SiteGradients::none(),
            },
            time: &attended.time,
            skips: Vec::new(),
            gradient: None,
        };
        let layers = self.layers.iter().zip(attended.layers).enumerate();
        for (i, (layer, saved)) in layers.rev() {
            let map = recorded.contains(&i).then_some(&share);
            walk.back(layer, saved, map, BackwardUntil::Input)?;
        }
        match walk.gradient {
            Some(g) => Ok((self.conv_in.backward(&g)?.to_dtype(DType::F32)? / scale)?),
            None => {
                unreachable!("an Attended has a transformer's map, and the walk went through it")
            }
        }
    }
}

/// A walk through the layers in reverse.
struct Walk<'a> {
    unet: &'a UNet,
    pass: BackwardPass<'a>,
    time: &'a Tensor,
    /// ∂L/∂ what was kept on the way down.
    skips: Vec<Tensor>,
    /// ∂L/∂ the output of the next layer; `None` as long as the loss does not depend on it, and when the pass is over.
    gradient: Option<Tensor>,
}

impl Walk<'_> {
    /// One layer back, which ends its turn. `map` is ∂L/∂ each map of a transformer.
    fn back(
        &mut self,
        layer: &Layer,
        saved: LayerSaved,
        map: Option<&Tensor>,
        reach: BackwardUntil,
    ) -> Result<()> {
        self.gradient = self.gradient_before(layer, saved, map, reach)?;
        self.unet.end_turn();
        Ok(())
    }

    /// ∂L/∂ the input of a layer, where the loss depends on it and the pass goes on.
    fn gradient_before(
        &mut self,
        layer: &Layer,
        saved: LayerSaved,
        map: Option<&Tensor>,
        reach: BackwardUntil,
    ) -> Result<Option<Tensor>> {
        let saved = match saved {
            LayerSaved::Input(x) => {
                let mut state = ForwardPass::again(self.time, self.pass.context);
                state.run(layer, x, None)?.1
            }
            saved => saved,
        };
        let g = match (layer, saved, self.gradient.take()) {
            (Layer::Transformer(transformer), LayerSaved::Transformer(s), g) => {
                let grad = AttentionGrad {
                    output: g.as_ref(),
                    map,
                };
                return transformer.backward(&s, &mut self.pass, grad, reach);
            }
            (_, _, None) => return Ok(None),
            (Layer::Resnet(resnet), LayerSaved::Resnet(s), Some(g)) => resnet.backward(&s, &g)?,
            (Layer::Downsample(conv), LayerSaved::Downsample(size), Some(g)) => {
                let g = conv.backward(&g)?;
                g.narrow(2, 0, size.height)?
                    .narrow(3, 0, size.width)?
                    .contiguous()?
            }
            (Layer::Upsample(upsample), _, Some(g)) => upsample.backward(&g)?,
            (Layer::Push, _, Some(g)) => match self.skips.pop() {
                Some(skip) => (g + skip)?,
                None => g,
            },
            (Layer::Pop, LayerSaved::Pop(front), Some(g)) => {
                self.skips
                    .push(g.narrow(1, front, g.dim(1)? - front)?.contiguous()?);
                g.narrow(1, 0, front)?.contiguous()?
            }
            (layer, saved, _) => unreachable!("{layer:?} saved {saved:?}"),
        };
        Ok(Some(g))
    }
}

//! The UNet that predicts the noise or the velocity: Rombach et al. 2022, in diffusers' form.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use super::resnet::{Resnet, ResnetSaved, Upsample};
use super::transformer::{
    Projection, Reach, SiteGradients, Transformer, TransformerSaved, replace_weight,
};
use super::unet_config::UNetConfig;
use super::unet_layers::Builder;
use super::weights::{TensorFile, Weights};
use crate::autograd::{Activation, Conv2d, GroupNorm, Linear, silu};
use crate::concept::{Site, SiteSelection};
use crate::{Error, Result};

/// One layer of the network, in the order of execution.
#[derive(Debug)]
pub(super) enum Layer {
    Resnet(Resnet),
    Transformer(Box<Transformer>),
    Downsample(Conv2d),
    Upsample(Upsample),
    /// Keeps its input for the way up.
    Push,
    /// Appends, behind the channels of its input, what was kept last.
    Pop,
}

/// What one layer saved for its backward pass.
#[derive(Debug)]
enum LayerSaved {
    Resnet(ResnetSaved),
    Transformer(TransformerSaved),
    /// Channels of the input of a [`Layer::Pop`], in front of the kept ones.
    Pop(usize),
    Nothing,
}

/// What a forward pass saved for the backward pass, from the first site onwards.
#[derive(Debug)]
pub struct Saved {
    layers: Vec<LayerSaved>,
    /// The output before the last norm.
    last: Tensor,
    context: Tensor,
}

/// A UNet with frozen weights. K and V weights of its attentions, the [`Site`]s, can be exchanged.
#[derive(Debug)]
pub struct UNet {
    config: UNetConfig,
    time1: Linear,
    time2: Linear,
    conv_in: Conv2d,
    layers: Vec<Layer>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    /// Index in `layers` of the first transformer: no gradient is needed before it.
    first_site: usize,
}

impl UNet {
    /// Builds the network from `unet/config.json` and its weights.
    ///
    /// # Errors
    /// If an option is not supported, or a tensor is missing, unknown or of another shape.
    pub(crate) fn load(
        config_file: &str,
        config: &str,
        file: TensorFile,
        device: &Device,
    ) -> Result<Self> {
        let config = UNetConfig::parse(config_file, config)?;
        let mut weights = Weights::new(file, device);
        let first = config.levels[0].width;
        let time = 4 * first;
        let time1 = weights.linear("time_embedding.linear_1", first, time)?;
        let time2 = weights.linear("time_embedding.linear_2", time, time)?;
        let conv_in = weights.conv3("conv_in", config.in_channels, first)?;
        let layers = Builder::new(&config, &mut weights).build()?;
        let norm_out = weights.group_norm(
            "conv_norm_out",
            first,
            config.groups,
            config.epsilon,
            Activation::Silu,
        )?;
        let conv_out = weights.conv3("conv_out", first, config.out_channels)?;
        weights.finish()?;
        let first_site = layers
            .iter()
            .position(|l| matches!(l, Layer::Transformer(_)))
            .unwrap_or(layers.len());
        Ok(Self {
            config,
            time1,
            time2,
            conv_in,
            layers,
            norm_out,
            conv_out,
            first_site,
        })
    }

    /// Channels of the latents.
    pub fn channels(&self) -> usize {
        self.config.in_channels
    }

    /// Height and width of the latents that the model was trained on.
    pub fn sample_size(&self) -> usize {
        self.config.sample_size
    }

    /// Width of the text embedding that the cross-attentions take.
    pub fn context_width(&self) -> usize {
        self.config.context
    }

    /// Predicts the noise, or the velocity, in `x`.
    ///
    /// # Shapes
    /// - `x`: `[b, c, h, w]` noisy latents
    /// - `timesteps`: b of them, 0..1000, one for each sample
    /// - `context`: `[b, t, e]` text embeddings
    /// - returns `[b, c, h, w]`
    ///
    /// # Errors
    /// If the shapes do not fit the model.
    pub fn forward(&self, x: &Tensor, timesteps: &[f32], context: &Tensor) -> Result<Tensor> {
        let last = self.run(x, timesteps, context, |_, _| ())?;
        self.conv_out.forward(&self.norm_out.forward(&last)?)
    }

    /// [`UNet::forward`], keeping what [`UNet::backward`] needs.
    pub fn forward_saving(
        &self,
        x: &Tensor,
        timesteps: &[f32],
        context: &Tensor,
    ) -> Result<(Tensor, Saved)> {
        let mut layers = Vec::with_capacity(self.layers.len());
        let last = self.run(x, timesteps, context, |i, saved| {
            layers.push(if i < self.first_site {
                LayerSaved::Nothing
            } else {
                saved
            });
        })?;
        let y = self.conv_out.forward(&self.norm_out.forward(&last)?)?;
        Ok((
            y,
            Saved {
                layers,
                last,
                context: context.clone(),
            },
        ))
    }

    /// Runs all layers but the last norm and convolution, handing over what each saved.
    fn run(
        &self,
        x: &Tensor,
        timesteps: &[f32],
        context: &Tensor,
        mut keep: impl FnMut(usize, LayerSaved),
    ) -> Result<Tensor> {
        let time = self.embed_time(timesteps, x.device())?;
        let mut hidden = self.conv_in.forward(x)?;
        let mut skips = Vec::new();
        for (i, layer) in self.layers.iter().enumerate() {
            let (y, saved) = match layer {
                Layer::Resnet(resnet) => {
                    let (y, saved) = resnet.forward(&hidden, Some(&time))?;
                    (y, LayerSaved::Resnet(saved))
                }
                Layer::Transformer(transformer) => {
                    let (y, saved) = transformer.forward(&hidden, context)?;
                    (y, LayerSaved::Transformer(saved))
                }
                Layer::Downsample(conv) => (conv.forward(&hidden)?, LayerSaved::Nothing),
                Layer::Upsample(upsample) => {
                    // As large as what is appended next: not twice as large where the way down rounded up.
                    let (h, w) = skips
                        .last()
                        .map_or_else(|| hidden.dims4(), Tensor::dims4)
                        .map(|d| (d.2, d.3))?;
                    (upsample.forward(&hidden, h, w)?, LayerSaved::Nothing)
                }
                Layer::Push => {
                    skips.push(hidden.clone());
                    (hidden, LayerSaved::Nothing)
                }
                Layer::Pop => {
                    let skip = skips.pop().unwrap_or_else(|| {
                        unreachable!("Builder::build makes a Push for each Pop")
                    });
                    (
                        Tensor::cat(&[&hidden, &skip], 1)?,
                        LayerSaved::Pop(hidden.dim(1)?),
                    )
                }
            };
            hidden = y;
            keep(i, saved);
        }
        Ok(hidden)
    }

    /// The gradients ∂L/∂W of the selected sites, from ∂L/∂output `[b, c, h, w]`.
    ///
    /// Walks the layers in reverse, freeing what each saved, and ends at the first site.
    ///
    /// # Errors
    /// If the latents' sides were not divisible by 2 at every level.
    pub fn backward(
        &self,
        mut saved: Saved,
        grad: &Tensor,
        selection: SiteSelection,
    ) -> Result<BTreeMap<Site, Tensor>> {
        let mut sites = SiteGradients::new(selection);
        let mut g = self
            .norm_out
            .backward(&saved.last, &self.conv_out.backward(grad)?)?;
        let mut skips: Vec<Tensor> = Vec::new();
        for i in (self.first_site..self.layers.len()).rev() {
            let layer_saved = saved.layers.pop().unwrap_or(LayerSaved::Nothing);
            g = match (&self.layers[i], layer_saved) {
                (Layer::Resnet(resnet), LayerSaved::Resnet(s)) => resnet.backward(&s, &g)?,
                (Layer::Transformer(transformer), LayerSaved::Transformer(s)) => {
                    let reach = if i == self.first_site {
                        Reach::Sites
                    } else {
                        Reach::Input
                    };
                    match transformer.backward(&s, &saved.context, &g, &mut sites, reach)? {
                        Some(before) => before,
                        None => break,
                    }
                }
                (Layer::Downsample(conv), _) => conv.backward(&g)?,
                (Layer::Upsample(upsample), _) => upsample.backward(&g)?,
                (Layer::Push, _) => match skips.pop() {
                    Some(skip) => (g + skip)?,
                    None => g,
                },
                (Layer::Pop, LayerSaved::Pop(front)) => {
                    skips.push(g.narrow(1, front, g.dim(1)? - front)?.contiguous()?);
                    g.narrow(1, 0, front)?.contiguous()?
                }
                (layer, saved) => unreachable!("{layer:?} saved {saved:?}"),
            };
        }
        Ok(sites.into_map())
    }

    /// Sinusoidal timestep embedding (Vaswani et al. 2017, section 3.5) through two linear layers: `[b, 4·width]`.
    fn embed_time(&self, timesteps: &[f32], device: &Device) -> Result<Tensor> {
        let half = self.config.levels[0].width / 2;
        let step = -(10_000f32.ln()) / (half as f32 - self.config.freq_shift as f32);
        let mut embedding = Vec::with_capacity(timesteps.len() * 2 * half);
        for &t in timesteps {
            let angles = || (0..half).map(move |i| t * (i as f32 * step).exp());
            if self.config.flip_sin_to_cos {
                embedding.extend(angles().map(f32::cos).chain(angles().map(f32::sin)));
            } else {
                embedding.extend(angles().map(f32::sin).chain(angles().map(f32::cos)));
            }
        }
        let embedding = Tensor::from_vec(embedding, (timesteps.len(), 2 * half), device)?;
        self.time2.forward(&silu(&self.time1.forward(&embedding)?)?)
    }

    fn projections(&self) -> impl Iterator<Item = &Projection> {
        self.layers
            .iter()
            .filter_map(|l| {
                if let Layer::Transformer(t) = l {
                    Some(t.projections())
                } else {
                    None
                }
            })
            .flatten()
    }

    /// The weights of the selected sites, each `[out, in]`.
    pub fn site_weights(&self, selection: SiteSelection) -> BTreeMap<Site, Tensor> {
        self.projections()
            .filter(|p| selection.contains(&p.site))
            .map(|p| (p.site.clone(), p.linear.weight().clone()))
            .collect()
    }

    /// Puts other weights, of the same shapes, in place of those of these sites.
    ///
    /// # Errors
    /// If the model has no such site, or its shape is another.
    pub fn set_site_weights(&mut self, mut weights: BTreeMap<Site, Tensor>) -> Result<()> {
        for layer in &mut self.layers {
            let Layer::Transformer(transformer) = layer else {
                continue;
            };
            for projection in transformer.projections_mut() {
                if let Some(weight) = weights.remove(&projection.site) {
                    replace_weight(projection, weight)?;
                }
            }
        }
        match weights.into_keys().next() {
            None => Ok(()),
            Some(site) => Err(Error::Index {
                thing: format!("site `{site}`"),
                expected: "a site of this model".to_owned(),
                found: "none of that name".to_owned(),
                hint: "the index is of another model".to_owned(),
            }),
        }
    }
}

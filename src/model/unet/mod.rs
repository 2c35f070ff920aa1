//! The UNet that predicts the noise or the velocity: Rombach et al. 2022, in diffusers' form.

pub(in crate::model) mod attention;
pub(in crate::model) mod backward;
pub(in crate::model) mod config;
mod embedding;
pub(in crate::model) mod footprint;
pub(in crate::model) mod layers;
pub(in crate::model) mod transformer;
mod weights;

use candle_core::{DType, Device, Tensor};

use self::attention::AttentionStore;
use self::backward::LayerSaved;
use self::config::{Added, UNetConfig};
use self::footprint::largest_layer;
use self::layers::Builder;
use self::transformer::Transformer;
use super::conditioning::Conditioning;
use super::finite::Origin;
use super::loader::Weights;
use super::resnet::{Resnet, Upsample};
use crate::checkpoint::{Pages, TensorFile};
use crate::nn::{Activation, Conv2d, GroupNorm, Linear, ProductsIn};
use crate::{Result, Size};

/// One layer of the network, in the order of execution.
#[derive(Debug)]
pub(in crate::model) enum Layer {
    Resnet(Box<Resnet>),
    Transformer(Box<Transformer>),
    Downsample(Conv2d),
    Upsample(Upsample),
    /// Keeps its input for the way up.
    Push,
    /// Appends, behind the channels of its input, what was kept last.
    Pop,
}

/// A UNet with frozen weights. K and V weights of its attentions, the [`Site`](crate::index::Site)s, can be exchanged.
#[derive(Debug)]
pub(crate) struct UNet {
    config: UNetConfig,
    time1: Linear,
    time2: Linear,
    /// The two layers of what is added to the timestep's embedding.
    added: Option<(Linear, Linear)>,
    pub(in crate::model) conv_in: Conv2d,
    pub(in crate::model) layers: Vec<Layer>,
    pub(in crate::model) norm_out: GroupNorm,
    pub(in crate::model) conv_out: Conv2d,
    /// Index in `layers` of the first transformer: no gradient is needed before it.
    pub(in crate::model) first_site: usize,
    /// The most that is kept of a layer for a backward pass: on a GPU, whose memory is small and not known here, not
    /// what products give.
    most_kept: Kept,
    /// What is kept of each layer: see [`UNet::plan_memory`].
    pub(in crate::model) kept: Vec<Kept>,
    /// What activations and gradients are computed in.
    pub(in crate::model) dtype: DType,
    /// Whether products on the CPU, of f32, are taken in bf16.
    bf16_products: bool,
    origin: Origin,
    /// The file of the weights.
    pages: Pages,
    /// Whether the weights are read there, and each layer's given back when it has been computed.
    in_turn: bool,
    /// Bytes of the layer with the largest weights.
    largest_layer: u64,
    /// Bytes of weights that could not be read in their file.
    copied_weights: u64,
}

/// What is kept of a layer between a forward pass and the backward pass; the rest is computed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::model) enum Kept {
    /// Its input.
    Input,
    /// The inputs of what is inside.
    Inside,
    /// These, and what the products inside give.
    Products,
}

/// What the layers of one forward pass share.
pub(in crate::model) struct ForwardPass<'a> {
    /// The embedding of the timestep and of what is added to it, `[b, e]`.
    pub(in crate::model) time: Tensor,
    context: &'a Conditioning,
    /// What [`Layer::Push`] kept and [`Layer::Pop`] has not taken yet.
    skips: Vec<Tensor>,
    /// Whether layers save what their products give.
    pub(in crate::model) keep_products: bool,
}

impl<'a> ForwardPass<'a> {
    /// The state of a layer that neither keeps nor takes a skip, to compute it again.
    pub(in crate::model) fn again(time: &Tensor, context: &'a Conditioning) -> Self {
        Self {
            time: time.clone(),
            context,
            skips: Vec::new(),
            keep_products: false,
        }
    }

    /// Runs one layer: its output, and what it saved.
    pub(in crate::model) fn run(
        &mut self,
        layer: &Layer,
        hidden: Tensor,
        store: Option<&mut AttentionStore>,
    ) -> Result<(Tensor, LayerSaved)> {
        Ok(match layer {
            Layer::Resnet(resnet) => {
                let (y, saved) = resnet.forward(&hidden, Some(&self.time))?;
                (y, LayerSaved::Resnet(saved))
            }
            Layer::Transformer(transformer) => {
                let (y, saved) =
                    transformer.forward(&hidden, self.context, store, self.keep_products)?;
                (y, LayerSaved::Transformer(saved))
            }
            Layer::Downsample(conv) => {
                let (_, _, h, w) = hidden.dims4()?;
                (
                    conv.forward(&hidden)?,
                    LayerSaved::Downsample(Size::new(w, h)),
                )
            }
            Layer::Upsample(upsample) => {
                // As large as what is appended next: not twice as large where the way down rounded up.
                let (_, _, h, w) = self.skips.last().unwrap_or(&hidden).dims4()?;
                (upsample.forward(&hidden, h, w)?, LayerSaved::Nothing)
            }
            Layer::Push => {
                self.skips.push(hidden.clone());
                (hidden, LayerSaved::Nothing)
            }
            Layer::Pop => {
                let skip = self
                    .skips
                    .pop()
                    .unwrap_or_else(|| unreachable!("Builder::build makes a Push for each Pop"));
                let front = hidden.dim(1)?;
                let y = Tensor::cat(&[&hidden, &skip], 1)?;
                (y, LayerSaved::Pop(front))
            }
        })
    }
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
        let origin = Origin::new("the UNet", &file);
        let (pages, largest_layer) = (file.pages(), largest_layer(&file));
        let mut weights = Weights::new(file, device);
        let first = config.levels[0].width;
        let time = config.time;
        let time1 = weights.linear("time_embedding.linear_1", first, time)?;
        let time2 = weights.linear("time_embedding.linear_2", time, time)?;
        let added = match config.added {
            None => None,
            Some(Added { input, .. }) => Some((
                weights.linear("add_embedding.linear_1", input, time)?,
                weights.linear("add_embedding.linear_2", time, time)?,
            )),
        };
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
        let copied_weights = weights.copied();
        weights.finish()?;
        let most_kept = match device.is_cpu() {
            true => Kept::Products,
            false => Kept::Inside,
        };
        let first_site = layers
            .iter()
            .position(|l| matches!(l, Layer::Transformer(_)))
            .unwrap_or(layers.len());
        Ok(Self {
            most_kept,
            kept: vec![most_kept; layers.len()],
            dtype: DType::F32,
            bf16_products: false,
            origin,
            in_turn: device.is_cpu() && pages.are_mapped(),
            pages,
            largest_layer,
            copied_weights,
            config,
            time1,
            time2,
            added,
            conv_in,
            layers,
            norm_out,
            conv_out,
            first_site,
        })
    }

    /// Computes in `dtype`: f32, or half precision, f16 or bf16. Weights are cast where they are used; norms, softmax,
    /// the sums of weight gradients, and what comes in and goes out are f32 all the same. On the CPU, bf16 is for the
    /// products of linear layers and convolutions alone: all else is f32.
    pub(crate) fn compute_in(&mut self, dtype: DType, device: &Device) {
        self.bf16_products = dtype == DType::BF16 && device.is_cpu();
        self.dtype = match self.bf16_products {
            true => DType::F32,
            false => dtype,
        };
    }

    /// For as long as a pass takes.
    pub(in crate::model) fn products(&self) -> ProductsIn {
        ProductsIn::bf16(self.bf16_products)
    }

    /// That all of `values`, which came out of this network, are finite; `what` names them.
    ///
    /// # Errors
    /// [`Error::NotFinite`](crate::Error::NotFinite), which names the tensor that holds such a number, if one does.
    pub(crate) fn check_finite(&self, what: impl FnOnce() -> String, values: &[f32]) -> Result<()> {
        self.origin.check(what, values)
    }

    /// What it computes in.
    pub(crate) fn dtype(&self) -> DType {
        match self.bf16_products {
            true => DType::BF16,
            false => self.dtype,
        }
    }

    /// Channels of the latents.
    pub(crate) fn channels(&self) -> usize {
        self.config.in_channels
    }

    /// Height and width of the latents that the model was trained on.
    pub(crate) fn sample_size(&self) -> usize {
        self.config.sample_size
    }

    /// Width of the text embedding that the cross-attentions take.
    pub(crate) fn context_width(&self) -> usize {
        self.config.context
    }

    /// What it is told beside timestep and tokens.
    pub(crate) fn added(&self) -> Option<Added> {
        self.config.added
    }

    /// Predicts the noise, or the velocity, in `x`.
    ///
    /// # Shapes
    /// - `x`: `[b, c, h, w]` noisy latents
    /// - `timesteps`: b of them, 0..1000, one for each sample
    /// - `context`: b prompts; at the words of a subject that has weights of its own, these are used; with the
    ///   embeddings of whole texts where the model is Stable Diffusion XL
    /// - returns `[b, c, h, w]`
    ///
    /// # Errors
    /// If the shapes do not fit the model.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        timesteps: &[f32],
        context: &Conditioning,
    ) -> Result<Tensor> {
        let _products = self.products();
        let (mut hidden, mut state) = self.enter(x, timesteps, context)?;
        for layer in &self.layers {
            (hidden, _) = self.forward_layer(&mut state, layer, hidden, None)?;
        }
        self.leave(&hidden)
    }

    /// `context` with the keys and values of every cross-attention, which are the same in all steps. It is of use as
    /// long as the weights stay what they are.
    ///
    /// # Errors
    /// If the embedding has not [`UNet::context_width`].
    pub(crate) fn precompute_kv(&self, context: &Conditioning) -> Result<Conditioning> {
        let _products = self.products();
        let projected = self
            .transformers()
            .flat_map(Transformer::cross_attentions)
            .map(|attention| attention.precompute_kv(context, self.dtype))
            .collect::<Result<_>>()?;
        Ok(context.with_projected(projected))
    }

    /// [`UNet::forward`], keeping in `store` where the cross-attentions look: one map for each, in order of execution.
    ///
    /// # Errors
    /// As [`UNet::forward`].
    pub(crate) fn forward_recording(
        &self,
        x: &Tensor,
        timesteps: &[f32],
        context: &Conditioning,
        store: &mut AttentionStore,
    ) -> Result<Tensor> {
        let _products = self.products();
        let (mut hidden, mut state) = self.enter(x, timesteps, context)?;
        for layer in &self.layers {
            (hidden, _) = self.forward_layer(&mut state, layer, hidden, Some(store))?;
        }
        self.leave(&hidden)
    }

    /// [`ForwardPass::run`], which ends the layer's turn.
    pub(in crate::model) fn forward_layer(
        &self,
        state: &mut ForwardPass,
        layer: &Layer,
        hidden: Tensor,
        store: Option<&mut AttentionStore>,
    ) -> Result<(Tensor, LayerSaved)> {
        let output = state.run(layer, hidden, store)?;
        self.end_turn();
        Ok(output)
    }

    /// What comes before the layers.
    pub(in crate::model) fn enter<'a>(
        &self,
        x: &Tensor,
        timesteps: &[f32],
        context: &'a Conditioning,
    ) -> Result<(Tensor, ForwardPass<'a>)> {
        // So that a run on weights that change ends with its next step, and not with its last.
        self.pages.check_unchanged()?;
        let state = ForwardPass {
            time: self.embed_time(timesteps, context)?,
            context,
            skips: Vec::new(),
            keep_products: false,
        };
        Ok((self.conv_in.forward(&x.to_dtype(self.dtype)?)?, state))
    }

    /// What comes after the layers.
    pub(in crate::model) fn leave(&self, hidden: &Tensor) -> Result<Tensor> {
        let y = self.conv_out.forward(&self.norm_out.forward(hidden)?)?;
        Ok(y.to_dtype(DType::F32)?)
    }
}

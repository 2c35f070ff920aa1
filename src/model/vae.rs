//! The autoencoder between pictures and latents: Rombach et al. 2022, diffusers' `AutoencoderKL`. Forward only.

use candle_core::{Device, Tensor};
use serde_json::{Value, json};

use super::footprint::{Footprint, bytes};
use super::loader::{ConvShape, Weights};
use super::resnet::{Resnet, ResnetShape, Upsample};
use crate::checkpoint::TensorFile;
use crate::checkpoint::kinds::described;
use crate::config::ConfigReader;
use crate::nn::{Activation, Conv2d, GroupNorm, Linear, attention};
use crate::{Error, Result, Size};

/// diffusers fixes the epsilon of every norm of an autoencoder.
const EPSILON: f64 = 1e-6;

#[derive(Debug)]
enum Layer {
    Resnet(Resnet),
    Attention(SelfAttention),
    Downsample(Conv2d),
    Upsample(Upsample),
}

/// An autoencoder.
#[derive(Debug)]
pub(crate) struct Vae {
    encoder: Half,
    quant: Option<Conv2d>,
    post_quant: Option<Conv2d>,
    decoder: Half,
    levels: usize,
    channels: usize,
    scaling_factor: f64,
}

/// That the file is of an `AutoencoderKL` whose latents are only scaled: told first, so that no key is blamed that is
/// right for what it is.
fn check_kind(file: &str, keys: &mut ConfigReader) -> Result<()> {
    if keys.has("latents_mean") {
        let found = "that of Playground v2.5 or a model like it, whose latents are shifted too (`latents_mean`)";
        let hint = "pass a model of Stable Diffusion 1.x, 2.x or XL; Playground v2.5 has a schedule of its own besides";
        let expected = "an autoencoder whose latents are only scaled";
        return Err(Error::file(file, expected, found, hint));
    }
    match keys.take("_class_name") {
        None => Ok(()),
        Some(class) if class == "AutoencoderKL" || class == "FlaxAutoencoderKL" => Ok(()),
        Some(class) => {
            let found = class.as_str().map_or_else(|| class.to_string(), described);
            let hint = "use the autoencoder that the model came with, in its folder `vae`";
            Err(Error::file(file, "an AutoencoderKL", found, hint))
        }
    }
}

/// The encoder or the decoder.
#[derive(Debug)]
struct Half {
    conv_in: Conv2d,
    layers: Vec<Layer>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Vae {
    /// Builds the autoencoder from `vae/config.json` and its weights.
    ///
    /// # Errors
    /// If an option is not supported, or a tensor is missing, unknown or of another shape.
    pub(crate) fn load(
        config_file: &str,
        config: &str,
        file: TensorFile,
        device: &Device,
    ) -> Result<Self> {
        let mut keys = ConfigReader::parse_diffusers(config_file, config)?;
        check_kind(config_file, &mut keys)?;
        let (widths, groups) = keys.widths(&[64], 1)?;
        let n = widths.len();
        let depth = keys.size("layers_per_block", 1, 1)?;
        let latent = keys.size("latent_channels", 4, 1)?;
        let attends = keys.flag("mid_block_add_attention")?.unwrap_or(true);
        let quant = keys.flag("use_quant_conv")?.unwrap_or(true);
        let post_quant = keys.flag("use_post_quant_conv")?.unwrap_or(true);
        let scaling_factor = keys.or("scaling_factor", 0.18215)?;
        keys.only("in_channels", &[json!(3)])?;
        keys.only("out_channels", &[json!(3)])?;
        keys.only("act_fn", &[json!("silu"), json!("swish")])?;
        keys.only("down_block_types", &[json!(vec!["DownEncoderBlock2D"; n])])?;
        keys.only("up_block_types", &[json!(vec!["UpDecoderBlock2D"; n])])?;
        keys.only("shift_factor", &[json!(0), Value::Null])?;
        let _fully_convolutional: Value = keys.or("sample_size", Value::Null)?;
        keys.ignore(&["force_upcast"]); // computed in f32 in any case
        keys.finish()?;

        let mut weights = Weights::new(file, device);
        let mut builder = Builder {
            weights: &mut weights,
            groups,
            attends,
            layers: Vec::new(),
        };
        let encoder = builder.encoder(&widths, depth, 2 * latent)?;
        let decoder = builder.decoder(&widths, depth, latent)?;
        let mut conv1 = |wanted: bool, name: &str, c: usize| {
            let shape = ConvShape {
                from: c,
                to: c,
                k: 1,
                stride: 1,
                padding: 0,
            };
            wanted.then(|| weights.conv(name, shape)).transpose()
        };
        let quant = conv1(quant, "quant_conv", 2 * latent)?;
        let post_quant = conv1(post_quant, "post_quant_conv", latent)?;
        weights.finish()?;
        Ok(Self {
            encoder,
            quant,
            post_quant,
            decoder,
            levels: n,
            channels: latent,
            scaling_factor,
        })
    }

    /// Pixels of a picture for each latent, in each direction.
    pub(crate) fn factor(&self) -> usize {
        1 << (self.levels - 1)
    }

    /// Channels of the latents.
    pub(crate) fn channels(&self) -> usize {
        self.channels
    }

    /// What a latent is multiplied by to have unit variance.
    pub(crate) fn scaling_factor(&self) -> f64 {
        self.scaling_factor
    }

    /// `[b, 3, h·factor, w·factor]` pictures in −1..=1 to the means of the posterior of their latents, `[b, c, h, w]`,
    /// not yet multiplied by the scaling factor.
    pub(crate) fn encode(&self, pictures: &Tensor) -> Result<Tensor> {
        let mut x = self.encoder.forward(pictures)?;
        if let Some(conv) = &self.quant {
            x = conv.forward(&x)?;
        }
        // The rest are the logarithms of the variances.
        let c = x.dim(1)? / 2;
        Ok(x.narrow(1, 0, c)?.contiguous()?)
    }

    /// `[b, c, h, w]` latents, already divided by the scaling factor, to pictures `[b, 3, h·factor, w·factor]`,
    /// nominally in −1..=1.
    pub(crate) fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        match &self.post_quant {
            Some(conv) => self.decoder.forward(&conv.forward(latents)?),
            None => self.decoder.forward(latents),
        }
    }
}

impl Vae {
    /// What [`Vae::encode`] needs for one picture of this size.
    pub(crate) fn encode_footprint(&self, size: Size) -> Footprint {
        self.encoder.footprint(size)
    }

    /// What [`Vae::decode`] needs for one picture with latents of this size.
    pub(crate) fn decode_footprint(&self, size: Size) -> Footprint {
        self.decoder.footprint(size)
    }
}

impl Half {
    /// What a forward pass needs for one picture, or its latents, of this size.
    fn footprint(&self, mut size: Size) -> Footprint {
        let (mut channels, mut working) = (self.conv_in.channels().0, 0);
        for layer in &self.layers {
            let needs = match layer {
                Layer::Resnet(resnet) => {
                    channels = resnet.channels().1;
                    let needs = resnet.needs(size.pixels());
                    needs.input + needs.inside + needs.working
                }
                Layer::Attention(_) => 6 * bytes(channels, size.pixels()),
                Layer::Downsample(_) => {
                    let needs = 2 * bytes(channels, size.pixels());
                    size = size.map(|side| side / 2);
                    needs
                }
                Layer::Upsample(_) => {
                    size = size.map(|side| 2 * side);
                    2 * bytes(channels, size.pixels())
                }
            };
            working = working.max(needs);
        }
        Footprint {
            kept: 0,
            working,
            recomputed: 0,
        }
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = self.conv_in.forward(x)?;
        for layer in &self.layers {
            x = match layer {
                Layer::Resnet(resnet) => resnet.forward(&x, None)?.0,
                Layer::Attention(attention) => attention.forward(&x)?,
                // diffusers pads below and to the right only.
                Layer::Downsample(conv) => {
                    conv.forward(&x.pad_with_zeros(2, 0, 1)?.pad_with_zeros(3, 0, 1)?)?
                }
                Layer::Upsample(upsample) => upsample.forward(&x, 2 * x.dim(2)?, 2 * x.dim(3)?)?,
            };
        }
        self.conv_out.forward(&self.norm_out.forward(&x)?)
    }
}

/// Single-head attention over all pixels, behind a group norm and beside a residual.
#[derive(Debug)]
struct SelfAttention {
    norm: GroupNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
}

impl SelfAttention {
    /// `[b, c, h, w]` to the same shape.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let normed = self.norm.forward(x)?;
        let [q, k, v] = [&self.q, &self.k, &self.v].map(|l| l.forward_from_channels(&normed));
        self.out
            .forward_to_channels(&attention(&q?, &k?, &v?, 1)?, x)
    }
}

/// Lays out the layers of a half in the order of execution, taking each layer's weights.
struct Builder<'a> {
    weights: &'a mut Weights,
    groups: usize,
    attends: bool,
    layers: Vec<Layer>,
}

impl Builder<'_> {
    fn encoder(&mut self, widths: &[usize], depth: usize, out: usize) -> Result<Half> {
        let conv_in = self.weights.conv3("encoder.conv_in", 3, widths[0])?;
        let mut from = widths[0];
        for (i, &width) in widths.iter().enumerate() {
            let name = format!("encoder.down_blocks.{i}");
            for j in 0..depth {
                self.resnet(&format!("{name}.resnets.{j}"), from, width)?;
                from = width;
            }
            if i + 1 < widths.len() {
                let shape = ConvShape {
                    from: width,
                    to: width,
                    k: 3,
                    stride: 2,
                    padding: 0,
                };
                self.layers.push(Layer::Downsample(
                    self.weights
                        .conv(&format!("{name}.downsamplers.0.conv"), shape)?,
                ));
            }
        }
        self.middle("encoder", from)?;
        self.finish("encoder", conv_in, from, out)
    }

    fn decoder(&mut self, widths: &[usize], depth: usize, latent: usize) -> Result<Half> {
        let mut from = widths[widths.len() - 1];
        let conv_in = self.weights.conv3("decoder.conv_in", latent, from)?;
        self.middle("decoder", from)?;
        for (i, &width) in widths.iter().rev().enumerate() {
            let name = format!("decoder.up_blocks.{i}");
            for j in 0..=depth {
                self.resnet(&format!("{name}.resnets.{j}"), from, width)?;
                from = width;
            }
            if i + 1 < widths.len() {
                let upsample =
                    Upsample::load(self.weights, &format!("{name}.upsamplers.0"), width)?;
                self.layers.push(Layer::Upsample(upsample));
            }
        }
        self.finish("decoder", conv_in, from, 3)
    }

    fn middle(&mut self, half: &str, c: usize) -> Result<()> {
        self.resnet(&format!("{half}.mid_block.resnets.0"), c, c)?;
        if self.attends {
            let name = format!("{half}.mid_block.attentions.0");
            let norm = self.weights.group_norm(
                &format!("{name}.group_norm"),
                c,
                self.groups,
                EPSILON,
                Activation::None,
            )?;
            let mut linear = |part: &str| self.weights.linear(&format!("{name}.{part}"), c, c);
            let (q, k, v, out) = (
                linear("to_q")?,
                linear("to_k")?,
                linear("to_v")?,
                linear("to_out.0")?,
            );
            self.layers
                .push(Layer::Attention(SelfAttention { norm, q, k, v, out }));
        }
        self.resnet(&format!("{half}.mid_block.resnets.1"), c, c)
    }

    fn finish(&mut self, half: &str, conv_in: Conv2d, from: usize, out: usize) -> Result<Half> {
        let norm = format!("{half}.conv_norm_out");
        Ok(Half {
            conv_in,
            layers: std::mem::take(&mut self.layers),
            norm_out: self.weights.group_norm(
                &norm,
                from,
                self.groups,
                EPSILON,
                Activation::Silu,
            )?,
            conv_out: self.weights.conv3(&format!("{half}.conv_out"), from, out)?,
        })
    }

    fn resnet(&mut self, name: &str, from: usize, to: usize) -> Result<()> {
        let shape = ResnetShape {
            from,
            to,
            time: None,
            groups: self.groups,
            epsilon: EPSILON,
        };
        self.layers
            .push(Layer::Resnet(Resnet::load(self.weights, name, shape)?));
        Ok(())
    }
}

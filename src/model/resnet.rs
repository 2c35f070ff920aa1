//! The residual block of the UNet and the VAE, and the layers that halve and double the resolution.

use candle_core::Tensor;

use super::footprint::{LayerNeeds, bytes};
use super::loader::{ConvShape, Weights};
use crate::Result;
use crate::nn::{Activation, Addends, Conv2d, GroupNorm, Linear, silu};

/// What a residual block needs beside its weights.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResnetShape {
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// Width of the timestep embedding; `None` in a VAE.
    pub(crate) time: Option<usize>,
    pub(crate) groups: usize,
    pub(crate) epsilon: f64,
}

/// `shortcut(x) + conv(silu(norm(conv(silu(norm(x))) + time)))`: He et al. 2016, as in Ho et al. 2020.
#[derive(Debug)]
pub(crate) struct Resnet {
    norm1: GroupNorm,
    conv1: Conv2d,
    time: Option<Linear>,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
}

/// What the backward pass of a [`Resnet`] needs: the inputs of its two norms.
#[derive(Debug)]
pub(crate) struct ResnetSaved {
    x: Tensor,
    middle: Tensor,
}

impl Resnet {
    pub(crate) fn load(weights: &mut Weights, name: &str, shape: ResnetShape) -> Result<Self> {
        let ResnetShape {
            from,
            to,
            time,
            groups,
            epsilon,
        } = shape;
        let shortcut = ConvShape {
            from,
            to,
            k: 1,
            stride: 1,
            padding: 0,
        };
        Ok(Self {
            norm1: weights.group_norm(
                &format!("{name}.norm1"),
                from,
                groups,
                epsilon,
                Activation::Silu,
            )?,
            conv1: weights.conv3(&format!("{name}.conv1"), from, to)?,
            time: time
                .map(|width| weights.linear(&format!("{name}.time_emb_proj"), width, to))
                .transpose()?,
            norm2: weights.group_norm(
                &format!("{name}.norm2"),
                to,
                groups,
                epsilon,
                Activation::Silu,
            )?,
            conv2: weights.conv3(&format!("{name}.conv2"), to, to)?,
            shortcut: (from != to)
                .then(|| weights.conv(&format!("{name}.conv_shortcut"), shortcut))
                .transpose()?,
        })
    }

    /// `x: [b, from, h, w]` and the timestep embedding `[b, time]`, if the block has one, to `[b, to, h, w]`.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        time: Option<&Tensor>,
    ) -> Result<(Tensor, ResnetSaved)> {
        let shift = match (&self.time, time) {
            (Some(layer), Some(embedding)) => Some(layer.forward(&silu(embedding)?)?), // [b, to]
            _ => None,
        };
        let addends = Addends {
            shift: shift.as_ref(),
            residual: None,
        };
        let middle = self
            .conv1
            .forward_adding(&self.norm1.forward(x)?, addends)?;
        let shortcut = match &self.shortcut {
            Some(conv) => &conv.forward(x)?,
            None => x,
        };
        let addends = Addends {
            shift: None,
            residual: Some(shortcut),
        };
        let y = self
            .conv2
            .forward_adding(&self.norm2.forward(&middle)?, addends)?;
        Ok((
            y,
            ResnetSaved {
                x: x.clone(),
                middle,
            },
        ))
    }

    /// Channels of its input and of its output.
    pub(super) fn channels(&self) -> (usize, usize) {
        let (to, from) = self.conv1.channels();
        (from, to)
    }

    /// What it needs for so many pixels.
    pub(super) fn needs(&self, pixels: usize) -> LayerNeeds {
        let (from, to) = self.channels();
        let (input, output) = (bytes(from, pixels), bytes(to, pixels));
        LayerNeeds {
            input,
            products: 0,
            inside: output,
            // The norm's output beside the convolution's, or as many gradients; the shortcut's; one more to add up.
            working: input.max(output) + 3 * output,
        }
    }

    /// ∂L/∂x. The timestep embedding has no site upstream, so nothing flows into it.
    pub(crate) fn backward(&self, saved: &ResnetSaved, grad: &Tensor) -> Result<Tensor> {
        let g = self
            .norm2
            .backward(&saved.middle, &self.conv2.backward(grad)?)?;
        let g = self.norm1.backward(&saved.x, &self.conv1.backward(&g)?)?;
        Ok(match &self.shortcut {
            Some(conv) => (g + conv.backward(grad)?)?,
            None => (g + grad)?,
        })
    }
}

/// Doubles the resolution: nearest neighbour, then a 3 × 3 convolution.
#[derive(Debug)]
pub(crate) struct Upsample {
    conv: Conv2d,
}

impl Upsample {
    pub(crate) fn load(weights: &mut Weights, name: &str, c: usize) -> Result<Self> {
        Ok(Self {
            conv: weights.conv3(&format!("{name}.conv"), c, c)?,
        })
    }

    /// `[b, c, h, w]` to `[b, c, height, width]`, which is `[b, c, 2h, 2w]` or one less where the way down rounded up.
    pub(crate) fn forward(&self, x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
        self.conv.forward_upsampled(x, height, width)
    }

    /// ∂L/∂x where the size was doubled exactly.
    pub(crate) fn backward(&self, grad: &Tensor) -> Result<Tensor> {
        self.conv.backward_upsampled(grad)
    }
}

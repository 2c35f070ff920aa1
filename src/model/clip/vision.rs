//! The picture tower of CLIP, a vision transformer: Radford et al. 2021 and Dosovitskiy et al. 2021, in transformers'
//! form. Forward only.

use candle_core::{D, Tensor};

use super::super::loader::Weights;
use super::super::text::layers::{Stack, StackConfig};
use crate::config::ConfigReader;
use crate::nn::{LayerNorm, Linear};
use crate::{Error, Result};

/// Colours of a picture.
const CHANNELS: usize = 3;
/// Several times what any released tower takes; a larger claim would only fill the memory.
const MAX_SIZE: usize = 4096;

/// A picture tower: normalised pixels to one embedding for each picture.
#[derive(Debug)]
pub(crate) struct VisionEncoder {
    /// The patch convolution as a matrix: its kernel never overlaps itself. `[e, 3·p·p]`
    patches: Linear,
    /// `[e]`
    class: Tensor,
    /// `[1 + n·n, e]`, n patches a side
    positions: Tensor,
    first_norm: LayerNorm,
    stack: Stack,
    last_norm: LayerNorm,
    patch: usize,
    size: usize,
}

impl VisionEncoder {
    /// Takes the tower's weights, `vision_model.…`, by its configuration.
    pub(in crate::model) fn build(mut keys: ConfigReader, weights: &mut Weights) -> Result<Self> {
        let size = keys.size("image_size", 224, 1)?;
        if size > MAX_SIZE {
            return Err(keys.error("image_size", format!("at most {MAX_SIZE} pixels"), size));
        }
        let patch = keys.size("patch_size", 32, 1)?;
        if patch > size {
            return Err(keys.error("patch_size", format!("at most image_size = {size}"), patch));
        }
        keys.only("num_channels", &[CHANNELS.into()])?;
        let config = StackConfig::take(&mut keys, [768, 3072, 12], "clip_vision_model")?;
        keys.finish()?;

        let StackConfig { width, epsilon, .. } = config;
        let side = size / patch;
        let root = "vision_model.";
        let embeddings = format!("{root}embeddings");
        let kernel = weights.take(
            &format!("{embeddings}.patch_embedding.weight"),
            &[width, CHANNELS, patch, patch],
        )?;
        Ok(Self {
            patches: Linear::new(kernel.flatten_from(1)?, None),
            class: weights.take(&format!("{embeddings}.class_embedding"), &[width])?,
            positions: weights.take(
                &format!("{embeddings}.position_embedding.weight"),
                &[1 + side * side, width],
            )?,
            // The misspelling is in every file.
            first_norm: weights.layer_norm(&format!("{root}pre_layrnorm"), width, epsilon)?,
            stack: Stack::load(weights, root, &config)?,
            last_norm: weights.layer_norm(&format!("{root}post_layernorm"), width, epsilon)?,
            patch,
            size,
        })
    }

    /// Side in pixels of the pictures that it takes.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Width of an embedding.
    pub(crate) fn width(&self) -> usize {
        self.class.elem_count()
    }

    /// The class token behind the last norm.
    ///
    /// # Shapes
    /// - `x`: `[b, 3, s, s]`, s = [`Self::size`], as `preprocessor_config.json` asks for
    /// - returns `[b, e]`
    ///
    /// # Errors
    /// If the pictures are of another size.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (b, c, h, w) = x.dims4()?;
        if (c, h, w) != (CHANNELS, self.size, self.size) {
            let expected = format!("3 x {0} x {0}", self.size);
            return Err(Error::value("pixels", expected, format!("{c} x {h} x {w}")));
        }
        let (p, n, e) = (self.patch, self.size / self.patch, self.width());
        // What does not fill a patch, at the right and below, is not seen: a convolution's rule.
        let x = x
            .narrow(2, 0, n * p)?
            .narrow(3, 0, n * p)?
            .reshape((b, c, n, p, n, p))?
            .permute((0, 2, 4, 1, 3, 5))? // [b, n, n, c, p, p]
            .reshape((b, n * n, c * p * p))?;
        let x = self.patches.forward(&x)?; // [b, n·n, e]
        let class = self.class.reshape((1, 1, e))?.broadcast_as((b, 1, e))?;
        let x = Tensor::cat(&[&class, &x], 1)?.broadcast_add(&self.positions)?;
        let x = self.stack.forward(self.first_norm.forward(&x)?, None)?;
        self.last_norm
            .forward(&x.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?)
    }
}

/// Each row of `[b, e]` over its own length.
pub(in crate::model) fn normalised(x: &Tensor) -> Result<Tensor> {
    let length = x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
    Ok(x.broadcast_div(&length)?)
}

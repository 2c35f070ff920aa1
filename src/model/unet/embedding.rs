//! What every residual block of a UNet adds to its channels: the embedding of the timestep, and for Stable Diffusion
//! XL that of the whole text and of the picture's sizes.

use candle_core::{Device, Tensor};

use super::super::conditioning::Conditioning;
use super::UNet;
use crate::nn::{Linear, silu};
use crate::{Error, Result};

impl UNet {
    /// The embedding of timesteps through two linear layers, and that of whole texts and sizes through two others,
    /// added up: `[b, e]`.
    pub(super) fn embed_time(&self, timesteps: &[f32], context: &Conditioning) -> Result<Tensor> {
        let device = context.device();
        let embedding = self.sinusoids(timesteps, self.config.levels[0].width, device)?;
        let two = |x: &Tensor, (first, second): (&Linear, &Linear)| {
            second.forward(&silu(&first.forward(x)?)?)
        };
        let mut time = two(&embedding, (&self.time1, &self.time2))?;
        if let (Some((first, second)), Some(added)) = (&self.added, self.config.added) {
            let (pooled, sizes) = context.pooled().ok_or_else(|| {
                let expected =
                    "one with the embedding of the whole text, as Stable Diffusion XL takes it";
                Error::value("prompt", expected, "one without")
            })?;
            let numbers: Vec<f32> = sizes.flatten_all()?.to_vec1()?;
            let sizes = self.sinusoids(&numbers, added.size, device)?;
            let sizes = sizes.reshape((pooled.dim(0)?, ()))?; // [b, 6·size]
            let all = Tensor::cat(&[pooled, &sizes], 1)?; // [b, input]
            time = (time + two(&all, (first, second))?)?;
        }
        Ok(time.to_dtype(self.dtype)?)
    }

    /// Sinusoidal embedding of numbers (Vaswani et al. 2017, section 3.5): `[n, width]`.
    fn sinusoids(&self, numbers: &[f32], width: usize, device: &Device) -> Result<Tensor> {
        let half = width / 2;
        let step = -(10_000f32.ln()) / (half as f32 - self.config.freq_shift as f32);
        let mut embedding = Vec::with_capacity(numbers.len() * 2 * half);
        for &t in numbers {
            let angles = || (0..half).map(move |i| t * (i as f32 * step).exp());
            if self.config.flip_sin_to_cos {
                embedding.extend(angles().map(f32::cos).chain(angles().map(f32::sin)));
            } else {
                embedding.extend(angles().map(f32::sin).chain(angles().map(f32::cos)));
            }
        }
        Ok(Tensor::from_vec(
            embedding,
            (numbers.len(), 2 * half),
            device,
        )?)
    }
}

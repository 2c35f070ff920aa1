//! What a run needs, said before it starts.

use super::Pipeline;
use super::options::SampleOptions;
use crate::model::Footprint;
use crate::{Error, Result, Size};

/// What the process itself needs: the program, tokenizers, buffers of threads.
const PROCESS: u64 = 64 << 20;

/// Latent pixels of one forward and backward pass: as many as two pictures of Stable Diffusion 1.x have. A larger step
/// is taken in parts, whose gradients add up, so that its memory does not grow with its batch.
const PIXELS_AT_ONCE: usize = 2 * 64 * 64;

/// How many of a step's pictures are in one pass, for latents of this size.
pub(crate) fn rows_at_once(rows: usize, size: Size) -> usize {
    (PIXELS_AT_ONCE / size.pixels().max(1)).clamp(1, rows.max(1))
}

/// What a run needs at its peak, in bytes: an estimate from the shapes of the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// The weights that are in memory at once. On a CPU they are mapped from their files and read there: networks take
    /// turns, and so do the UNet's layers.
    pub weights: u64,
    /// What passes through the networks need.
    pub layers: u64,
    /// How many layers the backward pass computes again, to need no more.
    pub recomputed: usize,
    /// What the method keeps beside: masks, scores, moments, gradients.
    pub method: u64,
    /// What reading the largest photo needs, before the model works.
    pub photos: u64,
}

impl MemoryEstimate {
    /// All of it.
    pub fn total(&self) -> u64 {
        (self.weights + self.layers + self.method).max(self.photos) + PROCESS
    }

    fn passing(self, pass: Footprint) -> Self {
        Self {
            layers: pass.total(),
            recomputed: pass.recomputed,
            ..self
        }
    }

    /// With photos of which reading the largest needs so many bytes.
    pub(crate) fn reading(self, photos: u64) -> Self {
        Self { photos, ..self }
    }

    /// # Errors
    /// If it is more than `budget` bytes.
    pub fn within(&self, budget: u64) -> Result<()> {
        if self.total() <= budget {
            return Ok(());
        }
        // Rounded up, so that what is asked for is enough.
        let least = (self.total() as f64 / 1e7).ceil() / 100.0;
        Err(Error::value(
            "memory",
            format!("at least {least} GB for this model at this size"),
            format!("{} GB", budget as f64 / 1e9),
        ))
    }
}

impl Pipeline {
    /// Makes ready for steps of `rows` pictures by a method that keeps `numbers` of its own: within `budget` bytes if
    /// that is possible, at the price of layers that are computed again.
    pub(crate) fn plan_steps(&mut self, rows: usize, numbers: u64, budget: u64) -> MemoryEstimate {
        let size = Size::square(self.unet.sample_size());
        let rows = rows_at_once(rows, size);
        let others = MemoryEstimate {
            weights: self.weights,
            layers: 0,
            recomputed: 0,
            method: numbers * size_of::<f32>() as u64,
            photos: 0,
        };
        let rest = budget.saturating_sub(others.total());
        self.unet.plan_memory(rows, size, rest);
        let encoder = self.vae.encode_footprint(self.size);
        let steps = self.unet.backward_footprint(rows, size);
        // Photos are encoded before the UNet's weights have been read.
        let pass = match encoder.total() > steps.total() + others.weights {
            true => encoder,
            false => steps,
        };
        others.passing(pass)
    }

    /// Makes ready for drawing `count` pictures, with attend-and-excite or without: as `plan_steps`.
    ///
    /// # Errors
    /// If the size cannot be drawn.
    pub fn plan_drawing(
        &mut self,
        options: &SampleOptions,
        count: usize,
        excite: bool,
        budget: u64,
    ) -> Result<MemoryEstimate> {
        let size = self.latent_size(options.size)?;
        let others = MemoryEstimate {
            weights: self.weights,
            layers: 0,
            recomputed: 0,
            method: 0,
            photos: 0,
        };
        let rows = Self::batch(size).min(count) * (1 + usize::from(options.guidance > 1.0));
        let forward = self.unet.forward_footprint(rows, size);
        let mut pass = larger(forward, self.vae.decode_footprint(size));
        if excite {
            self.unet
                .plan_memory(1, size, budget.saturating_sub(others.total()));
            pass = larger(pass, self.unet.backward_footprint(1, size));
        }
        Ok(others.passing(pass))
    }
}

fn larger(a: Footprint, b: Footprint) -> Footprint {
    if b.total() > a.total() { b } else { a }
}

//! How long steps take here.

use std::time::Instant;

use candle_core::Tensor;

use super::Pipeline;
use super::memory::rows_at_once;
use crate::Result;
use crate::index::SiteSelection;
use crate::model::Conditioning;
use crate::sampling::Generator;

impl Pipeline {
    /// Seconds of one step of sampling a picture with guidance, at the model's own size.
    ///
    /// # Errors
    /// If the model cannot be computed with.
    pub fn time_sampling(&self) -> Result<f64> {
        self.time(2, |x, context| {
            let timesteps = vec![500.0; x.dim(0)?];
            let output = self.unet.forward(x, &timesteps, context)?;
            output.flatten_all()?.to_vec1::<f32>()?;
            Ok(())
        })
    }

    /// Seconds that a photo takes in a step of finding with `rows` of them: a forward and a backward pass, at the
    /// model's own size.
    ///
    /// # Errors
    /// If the model cannot be computed with.
    pub fn time_finding(&self, rows: usize) -> Result<f64> {
        let rows = rows_at_once(rows, self.latent_size(None)?);
        let seconds = self.time(rows, |x, context| {
            let timesteps = vec![500.0; x.dim(0)?];
            let (output, saved) = self.unet.forward_saving(x, &timesteps, context)?;
            let gradients = self.unet.backward(saved, &output, SiteSelection::Cross)?;
            for gradient in gradients.values() {
                gradient.flatten_all()?.to_vec1::<f32>()?;
            }
            Ok(())
        })?;
        Ok(seconds / rows as f64)
    }

    /// Seconds of a pass of so many latents and prompts, after one that is not counted: the weights are read then, and
    /// the process gets its memory.
    fn time(
        &self,
        rows: usize,
        pass: impl Fn(&Tensor, &Conditioning) -> Result<()>,
    ) -> Result<f64> {
        let size = self.latent_size(None)?;
        let shape = (rows, self.unet.channels(), size.height, size.width);
        let noise = Generator::new(0).randn(shape.0 * shape.1 * shape.2 * shape.3);
        let x = Tensor::from_vec(noise, shape, &self.device)?;
        let context = self.embed(&["a photo of a dog".into()])?.repeat(rows)?;
        pass(&x, &context)?;
        let start = Instant::now();
        pass(&x, &context)?;
        let seconds = start.elapsed().as_secs_f64();
        self.pages.unet.release();
        Ok(seconds)
    }
}

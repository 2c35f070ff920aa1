//! How long steps take here.

use std::time::Instant;

use candle_core::Tensor;

use super::Pipeline;
use crate::Result;
use crate::index::SiteSelection;
use crate::sampling::Generator;

/// Seconds of one step each, measured at the model's own size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepTimes {
    /// Of sampling one picture with guidance.
    pub sampling: f64,
    /// Of finding, for one photo: a forward and a backward pass.
    pub finding: f64,
}

impl Pipeline {
    /// Measures one step of sampling and one of finding, after one that is not counted: the weights are read then.
    ///
    /// # Errors
    /// If the model cannot be computed with.
    pub fn time_steps(&self) -> Result<StepTimes> {
        let size = self.latent_size(None)?;
        let shape = (1, self.unet.channels(), size.height, size.width);
        let noise = Generator::new(0).randn(shape.1 * shape.2 * shape.3);
        let x = Tensor::from_vec(noise, shape, &self.device)?;
        let context = self.embed(&["a photo of a dog".into()])?;
        let (two, pair) = (Tensor::cat(&[&x, &x], 0)?, context.repeat(2)?);
        let sample = || {
            self.unet
                .forward(&two, &[500.0; 2], &pair)?
                .flatten_all()?
                .to_vec1::<f32>()
                .map_err(Into::into)
        };
        let find = || -> Result<()> {
            let (output, saved) = self.unet.forward_saving(&x, &[500.0], &context)?;
            let gradients = self.unet.backward(saved, &output, SiteSelection::Cross)?;
            for gradient in gradients.values() {
                gradient.flatten_all()?.to_vec1::<f32>()?;
            }
            Ok(())
        };
        let first: Result<Vec<f32>> = sample();
        first?;
        let start = Instant::now();
        let second: Result<Vec<f32>> = sample();
        second?;
        let sampling = start.elapsed().as_secs_f64();
        let start = Instant::now();
        find()?;
        let finding = start.elapsed().as_secs_f64();
        self.pages.unet.release();
        Ok(StepTimes { sampling, finding })
    }
}

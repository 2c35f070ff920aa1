//! One run of a sampler, from the noise of its seeds to latents.

use candle_core::Tensor;

use super::Pipeline;
use super::attention::Attention;
use super::options::SampleOptions;
use crate::model::{AttentionStore, Conditioning};
use crate::sampling::{Generator, Start, Step, sample};
use crate::{Error, HeatMap, Result, Size};

/// What all pictures of one prompt are drawn with.
pub(super) struct DenoiseRun<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) options: &'a SampleOptions,
    /// Latents `[c, h, w]` to begin with, and the share of the steps.
    pub(super) init: Option<(Vec<f32>, f64)>,
    /// The negative prompt, if guided, and the prompt.
    pub(super) context: Conditioning,
    pub(super) guided: bool,
    /// Of the latents.
    pub(super) size: Size,
    pub(super) attention: Attention,
}

impl DenoiseRun<'_> {
    /// Runs the sampler: latents `[b, c, h, w]`, one row for each seed, and the heat of each word in each. After every
    /// so many steps but the last, `show` gets the latents `[1, c, h, w]` that the model sees in each row.
    pub(super) fn sample(
        &self,
        seeds: &[u64],
        every: Option<usize>,
        progress: impl FnMut(usize, usize) -> Result<()>,
        mut show: impl FnMut(usize, &Tensor) -> Result<()>,
    ) -> Result<(Tensor, Vec<Vec<HeatMap>>)> {
        let Pipeline {
            schedule, device, ..
        } = self.pipeline;
        let shape @ (_, c, h, w) = self.shape(seeds);
        let each = c * h * w;
        let mut heat = self.no_heat(seeds);
        let after = |step: &Step, x: &[f32], output: &[f32]| {
            let done = step.index + 1;
            if every.is_none_or(|every| !done.is_multiple_of(every)) || done == step.total {
                return Ok(());
            }
            for (row, (x, m)) in x
                .chunks_exact(each)
                .zip(output.chunks_exact(each))
                .enumerate()
            {
                let data = x.iter().zip(m);
                let data = data.map(|(x, m)| step.data(schedule.prediction(), *x, *m));
                show(
                    row,
                    &Tensor::from_vec(data.collect::<Vec<f32>>(), (1, c, h, w), device)?,
                )?;
            }
            Ok(())
        };
        let latents = self.run(seeds, &mut heat, progress, after)?;
        self.pipeline
            .unet
            .check_finite(|| "latents after the last step".to_owned(), &latents)?;
        Ok((Tensor::from_vec(latents, shape, device)?, heat))
    }

    /// The heat of each word in each row after this share of the passes, where the run stops.
    pub(super) fn begin(
        &self,
        seeds: &[u64],
        share: f64,
        mut progress: impl FnMut(usize, usize) -> Result<()>,
    ) -> Result<Vec<Vec<HeatMap>>> {
        let mut heat = self.no_heat(seeds);
        let mut is_over = false;
        let last = |total: usize| ((total as f64 * share).ceil() as usize).clamp(1, total);
        let after = |step: &Step, _: &[f32], _: &[f32]| {
            is_over = step.index + 1 >= last(step.total);
            // A sampler has no other way to end early than an error.
            match is_over {
                true => Err(Error::Interrupted),
                false => Ok(()),
            }
        };
        let progress = |done, total| progress(done, last(total));
        match self.run(seeds, &mut heat, progress, after) {
            Err(Error::Interrupted) if is_over => Ok(heat),
            other => other.map(|_| heat),
        }
    }

    /// Of the latents of so many seeds.
    fn shape(&self, seeds: &[u64]) -> (usize, usize, usize, usize) {
        let Size { width, height } = self.size;
        (seeds.len(), self.pipeline.unet.channels(), height, width)
    }

    fn no_heat(&self, seeds: &[u64]) -> Vec<Vec<HeatMap>> {
        vec![vec![HeatMap::new(); self.attention.heat.len()]; seeds.len()]
    }

    /// Runs the sampler to latents `[b, c, h, w]`; `after` sees what the model did with the latents of each pass.
    fn run(
        &self,
        seeds: &[u64],
        heat: &mut [Vec<HeatMap>],
        mut progress: impl FnMut(usize, usize) -> Result<()>,
        mut after: impl FnMut(&Step, &[f32], &[f32]) -> Result<()>,
    ) -> Result<Vec<f32>> {
        let Pipeline {
            unet,
            schedule,
            device,
            ..
        } = self.pipeline;
        let shape @ (_, c, h, w) = self.shape(seeds);
        let each = c * h * w;
        let mut generators: Vec<Generator> =
            seeds.iter().map(|&seed| Generator::new(seed)).collect();
        let mut draw = || {
            generators
                .iter_mut()
                .flat_map(|g| g.randn(each))
                .collect::<Vec<f32>>()
        };
        let start = match &self.init {
            None => Start::Noise(draw()),
            Some((latents, strength)) => Start::Picture {
                latents: latents.repeat(seeds.len()),
                noise: draw(),
                strength: *strength,
            },
        };
        let context = unet.precompute_kv(&self.context.repeat(seeds.len())?)?; // negative rows first, as in diffusers
        let prompt = unet.precompute_kv(&self.context.narrow(usize::from(self.guided), 1)?)?;
        let denoise = |step: &Step, x: &mut [f32]| -> Result<Vec<f32>> {
            for latents in x.chunks_exact_mut(each) {
                self.attention
                    .excite(unet, &prompt, (1, c, h, w), step, latents, || {
                        progress(step.index, step.total)
                    })?;
            }
            unet.check_finite(|| at("latents", step), x)?;
            let seen = Tensor::from_slice(&*x, shape, device)?;
            let output = self.predict(step, &seen, &context, heat)?;
            progress(step.index + 1, step.total)?;
            after(step, x, &output)?;
            Ok(output)
        };
        sample(
            self.options.sampler,
            schedule,
            self.options.steps,
            start,
            denoise,
            || Ok(draw()),
        )
    }

    /// The model's output for latents `x: [b, c, h, w]`, guided; adds to the heat of each word in each row.
    fn predict(
        &self,
        step: &Step,
        x: &Tensor,
        context: &Conditioning,
        heat: &mut [Vec<HeatMap>],
    ) -> Result<Vec<f32>> {
        let (unet, rows) = (&self.pipeline.unet, x.dim(0)?);
        let input = if self.guided {
            Tensor::cat(&[x, x], 0)?
        } else {
            x.clone()
        };
        let timesteps = vec![step.timestep; input.dim(0)?];
        let mut store = AttentionStore::new(input.dim(0)? - rows); // of the prompt's rows
        let output = if self.attention.heat.is_empty() {
            unet.forward(&input, &timesteps, context)?
        } else {
            unet.forward_recording(&input, &timesteps, context, &mut store)?
        };
        let output = if self.guided {
            let (without, with) = (output.narrow(0, 0, rows)?, output.narrow(0, rows, rows)?);
            (&without + ((with - &without)? * self.options.guidance)?)?
        } else {
            output
        };
        let output: Vec<f32> = output.flatten_all()?.to_vec1()?;
        unet.check_finite(|| at("output", step), &output)?;
        self.attention.collect(&store, heat)?;
        Ok(output)
    }
}

/// What numbers of a step are called in errors.
pub(super) fn at(what: &str, step: &Step) -> String {
    format!("{what} at step {} of {}", step.index + 1, step.total)
}

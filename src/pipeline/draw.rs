//! Drawing: from seeds to pictures.

use candle_core::Tensor;

use super::Pipeline;
use super::attention::{Attention, AttentionOptions, Drawing};
use super::options::{Init, Progress, SampleOptions, Stage};
use crate::model::{AttentionStore, Conditioning, SizeIds};
use crate::prompt::PromptSpec;
use crate::sampling::{Generator, Start, Step, sample};
use crate::{Error, HeatMap, Picture, Result, Size};

/// Latent pixels in one pass of the UNet: as many as one picture of Stable Diffusion 1.x has. Small pictures are drawn
/// several at a time, up to [`MAX_BATCH`]: few enough that the first are there soon, and little is lost to an
/// interrupt.
const BATCH_PIXELS: usize = 64 * 64;
const MAX_BATCH: usize = 4;

impl Pipeline {
    /// Of the latents of a picture of this size, which is checked.
    pub(super) fn latent_size(&self, size: Option<Size>) -> Result<Size> {
        const MOST: usize = 8192;
        let (size, factor) = (size.unwrap_or_else(|| self.size()), self.vae.factor());
        for side in [size.width, size.height] {
            if side == 0 || side % factor != 0 || side > MOST {
                let expected = format!("multiples of {factor} up to {MOST}");
                return Err(Error::value("size", expected, size));
            }
        }
        Ok(size.map(|side| side / factor))
    }

    /// Draws one picture for each seed. A seed's picture does not depend on the others: each has a generator of its
    /// own, which gives first the latents, then the sampler's own draws in order of steps.
    ///
    /// `progress` is called after each pass of the UNet; its error ends the drawing.
    ///
    /// # Errors
    /// If an option is outside what the model or the sampler can do, or the prompt does not mark the subjects whose
    /// neurons are shut at their words.
    pub fn draw(
        &self,
        prompt: impl Into<PromptSpec>,
        options: &SampleOptions,
        seeds: &[u64],
        progress: impl FnMut(Progress) -> Result<()>,
    ) -> Result<Vec<Picture>> {
        let drawings = self.draw_attending(
            prompt,
            options,
            &AttentionOptions::default(),
            seeds,
            progress,
        )?;
        Ok(drawings.into_iter().map(|d| d.picture).collect())
    }

    /// [`Pipeline::draw`], with a look at the attention to words of the prompt, or a hand in it.
    ///
    /// `progress` is also called, without having come further, between the passes of attend-and-excite.
    ///
    /// # Errors
    /// As [`Pipeline::draw`]; or if the prompt has not one of the words.
    pub(crate) fn draw_attending(
        &self,
        prompt: impl Into<PromptSpec>,
        options: &SampleOptions,
        attention: &AttentionOptions,
        seeds: &[u64],
        progress: impl FnMut(Progress) -> Result<()>,
    ) -> Result<Vec<Drawing>> {
        let mut drawings = Vec::with_capacity(seeds.len());
        self.draw_each(prompt, options, attention, seeds, progress, |drawing| {
            drawings.push(drawing);
            Ok(())
        })?;
        Ok(drawings)
    }

    /// `draw_attending`, giving each picture away as soon as it is drawn, in order of the seeds.
    ///
    /// # Errors
    /// As `draw_attending`; and the first of `progress` and `each`.
    pub fn draw_each(
        &self,
        prompt: impl Into<PromptSpec>,
        options: &SampleOptions,
        attention: &AttentionOptions,
        seeds: &[u64],
        progress: impl FnMut(Progress) -> Result<()>,
        mut each: impl FnMut(Drawing) -> Result<()>,
    ) -> Result<()> {
        self.draw_showing(
            prompt,
            options,
            attention,
            seeds,
            None,
            progress,
            |stage| match stage {
                Stage::Preview { .. } => Ok(()),
                Stage::Done(drawing) => each(drawing),
            },
        )
    }

    /// [`Pipeline::draw_each`], showing also what pictures are going to be, after every so many steps but the last.
    ///
    /// # Errors
    /// As [`Pipeline::draw_each`].
    #[expect(
        clippy::too_many_arguments,
        reason = "what `draw_each` takes, and one more"
    )]
    pub fn draw_showing(
        &self,
        prompt: impl Into<PromptSpec>,
        options: &SampleOptions,
        attention: &AttentionOptions,
        seeds: &[u64],
        every: Option<usize>,
        mut progress: impl FnMut(Progress) -> Result<()>,
        mut each: impl FnMut(Stage) -> Result<()>,
    ) -> Result<()> {
        let (prompt, size) = (prompt.into(), self.latent_size(options.size)?);
        self.check_marks(&prompt)?;
        if !options.guidance.is_finite() {
            return Err(Error::value("guidance", "a number", options.guidance));
        }
        self.schedule.check(options.sampler, options.steps)?;
        let attention = Attention::new(self, &prompt, attention)?;
        let guided = options.guidance > 1.0;
        let context = match guided {
            true => self.embed_guided(options.negative.as_ref(), prompt)?,
            false => self.embed(&[prompt])?,
        };
        let init = options
            .init
            .as_ref()
            .map(|init| self.init_latents(init, options));
        let canvas = DenoiseRun {
            pipeline: self,
            options,
            init: init.transpose()?,
            context: context
                .for_sizes(SizeIds::uncut(options.size.unwrap_or_else(|| self.size())))?,
            guided,
            size,
            attention,
        };
        let batch = Self::batch(size);
        let batches = seeds.len().div_ceil(batch);
        let (mut done, mut first) = (0, 0);
        for seeds in seeds.chunks(batch) {
            let before = done;
            let progress = |step, steps| {
                done = before + step;
                progress(Progress {
                    done,
                    total: batches * steps,
                })
            };
            let show = |row, latents: &Tensor| {
                let picture = self.decode(latents)?;
                let number = first + row;
                each(Stage::Preview { number, picture })
            };
            let (latents, heat) = canvas.sample(seeds, every, progress, show)?;
            first += seeds.len();
            self.pages.unet.release();
            // One at a time: at full resolution the decoder's activations are the largest there are.
            for (row, heat) in heat.into_iter().enumerate() {
                let latents = latents.narrow(0, row, 1)?;
                let drawing = Drawing {
                    picture: self.decode(&latents)?,
                    latents: latents.flatten_all()?.to_vec1()?,
                    heat,
                };
                self.check_unchanged()?;
                each(Stage::Done(drawing))?;
            }
        }
        Ok(())
    }

    /// How many pictures with latents of this size are drawn at a time.
    pub(super) fn batch(size: Size) -> usize {
        (BATCH_PIXELS / size.pixels()).clamp(1, MAX_BATCH)
    }

    /// That a prompt marks the subjects that have weights of their own at their words; else these would go unused.
    fn check_marks(&self, prompt: &PromptSpec) -> Result<()> {
        let (own, marked) = (self.unet.subjects(), prompt.marks().count());
        if own <= marked {
            return Ok(());
        }
        let expected = format!("one with the marks of {own}, which `Pipeline::shut` returned");
        Err(Error::value(
            "prompt",
            expected,
            format!("marks of {marked}"),
        ))
    }

    /// The latents to begin with, and the share of the steps.
    fn init_latents(&self, init: &Init, options: &SampleOptions) -> Result<(Vec<f32>, f64)> {
        let Init { picture, strength } = init;
        let size = options.size.unwrap_or_else(|| self.size());
        let found = Size::new(picture.width() as usize, picture.height() as usize);
        if found != size {
            let expected = format!("one of {size} pixels, as is to be drawn");
            return Err(Error::value("picture to begin with", expected, found));
        }
        Ok((self.latents(picture)?.flatten_all()?.to_vec1()?, *strength))
    }

    /// The picture of latents `[1, c, h, w]`.
    fn decode(&self, latents: &Tensor) -> Result<Picture> {
        let pixels = self.vae.decode(&(latents / self.vae.scaling_factor())?)?;
        let (_, _, h, w) = pixels.dims4()?;
        let pixels: Vec<f32> = pixels.flatten_all()?.to_vec1()?;
        let what = || "pixels of the picture".to_owned();
        self.vae_origin.check(what, &pixels)?;
        self.pages.vae.release();
        Picture::from_planar(&pixels, w as u32, h as u32)
    }
}

/// What all pictures of one prompt are drawn with.
struct DenoiseRun<'a> {
    pipeline: &'a Pipeline,
    options: &'a SampleOptions,
    /// Latents `[c, h, w]` to begin with, and the share of the steps.
    init: Option<(Vec<f32>, f64)>,
    /// The negative prompt, if guided, and the prompt.
    context: Conditioning,
    guided: bool,
    /// Of the latents.
    size: Size,
    attention: Attention,
}

impl DenoiseRun<'_> {
    /// Runs the sampler: latents `[b, c, h, w]`, one row for each seed, and the heat of each word in each. After every
    /// so many steps but the last, `show` gets the latents `[1, c, h, w]` that the model sees in each row.
    fn sample(
        &self,
        seeds: &[u64],
        every: Option<usize>,
        mut progress: impl FnMut(usize, usize) -> Result<()>,
        mut show: impl FnMut(usize, &Tensor) -> Result<()>,
    ) -> Result<(Tensor, Vec<Vec<HeatMap>>)> {
        let Pipeline {
            unet,
            schedule,
            device,
            ..
        } = self.pipeline;
        let Size { width, height } = self.size;
        let shape = (seeds.len(), unet.channels(), height, width);
        let each = shape.1 * shape.2 * shape.3;
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
        let mut heat = vec![vec![HeatMap::new(); self.attention.heat.len()]; seeds.len()];
        let context = unet.precompute_kv(&self.context.repeat(seeds.len())?)?; // negative rows first, as in diffusers
        let prompt = unet.precompute_kv(&self.context.narrow(usize::from(self.guided), 1)?)?;
        let denoise = |step: &Step, x: &mut [f32]| -> Result<Vec<f32>> {
            for latents in x.chunks_exact_mut(each) {
                let one = (1, shape.1, shape.2, shape.3);
                self.attention
                    .excite(unet, &prompt, one, step, latents, || {
                        progress(step.index, step.total)
                    })?;
            }
            unet.check_finite(|| at("latents", step), x)?;
            let seen = Tensor::from_slice(&*x, shape, device)?;
            let output = self.predict(step, &seen, &context, &mut heat)?;
            progress(step.index + 1, step.total)?;
            let done = step.index + 1;
            if every.is_some_and(|every| done.is_multiple_of(every)) && done < step.total {
                let rows = x.chunks_exact(each).zip(output.chunks_exact(each));
                for (row, (x, m)) in rows.enumerate() {
                    let data = x.iter().zip(m);
                    let data = data.map(|(x, m)| step.data(schedule.prediction(), *x, *m));
                    let one = (1, shape.1, shape.2, shape.3);
                    show(
                        row,
                        &Tensor::from_vec(data.collect::<Vec<f32>>(), one, device)?,
                    )?;
                }
            }
            Ok(output)
        };
        let latents = sample(
            self.options.sampler,
            schedule,
            self.options.steps,
            start,
            denoise,
            || Ok(draw()),
        )?;
        unet.check_finite(|| "latents after the last step".to_owned(), &latents)?;
        Ok((Tensor::from_vec(latents, shape, device)?, heat))
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

//! Drawing: from seeds to pictures.

use candle_core::Tensor;

use super::Pipeline;
use super::attention::{Attention, AttentionOptions, Drawing};
use super::denoise_run::DenoiseRun;
use super::options::{Init, Progress, SampleOptions, Stage};
use crate::model::SizeIds;
use crate::prompt::PromptSpec;
use crate::{Error, Picture, Result, Size};

/// Latent pixels in one pass of the UNet: as many as one picture of Stable Diffusion 1.x has. Small pictures are drawn
/// several at a time, up to [`MAX_BATCH`]: few enough that the first are there soon, and little is lost to an
/// interrupt.
const BATCH_PIXELS: usize = 64 * 64;
const MAX_BATCH: usize = 4;

impl Pipeline {
    /// Of the latents of a picture of this size, which is checked.
    pub(super) fn latent_size(&self, size: Option<Size>) -> Result<Size> {
        const MOST: usize = 8192;
        let (size, factor) = (size.unwrap_or(self.size), self.vae.factor());
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
    pub(crate) fn draw_each(
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

    /// [`Pipeline::draw`], with a look at the attention to words of the prompt, or a hand in it. Gives each picture
    /// away as soon as it is drawn, in order of the seeds, and shows also what pictures are going to be, after every so
    /// many steps but the last.
    ///
    /// `progress` is also called, without having come further, between the passes of attend-and-excite.
    ///
    /// # Errors
    /// As [`Pipeline::draw`]; or if the prompt has not one of the words; and the first of `progress` and `each`.
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
        let canvas = self.denoise_run(prompt.into(), options, attention)?;
        let batch = Self::batch(canvas.size);
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

    /// The latents that pictures would be decoded from, `[1, c, h, w]` each, in order of the seeds.
    ///
    /// # Errors
    /// As [`Pipeline::draw`].
    pub(crate) fn sample(
        &self,
        prompt: PromptSpec,
        options: &SampleOptions,
        seeds: &[u64],
        mut progress: impl FnMut(Progress) -> Result<()>,
    ) -> Result<Vec<Tensor>> {
        let run = self.denoise_run(prompt, options, &AttentionOptions::default())?;
        let progress = |done, total| progress(Progress { done, total });
        let (latents, _) = run.sample(seeds, None, progress, |_, _| Ok(()))?;
        let row = |row| Ok(latents.narrow(0, row, 1)?);
        (0..seeds.len()).map(row).collect()
    }

    /// What all pictures of a prompt are drawn with, checked.
    pub(super) fn denoise_run<'a>(
        &'a self,
        prompt: PromptSpec,
        options: &'a SampleOptions,
        attention: &AttentionOptions,
    ) -> Result<DenoiseRun<'a>> {
        let size = self.latent_size(options.size)?;
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
        Ok(DenoiseRun {
            pipeline: self,
            options,
            init: init.transpose()?,
            context: context.for_sizes(SizeIds::uncut(options.size.unwrap_or(self.size)))?,
            guided,
            size,
            attention,
        })
    }

    /// How many pictures with latents of this size are drawn at a time.
    pub(super) fn batch(size: Size) -> usize {
        (BATCH_PIXELS / size.pixels()).clamp(1, MAX_BATCH)
    }

    /// That a prompt marks the subjects that have weights of their own at their words; else these would go unused.
    fn check_marks(&self, prompt: &PromptSpec) -> Result<()> {
        let (own, marked) = (self.unet.subjects(), prompt.marks.count());
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
        let size = options.size.unwrap_or(self.size);
        let found = picture.size();
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

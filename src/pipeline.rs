//! A whole model: text, UNet, autoencoder and noise schedule, and drawing with it.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use half::f16;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::concept::{NeuronIndex, Site, SiteSelection, shut};
use crate::model::{Keys, TextEncoder, Tokenizer, UNet, Vae};
use crate::sampling::{Generator, Prediction, Sampler, ScheduleConfig, sample};
use crate::source::Source;
use crate::{Error, Picture, Result};

/// The settings that a model draws best with, from `cones.json` beside its folders.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
pub struct Defaults {
    /// Sampling steps.
    pub steps: Option<usize>,
    /// Guidance scale.
    pub guidance: Option<f64>,
    /// Steps of `find`.
    pub find_steps: Option<usize>,
}

/// How to draw.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleOptions {
    /// The sampler.
    pub sampler: Sampler,
    /// Its steps.
    pub steps: usize,
    /// Scale of classifier-free guidance (Ho and Salimans 2022); up to 1 there is none.
    pub guidance: f64,
    /// What to steer away from.
    pub negative: String,
    /// Width and height in pixels; `None` is the size that the model was trained on.
    pub size: Option<(u32, u32)>,
}

impl Default for SampleOptions {
    fn default() -> Self {
        Self {
            sampler: Sampler::DpmPp2M,
            steps: 50,
            guidance: 7.5,
            negative: String::new(),
            size: None,
        }
    }
}

/// How far drawing has come.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Calls of the UNet so far, over all batches.
    pub done: usize,
    /// All calls there will be.
    pub total: usize,
}

/// A loaded model.
pub struct Pipeline {
    name: String,
    device: Device,
    tokenizer: Tokenizer,
    text: TextEncoder,
    unet: UNet,
    vae: Vae,
    schedule: ScheduleConfig,
    defaults: Defaults,
    /// Of the weights as they were loaded; see [`Pipeline::fingerprint`].
    fingerprint: OnceCell<String>,
}

/// Latent pixels in one pass of the UNet: as many as one picture of Stable Diffusion 1.x has. Small pictures are drawn
/// several at a time, up to [`MAX_BATCH`].
const BATCH_PIXELS: usize = 64 * 64;
const MAX_BATCH: usize = 16;

impl Pipeline {
    /// Loads a model.
    ///
    /// # Errors
    /// If a file is missing, malformed, or of a model that is not supported.
    pub fn load(source: &Source, device: &Device) -> Result<Self> {
        let config = |file: &str| Ok::<_, Error>((file.to_owned(), source.required_text(file)?));
        let (file, text) = config("text_encoder/config.json")?;
        let encoder = TextEncoder::load(
            &file,
            &text,
            source.tensors("text_encoder", "model")?,
            device,
        )?;
        let (file, text) = config("unet/config.json")?;
        let unet = UNet::load(
            &file,
            &text,
            source.tensors("unet", "diffusion_pytorch_model")?,
            device,
        )?;
        let (file, text) = config("vae/config.json")?;
        let vae = Vae::load(
            &file,
            &text,
            source.tensors("vae", "diffusion_pytorch_model")?,
            device,
        )?;
        let (file, text) = config("scheduler/scheduler_config.json")?;
        let schedule = ScheduleConfig::parse(&file, &text)?;
        if encoder.width() != unet.context_width() {
            return Err(Error::Config {
                file: "unet/config.json".to_owned(),
                key: "cross_attention_dim".to_owned(),
                expected: format!("{}, the text encoder's hidden_size", encoder.width()),
                found: unet.context_width().to_string(),
            });
        }
        if vae.channels() != unet.channels() {
            return Err(Error::Config {
                file: "unet/config.json".to_owned(),
                key: "in_channels".to_owned(),
                expected: format!("{}, the autoencoder's latent_channels", vae.channels()),
                found: unet.channels().to_string(),
            });
        }
        Ok(Self {
            name: source.name().to_owned(),
            device: device.clone(),
            tokenizer: Tokenizer::load(source, "tokenizer", encoder.max_length())?,
            defaults: Self::read_defaults(source)?,
            fingerprint: OnceCell::new(),
            text: encoder,
            unet,
            vae,
            schedule,
        })
    }

    fn read_defaults(source: &Source) -> Result<Defaults> {
        const FILE: &str = "cones.json";
        let Some(text) = source.text(FILE)? else {
            return Ok(Defaults::default());
        };
        let mut keys = Keys::parse(FILE, &text)?;
        let defaults = Defaults {
            steps: keys.optional("steps")?,
            guidance: keys.optional("guidance")?,
            find_steps: keys.optional("find_steps")?,
        };
        keys.finish()?;
        Ok(defaults)
    }

    /// What the model is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The settings that the model draws best with.
    pub fn defaults(&self) -> Defaults {
        self.defaults
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The UNet.
    pub fn unet(&self) -> &UNet {
        &self.unet
    }

    /// The UNet and the schedule, for methods that change the weights of sites.
    pub fn unet_mut(&mut self) -> (&mut UNet, &ScheduleConfig) {
        (&mut self.unet, &self.schedule)
    }

    /// The autoencoder.
    pub fn vae(&self) -> &Vae {
        &self.vae
    }

    /// The noise schedule.
    pub fn schedule(&self) -> &ScheduleConfig {
        &self.schedule
    }

    /// Width and height in pixels of the pictures that the model was trained on.
    pub fn size(&self) -> (u32, u32) {
        let side = (self.unet.sample_size() * self.vae.factor()) as u32;
        (side, side)
    }

    /// SHA-256 over the K and V weights of the UNet in order of name, each as little-endian f16: the same for f32,
    /// f16 and single-file copies of one model. It is of the weights as loaded, whatever is shut since, and computed once.
    ///
    /// # Errors
    /// If a weight cannot be read back from the device.
    pub fn fingerprint(&self) -> Result<String> {
        if let Some(known) = self.fingerprint.get() {
            return Ok(known.clone());
        }
        let mut hash = Sha256::new();
        for weight in self.unet.site_weights(SiteSelection::All).values() {
            let values = weight
                .to_dtype(DType::F16)?
                .flatten_all()?
                .to_vec1::<f16>()?;
            hash.update(
                values
                    .iter()
                    .flat_map(|v| v.to_le_bytes())
                    .collect::<Vec<u8>>(),
            );
        }
        Ok(self
            .fingerprint
            .get_or_init(|| crate::file::hex(&hash.finalize()))
            .clone())
    }

    /// Shuts the neurons of a concept.
    ///
    /// # Errors
    /// If the model has no such sites.
    pub fn shut(&mut self, index: &NeuronIndex) -> Result<()> {
        self.fingerprint()?; // kept, before the weights change
        let masked: BTreeMap<Site, Tensor> =
            shut(&self.unet.site_weights(SiteSelection::All), index)?;
        self.unet.set_site_weights(masked)
    }

    /// Embeds prompts, `[b, t, e]`.
    ///
    /// # Errors
    /// If a prompt cannot be split into tokens.
    pub fn embed(&self, prompts: &[&str]) -> Result<Tensor> {
        let ids = prompts
            .iter()
            .map(|p| self.tokenizer.encode(p))
            .collect::<Result<Vec<_>>>()?;
        self.text.forward(&ids)
    }

    /// The latents of a picture, `[1, c, h, w]`: the mean of the posterior times the scaling factor.
    ///
    /// # Errors
    /// If the picture's sides are not multiples of the autoencoder's factor.
    pub fn latents(&self, picture: &Picture) -> Result<Tensor> {
        let (w, h) = (picture.width() as usize, picture.height() as usize);
        let pixels = Tensor::from_vec(picture.to_planar(), (1, 3, h, w), &self.device)?;
        Ok((self.vae.encode(&pixels)?.mean() * self.vae.scaling_factor())?)
    }

    /// The size to draw at, checked.
    fn latent_size(&self, size: Option<(u32, u32)>) -> Result<(usize, usize)> {
        let (width, height) = size.unwrap_or_else(|| self.size());
        let factor = self.vae.factor() as u32;
        const MOST: u32 = 8192;
        for side in [width, height] {
            if side == 0 || side % factor != 0 || side > MOST {
                let expected = format!("multiples of {factor} up to {MOST}");
                return Err(Error::value("size", expected, format!("{width}x{height}")));
            }
        }
        Ok(((width / factor) as usize, (height / factor) as usize))
    }

    /// Draws one picture for each seed. A seed's picture does not depend on the others: each has a generator of its own,
    /// which gives first the latents, then the sampler's own draws in order of steps.
    ///
    /// `progress` is called after each pass of the UNet; its error ends the drawing.
    ///
    /// # Errors
    /// If an option is outside what the model or the sampler can do.
    pub fn draw(
        &self,
        prompt: &str,
        options: &SampleOptions,
        seeds: &[u64],
        mut progress: impl FnMut(Progress) -> Result<()>,
    ) -> Result<Vec<Picture>> {
        let (width, height) = self.latent_size(options.size)?;
        if !options.guidance.is_finite() {
            return Err(Error::value("guidance", "a number", options.guidance));
        }
        self.schedule.check(options.sampler, options.steps)?;
        let guided = options.guidance > 1.0;
        let context = if guided {
            self.embed(&[&options.negative, prompt])?
        } else {
            self.embed(&[prompt])?
        };
        let batch = (BATCH_PIXELS / (width * height)).clamp(1, MAX_BATCH);
        let batches = seeds.len().div_ceil(batch);
        let mut done = 0;
        let mut pictures = Vec::with_capacity(seeds.len());
        for seeds in seeds.chunks(batch) {
            let before = done;
            let latents = self.sample(
                &context,
                guided,
                options,
                seeds,
                (width, height),
                |step, steps| {
                    done = before + step;
                    progress(Progress {
                        done,
                        total: batches * steps,
                    })
                },
            )?;
            pictures.extend(self.decode(&latents)?);
        }
        Ok(pictures)
    }

    /// Runs the sampler: latents `[b, c, h, w]`, one row for each seed.
    fn sample(
        &self,
        context: &Tensor,
        guided: bool,
        options: &SampleOptions,
        seeds: &[u64],
        (w, h): (usize, usize),
        mut progress: impl FnMut(usize, usize) -> Result<()>,
    ) -> Result<Tensor> {
        let shape = (seeds.len(), self.unet.channels(), h, w);
        let each = shape.1 * h * w;
        let mut generators: Vec<Generator> =
            seeds.iter().map(|&seed| Generator::new(seed)).collect();
        let mut draw = || {
            generators
                .iter_mut()
                .flat_map(|g| g.randn(each))
                .collect::<Vec<f32>>()
        };
        let latents = draw();
        let context = repeat_rows(context, seeds.len())?; // negative rows first, as in diffusers
        let denoise = |step: &crate::sampling::Step, x: &[f32]| -> Result<Vec<f32>> {
            let x = Tensor::from_slice(x, shape, &self.device)?;
            let output = if guided {
                let timesteps = vec![step.timestep; 2 * seeds.len()];
                let both = self
                    .unet
                    .forward(&Tensor::cat(&[&x, &x], 0)?, &timesteps, &context)?;
                let (without, with) = (
                    both.narrow(0, 0, seeds.len())?,
                    both.narrow(0, seeds.len(), seeds.len())?,
                );
                (&without + ((with - &without)? * options.guidance)?)?
            } else {
                self.unet
                    .forward(&x, &vec![step.timestep; seeds.len()], &context)?
            };
            progress(step.index + 1, step.total)?;
            Ok(output.flatten_all()?.to_vec1()?)
        };
        let latents = sample(
            options.sampler,
            &self.schedule,
            options.steps,
            latents,
            denoise,
            || Ok(draw()),
        )?;
        Ok(Tensor::from_vec(latents, shape, &self.device)?)
    }

    /// Pictures of latents, one at a time: at full resolution the decoder's activations are the largest there are.
    fn decode(&self, latents: &Tensor) -> Result<Vec<Picture>> {
        let latents = (latents / self.vae.scaling_factor())?;
        (0..latents.dim(0)?)
            .map(|i| {
                let pixels = self.vae.decode(&latents.narrow(0, i, 1)?)?;
                let (_, _, h, w) = pixels.dims4()?;
                Picture::from_planar(&pixels.flatten_all()?.to_vec1::<f32>()?, w as u32, h as u32)
            })
            .collect()
    }

    /// What the model predicts, as ModelSpec names it.
    pub fn prediction_name(&self) -> &'static str {
        match self.schedule.prediction() {
            Prediction::Epsilon => "epsilon",
            Prediction::Velocity => "v",
        }
    }
}

/// Each row of `[r, t, e]` `n` times, one after the other: `[r·n, t, e]`.
fn repeat_rows(x: &Tensor, n: usize) -> Result<Tensor> {
    let (r, t, e) = x.dims3()?;
    Ok(x.unsqueeze(1)?
        .broadcast_as((r, n, t, e))?
        .reshape((r * n, t, e))?)
}

//! A whole model: text, UNet, autoencoder and noise schedule, and drawing with it.

mod attention;
mod check;
mod choose;
mod concept;
mod denoise_run;
mod draw;
mod drawn;
mod fit;
mod identity;
mod mask;
mod memory;
mod options;
mod shut;
mod text;
mod timing;

pub use attention::{AttentionOptions, Drawing};
pub use concept::Concept;
pub use drawn::Drawn;
pub(crate) use mask::{marks_of, shut};
pub use memory::MemoryEstimate;
pub(crate) use memory::rows_at_once;
pub use options::{Init, Lost, Progress, SampleOptions, Stage};
pub use shut::{ShutConcepts, ShutOptions};

use std::collections::BTreeMap;
use std::sync::OnceLock;

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use self::fit::check_fit;
use self::text::TextEncoders;
use crate::checkpoint::{Pages, Source};
use crate::config::ConfigReader;
use crate::index::Site;
use crate::model::{Conditioning, Origin, Tokenizer, UNet, Vae};
use crate::nn::{Weight, has_bf16};
use crate::prompt::{PromptSpec, WeightedText};
use crate::sampling::{Prediction, ScheduleConfig};
use crate::{Error, Picture, Result, Size};

/// The settings that a model draws best with, from `cones.json` beside its folders.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
pub struct Defaults {
    /// Sampling steps.
    pub steps: Option<usize>,
    /// Guidance scale.
    pub guidance: Option<f64>,
    /// Guidance scale of prompts with several subjects.
    pub guidance_of_several: Option<f64>,
    /// Steps of `find`.
    pub find_steps: Option<usize>,
}

/// The guidance of diffusers' StableDiffusionXLPipeline, unless told otherwise.
const XL_GUIDANCE: f64 = 5.0;

/// A loaded model.
pub struct Pipeline {
    /// What the model is called.
    pub name: String,
    /// Of the pictures that the model was trained on, in pixels.
    pub size: Size,
    /// What it predicts.
    pub prediction: Prediction,
    /// The settings that the model draws best with.
    pub defaults: Defaults,
    device: Device,
    text: TextEncoders,
    unet: UNet,
    vae: Vae,
    schedule: ScheduleConfig,
    /// Of the weights as they were loaded; see [`Pipeline::fingerprint`].
    fingerprint: OnceLock<String>,
    /// SHA-256 of the configuration files of the networks and the scheduler.
    configs: [u8; 32],
    /// The weights as they were loaded, of the sites where neurons are shut in the whole prompt.
    originals: BTreeMap<Site, Weight>,
    /// Bytes of the weights that are in memory at once, with what is copied of them.
    weights: u64,
    pages: NetworkPages,
    /// Of what the autoencoder gives, where it is not finite; the other networks have their own.
    vae_origin: Origin,
}

/// The memory of each network's file: networks take turns, and none needs its own while another works. The text
/// encoders have theirs.
struct NetworkPages {
    unet: Pages,
    vae: Pages,
}

/// That a device computes in a type.
fn check_dtype(dtype: DType, device: &Device) -> Result<()> {
    let expected = match (dtype, device.is_cpu()) {
        (DType::F32, true) | (DType::F32 | DType::F16 | DType::BF16, false) => return Ok(()),
        (DType::BF16, true) if has_bf16() => return Ok(()),
        (_, true) if has_bf16() => "f32 or bf16 on the CPU",
        (_, true) => "f32 on this CPU: only those with AMX or AVX-512 BF16 multiply bf16",
        (_, false) => "f32, f16 or bf16",
    };
    Err(Error::value("dtype", expected, dtype.as_str()))
}

impl Pipeline {
    /// Loads a model, to be computed with on a device, and in a type where that is a choice: weights and activations of
    /// the UNet, in f32 if nothing else is said. Gradients, norms and the other networks stay f32. On a CPU that has it
    /// bf16 is for the UNet's products.
    ///
    /// # Errors
    /// If a file is missing, malformed, or of a model that is not supported.
    pub fn load(source: &Source, device: &Device, dtype: impl Into<Option<DType>>) -> Result<Self> {
        let dtype = dtype.into().unwrap_or(DType::F32);
        check_dtype(dtype, device)?;
        let mut configs = Sha256::new();
        let mut config = |file: &str| {
            let text = source.required_text(file)?;
            configs.update(&text);
            Ok::<_, Error>(text)
        };
        let text = TextEncoders::load(source, &mut config, device)?;
        let unet_file = source.tensors("unet", "diffusion_pytorch_model")?;
        let vae_file = source.tensors("vae", "diffusion_pytorch_model")?;
        let (of_unet, of_others) = (unet_file.size(), text.bytes() + vae_file.size());
        let pages = NetworkPages {
            unet: unet_file.pages(),
            vae: vae_file.pages(),
        };
        let vae_origin = Origin::new("the autoencoder", &vae_file);
        let file = "unet/config.json";
        let mut unet = UNet::load(file, &config(file)?, unet_file, device)?;
        unet.compute_in(dtype, device);
        let file = "vae/config.json";
        let vae = Vae::load(file, &config(file)?, vae_file, device)?;
        let file = "scheduler/scheduler_config.json";
        let schedule = ScheduleConfig::parse(file, &config(file)?)?;
        if text.zeros_for_none() {
            configs.update("force_zeros_for_empty_prompt");
        }
        check_fit(&text, &unet, &vae)?;
        let defaults = Self::read_defaults(source)?;
        Ok(Self {
            name: source.name().to_owned(),
            size: Size::square(unet.sample_size() * vae.factor()),
            prediction: schedule.prediction(),
            device: device.clone(),
            defaults: Defaults {
                guidance: defaults.guidance.or(text.pooled().map(|_| XL_GUIDANCE)),
                ..defaults
            },
            fingerprint: OnceLock::new(),
            configs: configs.finalize().into(),
            originals: BTreeMap::new(),
            weights: (unet.weights_in_turn(of_others)).unwrap_or(of_others + of_unet),
            pages,
            vae_origin,
            text,
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
        let mut keys = ConfigReader::parse(FILE, &text)?;
        let defaults = Defaults {
            steps: keys.setting("steps", 1..=1_000_000)?,
            guidance: keys.setting("guidance", 0.0..=1e6)?,
            guidance_of_several: keys.setting("guidance_of_several", 0.0..=1e6)?,
            find_steps: keys.setting("find_steps", 1..=1_000_000)?,
        };
        keys.finish()?;
        Ok(defaults)
    }

    /// The tokenizers: one, or two that split texts alike and fill them up differently.
    pub(crate) fn tokenizers(&self) -> impl Iterator<Item = &Tokenizer> {
        self.text.tokenizers()
    }

    /// The first tokenizer, which splits texts as all do.
    pub(crate) fn tokenizer(&self) -> &Tokenizer {
        self.text.tokenizer()
    }

    /// The UNet.
    pub(crate) fn unet(&self) -> &UNet {
        &self.unet
    }

    /// The UNet and the schedule, for methods that change the weights of sites.
    pub(crate) fn unet_mut(&mut self) -> (&mut UNet, &ScheduleConfig) {
        (&mut self.unet, &self.schedule)
    }

    /// The autoencoder.
    pub(crate) fn vae(&self) -> &Vae {
        &self.vae
    }

    /// The noise schedule.
    pub(crate) fn schedule(&self) -> &ScheduleConfig {
        &self.schedule
    }

    /// The ids of a prompt's tokens: the start token, the words, the end token, then padding up to the model's text
    /// length. What is too long is cut, keeping the end token. Some models cut and fill on the left instead.
    ///
    /// # Errors
    /// If the text cannot be split into tokens.
    pub fn token_ids(&self, prompt: &str) -> Result<Vec<u32>> {
        self.tokenizer().encode(prompt)
    }

    /// What of a prompt is lost on the model.
    ///
    /// # Errors
    /// If the text cannot be split into tokens.
    pub fn lost(&self, prompt: &PromptSpec) -> Result<Lost> {
        Ok(Lost {
            phrases: prompt.missing().map(str::to_owned).collect(),
            cut: match prompt.in_chunks {
                true => None,
                false => self.tokenizer().cut(&prompt.weighted)?,
            },
        })
    }

    /// Where it computes.
    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    /// Embeds prompts, of t tokens each, with the words that are marked in them, for pictures of the model's own size;
    /// [`Conditioning::for_sizes`] says others. A subject is known by its number: where a prompt marks fewer than
    /// another, it has no words of the others.
    ///
    /// # Errors
    /// If a prompt cannot be split into tokens.
    pub(crate) fn embed(&self, prompts: &[PromptSpec]) -> Result<Conditioning> {
        self.text.embed(prompts, self.size)
    }

    /// Embeds a prompt and what to steer away from: two rows, this one first. Where there is nothing, some models have
    /// zeros in its place, and the others the empty text.
    pub(super) fn embed_guided(
        &self,
        negative: Option<&WeightedText>,
        prompt: PromptSpec,
    ) -> Result<Conditioning> {
        if negative.is_none() && self.text.zeros_for_none() {
            let prompt = self.embed(&[prompt])?;
            return Conditioning::cat(&[&prompt.zeros()?, &prompt]);
        }
        let negative = negative.cloned().unwrap_or_default();
        let negative = PromptSpec {
            weighted: negative,
            ..prompt.clone()
        };
        self.embed(&[negative, prompt])
    }

    /// The latents of a picture, `[1, c, h, w]`: the mean of the posterior times the scaling factor.
    ///
    /// # Errors
    /// If the picture's sides are not multiples of the autoencoder's factor.
    pub(crate) fn latents(&self, picture: &Picture) -> Result<Tensor> {
        let Size {
            width: w,
            height: h,
        } = picture.size();
        let pixels = Tensor::from_vec(picture.to_planar(), (1, 3, h, w), &self.device)?;
        let latents = (self.vae.encode(&pixels)? * self.vae.scaling_factor())?;
        let numbers: Vec<f32> = latents.flatten_all()?.to_vec1()?;
        let what = || "latents of a picture".to_owned();
        self.vae_origin.check(what, &numbers)?;
        self.pages.vae.release();
        Ok(latents)
    }
}

//! A whole model: text, UNet, autoencoder and noise schedule, and drawing with it.

mod attention;
mod check;
mod choose;
mod concept;
mod denoise_run;
mod draw;
mod drawn;
mod fit;
mod mask;
mod memory;
mod options;
mod text;
mod timing;

pub use attention::{AttentionOptions, Drawing};
pub use concept::{Concept, ShutOptions};
pub use drawn::Drawn;
use mask::shut_partly;
pub(crate) use mask::{marks_of, shut};
pub use memory::MemoryEstimate;
pub use options::{Init, Progress, SampleOptions, Stage};
pub use timing::StepTimes;

use std::cell::OnceCell;
use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use half::f16;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use self::fit::check_fit;
use self::text::TextEncoders;
use crate::checkpoint::{Pages, Source};
use crate::config::ConfigReader;
use crate::index::{NeuronIndex, Scope, Site, SiteSelection};
use crate::model::{Conditioning, Origin, Tokenizer, UNet, Vae};
use crate::nn::Weight;
use crate::prompt::{Marks, PromptSpec, WeightedText};
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
    name: String,
    device: Device,
    text: TextEncoders,
    unet: UNet,
    vae: Vae,
    schedule: ScheduleConfig,
    defaults: Defaults,
    /// Of the weights as they were loaded; see [`Pipeline::fingerprint`].
    fingerprint: OnceCell<String>,
    /// SHA-256 of the configuration files of the networks and the scheduler.
    configs: [u8; 32],
    /// The weights as they were loaded, of the sites where neurons are shut in the whole prompt.
    originals: BTreeMap<Site, Weight>,
    /// Bytes of all weights, with what is copied of them.
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

impl Pipeline {
    /// Loads a model.
    ///
    /// # Errors
    /// If a file is missing, malformed, or of a model that is not supported.
    pub fn load(source: &Source, device: &Device) -> Result<Self> {
        let mut configs = Sha256::new();
        let mut config = |file: &str| {
            let text = source.required_text(file)?;
            configs.update(&text);
            Ok::<_, Error>(text)
        };
        let text = TextEncoders::load(source, &mut config, device)?;
        let unet_file = source.tensors("unet", "diffusion_pytorch_model")?;
        let vae_file = source.tensors("vae", "diffusion_pytorch_model")?;
        let weights = text.bytes() + unet_file.size() + vae_file.size();
        let pages = NetworkPages {
            unet: unet_file.pages(),
            vae: vae_file.pages(),
        };
        let vae_origin = Origin::new("the autoencoder", &vae_file);
        let file = "unet/config.json";
        let unet = UNet::load(file, &config(file)?, unet_file, device)?;
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
            device: device.clone(),
            defaults: Defaults {
                guidance: defaults.guidance.or(text.pooled().map(|_| XL_GUIDANCE)),
                ..defaults
            },
            fingerprint: OnceCell::new(),
            configs: configs.finalize().into(),
            originals: BTreeMap::new(),
            weights,
            pages,
            vae_origin,
            text,
            unet,
            vae,
            schedule,
        })
    }

    /// Computes in this type from now on, where it is a choice: weights and activations of the UNet. Gradients, norms
    /// and the other networks stay f32.
    pub fn compute_in(&mut self, dtype: DType) {
        self.unet.compute_in(dtype);
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

    /// What the model is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The settings that the model draws best with.
    pub fn defaults(&self) -> Defaults {
        self.defaults
    }

    /// The tokenizers: one, or two that split texts alike and fill them up differently.
    pub(crate) fn tokenizers(&self) -> impl Iterator<Item = &Tokenizer> {
        self.text.tokenizers()
    }

    /// The first tokenizer, which splits texts as all do.
    pub fn tokenizer(&self) -> &Tokenizer {
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

    /// Of the pictures that the model was trained on, in pixels.
    pub fn size(&self) -> Size {
        Size::square(self.unet.sample_size() * self.vae.factor())
    }

    /// SHA-256 over the K and V weights of the UNet in order of name, each as little-endian f16: the same for f32, f16
    /// and single-file copies of one model. It is of the weights as loaded, whatever is shut since, and computed once.
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
                .tensor()?
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
            .get_or_init(|| crate::files::hex(&hash.finalize()))
            .clone())
    }

    /// What the model's own pictures of `prompts` depend on beside seeds and options: SHA-256 over all weights and
    /// configurations, and over what the tokenizer makes of the prompts. It reads every byte of the weights.
    ///
    /// # Errors
    /// If a prompt cannot be split into tokens.
    pub(crate) fn identity(&self, prompts: &[&str]) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update(self.configs);
        hash.update(self.unet.dtype().as_str());
        for pages in self.all_pages() {
            hash.update(pages.sha256());
            pages.release();
        }
        for prompt in prompts {
            for tokenizer in self.tokenizers() {
                let ids = tokenizer.encode(prompt)?;
                hash.update(ids.len().to_le_bytes());
                ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
            }
        }
        Ok(crate::files::hex(&hash.finalize()))
    }

    /// The memory of all weights.
    fn all_pages(&self) -> impl Iterator<Item = &Pages> {
        let others = [&self.pages.unet, &self.pages.vae];
        self.text.pages().chain(others)
    }

    /// That the weight files on disk are still those that were loaded. They are read from all the time: of a file that
    /// was changed during a run, the result would be of no one model.
    ///
    /// # Errors
    /// If a file was changed, replaced or removed.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        self.all_pages().try_for_each(Pages::check_unchanged)
    }

    /// The sizes and times of the weight files, and the SHA-256 of the configuration files, as text: cheap to have.
    pub(crate) fn stamps(&self) -> String {
        let stamps: Vec<String> = self.all_pages().map(Pages::stamps).collect();
        format!(
            "{} {:?} {}",
            crate::files::hex(&self.configs),
            self.unet.dtype(),
            stamps.join(" ")
        )
    }

    /// Shuts the neurons of these concepts and opens all others: each at the tokens that its [`Scope`] says, those of
    /// the whole prompt first, at a subject's own words also its own. Returns the marks that prompts need for that.
    ///
    /// # Errors
    /// If the model has no such sites; it is then left with nothing shut.
    pub fn shut(&mut self, concepts: &[&NeuronIndex]) -> Result<Marks> {
        self.shut_by(concepts, 1.0)
    }

    /// [`Pipeline::shut`] by a share, from 0, which changes nothing, to 1: a neuron is that far on the way from its own
    /// value to the one that it is shut to.
    pub(super) fn shut_by(&mut self, concepts: &[&NeuronIndex], strength: f64) -> Result<Marks> {
        if !(0.0..=1.0).contains(&strength) {
            return Err(Error::value("strength", "a share from 0 to 1", strength));
        }
        self.fingerprint()?; // kept, before the weights change
        self.open()?;
        let result = self.shut_in_turn(concepts, strength as f32);
        if result.is_err() {
            self.open()?;
        }
        result.map(|()| marks_of(concepts))
    }

    /// That the neurons of a concept can be shut here.
    ///
    /// # Errors
    /// If the model has no such site, or one of another shape.
    pub fn check_sites(&self, index: &NeuronIndex) -> Result<()> {
        shut(&self.unet.site_weights(SiteSelection::All), index).map(drop)
    }

    /// Opens all neurons: the weights are as they were loaded.
    ///
    /// # Errors
    /// None that a loaded model allows.
    pub(crate) fn open(&mut self) -> Result<()> {
        self.unet.set_word_weights(Vec::new())?;
        self.unet
            .set_site_weights(std::mem::take(&mut self.originals))
    }

    fn shut_in_turn(&mut self, concepts: &[&NeuronIndex], strength: f32) -> Result<()> {
        let of = |scope| {
            let has = move |index: &&&NeuronIndex| index.provenance().scope == scope;
            concepts.iter().filter(has)
        };
        for index in of(Scope::Prompt) {
            let mut weights = self.unet.site_weights(SiteSelection::All);
            // What several concepts shut is shut once.
            let masked = shut_partly(&weights, &self.originals, (index, None), strength)?;
            for site in masked.keys() {
                if let Some(weight) = weights.remove(site) {
                    self.originals.entry(site.clone()).or_insert(weight);
                }
            }
            self.unet.set_site_weights(masked)?;
        }
        let weights = self.unet.site_weights(SiteSelection::All);
        let mut own = Vec::new();
        for index in of(Scope::Words) {
            for number in 0..index.provenance().subjects.len() {
                let part = (*index, Some(number));
                own.push(shut_partly(&weights, &BTreeMap::new(), part, strength)?);
            }
        }
        self.unet.set_word_weights(own)
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
        self.text.embed(prompts, self.size())
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
        let negative = prompt
            .marks()
            .prompt(negative)
            .in_chunks(prompt.is_in_chunks());
        self.embed(&[negative, prompt])
    }

    /// The latents of a picture, `[1, c, h, w]`: the mean of the posterior times the scaling factor.
    ///
    /// # Errors
    /// If the picture's sides are not multiples of the autoencoder's factor.
    pub(crate) fn latents(&self, picture: &Picture) -> Result<Tensor> {
        let (w, h) = (picture.width() as usize, picture.height() as usize);
        let pixels = Tensor::from_vec(picture.to_planar(), (1, 3, h, w), &self.device)?;
        let latents = (self.vae.encode(&pixels)? * self.vae.scaling_factor())?;
        let numbers: Vec<f32> = latents.flatten_all()?.to_vec1()?;
        let what = || "latents of a picture".to_owned();
        self.vae_origin.check(what, &numbers)?;
        self.pages.vae.release();
        Ok(latents)
    }

    /// What the model predicts, as ModelSpec names it.
    pub fn prediction_name(&self) -> &'static str {
        match self.schedule.prediction() {
            Prediction::Epsilon => "epsilon",
            Prediction::Velocity => "v",
        }
    }
}

//! A whole model: text, UNet, autoencoder and noise schedule, and drawing with it.

mod attention;
mod draw;

use std::cell::OnceCell;
use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use half::f16;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::concept::{NeuronIndex, Site, SiteSelection, shut};
use crate::model::{Keys, TextEncoder, Tokenizer, UNet, Vae};
use crate::sampling::{Prediction, ScheduleConfig};
use crate::source::Source;
use crate::{Error, Picture, Result};
pub use attention::{AttentionOptions, Drawing};
pub use draw::{Progress, SampleOptions};

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
        for weight in self.unet.site_weights(SiteSelection::All)?.values() {
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
            shut(&self.unet.site_weights(SiteSelection::All)?, index)?;
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

    /// What the model predicts, as ModelSpec names it.
    pub fn prediction_name(&self) -> &'static str {
        match self.schedule.prediction() {
            Prediction::Epsilon => "epsilon",
            Prediction::Velocity => "v",
        }
    }
}

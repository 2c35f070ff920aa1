//! CLIP: a picture tower and a text tower that meet in one space, in transformers' form. Radford et al. 2021.

pub(in crate::model) mod preprocess;
pub(in crate::model) mod vision;

use std::borrow::Borrow;

use candle_core::{Device, Tensor};

use self::preprocess::Preprocessing;
use self::vision::{VisionEncoder, normalised};
use super::finite::Origin;
use super::loader::Weights;
use super::text::encoder::TextEncoder;
use super::text::projection::{EndToken, TextProjection};
use super::text::tokenizer::Tokenizer;
use crate::checkpoint::Pages;
use crate::checkpoint::kinds::described;
use crate::checkpoint::{Source, within};
use crate::config::ConfigReader;
use crate::nn::Linear;
use crate::{Error, Picture, Result};

/// Pictures in one pass of the tower.
const BATCH: usize = 16;

/// A CLIP model: pictures and texts to unit vectors, whose cosine says how well they agree.
pub struct Clip {
    /// What the encoder is called.
    pub name: String,
    /// SHA-256 of the file of its weights.
    pub sha256: String,
    pages: Pages,
    device: Device,
    /// How pictures are prepared for it.
    pub preprocessing: Preprocessing,
    tokenizer: Tokenizer,
    vision: VisionEncoder,
    text: TextEncoder,
    visual_projection: Linear,
    text_projection: TextProjection,
    origin: Origin,
}

impl Clip {
    /// Loads a folder that transformers wrote: `config.json` of a `CLIPModel`, `model.safetensors`,
    /// `preprocessor_config.json` or `processor_config.json`, and tokenizer files.
    ///
    /// # Errors
    /// If a file is missing, malformed, or of a model that is not supported.
    pub fn load(source: &Source, device: &Device) -> Result<Self> {
        Self::load_from(source, "", ("", source), device)
    }

    /// Loads the encoder that a diffusion model brings along in its folder `clip`, if it does. It may leave the
    /// tokenizer to the model.
    ///
    /// # Errors
    /// As [`Clip::load`].
    pub fn of_model(model: &Source, device: &Device) -> Result<Option<Self>> {
        const DIR: &str = "clip";
        if model.text(&within(DIR, "config.json"))?.is_none() {
            return Ok(None);
        }
        let own = ["tokenizer.json", "vocab.json"]
            .into_iter()
            .map(|file| model.text(&within(DIR, file)))
            .collect::<Result<Vec<_>>>()?;
        let tokenizer = match own.iter().any(Option::is_some) {
            true => DIR,
            false => "tokenizer",
        };
        Self::load_from(model, DIR, (tokenizer, model), device).map(Some)
    }

    fn load_from(
        source: &Source,
        dir: &str,
        (tokenizer_dir, tokenizer_source): (&str, &Source),
        device: &Device,
    ) -> Result<Self> {
        let file = within(dir, "config.json");
        let mut keys = ConfigReader::parse(&file, &source.required_text(&file)?)?;
        if let Some(other) = keys.word("model_type").filter(|kind| *kind != "clip") {
            let class = keys.first_word("architectures").unwrap_or(other);
            let found = format!(
                "{} (`model_type` {})",
                described(class),
                other.escape_debug()
            );
            let hint = "pass a CLIP for pictures and text, such as the hub's `openai/clip-vit-base-patch32`";
            return Err(Error::file(file, "a CLIPModel", found, hint));
        }
        keys.only("model_type", &["clip".into()])?;
        let projection = keys.size("projection_dim", 512, 1)?;
        let mut text = tower(&mut keys, "text")?;
        let vision = tower(&mut keys, "vision")?;
        keys.ignore(&[
            "architectures",
            "dtype",
            "initializer_factor",
            "initializer_range",
            "logit_scale_init_value", // the scale is for training; cosines are without it
            "return_dict",
            "tie_word_embeddings",
            "torch_dtype",
            "transformers_version",
        ]);
        keys.finish()?;
        let end = EndToken::take(&mut text)?;

        let tensors = source.tensors(dir, "model")?;
        let (sha256, pages) = (tensors.sha256(), tensors.pages());
        let origin = Origin::new("the encoder", &tensors);
        let mut weights = Weights::new(tensors, device);
        let vision = VisionEncoder::build(vision, &mut weights)?;
        let text = TextEncoder::build(text, &mut weights, "text_model.")?;
        let visual_projection =
            weights.linear_no_bias("visual_projection", vision.width(), projection)?;
        let text_projection = TextProjection::load(&mut weights, end, text.width(), projection)?;
        if weights.has("logit_scale") {
            weights.take("logit_scale", &[])?;
        }
        weights.finish()?;

        Ok(Self {
            name: match dir {
                "" => source.name().to_owned(),
                dir => format!("{}/{dir}", source.name()),
            },
            sha256,
            pages,
            device: device.clone(),
            preprocessing: Preprocessing::load(source, dir, vision.size())?,
            tokenizer: Tokenizer::load(tokenizer_source, tokenizer_dir, text.max_length())?,
            vision,
            text,
            visual_projection,
            text_projection,
            origin,
        })
    }

    /// How many tokens of a text do not fit and are cut.
    ///
    /// # Errors
    /// If the text cannot be split into tokens.
    pub(crate) fn truncated(&self, text: &str) -> Result<usize> {
        self.tokenizer.truncated(text)
    }

    /// Embeds pictures: unit vectors, `[b][d]`. They are asked for one at a time, and none is kept.
    ///
    /// # Errors
    /// If a picture has no pixels, its embedding is not finite, or the file of the weights was changed meanwhile; an
    /// error among the pictures.
    pub fn embed_pictures<P: Borrow<Picture>>(
        &self,
        pictures: impl Iterator<Item = Result<P>>,
    ) -> Result<Vec<Vec<f32>>> {
        let side = self.vision.size();
        let mut rows = Vec::new();
        let mut pixels = pictures.map(|picture| self.preprocessing.pixels(picture?.borrow()));
        loop {
            let some = pixels.by_ref().take(BATCH).collect::<Result<Vec<_>>>()?;
            if some.is_empty() {
                break;
            }
            let shape = (some.len(), 3, side, side);
            let x = Tensor::from_vec(some.concat(), shape, &self.device)?;
            let features = self.visual_projection.forward(&self.vision.forward(&x)?)?;
            rows.extend(self.unit_vectors("embedding of a picture", &features)?);
        }
        Ok(rows)
    }

    /// Embeds texts: unit vectors, `[b][d]`. What does not fit into the model's length is cut.
    ///
    /// # Errors
    /// If a text cannot be split into tokens, or into tokens that the model does not know, or the file of the weights
    /// was changed meanwhile.
    pub fn embed_texts(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        let ids = texts
            .iter()
            .map(|text| self.tokenizer.encode(text))
            .collect::<Result<Vec<_>>>()?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let states = self.text.forward(&ids)?; // [b, t, e]
        let features = self.text_projection.forward(&states, &ids)?;
        self.unit_vectors("embedding of a text", &features)
    }

    /// Rows `[b, d]` over their lengths.
    fn unit_vectors(&self, what: &str, features: &Tensor) -> Result<Vec<Vec<f32>>> {
        let rows: Vec<Vec<f32>> = normalised(features)?.to_vec2()?;
        // A length that overflowed makes a row of zeros, which looks like any other.
        let lengths: Vec<f32> = features.sqr()?.sum(1)?.to_vec1()?;
        for numbers in rows.iter().chain([&lengths]) {
            self.origin.check(|| what.to_owned(), numbers)?;
        }
        // Of a file that was changed meanwhile, they are of no one encoder.
        self.pages.check_unchanged()?;
        Ok(rows)
    }
}

/// The configuration of one tower. `text_config_dict`, where there is one, stands in for `text_config`.
fn tower(keys: &mut ConfigReader, which: &str) -> Result<ConfigReader> {
    let (plain, instead) = (format!("{which}_config"), format!("{which}_config_dict"));
    if keys.has(&instead) {
        keys.ignore(&[&plain]);
        return keys.section(&instead);
    }
    keys.section(&plain)
}

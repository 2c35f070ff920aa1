//! From prompts to what the UNet is told of them: one text encoder, or Stable Diffusion XL's two side by side.

use candle_core::{Device, Tensor};

use crate::checkpoint::kinds::REFINER;
use crate::checkpoint::{Pages, Source, within};
use crate::config::ConfigReader;
use crate::model::{Conditioning, Origin, SizeIds, TextClass, TextEncoder, Tokenizer};
use crate::prompt::PromptSpec;
use crate::{Error, Result, Size};

/// A tokenizer and its encoder.
struct Tower {
    tokenizer: Tokenizer,
    encoder: TextEncoder,
    pages: Pages,
    origin: Origin,
    /// Bytes of the weights, with what is copied of them.
    bytes: u64,
}

impl Tower {
    fn load(
        source: &Source,
        [encoder, tokenizer]: [&str; 2],
        (class, called): (TextClass, &'static str),
        config: &mut impl FnMut(&str) -> Result<String>,
        device: &Device,
    ) -> Result<Self> {
        let file = source.tensors(encoder, "model")?;
        let (pages, origin) = (file.pages(), Origin::new(called, &file));
        let bytes = file.size();
        let name = within(encoder, "config.json");
        let encoder = TextEncoder::load(&name, &config(&name)?, file, class, device)?;
        Ok(Self {
            tokenizer: Tokenizer::load(source, tokenizer, encoder.max_length())?,
            bytes: bytes + encoder.copied(),
            encoder,
            pages,
            origin,
        })
    }

    fn ids(&self, prompts: &[PromptSpec]) -> Result<Vec<Vec<u32>>> {
        let each = prompts.iter().map(|p| self.tokenizer.encode(p.text()));
        each.collect()
    }

    /// That an embedding is finite.
    fn check(&self, embedding: &Tensor) -> Result<()> {
        let numbers: Vec<f32> = embedding.flatten_all()?.to_vec1()?;
        self.origin
            .check(|| "text embedding".to_owned(), &numbers)?;
        self.pages.release();
        Ok(())
    }
}

/// A model's text encoders.
pub(super) struct TextEncoders {
    first: Tower,
    second: Option<Second>,
}

/// What Stable Diffusion XL has beside the first encoder.
struct Second {
    tower: Tower,
    /// Whether no negative prompt is zeros, and not the empty text: `force_zeros_for_empty_prompt`.
    zeros_for_none: bool,
}

const SECOND: [&str; 2] = ["text_encoder_2", "tokenizer_2"];

impl TextEncoders {
    /// Loads the encoders that the model has; `config` reads a file that must be there.
    ///
    /// # Errors
    /// If a file is missing, malformed or not supported, or the two do not fit each other.
    pub(super) fn load(
        source: &Source,
        config: &mut impl FnMut(&str) -> Result<String>,
        device: &Device,
    ) -> Result<Self> {
        const FIRST: [&str; 2] = ["text_encoder", "tokenizer"];
        let there = |folder| source.text(&within(folder, "config.json"));
        let second = there(SECOND[0])?.is_some();
        if second && there(FIRST[0])?.is_none() {
            return Err(Error::Model {
                model: source.name().to_owned(),
                problem: format!("no `{}`: expected a whole model, found {REFINER}", FIRST[0]),
                hint: "pass the base model of Stable Diffusion XL".to_owned(),
            });
        }
        let (class, called) = (TextClass::Plain, "the text encoder");
        let first = Tower::load(source, FIRST, (class, called), config, device)?;
        if !second {
            return Ok(Self {
                first,
                second: None,
            });
        }
        let (class, called) = (TextClass::Projected, "the second text encoder");
        let tower = Tower::load(source, SECOND, (class, called), config, device)?;
        let lengths = [&first, &tower].map(|tower| tower.tokenizer.length());
        if lengths[0] != lengths[1] {
            let file = within(SECOND[1], "tokenizer_config.json: `model_max_length`");
            let expected = format!("{}, that of `{}`", lengths[0], FIRST[1]);
            return Err(foreign(file, expected, lengths[1]));
        }
        Ok(Self {
            first,
            second: Some(Second {
                tower,
                zeros_for_none: zeros_for_none(source)?,
            }),
        })
    }

    fn towers(&self) -> impl Iterator<Item = &Tower> {
        std::iter::once(&self.first).chain(self.second.as_ref().map(|second| &second.tower))
    }

    /// The tokenizers, of which all split texts alike.
    pub(super) fn tokenizers(&self) -> impl Iterator<Item = &Tokenizer> {
        self.towers().map(|tower| &tower.tokenizer)
    }

    /// The first of them.
    pub(super) fn tokenizer(&self) -> &Tokenizer {
        &self.first.tokenizer
    }

    /// The memory of the weights.
    pub(super) fn pages(&self) -> impl Iterator<Item = &Pages> {
        self.towers().map(|tower| &tower.pages)
    }

    /// Bytes of the weights, with what is copied of them.
    pub(super) fn bytes(&self) -> u64 {
        self.towers().map(|tower| tower.bytes).sum()
    }

    /// Width of a token's embedding.
    pub(super) fn width(&self) -> usize {
        self.towers().map(|tower| tower.encoder.width()).sum()
    }

    /// Width of a whole text's embedding, if there is one.
    pub(super) fn pooled(&self) -> Option<usize> {
        self.second.as_ref()?.tower.encoder.projection_width()
    }

    /// Whether no negative prompt is to be zeros.
    pub(super) fn zeros_for_none(&self) -> bool {
        self.second
            .as_ref()
            .is_some_and(|second| second.zeros_for_none)
    }

    /// The places of stretches of a text among its tokens; see [`Tokenizer::positions`].
    ///
    /// # Errors
    /// If the tokenizers do not agree on them: a token's embeddings of both encoders are side by side.
    pub(super) fn positions(
        &self,
        text: &str,
        spans: &[std::ops::Range<usize>],
    ) -> Result<Vec<usize>> {
        let places = self.first.tokenizer.positions(text, spans)?;
        if let Some(Second { tower, .. }) = &self.second {
            let others = tower.tokenizer.positions(text, spans)?;
            if others != places {
                let expected = format!("the places {places:?}, as `tokenizer` has them");
                return Err(foreign(
                    format!("{}: words of \"{text}\"", SECOND[1]),
                    expected,
                    format!("{others:?}"),
                ));
            }
        }
        Ok(places)
    }

    /// Embeds prompts, with the words that are marked in them; pictures are of this size.
    ///
    /// # Errors
    /// If a prompt cannot be split into tokens, or an embedding is not finite.
    pub(super) fn embed(&self, prompts: &[PromptSpec], size: Size) -> Result<Conditioning> {
        let ids = self.first.ids(prompts)?;
        let marked = prompts.iter().map(|p| p.marks().count()).max();
        let mut places = vec![vec![Vec::new(); prompts.len()]; marked.unwrap_or(0)];
        for (row, prompt) in prompts.iter().enumerate() {
            for (all, spans) in places.iter_mut().zip(prompt.spans()) {
                all[row] = self.positions(prompt.text(), &spans)?;
            }
        }
        let Some(Second { tower, .. }) = &self.second else {
            let embedding = self.first.encoder.forward(&ids)?;
            self.first.check(&embedding)?;
            return Conditioning::with_words(embedding, &places);
        };
        let tokens = self.first.encoder.penultimate(&ids)?;
        self.first.check(&tokens)?;
        let (others, pooled) = tower.encoder.penultimate_and_text(&tower.ids(prompts)?)?;
        for embedding in [&others, &pooled] {
            tower.check(embedding)?;
        }
        let embedding = Tensor::cat(&[tokens, others], 2)?; // [b, t, e + e₂]
        Conditioning::with_words(embedding, &places)?.with_pooled(pooled, SizeIds::uncut(size))
    }
}

/// `force_zeros_for_empty_prompt` of diffusers' pipeline, which is so unless its file says otherwise.
fn zeros_for_none(source: &Source) -> Result<bool> {
    const FILE: &str = "model_index.json";
    match source.text(FILE)? {
        None => Ok(true),
        Some(text) => {
            let zeros = ConfigReader::parse(FILE, &text)?.flag("force_zeros_for_empty_prompt")?;
            Ok(zeros.unwrap_or(true))
        }
    }
}

/// Parts that do not belong together.
pub(super) fn foreign(place: String, expected: String, found: impl ToString) -> Error {
    let hint = "the parts are of different models: take all folders from one model";
    Error::file(place, expected, found.to_string(), hint)
}

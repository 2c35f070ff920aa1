//! From prompts to what the UNet is told of them: one text encoder, or Stable Diffusion XL's two side by side.

use candle_core::{Device, Tensor};

use crate::checkpoint::kinds::REFINER;
use crate::checkpoint::{Pages, Source, within};
use crate::config::ConfigReader;
use crate::model::{Conditioning, Origin, SizeIds, TextClass, TextEncoder, Token, Tokenizer};
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

    /// The words of a prompt, in one chunk or several.
    fn chunks(&self, prompt: &PromptSpec) -> Result<Vec<Vec<Token>>> {
        let (text, all) = (&prompt.weighted, prompt.in_chunks);
        self.tokenizer.chunks(text, all)
    }

    /// The chunks of prompts, as many of each as the one with most has: the others go on with empty ones.
    fn rows(&self, prompts: &[PromptSpec]) -> Result<Rows> {
        let each = prompts.iter().map(|prompt| self.chunks(prompt));
        let mut each = each.collect::<Result<Vec<_>>>()?;
        let count = each.iter().map(Vec::len).max().unwrap_or(1);
        each.iter_mut()
            .for_each(|chunks| chunks.resize(count, Vec::new()));
        let chunks = each.concat();
        Ok(Rows {
            ids: chunks
                .iter()
                .map(|chunk| self.tokenizer.ids(chunk))
                .collect(),
            weights: chunks
                .iter()
                .map(|chunk| self.tokenizer.weights(chunk))
                .collect(),
            count,
        })
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

/// What an encoder is given: prompts one after the other, each in `count` chunks.
struct Rows {
    ids: Vec<Vec<u32>>,
    /// Of the tokens of each chunk, where any is not 1.
    weights: Vec<Option<Vec<f32>>>,
    count: usize,
}

/// What is done after the embeddings have been multiplied by weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Emphasis {
    /// Each chunk is multiplied again, so that its mean is what it was: what the A1111 web UI does by itself
    /// (`Original`).
    MeanKept,
    /// Nothing: what the web UI calls `No norm`, and says is better for Stable Diffusion XL. The means of its
    /// embeddings are near zero, and say nothing.
    Plain,
}

impl Rows {
    /// Embeddings `[b·n, t, e]` of n chunks of b prompts, weighted, as `[b, n·t, e]`.
    fn weighted(&self, embedding: &Tensor, emphasis: Emphasis) -> Result<Tensor> {
        let (rows, t, e) = embedding.dims3()?;
        let device = embedding.device();
        let mut parts = Vec::with_capacity(rows);
        for (row, weights) in self.weights.iter().enumerate() {
            let chunk = embedding.narrow(0, row, 1)?;
            let Some(weights) = weights else {
                parts.push(chunk);
                continue;
            };
            let weights = Tensor::from_slice(weights, (1, t, 1), device)?;
            let heavy = chunk.broadcast_mul(&weights)?;
            parts.push(match emphasis {
                Emphasis::Plain => heavy,
                Emphasis::MeanKept => {
                    let ratio = mean(&chunk)? / mean(&heavy)?;
                    (heavy * ratio)?
                }
            });
        }
        Ok(Tensor::cat(&parts, 0)?.reshape((rows / self.count, self.count * t, e))?)
    }
}

/// The mean of all values, summed in f64.
fn mean(x: &Tensor) -> Result<f64> {
    let values: Vec<f32> = x.flatten_all()?.to_vec1()?;
    Ok(values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len().max(1) as f64)
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

    /// The places of stretches of a prompt among its tokens; those that are cut are left out.
    ///
    /// # Errors
    /// If the tokenizers do not agree on them: a token's embeddings of both encoders are side by side.
    pub(super) fn positions(
        &self,
        prompt: &PromptSpec,
        spans: &[std::ops::Range<usize>],
    ) -> Result<Vec<usize>> {
        if spans.is_empty() {
            return Ok(Vec::new());
        }
        let of =
            |tower: &Tower| Ok::<_, Error>(tower.tokenizer.places(&tower.chunks(prompt)?, spans));
        let places = of(&self.first)?;
        if let Some(Second { tower, .. }) = &self.second {
            let others = of(tower)?;
            if others != places {
                let expected = format!("the places {places:?}, as `tokenizer` has them");
                return Err(foreign(
                    format!("{}: words of \"{}\"", SECOND[1], prompt.weighted.text()),
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
        let rows = self.first.rows(prompts)?;
        let marked = prompts.iter().map(|p| p.marks.count()).max();
        let mut places = vec![vec![Vec::new(); prompts.len()]; marked.unwrap_or(0)];
        for (row, prompt) in prompts.iter().enumerate() {
            for (all, spans) in places.iter_mut().zip(prompt.spans()) {
                all[row] = self.positions(prompt, &spans)?;
            }
        }
        let Some(Second { tower, .. }) = &self.second else {
            let embedding = self.first.encoder.forward(&rows.ids)?;
            let embedding = rows.weighted(&embedding, Emphasis::MeanKept)?;
            self.first.check(&embedding)?;
            return Conditioning::with_words(embedding, &places);
        };
        let tokens = self.first.encoder.penultimate(&rows.ids)?;
        let tokens = rows.weighted(&tokens, Emphasis::Plain)?;
        self.first.check(&tokens)?;
        let rows = tower.rows(prompts)?;
        let (others, texts) = tower.encoder.penultimate_and_text(&rows.ids)?;
        let others = rows.weighted(&others, Emphasis::Plain)?;
        // Of a text in chunks, the first stands for all, as in the web UI.
        let (b, p) = (prompts.len(), texts.dim(1)?);
        let pooled = texts
            .reshape((b, rows.count, p))?
            .narrow(1, 0, 1)?
            .reshape((b, p))?;
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

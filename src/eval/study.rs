//! Measuring one condition: draw, embed, compare.

use super::held_out::DenoisingLosses;
use super::metric::{Metric, Values};
use super::prompts::Prompt;
use super::similarity::{clip_score, cosine, mean_cosines};
use crate::model::Clip;
use crate::prompt::Marks;
use crate::{Error, Picture, Pipeline, Progress, Result, SampleOptions};

/// Prompts that are embedded together, so that memory does not grow with their number.
const TEXTS_AT_ONCE: usize = 64;

/// What all conditions have in common.
pub struct Study<'a> {
    clip: &'a Clip,
    prompts: &'a [Prompt],
    options: &'a SampleOptions,
    /// Picture i has prompt i mod n and this seed + i.
    seed: u64,
    count: usize,
    /// Embeddings of the photos.
    real: Vec<Vec<f32>>,
    /// Embeddings of the prompts.
    texts: Vec<Vec<f32>>,
}

/// What was drawn under one condition, and its measurements.
#[derive(Debug, Clone)]
pub struct Condition {
    /// The pictures, in order of seeds.
    pub pictures: Vec<Picture>,
    /// The figures, picture by picture and draw by draw.
    pub values: Values,
}

impl<'a> Study<'a> {
    /// Prepares to draw `count` pictures over all prompts. Of the photos some at a time are in memory.
    ///
    /// # Errors
    /// If there is no prompt, photo or picture, a photo that cannot be read, or the seeds leave no room for `count`.
    pub fn new(
        clip: &'a Clip,
        prompts: &'a [Prompt],
        options: &'a SampleOptions,
        (seed, count): (u64, usize),
        photos: impl ExactSizeIterator<Item = Result<Picture>>,
    ) -> Result<Self> {
        for (name, n) in [
            ("prompts", prompts.len()),
            ("photos", photos.len()),
            ("pictures", count),
        ] {
            if n == 0 {
                return Err(Error::value(name, "at least one", "none"));
            }
        }
        if seed.checked_add(count as u64).is_none() {
            let expected = format!("a number that leaves room for {count} more");
            return Err(Error::value("seed", expected, seed));
        }
        // Picture i has prompt i mod n, so that no more prompts than pictures are drawn.
        let drawn = &prompts[..prompts.len().min(count)];
        let mut texts = Vec::with_capacity(drawn.len());
        for part in drawn.chunks(TEXTS_AT_ONCE) {
            let described: Vec<&str> = part.iter().map(|p| p.described.as_str()).collect();
            texts.extend(clip.embed_texts(&described)?);
        }
        Ok(Self {
            clip,
            prompts,
            options,
            seed,
            count,
            real: clip.embed_pictures(photos)?,
            texts,
        })
    }

    /// Draws with the model as it is, whatever is shut in it, with prompts of these
    /// marks, and compares the pictures with photos and prompts.
    ///
    /// # Errors
    /// As [`Pipeline::draw`]; an error of `progress`.
    pub(crate) fn draw(
        &self,
        pipeline: &Pipeline,
        marks: &Marks,
        mut progress: impl FnMut(Progress) -> Result<()>,
    ) -> Result<Condition> {
        let n = self.prompts.len().min(self.count);
        let mut drawn: Vec<(u64, Picture)> = Vec::with_capacity(self.count);
        for (i, prompt) in self.prompts[..n].iter().enumerate() {
            let seeds: Vec<u64> = (i..self.count)
                .step_by(self.prompts.len())
                .map(|k| self.seed + k as u64)
                .collect();
            let pictures =
                pipeline.draw(marks.prompt(&prompt.used), self.options, &seeds, |p| {
                    progress(Progress {
                        done: i * p.total + p.done,
                        total: n * p.total,
                    })
                })?;
            drawn.extend(seeds.into_iter().zip(pictures));
        }
        drawn.sort_by_key(|(seed, _)| *seed);
        let pictures: Vec<Picture> = drawn.into_iter().map(|(_, picture)| picture).collect();
        let embedded = self
            .clip
            .embed_pictures(pictures.iter().map(Ok::<_, Error>))?;
        let clip_t: Vec<f64> = embedded
            .iter()
            .zip(self.texts.iter().cycle())
            .map(|(picture, text)| cosine(picture, text))
            .collect();
        let values = [
            (Metric::ClipI, mean_cosines(&embedded, &self.real)),
            (
                Metric::ClipScore,
                clip_t.iter().map(|&c| clip_score(c)).collect(),
            ),
            (Metric::ClipT, clip_t),
        ];
        Ok(Condition {
            pictures,
            values: values.into(),
        })
    }
}

impl Condition {
    /// Adds what [`HeldOut::losses`](super::held_out::HeldOut::losses) found, with the weight λ of the class in
    /// `L_con`.
    pub(crate) fn add_losses(&mut self, losses: DenoisingLosses, prior_weight: f64) {
        let whole = losses
            .subject
            .iter()
            .zip(&losses.class)
            .map(|(subject, class)| subject + prior_weight * class)
            .collect();
        self.values.extend([
            (Metric::Loss, whole),
            (Metric::SubjectLoss, losses.subject),
            (Metric::ClassLoss, losses.class),
            (Metric::PriorDrift, losses.drift),
        ]);
    }
}

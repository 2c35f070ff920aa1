//! Measuring one condition: draw, embed, compare.

use std::cell::RefCell;

use super::held_out::DenoisingLosses;
use super::metric::{Metric, Values};
use super::plan::EvalPlan;
use super::prompts::{Prompt, classes};
use super::similarity::{clip_score, cosine, margin, mean_cosines};
use super::state::EvalState;
use crate::model::Clip;
use crate::prompt::Marks;
use crate::{AttentionOptions, Error, Photos, Picture, Pipeline, Progress, Result, SampleOptions};

/// Prompts that are embedded together, so that memory does not grow with their number.
const TEXTS_AT_ONCE: usize = 64;

/// What all conditions have in common.
pub(super) struct Study<'a> {
    clip: &'a Clip,
    prompts: &'a [Prompt],
    options: &'a SampleOptions,
    /// Picture i has prompt i mod n and this seed + i.
    seed: u64,
    count: usize,
    /// How many of the pictures are shown afterwards.
    shown: usize,
    /// Embeddings of the photos.
    real: Vec<Vec<f32>>,
    /// Embeddings of the prompts.
    texts: Vec<Vec<f32>>,
    /// "a photo of a NOUN", and its embedding and those of other nouns.
    class: (String, Vec<Vec<f32>>),
}

/// What was drawn under one condition, and its measurements.
#[derive(Debug, Clone)]
pub struct Condition {
    /// The first pictures, in order of seeds: as many as are shown.
    pub pictures: Vec<Picture>,
    /// The figures, picture by picture and draw by draw.
    pub values: Values,
}

impl<'a> Study<'a> {
    /// Embeds photos and prompts. Of the photos some at a time are in memory.
    ///
    /// # Errors
    /// If there is no prompt, photo or picture, a photo that cannot be read, or the seeds leave no room for all
    /// pictures.
    pub(super) fn new(plan: &EvalPlan<'a>, photos: &Photos) -> Result<Self> {
        let EvalPlan {
            clip,
            prompts,
            options,
            seed,
            count,
            shown,
            ..
        } = *plan;
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
        let mut classes = classes(&plan.subject.noun);
        let described: Vec<&str> = classes.iter().map(String::as_str).collect();
        let class = clip.embed_texts(&described)?;
        Ok(Self {
            class: (classes.swap_remove(0), class),
            clip,
            prompts,
            options,
            seed,
            count,
            shown,
            real: clip.embed_pictures(photos.iter().map(|photo| photo.picture(None)))?,
            texts,
        })
    }

    /// Draws with the model as it is, whatever is shut in it, with prompts of these marks: the pictures of a condition
    /// that the state has not. Of each its embedding is kept, and the first ones themselves.
    ///
    /// # Errors
    /// As [`Pipeline::draw`]; an error of `progress`.
    pub(super) fn draw(
        &self,
        pipeline: &Pipeline,
        marks: &Marks,
        (number, state): (usize, &RefCell<EvalState>),
        mut progress: impl FnMut(Progress) -> Result<()>,
    ) -> Result<()> {
        let n = self.prompts.len().min(self.count);
        let left = |i: usize| -> Vec<usize> {
            let all = (i..self.count).step_by(self.prompts.len());
            all.filter(|k| !state.borrow().has(number, *k)).collect()
        };
        let mut before = 0;
        for (i, prompt) in self.prompts[..n].iter().enumerate() {
            let left = left(i);
            if left.is_empty() {
                continue;
            }
            let seeds: Vec<u64> = left.iter().map(|k| self.seed + *k as u64).collect();
            let (mut numbers, mut passes) = (left.into_iter(), 0);
            pipeline.draw_each(
                marks.prompt(&prompt.used),
                self.options,
                &AttentionOptions::default(),
                &seeds,
                |p| {
                    passes = p.total;
                    progress(Progress {
                        done: before + p.done,
                        total: before + (n - i) * p.total,
                    })
                },
                |drawing| {
                    let picture = drawing.picture;
                    let embedded = self.clip.embed_pictures([Ok(&picture)].into_iter())?;
                    // As many as there were pictures: one.
                    for (embedding, k) in embedded.into_iter().zip(numbers.by_ref()) {
                        let shown = (k < self.shown).then(|| picture.clone());
                        state.borrow_mut().add(number, k, embedding, shown);
                    }
                    Ok(())
                },
            )?;
            before += passes;
        }
        Ok(())
    }

    /// Compares the pictures of a condition with photos and prompts, by their embeddings.
    pub(super) fn compare(&self, embedded: &[Vec<f32>]) -> Values {
        let clip_t: Vec<f64> = embedded
            .iter()
            .zip(self.texts.iter().cycle())
            .map(|(picture, text)| cosine(picture, text))
            .collect();
        let scenes = embedded.iter().enumerate();
        let scenes = scenes.map(|(k, picture)| self.scene_margin(picture, k % self.texts.len()));
        let values = [
            (Metric::ClipI, mean_cosines(embedded, &self.real)),
            (Metric::ClassMargin, self.class_margins(embedded)),
            (Metric::SceneMargin, scenes.collect()),
            (
                Metric::ClipScore,
                clip_t.iter().map(|&c| clip_score(c)).collect(),
            ),
            (Metric::ClipT, clip_t),
        ];
        values.into()
    }

    fn class_margins(&self, embedded: &[Vec<f32>]) -> Vec<f64> {
        let (_, classes) = &self.class;
        let one = |picture: &Vec<f32>| margin(picture, &classes[0], classes[1..].iter());
        embedded.iter().map(one).collect()
    }

    /// Of a picture of prompt `number`.
    fn scene_margin(&self, picture: &[f32], number: usize) -> f64 {
        let (bare, classes) = &self.class;
        let own = &self.prompts[number].described;
        let named = self.prompts.iter().map(|prompt| &prompt.described);
        let others = named.zip(&self.texts).chain([(bare, &classes[0])]);
        let others = others.filter(|(text, _)| *text != own);
        margin(picture, &self.texts[number], others.map(|(_, text)| text))
    }

    /// The photos, measured as pictures are: each by its likeness to the others, where there are any, and by its class.
    pub(super) fn photos(&self) -> Values {
        let mut values = Values::from([(Metric::ClassMargin, self.class_margins(&self.real))]);
        if self.real.len() > 1 {
            let likeness = |k: usize| {
                let others = [&self.real[..k], &self.real[k + 1..]].concat();
                mean_cosines(&self.real[k..=k], &others)[0]
            };
            let each = (0..self.real.len()).map(likeness).collect();
            values.insert(Metric::ClipI, each);
        }
        values
    }

    /// Numbers in an embedding.
    pub(super) fn width(&self) -> usize {
        self.real.first().map_or(0, Vec::len)
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

//! Where pictures of a concept attend to its subject's words.

use super::prompts::Prompt;
use crate::index::{NeuronIndex, Subject};
use crate::pipeline::ShutOptions;
use crate::{AttentionOptions, Picture, Pipeline, Progress, Result, SampleOptions};

/// How many pictures are looked at.
const PICTURES: usize = 4;

/// A picture, and its heat at each word.
#[derive(Debug, Clone, PartialEq)]
pub struct Attended {
    /// The prompt as it was used.
    pub prompt: String,
    /// The picture's own seed.
    pub seed: u64,
    /// The picture.
    pub picture: Picture,
    /// Of token and noun, each as far as the prompt is not cut before it.
    pub maps: Vec<WordHeat>,
}

/// A word's heat over a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct WordHeat {
    /// The word.
    pub word: String,
    /// As [`HeatMap::over`](crate::HeatMap::over) shows it.
    pub over: Picture,
    /// The lowest and the highest probability with which a pixel attends to the word.
    pub range: (f32, f32),
}

/// Draws the first of `count` pictures of a concept again, with seeds from `seed` on, and looks where they attend to
/// token and noun. Nothing is shut afterwards.
///
/// # Errors
/// As [`Pipeline::draw`]; an error of `progress`.
pub fn attended(
    pipeline: &mut Pipeline,
    (subject, index): (&Subject, &NeuronIndex),
    prompts: &[Prompt],
    options: &SampleOptions,
    (seed, count): (u64, usize),
    mut progress: impl FnMut(Progress) -> Result<()>,
) -> Result<Vec<Attended>> {
    let marks = pipeline.shut(&[index], ShutOptions::default())?.marks;
    let drawn: Vec<(u64, &Prompt)> = (seed..).zip(prompts).take(PICTURES.min(count)).collect();
    let mut all = Vec::with_capacity(drawn.len());
    for (number, (seed, prompt)) in drawn.iter().enumerate() {
        let spec = marks.prompt(&prompt.used);
        // A word may be cut off with the end of the prompt.
        let words = [&subject.token, &subject.noun].into_iter();
        let words = words.filter(|word| pipeline.word_tokens(&spec, word).is_ok());
        let words: Vec<String> = words.cloned().collect();
        let looked_at = AttentionOptions {
            heat: words.clone(),
            ..AttentionOptions::default()
        };
        pipeline.draw_each(
            spec,
            options,
            &looked_at,
            &[*seed],
            |p| {
                let (done, total) = (number * p.total + p.done, drawn.len() * p.total);
                progress(Progress { done, total })
            },
            |drawing| {
                let maps = words.iter().zip(&drawing.heat).map(|(word, heat)| {
                    let (over, range) = heat.over(&drawing.picture);
                    let word = word.clone();
                    WordHeat { word, over, range }
                });
                all.push(Attended {
                    prompt: prompt.used.clone(),
                    seed: *seed,
                    maps: maps.collect(),
                    picture: drawing.picture,
                });
                Ok(())
            },
        )?;
    }
    pipeline.open()?;
    Ok(all)
}

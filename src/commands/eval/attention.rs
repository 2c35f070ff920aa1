//! Where pictures of a concept attend to its subject's words.

use cones::eval::Prompt;
use cones::index::{NeuronIndex, Subject};
use cones::{AttentionOptions, Picture, Pipeline, SampleOptions};

use crate::report::ui::Ui;

/// How many pictures are looked at.
const PICTURES: usize = 4;

/// A picture, and its heat at each word.
pub(super) struct Attended {
    pub(super) prompt: String,
    pub(super) seed: u64,
    pub(super) picture: Picture,
    pub(super) maps: Vec<Heat>,
}

/// A word's heat over a picture.
pub(super) struct Heat {
    pub(super) word: String,
    pub(super) over: Picture,
    /// The lowest and the highest probability with which a pixel attends to the word.
    pub(super) range: (f32, f32),
}

/// Draws the first pictures of a concept again, and looks where they attend to token and noun. Nothing is shut
/// afterwards.
pub(super) fn attention(
    pipeline: &mut Pipeline,
    (subject, index): (&Subject, &NeuronIndex),
    prompts: &[Prompt],
    options: &SampleOptions,
    (seed, count): (u64, usize),
    ui: &Ui,
) -> anyhow::Result<Vec<Attended>> {
    let marks = pipeline.shut(&[index])?;
    let drawn: Vec<(u64, &Prompt)> = (seed..).zip(prompts).take(PICTURES.min(count)).collect();
    let mut meter = ui.meter("attention");
    let mut all = Vec::with_capacity(drawn.len());
    for (number, (seed, prompt)) in drawn.iter().enumerate() {
        let spec = marks.prompt(&prompt.used);
        // A word may be cut off with the end of the prompt.
        let words = [&subject.token, &subject.noun].into_iter();
        let words = words.filter(|word| pipeline.word_tokens(spec.clone(), word).is_ok());
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
                meter.set(done, total, "passes")
            },
            |drawing| {
                let maps = words.iter().zip(&drawing.heat).map(|(word, heat)| {
                    let (over, range) = heat.over(&drawing.picture);
                    let word = word.clone();
                    Heat { word, over, range }
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
    meter.finish();
    pipeline.shut(&[])?;
    Ok(all)
}

//! The part of `cones generate` that chooses among seeds: `--best-of`.

use cones::pipeline::Concept;
use cones::prompt::PromptSpec;
use cones::{Pipeline, Progress, SampleOptions};

use super::attention::subjects;
use crate::report::ui::Ui;

/// One of every `of` seeds.
///
/// # Errors
/// If the prompt does not name a subject, or nothing can be drawn of it.
pub(super) fn seeds(
    pipeline: &Pipeline,
    prompt: &PromptSpec,
    options: &SampleOptions,
    concepts: &[Concept],
    (seeds, of): (&[u64], usize),
    ui: &Ui,
) -> anyhow::Result<Vec<u64>> {
    let words = subjects("--best-of", prompt, concepts)?;
    let mut meter = ui.meter("choosing");
    let progress = |p: Progress| meter.set(p.done, p.total, "passes");
    let chosen = pipeline.choose_seeds(prompt, options, &words, (seeds, of), progress)?;
    meter.finish();
    let chosen_of = seeds.chunks(of).zip(&chosen);
    for (group, seed) in chosen_of {
        ui.note(&format!(
            "seed {seed}, of {} to {}",
            group[0],
            group[group.len() - 1]
        ));
    }
    Ok(chosen)
}

//! `cones eval`: what shutting a concept does, against the plain model and random neurons.

mod cases;
mod csv;
mod doses;
mod inputs;
mod json;
mod kept;
mod measure;
mod names;
mod page;
mod report;
mod several;
mod tables;

use cones::eval::Answer;

use self::inputs::{encoder, read_scores};
use self::measure::Setting;
use self::report::Report;
use super::load;
use super::outputs::{Outputs, Saved};
use crate::cli::{EvalArgs, Global};
use crate::report::photos;
use crate::report::ui::Ui;

/// Whether the answer is yes.
pub(crate) fn run(global: &Global, args: &EvalArgs) -> anyhow::Result<bool> {
    let ui = Ui::new(global);
    let listed = cases::list(args, &ui)?;
    let read = args.indices.iter().chain(&args.prompts).chain(&args.scores);
    let photos = listed.iter().flat_map(|case| case.files());
    let mut outputs = Outputs::beside(photos.chain(read));
    for (option, path) in [
        ("--sheet", &args.sheet),
        ("--report", &args.report),
        ("--csv", &args.csv),
    ] {
        if let Some(path) = path {
            outputs = outputs.file(option, path);
        }
    }
    outputs.check()?;
    outputs.spare_indices()?;
    drop(outputs);
    let keep = photos::keep(None) / listed.len().max(1) as u64;
    let cases = listed.into_iter().map(|case| case.read(keep, &ui));
    let cases = cases.collect::<anyhow::Result<Vec<_>>>()?;
    let scores = args.scores.as_deref().map(read_scores).transpose()?;
    let mut pipeline = load(global, &ui)?;
    // What does not fit the model is to be known before anything is drawn.
    let doses = doses::doses(&cases, scores.as_ref(), args, &pipeline, &ui)?;
    drop(scores);
    let clip = encoder(global, args, &ui)?;
    let setting = Setting {
        global,
        args,
        clip: &clip,
        options: &args.sampling.options(pipeline.sample_options(&[])),
        ui: &ui,
    };
    for case in &cases {
        doses::warn_of_cut(case, &pipeline, &clip, &ui)?;
    }
    let (all, mut outcomes, mut unfinished) = (cases.len(), Vec::new(), Vec::new());
    for (number, (case, doses)) in cases.into_iter().zip(doses).enumerate() {
        if all > 1 {
            ui.note(&format!("{} of {all}: {}", number + 1, case.label));
        }
        let (outcome, kept) = setting.measure(case, doses, &mut pipeline)?;
        outcomes.push(outcome);
        unfinished.push(kept);
    }
    let report = Report {
        setting: &setting,
        pipeline: &pipeline,
        outcomes: &outcomes,
    };
    let mut saved = Saved::default();
    if let Some(path) = &args.sheet {
        saved.write(path, &report.sheet()?.to_file(path, None)?);
    }
    if let Some(path) = &args.report {
        saved.write(path, report.page()?.as_bytes());
    }
    if let Some(path) = &args.csv {
        saved.write(path, report.csv()?.as_bytes());
    }
    report.print()?;
    for kept in unfinished {
        kept.finish_unless(saved.is_lost());
    }
    saved.finish()?;
    let mut verdicts = outcomes.iter().flat_map(|outcome| &outcome.figures.verdict);
    Ok(verdicts.all(|verdict| verdict.answer == Answer::Yes))
}

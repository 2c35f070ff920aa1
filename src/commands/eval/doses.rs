//! What of the cases does not fit the model, known before anything is drawn.

use anyhow::Context;
use cones::Pipeline;
use cones::eval::Dose;
use cones::find::Scores;
use cones::model::Clip;

use super::cases::Case;
use crate::cli::EvalArgs;
use crate::report::ui::Ui;

/// The doses of each case, all of which the model has to fit.
pub(super) fn doses(
    cases: &[Case],
    scores: Option<&Scores>,
    args: &EvalArgs,
    pipeline: &Pipeline,
    ui: &Ui,
) -> anyhow::Result<Vec<Vec<Dose>>> {
    let fingerprint = pipeline.fingerprint()?;
    let several = cases.len() > 1;
    let mut all = Vec::with_capacity(cases.len());
    for case in cases {
        let index = match several {
            true => format!("index `{}`", case.label),
            false => "index".to_owned(),
        };
        let fits = case.index.provenance().check_fingerprint(&fingerprint);
        let of_scores = scores.and_then(|scores| scores.provenance().ok());
        let scores_fit = of_scores.map_or(Ok(()), |plan| plan.check_fingerprint(&fingerprint));
        for (what, checked) in [(index.as_str(), fits), ("scores", scores_fit)] {
            match checked {
                Err(error) if args.force => {
                    ui.warn(&format!("{what}: {error}; used all the same (--force)"));
                }
                checked => checked.with_context(|| {
                    format!("{what} of another model, which is measured with --force alone")
                })?,
            }
        }
        let doses = Dose::all(scores, &args.sweep, &case.index, args.layers.as_ref())
            .with_context(|| index.clone())?;
        for dose in &doses {
            pipeline.check_sites(&dose.index)?;
            if dose.index.extent().shut == 0
                && case.index.extent().shut > 0
                && args.layers.is_some()
            {
                ui.warn(&format!(
                    "{index} has no neurons in these layers: it changes nothing"
                ));
            }
        }
        all.push(doses);
    }
    Ok(all)
}

/// Says which prompts are cut.
pub(super) fn warn_of_cut(
    case: &Case,
    pipeline: &Pipeline,
    clip: &Clip,
    ui: &Ui,
) -> anyhow::Result<()> {
    for prompt in &case.prompts {
        if prompt.is_cut(pipeline, clip)? {
            ui.warn(&format!(
                "the end of \"{}\" does not fit into the text length of the model or the encoder and is cut",
                prompt.used
            ));
        }
    }
    Ok(())
}

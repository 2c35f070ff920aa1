//! `cones find --from-scores`: neurons chosen from the scores of a run that was, or of its parts.

use anyhow::{Context, anyhow, bail};
use cones::find::selection::Selection;
use cones::find::{Found, Parts, Scores};
use cones::index::Provenance;

use super::super::outputs::{Outputs, check_free};
use super::super::{Advice, count, load, name};
use super::check_scores;
use super::report::{report, save};
use crate::cli::{FindArgs, Global};
use crate::report::ui::Ui;

/// What there is to choose from.
enum From {
    Parts(Parts),
    Scores(Scores),
}

pub(super) fn run(global: &Global, args: &FindArgs, ui: &Ui) -> anyhow::Result<()> {
    let files = &args.shards.from_scores;
    let opened = match Parts::open(files)? {
        Some(parts) => From::Parts(parts),
        None => From::Scores(Scores::read(&files[0])?),
    };
    let plan = match &opened {
        From::Parts(parts) => &parts.plan,
        From::Scores(scores) => {
            let plan = scores.provenance();
            plan.with_context(|| format!("failed to use scores `{}`", name(&files[0])))?
        }
    };
    let selection = selection(args, plan)?;
    let noun = plan
        .subjects
        .first()
        .map_or("", |subject| subject.noun.as_str());
    let output = args.index_of(noun).map_err(|message| anyhow!(message))?;
    let mut outputs = Outputs::beside(files).file("--output", &output);
    if let Some(path) = &args.scores {
        Outputs::beside([]).file("--scores", path).spare_indices()?;
        outputs = outputs.file("--scores", path);
    }
    outputs.check()?;
    let found = chosen(global, ui, opened, selection)?;
    let again = check_free(&output, found.index.provenance(), args.force)?;
    check_scores(args.scores.as_deref(), again || args.force)?;
    save(args, ui, &output, &found)?.finish()?;
    report(global, ui, &output, &found, &[])
}

/// The choice that was asked for, or else that of the run.
fn selection(args: &FindArgs, plan: &Provenance) -> anyhow::Result<Selection> {
    match (args.threshold, args.density) {
        (Some(_), _) if plan.method == "learned" => {
            bail!("--threshold belongs to --method paper: the scores are of a learned concept")
        }
        (Some(threshold), _) => Ok(Selection::Threshold(threshold)),
        (None, Some(density)) => Ok(Selection::Density(density)),
        (None, None) => Ok(Selection::try_from(plan)?),
    }
}

fn chosen(global: &Global, ui: &Ui, from: From, selection: Selection) -> anyhow::Result<Found> {
    let scores = match from {
        From::Parts(parts) => {
            let found = parts.choose(selection)?;
            ui.detail("added the parts up");
            return Ok(found);
        }
        From::Scores(scores) => scores,
    };
    let plan = scores.provenance()?;
    let (method, model) = (plan.method.clone(), plan.model.clone());
    ui.detail(&format!(
        "scores of method {method}, model `{model}`, {}",
        count(plan.pictures.len(), "picture")
    ));
    if method != "learned" {
        return Ok(scores.choose(selection, None)?);
    }
    let pipeline = load(global, ui)?;
    if let Err(error) = plan.check_fingerprint(&pipeline.fingerprint()?) {
        return Err(Advice::error(
            error.to_string(),
            format!("the mask is of model `{model}`: give it with `--model`"),
        ));
    }
    Ok(scores.choose(selection, Some(&pipeline))?)
}

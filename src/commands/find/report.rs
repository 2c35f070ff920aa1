//! What `cones find` writes and says of what it found.

use std::path::Path;

use cones::find::{Familiarity, Found};
use cones::{LeftOut, escaped};
use serde_json::json;

use super::super::outputs::Saved;
use super::super::{count, name, thousands};
use crate::cli::{FindArgs, Global};
use crate::report::meters::steps;
use crate::report::photos;
use crate::report::ui::{Ui, peak_memory};

/// Writes the index, and the scores where they are wanted.
pub(super) fn save(
    args: &FindArgs,
    ui: &Ui,
    output: &Path,
    found: &Found,
) -> anyhow::Result<Saved> {
    if let Some(error) = found.rounding_error {
        ui.detail(&format!(
            "whole neurons leave {:.2} % of what was learned undone",
            100.0 * error
        ));
    }
    let mut saved = Saved::default();
    saved.write(output, &found.index.to_bytes()?);
    if let Some(path) = &args.scores {
        saved.write(path, &found.scores_file()?);
    }
    Ok(saved)
}

/// How many times larger than on a model's own pictures the error on photos is which it does not know.
const FAR: f64 = 2.0;

/// Tells of a concept that was found.
pub(super) fn report(
    global: &Global,
    ui: &Ui,
    output: &Path,
    found: &Found,
    left_out: &[LeftOut],
) -> anyhow::Result<()> {
    let index = &found.index;
    let extent = index.extent();
    if extent.shut == 0 {
        ui.warn("no neuron was chosen: lower --threshold or take more --steps");
    }
    if let Some(Familiarity { photos, own }) = found.familiarity {
        ui.detail(&format!(
            "mean squared error on new noise: {photos:.4} of the photos, {own:.4} of pictures that the model drew"
        ));
        if photos > FAR * own {
            ui.warn(&format!(
                "the error on the photos stays at {photos:.3}, {:.1} times that on the model's own pictures: this \
                 model does not know such photos, and what was found may draw something else; look with `cones \
                 eval`, or give another --model",
                photos / own
            ));
        }
    }
    let stability = found.stability;
    if global.json {
        let provenance = index.provenance();
        return ui.json(&json!({
                "index": name(output),
                "subject": provenance.subjects[0].noun,
                "token": provenance.subjects[0].token,
                "method": provenance.method,
                "scope": provenance.scope,
                "shut": extent.shut,
                "total": extent.total,
                "density": extent.density,
                "held_out": found.familiarity.map(|f| json!({"photos": f.photos, "own": f.own})),
                "stability": stability.map(|s| json!({"shared": s.shared, "by_chance": s.by_chance})),
                "seed": provenance.seed,
                "steps": steps(&found.steps),
                "left_out": photos::left_out(left_out),
                "peak_memory_bytes": peak_memory(),
        }));
    }
    let bytes = std::fs::metadata(output).map_or(0, |m| m.len());
    let seconds: f64 = found.steps.iter().map(|s| s.seconds).sum();
    let taken = match found.steps.len() {
        0 => "chosen from scores".to_owned(),
        steps => format!("{} in {seconds:.1} s", count(steps, "step")),
    };
    let mut text = format!(
        "{}: {} of {} neurons shut ({:.2} %), {} bytes, {taken}",
        escaped(&name(output)),
        thousands(extent.shut),
        thousands(extent.total),
        100.0 * extent.density,
        thousands(bytes),
    );
    if let Some(stability) = stability {
        text += &format!(
            "\nthe two halves of the steps agree on {:.0} % of their neurons, by chance {:.0} %",
            100.0 * stability.shared,
            100.0 * stability.by_chance
        );
    }
    ui.result(&text)
}

//! How a page was made.

use std::path::Path;

use cones::escaped;
use cones::eval::RESAMPLES;
use maud::{Markup, html};

use super::super::measure::Setting;
use super::super::report::Report;
use super::command::command_line;
use crate::commands::{count, thousands};

/// More prompts are not listed.
const MOST_PROMPTS: usize = 100;

impl Report<'_> {
    pub(super) fn settings(&self) -> anyhow::Result<Markup> {
        let Setting {
            global,
            args,
            clip,
            options,
            ..
        } = self.setting;
        let given = [
            Some(&global.model),
            args.encoder.as_ref(),
            global.files.config.as_ref(),
        ];
        let of_hub = given
            .into_iter()
            .flatten()
            .filter(|name| !Path::new(name).exists());
        let of_hub: Vec<&str> = of_hub.map(String::as_str).collect();
        let fingerprint = self.pipeline.fingerprint()?;
        let layers = args
            .layers
            .as_ref()
            .map_or_else(|| "all".to_owned(), ToString::to_string);
        let rows = [
            (
                "model",
                format!("{} ({})", escaped(&self.pipeline.name), &fingerprint[..12]),
            ),
            (
                "encoder",
                format!(
                    "{} ({}), {}",
                    escaped(&clip.name),
                    &clip.sha256[..12],
                    clip.preprocessing
                ),
            ),
            (
                "sampler",
                format!(
                    "{}, {}, guidance {}",
                    options.sampler,
                    count(options.steps, "step"),
                    options.guidance
                ),
            ),
            (
                "pictures",
                format!(
                    "{} under each condition; picture i has seed {} + i",
                    args.count, global.seed
                ),
            ),
            ("layers", layers),
            (
                "random neurons",
                format!("{}, as many in each site", count(args.controls, "set")),
            ),
            (
                "loss",
                format!("{} of noise", count(args.loss_draws, "draw")),
            ),
            (
                "intervals",
                format!(
                    "95 %, bootstrap of {} resamples",
                    thousands(RESAMPLES as u64)
                ),
            ),
        ];
        let command = escaped(&command_line(&of_hub));
        Ok(html! {
            section {
                h2 { "How it was made" }
                pre { code { (command) } }
                table.settings { tbody {
                    @for (key, value) in &rows { tr { th scope="row" { (key) } td { (value) } } }
                } }
                @for outcome in self.outcomes {
                    @let prompts = &outcome.prompts[..outcome.prompts.len().min(args.count)];
                    (self.heading(outcome))
                    p.caption {
                        (escaped(&outcome.label)) ": method " (escaped(&outcome.index.provenance().method))
                        ", SHA-256 " code { (&outcome.index.sha256()[..12]) } ". Prompts:"
                    }
                    ol.prompts { @for prompt in prompts.iter().take(MOST_PROMPTS) { li { (escaped(&prompt.used)) } } }
                    @if prompts.len() > MOST_PROMPTS { p.caption { "and more" } }
                }
                p.dim { "Made by cones " (env!("CARGO_PKG_VERSION")) "." }
            }
        })
    }
}

//! The page of `cones eval --report`: one file with everything in it, without scripts.

mod answer;
mod axis;
mod command;
mod curve;
mod measured;
mod pictures;
mod plots;
mod settings;
mod tables;

use cones::escaped;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::measure::Outcome;
use super::report::Report;

const STYLE: &str = include_str!("style.css");
/// What a browser is to refuse: all but what is in the page itself.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";

impl Report<'_> {
    /// The page.
    pub(super) fn page(&self) -> anyhow::Result<String> {
        let title = self.title();
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta http-equiv="Content-Security-Policy" content=(POLICY);
                    meta name="generator" content=(format!("cones {}", env!("CARGO_PKG_VERSION")));
                    title { (title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    main {
                        header { h1 { (title) } (self.verdict()) p.dim { (self.facts()) } }
                        (self.pictures()?)
                        (self.plots()?)
                        (self.checks())
                        (self.doses()?)
                        (self.attention()?)
                        (self.neurons()?)
                        (self.figures()?)
                        (self.settings()?)
                    }
                }
            }
        };
        Ok(page.into_string())
    }

    /// What a heading of one of several indices says.
    fn heading(&self, outcome: &Outcome) -> Markup {
        html! { @if self.outcomes.len() > 1 { h3 { (escaped(&outcome.label)) } } }
    }

    fn pictures(&self) -> anyhow::Result<Markup> {
        let mut sheets = Vec::new();
        for outcome in self.outcomes {
            let sheet = pictures::sheet(outcome, &outcome.rows(), self.setting.global.seed)?;
            sheets.push((self.heading(outcome), sheet));
        }
        Ok(html! {
            section { h2 { "Pictures" } @for (heading, sheet) in &sheets { (heading) (sheet) } }
        })
    }

    fn attention(&self) -> anyhow::Result<Markup> {
        let mut all = Vec::new();
        for outcome in self
            .outcomes
            .iter()
            .filter(|outcome| !outcome.attended.is_empty())
        {
            all.push((
                self.heading(outcome),
                pictures::attention(&outcome.attended)?,
            ));
        }
        Ok(html! {
            @if !all.is_empty() {
                section {
                    h2 { "Where pictures attend to the subject's words" }
                    p.caption {
                        "With the concept shut; from dark violet at the least to light yellow at the most. Under each "
                        "map the least and the most probability with which a pixel attends to the word."
                    }
                    @for (heading, figures) in &all { (heading) (figures) }
                }
            }
        })
    }

    fn neurons(&self) -> anyhow::Result<Markup> {
        let overlaps = self.overlaps()?;
        Ok(html! {
            section {
                h2 { "Where the neurons sit" }
                @for (number, outcome) in self.outcomes.iter().enumerate() {
                    (self.heading(outcome)) (tables::neurons(outcome, number))
                }
            }
            @if !overlaps.is_empty() {
                section {
                    h2 { "Overlap" }
                    p.caption {
                        "Neurons that both shut, and how many times what chance would give; the colour is their share "
                        "of those of either."
                    }
                    (tables::overlaps(self.outcomes, &overlaps))
                }
            }
        })
    }

    fn figures(&self) -> anyhow::Result<Markup> {
        let mut all = Vec::new();
        for outcome in self.outcomes {
            all.push((self.heading(outcome), tables::figures(self, outcome)?));
        }
        Ok(html! {
            section { h2 { "All figures" } @for (heading, table) in &all { (heading) (table) } }
        })
    }
}

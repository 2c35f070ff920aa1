//! What a page says at once, and what that rests on.

use cones::escaped;
use cones::eval::{Answer, Metric, Summary, Verdict};
use maud::{Markup, html};

use super::super::measure::{Outcome, Setting};
use super::super::report::Report;
use super::super::tables::with_interval;
use super::plots::percent;
use crate::commands::{count, thousands};

impl Report<'_> {
    pub(super) fn title(&self) -> String {
        let named = |o: &Outcome| {
            format!(
                "{} in {}",
                escaped(&o.subject.to_string()),
                escaped(&o.label)
            )
        };
        let all: Vec<String> = self.outcomes.iter().map(named).collect();
        all.join(", ")
    }

    /// One sentence.
    pub(super) fn verdict(&self) -> Markup {
        let said = |verdict: &Verdict| {
            let text = verdict.to_string();
            let (answer, reasons) = text.split_once(": ").unwrap_or((&text, ""));
            let class = match verdict.answer {
                Answer::Yes => "yes",
                Answer::No => "no",
                Answer::CannotTell => "open",
            };
            (class, answer.to_owned(), escaped(reasons))
        };
        html! {
            @for outcome in self.outcomes {
                @if let Some((class, answer, reasons)) = outcome.figures.verdict.as_ref().map(said) {
                    p.verdict.(class) {
                        "Does shutting " (escaped(&outcome.label)) " bring out "
                        (escaped(&outcome.subject.to_string())) "? " strong { (answer) } ": " (reasons) "."
                    }
                } @else if let Some((share, s)) = self.nearest(outcome) {
                    p.verdict.open {
                        "Pictures are nearest to the photos with " strong { (share) } " of the neurons shut: "
                        "CLIP-I " (with_interval(&s, false)) "."
                    }
                }
            }
        }
    }

    /// The dose of the highest likeness.
    fn nearest(&self, outcome: &Outcome) -> Option<(String, Summary)> {
        let doses = outcome.figures.doses.iter().filter_map(|dose| {
            let summary = self
                .summed(&dose.shut.values)
                .ok()?
                .get(&Metric::ClipI)
                .copied()?;
            Some((percent(dose.dose.index.extent().density), summary))
        });
        doses.max_by(|(_, a), (_, b)| a.mean.total_cmp(&b.mean))
    }

    pub(super) fn facts(&self) -> String {
        let Setting { global, args, .. } = self.setting;
        let outcomes = self.outcomes.iter().filter_map(|outcome| {
            let index = &outcome.lone()?.dose.index;
            let extent = index.extent();
            Some(format!(
                "{}: {} of {} neurons shut ({}), scope {}",
                escaped(&outcome.label),
                thousands(extent.shut),
                thousands(extent.total),
                percent(extent.density),
                index.provenance().scope,
            ))
        });
        let drawn = format!(
            "{} under each condition with seeds from {}, drawn by {}",
            count(args.count, "picture"),
            global.seed,
            escaped(&self.pipeline.name),
        );
        outcomes.chain([drawn]).collect::<Vec<_>>().join("; ")
    }

    /// What the verdict rests on.
    pub(super) fn checks(&self) -> Markup {
        let verdicts = self
            .outcomes
            .iter()
            .filter_map(|o| Some((o, o.figures.verdict.as_ref()?)));
        let verdicts: Vec<_> = verdicts.collect();
        html! {
            @if !verdicts.is_empty() {
                section {
                    h2 { "What the answer rests on" }
                    @for (outcome, verdict) in verdicts {
                        (self.heading(outcome))
                        ul.checks {
                            @for check in verdict.measuring.iter().chain(&verdict.concept) {
                                li { strong { (check.answer) } ": " (escaped(&check.finding)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

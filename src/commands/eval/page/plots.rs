//! Plots as SVG. Their marks carry the arm as class, and their axes the texts of round values, so that numbers can be
//! read back from them.

use cones::eval::Summary;
use cones::index::BlockCount;
use maud::{Markup, html};

use super::axis::Axis;

/// A plot is as wide as a small phone's screen, so that its text has its own size there.
pub(super) const WIDTH: f64 = 360.0;
/// Of a line of text, and of a row of marks.
const LINE: f64 = 22.0;

/// A mean with its interval, in a row of its own.
pub(super) struct Row {
    /// The class of the marks.
    pub(super) arm: &'static str,
    pub(super) label: String,
    pub(super) summary: Summary,
}

/// Rows under a heading, which may be empty.
pub(super) struct Group {
    pub(super) heading: String,
    pub(super) rows: Vec<Row>,
}

pub(super) fn px(value: f64) -> String {
    format!("{value:.2}")
}

/// What a mark stands for, for who hovers over it or cannot see it.
pub(super) fn said(label: &str, s: &Summary) -> String {
    let [low, high] = s.interval;
    format!("{label}: {:.4} ({low:.4} to {high:.4})", s.mean)
}

/// A line of a plot of intervals.
enum Line<'a> {
    Heading(&'a str),
    Row(&'a Row),
}

/// Means with their intervals under each other.
pub(super) fn intervals(id: &str, title: &str, groups: &[Group]) -> Markup {
    const LABELS: f64 = 84.0;
    const NUMBERS: f64 = 52.0;
    let rows = groups.iter().flat_map(|group| &group.rows);
    let ends = rows.flat_map(|row| row.summary.interval);
    let axis = Axis::new(ends, [LABELS, WIDTH - NUMBERS]);
    let lines: Vec<Line> = groups
        .iter()
        .flat_map(|group| {
            let heading = Some(group.heading.as_str()).filter(|heading| !heading.is_empty());
            let rows = group.rows.iter().map(Line::Row);
            heading.map(Line::Heading).into_iter().chain(rows)
        })
        .collect();
    let bottom = lines.len() as f64 * LINE + 4.0;
    let lines = lines.into_iter().enumerate();
    let lines = lines.map(|(at, line)| ((at as f64 + 0.5) * LINE, line));
    html! {
        figure.plot {
            figcaption { (title) }
            svg id=(id) viewBox=(format!("0 0 {WIDTH} {}", bottom + 26.0)) role="img" aria-label=(title) {
                @for (value, text) in axis.ticks() {
                    @let x = px(axis.at(value));
                    line.grid x1=(x) x2=(x) y1="0" y2=(px(bottom)) {}
                    text.tick x=(x) y=(px(bottom + 16.0)) text-anchor="middle" { (text) }
                }
                @for (y, line) in lines {
                    @match line {
                        Line::Heading(heading) => text.heading x="0" y=(px(y + 4.0)) { (heading) }
                        Line::Row(Row { arm, label, summary: s }) => {
                            @let [low, high] = s.interval.map(|value| px(axis.at(value)));
                            g class=(arm) {
                                title { (said(label, s)) }
                                text.label x="0" y=(px(y + 4.0)) { (label) }
                                line.whisker x1=(low) x2=(high) y1=(px(y)) y2=(px(y)) {}
                                circle.dot cx=(px(axis.at(s.mean))) cy=(px(y)) r="4.5" {}
                                text.number x=(px(WIDTH)) y=(px(y + 4.0)) text-anchor="end" {
                                    (format!("{:.3}", s.mean))
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Two digits that say something: `0.25 %`, `12 %`.
pub(super) fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    match percent {
        large if large >= 9.95 => format!("{large:.0} %"),
        middle if middle >= 0.995 => format!("{middle:.1} %"),
        small => format!("{small:.2} %"),
    }
}

/// How a block's neurons are spread over the rows of its matrices: a stripe for each few rows, the darker the more.
pub(super) fn strip(id: &str, count: &BlockCount) -> Markup {
    const STRIPES: usize = 64;
    let rows = count.by_row.len();
    let stripes = STRIPES.min(rows);
    let of = |stripe: usize| -> u64 {
        let range = stripe * rows / stripes..(stripe + 1) * rows / stripes;
        count.by_row[range].iter().sum()
    };
    let sums: Vec<u64> = (0..stripes).map(of).collect();
    let most = sums.iter().copied().max().unwrap_or(0).max(1) as f64;
    html! {
        svg.strip id=(id) viewBox=(format!("0 0 {} 12", 3 * stripes.max(1))) preserveAspectRatio="none" role="img"
            aria-label="neurons by row" {
            @for (stripe, sum) in sums.iter().enumerate() {
                @if *sum > 0 {
                    rect.stripe x=(3 * stripe) y="0" width="3" height="12"
                        fill-opacity=(format!("{:.2}", (*sum as f64 / most).max(0.08))) {}
                }
            }
        }
    }
}

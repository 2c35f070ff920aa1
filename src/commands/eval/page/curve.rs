//! The plot of a sweep as SVG, as those of `plots` are.

use cones::eval::Summary;
use maud::{Markup, html};

use super::axis::Axis;
use super::plots::{WIDTH, percent, px, said};

/// A dose: the share of neurons, and the figures of its arms.
pub(super) struct Point {
    pub(super) density: f64,
    pub(super) arms: Vec<(&'static str, Summary)>,
}

/// Figures over the share of neurons shut, which is spread by its logarithm; `plain` is a band across.
pub(super) fn curve(id: &str, title: &str, plain: Option<&Summary>, points: &[Point]) -> Markup {
    const LEFT: f64 = 40.0;
    const BOTTOM: f64 = 190.0;
    let of_plain = plain.into_iter().flat_map(|s| s.interval);
    let of_points = points.iter().flat_map(|point| &point.arms);
    let ends = of_plain.chain(of_points.flat_map(|(_, s)| s.interval));
    let y = Axis::new(ends, [BOTTOM, 10.0]);
    let logs = || points.iter().map(|point| point.density.max(1e-9).log10());
    let (low, high) = (
        logs().fold(f64::INFINITY, f64::min),
        logs().fold(f64::NEG_INFINITY, f64::max),
    );
    let span = (high - low).max(1e-9);
    let x = |density: f64| match high - low < 1e-9 {
        true => (LEFT + WIDTH) / 2.0,
        false => LEFT + 16.0 + (density.max(1e-9).log10() - low) / span * (WIDTH - LEFT - 36.0),
    };
    let arms: Vec<&'static str> = ["control", "shut"]
        .into_iter()
        .filter(|arm| {
            points
                .iter()
                .any(|point| point.arms.iter().any(|(of, _)| of == arm))
        })
        .collect();
    let of = |arm: &'static str| {
        let found = move |point: &Point| {
            let summary = point
                .arms
                .iter()
                .find(|(of, _)| *of == arm)
                .map(|(_, s)| *s);
            summary.map(|s| (point.density, s))
        };
        points
            .iter()
            .filter_map(found)
            .collect::<Vec<(f64, Summary)>>()
    };
    let path = |arm| {
        let points = of(arm).into_iter();
        let points = points.map(|(density, s)| format!("{},{}", px(x(density)), px(y.at(s.mean))));
        points.collect::<Vec<_>>().join(" ")
    };
    // Labels of doses that would run into each other are left out.
    let mut labels: Vec<(f64, String)> = Vec::new();
    for point in points {
        let place = x(point.density);
        if labels.last().is_none_or(|(last, _)| place - last > 40.0) {
            labels.push((place, percent(point.density)));
        }
    }
    html! {
        figure.plot {
            figcaption { (title) }
            svg id=(id) viewBox=(format!("0 0 {WIDTH} {}", BOTTOM + 42.0)) role="img" aria-label=(title) {
                @for (value, text) in y.ticks() {
                    @let place = y.at(value);
                    line.grid x1=(px(LEFT)) x2=(px(WIDTH)) y1=(px(place)) y2=(px(place)) {}
                    text.tick x=(px(LEFT - 6.0)) y=(px(place + 4.0)) text-anchor="end" { (text) }
                }
                @if let Some(s) = plain {
                    @let [bottom, top] = s.interval.map(|value| y.at(value));
                    g.plain {
                        title { (said("plain", s)) }
                        rect.band x=(px(LEFT)) width=(px(WIDTH - LEFT)) y=(px(top)) height=(px(bottom - top)) {}
                        line.whisker x1=(px(LEFT)) x2=(px(WIDTH)) y1=(px(y.at(s.mean))) y2=(px(y.at(s.mean))) {}
                    }
                }
                @for arm in arms {
                    g class=(arm) {
                        polyline.course points=(path(arm)) {}
                        @for (density, s) in of(arm) {
                            @let place = px(x(density));
                            @let [low, high] = s.interval.map(|value| px(y.at(value)));
                            line.whisker x1=(place) x2=(place) y1=(low) y2=(high) {}
                            circle.dot cx=(place) cy=(px(y.at(s.mean))) r="4" {
                                title { (said(&percent(density), &s)) }
                            }
                        }
                    }
                }
                @for (place, text) in &labels {
                    text.tick x=(px(*place)) y=(px(BOTTOM + 18.0)) text-anchor="middle" { (text) }
                }
                text.tick x=(px((LEFT + WIDTH) / 2.0)) y=(px(BOTTOM + 36.0)) text-anchor="middle" { "neurons shut" }
            }
        }
    }
}

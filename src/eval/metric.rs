//! What is measured, and how conditions are compared.

use std::collections::BTreeMap;
use std::fmt;

use super::statistics::Summary;
use crate::Result;

/// A measured quantity. Of one picture: the first five. Of one noisy picture: the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// Mean cosine of a drawn picture's embedding and those of the photos.
    ClipI,
    /// Cosine of a drawn picture's embedding and that of its prompt, the token left out.
    ClipT,
    /// 2.5·max(CLIP-T, 0).
    ClipScore,
    /// How clearly a picture shows the class: its cosine with "a photo of a NOUN", less the mean of those with the same
    /// of other nouns.
    ClassMargin,
    /// How clearly a picture shows its own scene: CLIP-T, less the mean of its cosines with the other prompts and with
    /// "a photo of a NOUN"; 0 where there is no other text.
    SceneMargin,
    /// The concept-implanting loss on noise that `find` did not see.
    Loss,
    /// Its first part: the squared error on the photos.
    SubjectLoss,
    /// Its second part: the squared error on the class pictures, before the prior weight.
    ClassLoss,
    /// How far the predictions for noisy class pictures moved from the plain model's: their mean squared difference.
    /// Unlike the class loss it sees every change, also one that leaves the error as it was.
    PriorDrift,
}

impl Metric {
    /// All metrics.
    pub const ALL: [Self; 9] = [
        Self::ClipI,
        Self::ClipT,
        Self::ClipScore,
        Self::ClassMargin,
        Self::SceneMargin,
        Self::Loss,
        Self::SubjectLoss,
        Self::ClassLoss,
        Self::PriorDrift,
    ];

    /// Those of drawn pictures; the others are of noisy ones.
    pub const OF_PICTURES: [Self; 5] = [
        Self::ClipI,
        Self::ClipT,
        Self::ClipScore,
        Self::ClassMargin,
        Self::SceneMargin,
    ];
}

/// The key in JSON.
impl AsRef<str> for Metric {
    fn as_ref(&self) -> &str {
        match self {
            Self::ClipI => "clip_i",
            Self::ClipT => "clip_t",
            Self::ClipScore => "clip_score",
            Self::ClassMargin => "class_margin",
            Self::SceneMargin => "scene_margin",
            Self::Loss => "l_con",
            Self::SubjectLoss => "subject_loss",
            Self::ClassLoss => "class_loss",
            Self::PriorDrift => "prior_drift",
        }
    }
}

/// The name in tables.
impl fmt::Display for Metric {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::ClipI => "CLIP-I",
            Self::ClipT => "CLIP-T",
            Self::ClipScore => "CLIPScore",
            Self::ClassMargin => "class margin",
            Self::SceneMargin => "scene margin",
            Self::Loss => "L_con",
            Self::SubjectLoss => "subject loss",
            Self::ClassLoss => "class loss",
            Self::PriorDrift => "prior drift",
        })
    }
}

/// What one condition came to: for each metric a value for each picture, or for each noisy picture.
pub type Values = BTreeMap<Metric, Vec<f64>>;

/// The mean of each metric and its interval.
///
/// # Errors
/// Never, with fewer than 2^63 values of a metric.
pub fn summaries(values: &Values, seed: u64) -> Result<BTreeMap<Metric, Summary>> {
    let summary = |(&metric, values): (&Metric, &Vec<f64>)| {
        Summary::of(values, seed).map(|summary| summary.map(|s| (metric, s)))
    };
    values
        .iter()
        .filter_map(|v| summary(v).transpose())
        .collect()
}

/// a − b, value by value, for the metrics that both have.
pub(crate) fn differences(a: &Values, b: &Values) -> Values {
    beyond(a, b, 1.0)
}

/// What is in a beyond a share of b, value by value.
pub(crate) fn beyond(a: &Values, b: &Values, share: f64) -> Values {
    combine(&[a, b], |pair| pair[0] - share * pair[1])
}

/// The mean of several conditions, value by value; empty of none.
pub(crate) fn mean_of(all: &[&Values]) -> Values {
    combine(all, |values| {
        values.iter().sum::<f64>() / values.len() as f64
    })
}

/// One value of each condition at a time to one value.
fn combine(all: &[&Values], one: impl Fn(&[f64]) -> f64) -> Values {
    let Some((first, rest)) = all.split_first() else {
        return Values::new();
    };
    let mut combined = Values::new();
    for (metric, values) in *first {
        let Some(others) = rest
            .iter()
            .map(|v| v.get(metric))
            .collect::<Option<Vec<_>>>()
        else {
            continue;
        };
        let length = others
            .iter()
            .map(|v| v.len())
            .fold(values.len(), usize::min);
        let at = |i: usize| {
            let values: Vec<f64> = [values].iter().chain(&others).map(|v| v[i]).collect();
            one(&values)
        };
        combined.insert(*metric, (0..length).map(at).collect());
    }
    combined
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(clip_i: &[f64]) -> Values {
        [(Metric::ClipI, clip_i.to_vec())].into()
    }

    #[test]
    fn conditions_are_compared_value_by_value() {
        let (a, b) = (values(&[0.5, 0.25]), values(&[0.25, 0.75]));
        assert_eq!(differences(&a, &b)[&Metric::ClipI], [0.25, -0.5]);
        assert_eq!(mean_of(&[&a, &b])[&Metric::ClipI], [0.375, 0.5]);
        assert_eq!(beyond(&a, &b, 0.5)[&Metric::ClipI], [0.375, -0.125]);
        assert!(mean_of(&[]).is_empty());
        assert!(differences(&a, &Values::new()).is_empty());
    }

    #[test]
    fn a_metric_without_values_has_no_summary() {
        assert!(summaries(&values(&[]), 0).unwrap().is_empty());
        assert_eq!(summaries(&values(&[1.0]), 0).unwrap().len(), 1);
    }
}

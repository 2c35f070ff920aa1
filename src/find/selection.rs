//! From scores to a set of neurons.

use std::collections::BTreeMap;

use crate::index::{Provenance, Site};
use crate::{Error, Result};

/// Which neurons to shut.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Selection {
    /// Every neuron whose score is at least this: the paper's τ.
    Threshold(f32),
    /// The neurons of the highest scores, as many as this share of all neurons searched, and only positive scores.
    Density(f64),
}

impl Selection {
    /// What files say of it: a setting's name and value.
    pub(super) fn setting(self) -> (&'static str, String) {
        match self {
            Self::Threshold(threshold) => ("threshold", threshold.to_string()),
            Self::Density(density) => ("density", density.to_string()),
        }
    }
}

/// That of a run that a file is of.
///
/// # Errors
/// If the file says none, or what cannot be one.
impl TryFrom<&Provenance> for Selection {
    type Error = Error;

    fn try_from(plan: &Provenance) -> Result<Self> {
        let text = |key: &str| plan.settings.get(key);
        let threshold = text("threshold").and_then(|text| text.parse().ok());
        let share = text("density").and_then(|text| text.parse().ok());
        let threshold = threshold.filter(|threshold: &f32| threshold.is_finite());
        let share = share.filter(|share| (0.0..=1.0).contains(share));
        (threshold.map(Self::Threshold))
            .or(share.map(Self::Density))
            .ok_or_else(|| Error::value("scores", "a run's threshold or density", "none"))
    }
}

/// The indices of the neurons to shut, ascending, for every site that has scores.
///
/// Of equal scores at the limit of a density, those come first that are first by name of site and then by index.
///
/// # Errors
/// If a score is not a number.
pub(crate) fn select(
    scores: &BTreeMap<Site, Vec<f32>>,
    selection: Selection,
) -> Result<BTreeMap<Site, Vec<u32>>> {
    if let Some((site, _)) = scores
        .iter()
        .find(|(_, s)| s.iter().any(|v| !v.is_finite()))
    {
        return Err(Error::Value {
            name: format!("scores of `{site}`"),
            expected: "finite numbers".to_owned(),
            found: "infinity or not a number".to_owned(),
        });
    }
    let (limit, mut at_limit) = match selection {
        Selection::Threshold(threshold) => (threshold, usize::MAX),
        Selection::Density(density) => limit(scores, density),
    };
    let mut chosen = BTreeMap::new();
    for (site, scores) in scores {
        let mut indices = Vec::new();
        for (i, &score) in (0u32..).zip(scores) {
            let take = if score > limit {
                true
            } else if score >= limit && at_limit > 0 {
                at_limit -= 1;
                true
            } else {
                false
            };
            if take {
                indices.push(i);
            }
        }
        chosen.insert(site.clone(), indices);
    }
    Ok(chosen)
}

/// How far two choices of neurons are the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stability {
    /// Neurons that both choose, as a share of the smaller choice.
    pub shared: f64,
    /// The share that chance would give: two random sets with as many neurons in every site.
    pub by_chance: f64,
}

/// How far two estimates of the scores choose the same neurons.
///
/// # Errors
/// If a score is not a number.
pub(crate) fn stability(
    first: &BTreeMap<Site, Vec<f32>>,
    second: &BTreeMap<Site, Vec<f32>>,
    selection: Selection,
) -> Result<Stability> {
    let chosen = [select(first, selection)?, select(second, selection)?];
    let (mut shared, mut by_chance, mut sizes) = (0, 0.0, [0, 0]);
    for (site, a) in &chosen[0] {
        let Some(b) = chosen[1].get(site) else {
            continue;
        };
        shared += a.iter().filter(|i| b.binary_search(i).is_ok()).count();
        by_chance += a.len() as f64 * b.len() as f64 / first[site].len().max(1) as f64;
        sizes = [sizes[0] + a.len(), sizes[1] + b.len()];
    }
    let smaller = sizes[0].min(sizes[1]).max(1) as f64;
    Ok(Stability {
        shared: shared as f64 / smaller,
        by_chance: by_chance / smaller,
    })
}

/// The lowest score that a density takes, and how many neurons of exactly that score it takes.
fn limit(scores: &BTreeMap<Site, Vec<f32>>, density: f64) -> (f32, usize) {
    let total: usize = scores.values().map(Vec::len).sum();
    let mut positive: Vec<f32> = scores
        .values()
        .flatten()
        .copied()
        .filter(|&s| s > 0.0)
        .collect();
    let count = ((total as f64 * density).round() as usize).min(positive.len());
    if count == 0 {
        return (f32::INFINITY, 0);
    }
    let (above, &mut limit, _) = positive.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
    let higher = above.iter().filter(|&&s| s > limit).count();
    (limit, count - higher)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(values: &[&[f32]]) -> BTreeMap<Site, Vec<f32>> {
        let site = |i| {
            format!("mid_block.attentions.0.transformer_blocks.{i}.attn2.to_k.weight")
                .parse()
                .unwrap()
        };
        values
            .iter()
            .enumerate()
            .map(|(i, v)| (site(i), v.to_vec()))
            .collect()
    }

    fn chosen(values: &[&[f32]], selection: Selection) -> Vec<Vec<u32>> {
        select(&scores(values), selection)
            .unwrap()
            .into_values()
            .collect()
    }

    #[test]
    fn a_threshold_takes_what_reaches_it() {
        assert_eq!(
            chosen(&[&[0.1, 0.5, -1.0], &[0.5, 0.2]], Selection::Threshold(0.5)),
            [vec![1], vec![0]]
        );
    }

    #[test]
    fn a_density_takes_its_share_of_all() {
        let values: &[&[f32]] = &[&[0.1, 0.5, -1.0, 0.4], &[0.3, 0.2, 0.0, 0.05, 0.6, 0.01]];
        assert_eq!(
            chosen(values, Selection::Density(0.3)),
            [vec![1, 3], vec![4]]
        );
    }

    #[test]
    fn a_density_takes_positive_scores_only() {
        assert_eq!(
            chosen(&[&[0.1, -0.5, 0.0], &[-0.2]], Selection::Density(1.0)),
            [vec![0], vec![]]
        );
    }

    #[test]
    fn ties_at_the_limit_go_by_name_and_index() {
        assert_eq!(
            chosen(&[&[0.5, 0.5], &[0.5, 0.9]], Selection::Density(0.5)),
            [vec![0], vec![1]]
        );
    }

    #[test]
    fn stability_is_the_shared_part_beside_chance() {
        let (a, b) = (
            scores(&[&[0.9, 0.8, 0.1, 0.0]]),
            scores(&[&[0.9, 0.1, 0.8, 0.0]]),
        );
        let half = stability(&a, &b, Selection::Density(0.5)).unwrap();
        assert_eq!(
            half,
            Stability {
                shared: 0.5,
                by_chance: 0.5
            }
        );
        assert_eq!(
            stability(&a, &a, Selection::Density(0.25)).unwrap().shared,
            1.0
        );
        let none = stability(&a, &b, Selection::Threshold(5.0)).unwrap();
        assert_eq!(
            none,
            Stability {
                shared: 0.0,
                by_chance: 0.0
            }
        );
    }

    #[test]
    fn scores_that_are_no_numbers_are_refused() {
        assert!(select(&scores(&[&[f32::NAN]]), Selection::Density(0.5)).is_err());
    }
}

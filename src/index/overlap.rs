//! How far two concepts share neurons, against what chance would give.
//!
//! If one concept shuts `k1` of the `n` weights of a site and another `k2`, chosen at random, the number that both shut
//! is hypergeometric: its mean is `k1·k2 / n`, its variance `k1·k2/n · (n - k1)/n · (n - k2)/(n - 1)`.
//!
//! Over all sites the expectation is the sum of the sites' means and variances: what is left to chance is which weights
//! of a site are shut, not how many. So two concepts that merely prefer the same sites do not look related.

use std::collections::BTreeSet;

use super::concept::NeuronIndex;
use super::set::NeuronSet;
use super::site::Site;
use crate::{IndexError, Result};

/// How many neurons two sets share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Overlap {
    /// The neurons of the first concept.
    pub first: u64,
    /// The neurons of the second concept.
    pub second: u64,
    /// The neurons of both.
    pub shared: u64,
    /// All weights that could have been neurons.
    pub weight_count: u64,
    /// The shared neurons that chance would give on average.
    pub expected: f64,
    /// The standard deviation of what chance would give.
    pub deviation: f64,
    /// Shared / expected: 1 is chance; nothing if none are expected.
    pub ratio: Option<f64>,
    /// Shared neurons / neurons of either; nothing if neither has any.
    pub jaccard: Option<f64>,
    /// How many standard deviations the shared neurons are above chance; nothing if chance has no room.
    pub z_score: Option<f64>,
}

/// What adds up over sites.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    first: u64,
    second: u64,
    shared: u64,
    weight_count: u64,
    expected: f64,
    variance: f64,
}

impl Sums {
    /// Of the numbers of one set of weights: those shut by each and by both, and all.
    fn of(first: u64, second: u64, shared: u64, weight_count: u64) -> Self {
        let (k1, k2, n) = (first as f64, second as f64, weight_count as f64);
        let expected = if weight_count == 0 { 0.0 } else { k1 * k2 / n };
        let variance = if weight_count < 2 {
            0.0
        } else {
            expected * ((n - k1) / n) * ((n - k2) / (n - 1.0))
        };
        Self {
            first,
            second,
            shared,
            weight_count,
            expected,
            variance,
        }
    }

    fn overlap(self) -> Overlap {
        let (shared, deviation) = (self.shared as f64, self.variance.sqrt());
        let either = (self.first + self.second).saturating_sub(self.shared);
        Overlap {
            first: self.first,
            second: self.second,
            shared: self.shared,
            weight_count: self.weight_count,
            expected: self.expected,
            deviation,
            ratio: ratio(shared, self.expected),
            jaccard: ratio(shared, either as f64),
            z_score: ratio(shared - self.expected, deviation),
        }
    }
}

/// A quotient, if there is one.
fn ratio(above: f64, below: f64) -> Option<f64> {
    (below > 0.0).then(|| above / below)
}

/// How far two concepts share neurons, by site and in all.
#[derive(Debug, Clone, PartialEq)]
pub struct OverlapReport {
    /// Each site, in order of name.
    pub sites: Vec<(Site, Overlap)>,
    /// All sites.
    pub total: Overlap,
}

impl OverlapReport {
    /// Compares two concepts over the sites of either; a site that one of them lacks is empty in it.
    ///
    /// # Errors
    /// [`Error::Index`](crate::Error::Index) if they have a site in different shapes. That they are of one model is for
    /// the caller to see: indices of fine-tuned models may well be compared.
    pub fn new(first: &NeuronIndex, second: &NeuronIndex) -> Result<Self> {
        let names: BTreeSet<&Site> = first
            .sites()
            .chain(second.sites())
            .map(|(site, _)| site)
            .collect();
        let mut sites = Vec::with_capacity(names.len());
        let mut total = Sums::default();
        for site in names {
            let one = compare(site, first.site(site), second.site(site))?;
            total.first += one.first;
            total.second += one.second;
            total.shared += one.shared;
            total.weight_count = total.weight_count.saturating_add(one.weight_count);
            total.expected += one.expected;
            total.variance += one.variance;
            sites.push((site.clone(), one.overlap()));
        }
        let total = total.overlap();
        Ok(Self { sites, total })
    }
}

/// The overlap in one site.
fn compare(site: &Site, first: Option<&NeuronSet>, second: Option<&NeuronSet>) -> Result<Sums> {
    if let (Some(first), Some(second)) = (first, second)
        && first.shape() != second.shape()
    {
        let differ = IndexError::DifferentShapes {
            site: site.to_string(),
            first: first.shape(),
            second: second.shape(),
        };
        return Err(differ.into());
    }
    let weight_count = first.or(second).map_or(0, NeuronSet::weight_count);
    let count = |set: Option<&NeuronSet>| set.map_or(0, |set| set.count() as u64);
    let both = first.zip(second);
    let shared = both.map_or(0, |(first, second)| shared(first.iter(), second.iter()));
    Ok(Sums::of(count(first), count(second), shared, weight_count))
}

/// The number of indices in both of two ascending sets.
fn shared(first: impl Iterator<Item = u32>, second: impl Iterator<Item = u32>) -> u64 {
    let mut others = second.peekable();
    let in_both = first.filter(|index| {
        while others.next_if(|other| other < index).is_some() {}
        others.peek() == Some(index)
    });
    in_both.count() as u64
}

#[cfg(test)]
mod tests {
    use super::super::concept::tests::{concept, site};
    use super::*;

    #[test]
    fn numbers_of_a_small_case() {
        let first = concept(
            "dog",
            &[
                (site(0), [4, 5], &[0, 1, 2, 3, 10]),
                (site(1), [2, 5], &[7]),
            ],
        );
        let second = concept(
            "cat",
            &[(site(0), [4, 5], &[1, 3, 4, 19]), (site(2), [3, 3], &[])],
        );
        let report = OverlapReport::new(&first, &second).unwrap();

        let names: Vec<&Site> = report.sites.iter().map(|(site, _)| site).collect();
        assert_eq!(names, [&site(0), &site(1), &site(2)]);
        let one = report.sites[0].1;
        assert_eq!(
            (one.first, one.second, one.shared, one.weight_count),
            (5, 4, 2, 20)
        );
        assert_eq!(one.jaccard, Some(2.0 / 7.0));
        assert_eq!(one.expected, 1.0);
        assert_eq!(one.ratio, Some(2.0));
        // scipy.stats.hypergeom(20, 5, 4).std() = 0.7947…
        assert!((one.deviation - 0.794_719_414).abs() < 1e-9);
        assert!((one.z_score.unwrap() - 1.258_305_739).abs() < 1e-9);

        let absent = report.sites[1].1;
        assert_eq!(
            (
                absent.first,
                absent.second,
                absent.shared,
                absent.weight_count
            ),
            (1, 0, 0, 10)
        );
        assert_eq!(
            (absent.jaccard, absent.ratio, absent.z_score),
            (Some(0.0), None, None)
        );
        assert_eq!(report.sites[2].1.jaccard, None);

        let total = report.total;
        assert_eq!(
            (total.first, total.second, total.shared, total.weight_count),
            (6, 4, 2, 39)
        );
        assert_eq!(total.expected, 1.0);
    }

    #[test]
    fn chance_is_what_random_sets_share() {
        // All pairs of 2-sets of 5: the mean and the variance of what they share, by counting.
        let pairs: Vec<Vec<u32>> = (0..5)
            .flat_map(|a| (a + 1..5).map(move |b| vec![a, b]))
            .collect();
        let counts: Vec<f64> = pairs
            .iter()
            .flat_map(|a| {
                (pairs.iter()).map(|b| shared(a.iter().copied(), b.iter().copied()) as f64)
            })
            .collect();
        let mean = counts.iter().sum::<f64>() / counts.len() as f64;
        let variance = counts
            .iter()
            .map(|count| (count - mean).powi(2))
            .sum::<f64>()
            / counts.len() as f64;
        let chance = Sums::of(2, 2, 0, 5).overlap();
        assert!((chance.expected - mean).abs() < 1e-12);
        assert!((chance.deviation - variance.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn other_shapes_are_refused() {
        let first = concept("dog", &[(site(0), [4, 5], &[0])]);
        let second = concept("cat", &[(site(0), [5, 4], &[0])]);
        let error = OverlapReport::new(&first, &second).unwrap_err().to_string();
        assert!(error.contains("expected [4, 5], found [5, 4]"), "{error}");
    }
}

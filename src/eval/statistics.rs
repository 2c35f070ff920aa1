//! Means with the uncertainty that the number of samples leaves.

use std::cmp::Ordering;

use serde::Serialize;

use crate::Result;
use crate::sampling::Generator;

/// Resamples of the bootstrap: enough for the second digit of an interval's width.
pub const RESAMPLES: usize = 2000;
/// Shares of the resamples' means below the interval and up to its end.
const INTERVAL: [f64; 2] = [0.025, 0.975];

/// A mean, and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// The mean.
    pub mean: f64,
    /// Standard deviation of the values, with n − 1; 0 of a single one.
    pub sd: f64,
    /// The 95 % bootstrap interval of the mean.
    pub interval: [f64; 2],
    /// How many values.
    pub n: usize,
}

impl Summary {
    /// Sums up values; the bootstrap draws from a generator of this seed. `None` where there is no value.
    ///
    /// A resample takes as many values as there are, each at random, with repetition. The interval is between the
    /// 2.5 % and 97.5 % quantiles of [`RESAMPLES`] such means.
    ///
    /// # Errors
    /// Never, with fewer than 2^63 values.
    pub(crate) fn of(values: &[f64], seed: u64) -> Result<Option<Self>> {
        let n = values.len();
        if n == 0 {
            return Ok(None);
        }
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        let mut generator = Generator::new(seed);
        let mut means = (0..RESAMPLES)
            .map(|_| {
                let chosen = generator.randint(0, n as i64, n)?;
                Ok(chosen.iter().map(|&i| values[i as usize]).sum::<f64>() / n as f64)
            })
            .collect::<Result<Vec<_>>>()?;
        means.sort_by(f64::total_cmp);
        Ok(Some(Self {
            mean,
            sd: (squares / (n - 1).max(1) as f64).sqrt(),
            interval: INTERVAL.map(|share| quantile(&means, share)),
            n,
        }))
    }

    /// On which side of zero the whole interval lies; `Equal` where zero is within it.
    pub(crate) fn sign(&self) -> Ordering {
        match self.interval {
            [low, _] if low > 0.0 => Ordering::Greater,
            [_, high] if high < 0.0 => Ordering::Less,
            _ => Ordering::Equal,
        }
    }
}

/// A quantile of sorted values, linear between neighbours; there is at least one value.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> Summary {
        Summary::of(values, 3).unwrap().unwrap()
    }

    #[test]
    fn equal_values_leave_no_doubt() {
        let summary = of(&[0.25; 9]);
        assert_eq!(
            summary,
            Summary {
                mean: 0.25,
                sd: 0.0,
                interval: [0.25; 2],
                n: 9
            }
        );
        assert!(summary.sign().is_gt());
        assert_eq!(of(&[2.0]).interval, [2.0; 2]);
        assert_eq!(Summary::of(&[], 3).unwrap(), None);
    }

    /// For many normal values the interval is that of the normal distribution, mean ± 1.96·sd/√n.
    #[test]
    fn the_interval_is_as_wide_as_it_should_be() {
        let values: Vec<f64> = Generator::new(5)
            .randn(400)
            .into_iter()
            .map(f64::from)
            .collect();
        let summary = of(&values);
        let half = 1.96 * summary.sd / 20.0;
        for (end, want) in summary
            .interval
            .iter()
            .zip([summary.mean - half, summary.mean + half])
        {
            assert!((end - want).abs() < 0.1 * half, "{summary:?}");
        }
        assert_eq!(of(&values), summary);
        assert_ne!(Summary::of(&values, 4).unwrap().unwrap(), summary);
    }

    #[test]
    fn quantiles_are_between_neighbours() {
        assert!((quantile(&[1.0, 2.0, 4.0], 0.75) - 3.0).abs() < 1e-12);
        assert!((quantile(&[1.0, 2.0, 4.0], 1.0) - 4.0).abs() < 1e-12);
    }
}

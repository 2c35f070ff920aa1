//! From values to places on a plot.

/// About as many ticks as an axis has.
const TICKS: f64 = 4.0;

/// Values from one end of an axis to the other, and where these are in the plot.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    values: [f64; 2],
    places: [f64; 2],
    step: f64,
}

impl Axis {
    /// An axis with round ends around all values.
    pub(super) fn new(values: impl Iterator<Item = f64>, places: [f64; 2]) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite()) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if high - low < 1e-9 {
            (low, high) = (low - 0.5e-3, high + 0.5e-3);
        }
        let rough = (high - low) / TICKS;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power);
        let step = step
            .into_iter()
            .find(|step| *step >= rough)
            .unwrap_or(rough);
        Self {
            values: [(low / step).floor() * step, (high / step).ceil() * step],
            places,
            step,
        }
    }

    /// Where a value is.
    pub(super) fn at(&self, value: f64) -> f64 {
        let ([low, high], [from, to]) = (self.values, self.places);
        from + (value - low) / (high - low) * (to - from)
    }

    /// The round values of the axis, each with its text.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        let [low, high] = self.values;
        let count = ((high - low) / self.step).round() as usize;
        let digits = (-self.step.log10().floor()).max(0.0) as usize;
        let value = |tick: usize| low + tick as f64 * self.step;
        (0..=count)
            .map(|tick| (value(tick), format!("{:.digits$}", value(tick))))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_ends() {
        for (values, ticks) in [
            (
                &[0.123, 0.471][..],
                &["0.1", "0.2", "0.3", "0.4", "0.5"][..],
            ),
            (&[-0.02, 0.05], &["-0.02", "0.00", "0.02", "0.04", "0.06"]),
            (&[3.0, 41.0], &["0", "10", "20", "30", "40", "50"]),
            (&[], &["0.0", "0.5", "1.0"]),
        ] {
            let axis = Axis::new(values.iter().copied(), [10.0, 110.0]);
            let found = axis.ticks();
            let texts: Vec<&str> = found.iter().map(|(_, text)| text.as_str()).collect();
            assert_eq!(texts, ticks);
            assert!((axis.at(found[0].0) - 10.0).abs() < 1e-9);
            assert!((axis.at(found[found.len() - 1].0) - 110.0).abs() < 1e-9);
        }
        let flat = Axis::new([0.5; 3].into_iter(), [0.0, 1.0]);
        assert!((0.0..=1.0).contains(&flat.at(0.5)));
    }
}

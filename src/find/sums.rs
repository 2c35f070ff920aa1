//! Sums of scores over steps.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::state::TrainerState;
use crate::Result;
use crate::index::Site;

/// What some of the steps found: for each kind of sample, where kinds are drawn apart, the sum of its scores.
#[derive(Default)]
pub(super) struct Half {
    sums: [Sums; 2],
    counts: [usize; 2],
}

impl Half {
    /// Adds a sample of this kind: its scores times a factor.
    pub(super) fn add(
        &mut self,
        kind: usize,
        scores: Vec<(Site, Tensor)>,
        times: f64,
    ) -> Result<()> {
        for (site, scores) in scores {
            let term = match times {
                1.0 => scores,
                times => (scores * times)?,
            };
            self.sums[kind].add(&site, term)?;
        }
        self.counts[kind] += 1;
        Ok(())
    }

    /// Both together.
    pub(super) fn plus(mut self, other: Self) -> Result<Self> {
        for (kind, sums) in other.sums.into_iter().enumerate() {
            for (site, term) in sums.0 {
                self.sums[kind].add(&site, term)?;
            }
            self.counts[kind] += other.counts[kind];
        }
        Ok(self)
    }

    /// Whether there was no step.
    pub(super) fn is_empty(&self) -> bool {
        self.counts == [0, 0]
    }

    /// Keeps it under a name.
    pub(super) fn save(&self, name: &str, state: &mut TrainerState) -> Result<()> {
        for (kind, sums) in self.sums.iter().enumerate() {
            let count = vec![self.counts[kind] as f64];
            state.keep_numbers(format!("{name}.{kind}.count"), count);
            for (site, sum) in &sums.0 {
                let values = sum.flatten_all()?.to_vec1()?;
                state.keep(format!("{name}.{kind}.{site}"), values);
            }
        }
        Ok(())
    }

    /// Takes it back; of these sites, each with a tensor of its shape.
    pub(super) fn load(
        &mut self,
        name: &str,
        like: &BTreeMap<Site, Tensor>,
        state: &TrainerState,
    ) -> Result<()> {
        for (kind, count) in self.counts.iter_mut().enumerate() {
            *count = state.count_of(&format!("{name}.{kind}.count"), u32::MAX as usize)?;
        }
        for (kind, sums) in self.sums.iter_mut().enumerate() {
            sums.0.clear();
            for (site, like) in like.iter().filter(|_| self.counts[kind] > 0) {
                let kept = state.array_of(&format!("{name}.{kind}.{site}"), like.elem_count())?;
                let sum = Tensor::from_slice(kept, like.shape(), like.device())?;
                sums.0.insert(site.clone(), sum);
            }
        }
        Ok(())
    }

    /// The sum over kinds of the means of their samples.
    pub(super) fn means(&self) -> Result<BTreeMap<Site, Vec<f32>>> {
        let mut all = Sums::default();
        for (sums, count) in self.sums.iter().zip(self.counts) {
            for (site, sum) in &sums.0 {
                all.add(site, (sum / count.max(1) as f64)?)?;
            }
        }
        let values = |(site, mean): (Site, Tensor)| Ok((site, mean.flatten_all()?.to_vec1()?));
        all.0.into_iter().map(values).collect()
    }
}

/// Sums of θ∘g over steps, by site.
#[derive(Default)]
struct Sums(BTreeMap<Site, Tensor>);

impl Sums {
    fn add(&mut self, site: &Site, term: Tensor) -> Result<()> {
        let sum = match self.0.remove(site) {
            Some(sum) => (sum + term)?,
            None => term,
        };
        self.0.insert(site.clone(), sum);
        Ok(())
    }
}

//! Sums of scores over steps, in blocks.
//!
//! Steps are added up in fixed blocks, and the blocks then. A sum of f32 depends on the order; this way a run that is
//! split between blocks has the bits of one that is not, into however many parts.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::state::TrainerState;
use crate::Result;
use crate::index::Site;

/// What a state calls the sums over even and over odd blocks.
const HALVES: [&str; 2] = ["even", "odd"];

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

    /// A sum of this many steps: one array for each site.
    pub(super) fn of_steps(steps: usize, sums: BTreeMap<Site, Tensor>) -> Self {
        Self {
            sums: [Sums(sums), Sums::default()],
            counts: [steps, 0],
        }
    }

    /// The arrays of the first kind of sample, of which alone pairs and strata are.
    pub(super) fn values(&self) -> Result<BTreeMap<Site, Vec<f32>>> {
        let values =
            |(site, sum): (&Site, &Tensor)| Ok((site.clone(), sum.flatten_all()?.to_vec1()?));
        self.sums[0].0.iter().map(values).collect()
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

/// Sums of one tensor after another, by site.
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

/// The sums of two sets of gradients of the same sites, by subject.
pub(super) fn add(
    sums: Vec<BTreeMap<Site, Tensor>>,
    terms: Vec<BTreeMap<Site, Tensor>>,
) -> Result<Vec<BTreeMap<Site, Tensor>>> {
    let subjects = sums.into_iter().zip(terms);
    subjects
        .map(|(sums, terms)| {
            let mut sums = Sums(sums);
            for (site, term) in terms {
                sums.add(&site, term)?;
            }
            Ok(sums.0)
        })
        .collect()
}

/// The sums of a run's steps, or of a part of them.
pub(super) struct BlockSums {
    /// Steps of a block.
    size: usize,
    /// That of the block that is not complete yet.
    current: Half,
    kept: Kept,
}

/// What there is of complete blocks.
pub(super) enum Kept {
    /// The sums over even and over odd blocks.
    Halves([Half; 2]),
    /// Each block by itself, for others to add up.
    Apart(Vec<Half>),
}

impl BlockSums {
    /// Sums in blocks of `size` steps, which `apart` keeps by themselves.
    pub(super) fn new(size: usize, apart: bool) -> Self {
        Self {
            size,
            current: Half::default(),
            kept: match apart {
                true => Kept::Apart(Vec::new()),
                false => Kept::Halves(Default::default()),
            },
        }
    }

    /// Adds a sample of step `k` of `end`: its kind and scores times a factor.
    pub(super) fn add(
        &mut self,
        (k, end): (usize, usize),
        kind: usize,
        scores: Vec<(Site, Tensor)>,
        times: f64,
    ) -> Result<()> {
        self.current.add(kind, scores, times)?;
        if (k + 1).is_multiple_of(self.size) || k + 1 == end {
            let block = std::mem::take(&mut self.current);
            match &mut self.kept {
                Kept::Halves(halves) => {
                    let half = &mut halves[k / self.size % 2];
                    *half = std::mem::take(half).plus(block)?;
                }
                Kept::Apart(blocks) => blocks.push(block),
            }
        }
        Ok(())
    }

    /// Even and odd blocks, of which there are some.
    pub(super) fn halves(&self) -> Option<&[Half; 2]> {
        match &self.kept {
            Kept::Halves(halves) if !halves[1].is_empty() => Some(halves),
            Kept::Halves(_) | Kept::Apart(_) => None,
        }
    }

    /// What there is after the last step.
    pub(super) fn into_kept(self) -> Kept {
        self.kept
    }

    /// Keeps them.
    pub(super) fn save(&self, state: &mut TrainerState) -> Result<()> {
        self.current.save("block", state)?;
        match &self.kept {
            Kept::Halves(halves) => {
                let mut named = HALVES.iter().zip(halves);
                named.try_for_each(|(name, half)| half.save(name, state))
            }
            Kept::Apart(blocks) => {
                state.keep_numbers("blocks", vec![blocks.len() as f64]);
                let mut named = blocks.iter().enumerate();
                named.try_for_each(|(i, block)| block.save(&format!("block.{i}"), state))
            }
        }
    }

    /// Takes them back; of these sites, each with a tensor of its shape.
    pub(super) fn load(
        &mut self,
        like: &BTreeMap<Site, Tensor>,
        state: &TrainerState,
    ) -> Result<()> {
        self.current.load("block", like, state)?;
        match &mut self.kept {
            Kept::Halves(halves) => {
                let mut named = HALVES.iter().zip(halves);
                named.try_for_each(|(name, half)| half.load(name, like, state))
            }
            Kept::Apart(blocks) => {
                blocks.clear();
                for i in 0..state.numbers_of("blocks", 1)?[0] as usize {
                    let mut block = Half::default();
                    block.load(&format!("block.{i}"), like, state)?;
                    blocks.push(block);
                }
                Ok(())
            }
        }
    }
}

/// θ∘g.
pub(super) fn scores(
    theta: &BTreeMap<Site, Tensor>,
    gradients: &BTreeMap<Site, Tensor>,
) -> Result<Vec<(Site, Tensor)>> {
    let score = |(site, g): (&Site, &Tensor)| Ok((site.clone(), (&theta[site] * g)?));
    gradients.iter().map(score).collect()
}

/// θ −= ρ·θ∘θ∘g.
pub(super) fn update(
    theta: &mut BTreeMap<Site, Tensor>,
    gradients: &BTreeMap<Site, Tensor>,
    rho: f64,
) -> Result<()> {
    for (site, weight) in theta.iter_mut().filter(|_| rho > 0.0) {
        if let Some(g) = gradients.get(site) {
            let update = ((&*weight * rho)? * &*weight)?.mul(g)?;
            *weight = (&*weight - update)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn gradients_of_parts_add_up() {
        let site = |k: u8| -> Site {
            format!("down_blocks.{k}.attentions.0.transformer_blocks.0.attn2.to_v.weight")
                .parse()
                .unwrap()
        };
        let of = |values: [f32; 2]| -> BTreeMap<Site, Tensor> {
            let tensor = |v: f32| Tensor::new(&[[v]], &Device::Cpu).unwrap();
            [(site(0), tensor(values[0])), (site(1), tensor(values[1]))].into()
        };
        let sums = add(
            vec![of([1., 2.]), of([3., 4.])],
            vec![of([10., 20.]), of([30., 40.])],
        );
        let values: Vec<f32> = sums
            .unwrap()
            .iter()
            .flat_map(|subject| subject.values())
            .map(|t| t.to_vec2::<f32>().unwrap()[0][0])
            .collect();
        assert_eq!(values, [11., 22., 33., 44.]);
    }
}

//! Sums of scores, added up step by step.

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::Tensor;

use super::{BatchSampling, Options};
use crate::find::importance_sampler::Sampler;
use crate::find::loss::{Batch, DreamBoothData};
use crate::find::selection::stability;
use crate::find::shard::{changes, reaches};
use crate::find::state::TrainerState;
use crate::find::sums::{BlockSums, scores, update};
use crate::find::trainer::{Gradients, Objective};
use crate::index::{Scope, Site, SiteSelection};
use crate::model::UNet;
use crate::nn::Weight;
use crate::sampling::{Generator, ScheduleConfig};
use crate::{Error, Result};

/// Pictures in a step of [`BatchSampling::Importance`].
const PICTURES: usize = 5;
/// Steps between two looks at the stability.
const LOOK_EVERY: usize = 20;

/// Sums of scores, added up step by step.
pub(super) struct Scoring<'a> {
    schedule: &'a ScheduleConfig,
    data: &'a DreamBoothData,
    options: &'a Options,
    theta: BTreeMap<Site, Tensor>,
    /// The model's own.
    own: BTreeMap<Site, Weight>,
    /// S: over all steps, the paper's.
    pub(super) sums: BlockSums,
    /// With [`BatchSampling::Importance`].
    sampler: Option<Sampler<'a>>,
}

impl Objective for Scoring<'_> {
    fn steps(&self) -> usize {
        self.options.range().len()
    }

    fn searched(&self) -> (SiteSelection, Scope) {
        (self.options.sites, self.options.scope)
    }

    /// A part begins where a whole run would be.
    fn begin(&self, unet: &mut UNet) -> Result<()> {
        match self.options.range().start {
            0 => Ok(()),
            _ => self.put(unet),
        }
    }

    fn batches(&self) -> usize {
        self.sampler.as_ref().map_or(1, |_| PICTURES)
    }

    fn batch(&mut self, k: usize, i: usize) -> Result<Batch> {
        let k = self.options.range().start + k;
        let seed = self.options.seed.wrapping_add(k as u64);
        let (schedule, weight) = (self.schedule, self.options.prior_loss_weight);
        if let Some(sampler) = &mut self.sampler {
            if i == 0 {
                sampler.generator = Generator::new(seed);
            }
            return sampler.batch(schedule);
        }
        match self.options.batch_sampling {
            BatchSampling::Stratified(batch_size) => {
                let data = std::slice::from_ref(self.data);
                Batch::stratified(schedule, data, batch_size, weight, seed, k)
            }
            BatchSampling::Pairs | BatchSampling::Importance => {
                Batch::pair(schedule, self.data, weight, seed, k)
            }
        }
    }

    fn absorb(&mut self, k: usize, gradients: Vec<Gradients>) -> Result<()> {
        let gradients = gradients.into_iter().next().unwrap_or_default();
        let Range { start, end } = self.options.range();
        let step = (start + k, end);
        let scores = scores(&self.theta, &gradients)?;
        if let Some(sampler) = &mut self.sampler {
            let (kind, times) = sampler.observe(&scores)?;
            return self.sums.add(step, kind, scores, times);
        }
        self.sums.add(step, 0, scores, 1.0)?;
        let before = self.options.shard.map(|_| self.theta.clone());
        update(&mut self.theta, &gradients, self.options.rho)?;
        match before {
            Some(before) if changes(&before, &self.theta)? => {
                Err(reaches(self.options.rho, start + k))
            }
            _ => Ok(()),
        }
    }

    fn loss(&self, sum: f32) -> f32 {
        match &self.sampler {
            Some(sampler) => sum * sampler.kinds.len() as f32 / PICTURES as f32,
            None => sum,
        }
    }

    fn put(&self, unet: &mut UNet) -> Result<()> {
        match self.options.rho > 0.0 {
            true => unet.set_weights_of(self.options.scope, self.theta.clone()),
            false => Ok(()),
        }
    }

    fn is_settled(&self, taken: usize) -> Result<bool> {
        let Some(enough) = self.options.until_stable else {
            return Ok(false);
        };
        if !taken.is_multiple_of(LOOK_EVERY) {
            return Ok(false);
        }
        let Some([even, odd]) = self.sums.halves() else {
            return Ok(false);
        };
        let found = stability(&even.means()?, &odd.means()?, self.options.selection)?;
        Ok(found.shared >= enough)
    }

    fn save(&self, state: &mut TrainerState) -> Result<()> {
        state.keep_numbers("range", self.ends());
        self.sums.save(state)?;
        if let Some(sampler) = &self.sampler {
            sampler.save(state);
        }
        // Of the model itself nothing is kept but what has moved, which the published ρ does to no weight of f32.
        for (site, theta) in self.theta.iter().filter(|_| self.options.rho > 0.0) {
            let theta: Vec<f32> = theta.flatten_all()?.to_vec1()?;
            let own: Vec<f32> = self.own[site].tensor()?.flatten_all()?.to_vec1()?;
            let moved = |(a, b): (&f32, &f32)| a.to_bits() != b.to_bits();
            if theta.iter().zip(&own).any(moved) {
                state.keep(format!("theta.{site}"), theta);
            }
        }
        Ok(())
    }

    fn load(&mut self, state: &TrainerState) -> Result<()> {
        if state.numbers_of("range", 2)? != self.ends() {
            return Err(Error::value(
                "state of a run",
                "one of these steps",
                "one of others",
            ));
        }
        self.sums.load(&self.theta, state)?;
        if let Some(sampler) = &mut self.sampler {
            sampler.load(state)?;
        }
        if self.options.rho > 0.0 {
            for (site, theta) in &mut self.theta {
                let name = format!("theta.{site}");
                if state.array(&name).is_none() {
                    continue; // where it was
                }
                let kept = state.array_of(&name, theta.elem_count())?;
                *theta = Tensor::from_slice(kept, theta.shape(), theta.device())?;
            }
        }
        Ok(())
    }
}

impl<'a> Scoring<'a> {
    /// Nothing is summed yet.
    ///
    /// # Errors
    /// If ρ is not 0 where it must be.
    pub(super) fn new(
        unet: &UNet,
        schedule: &'a ScheduleConfig,
        data: &'a DreamBoothData,
        options: &'a Options,
    ) -> Result<Self> {
        let by_importance = options.batch_sampling == BatchSampling::Importance;
        if by_importance && options.rho > 0.0 {
            let expected = "0: importance sampling is at the model's own weights";
            return Err(Error::value("rho", expected, options.rho));
        }
        Ok(Self {
            schedule,
            data,
            options,
            theta: unet.site_tensors(options.sites)?,
            sums: BlockSums::new(options.block(), options.shard.is_some()),
            own: unet.site_weights(options.sites),
            sampler: match by_importance {
                true => Some(Sampler::new(
                    schedule,
                    data,
                    options.prior_loss_weight,
                    options.seed,
                )?),
                false => None,
            },
        })
    }

    /// The first step and the one behind the last.
    fn ends(&self) -> Vec<f64> {
        let Range { start, end } = self.options.range();
        vec![start as f64, end as f64]
    }
}

//! Fine-tuning the values of neurons: Custom Diffusion (Kumari et al. 2022), on as many weights as are opened.
//!
//! With the neurons of merged concepts opened it mends what their union gets wrong; with every weight opened it is the
//! dense fine-tuning that sets of integers have to be compared with.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::adam::Adam;
use super::learned::cooled;
use super::loss::{Batch, DreamBoothData};
use super::state::TrainerState;
use super::trainer;
use super::trainer::{Gradients, Moment, Objective};
use crate::index::{NeuronSet, Scope, Site, SiteSelection};
use crate::model::UNet;
use crate::sampling::ScheduleConfig;
use crate::{Error, Result};

/// Settings of the tuning of values.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Steps K.
    pub steps: usize,
    /// For each subject its pictures in a step, and pictures of its class.
    pub batch_size: usize,
    /// Step size, as a share of the root mean square of a site's weights.
    pub learning_rate: f64,
    /// Weight of the class pictures in the loss.
    pub prior_loss_weight: f64,
    /// At which tokens of the prompts the values hold.
    pub scope: Scope,
    /// Step k draws from a generator seeded with `seed + k`.
    pub seed: u64,
}

/// Default of [`Options::batch_size`].
pub const BATCH_SIZE: usize = 8;
/// Default of [`Options::learning_rate`].
pub const LEARNING_RATE: f64 = 0.03;

/// Arrays as large as all sites trained that are alive at once: weights, values and two moments, these three again on
/// their way to a file; and of each subject the weights and their gradients.
pub(crate) fn arrays(subjects: usize) -> u64 {
    7 + 2 * subjects as u64
}

/// Decay of the running mean of squared gradients.
const BETA2: f32 = 0.999;
/// As torch has it, next to nothing.
const EPSILON: f64 = 1e-8;

/// The neurons of a site that are trained, and the values from which they start, one for each.
#[derive(Debug, Clone)]
pub struct TrainableSet {
    /// Which they are, and whose.
    pub neurons: NeuronSet,
    /// Their values.
    pub values: Vec<f32>,
}

/// The weights of a site and the state of its open neurons' optimiser.
struct Training {
    weight: Tensor,
    open: TrainableSet,
    adam: Adam,
    /// Root mean square of the weights.
    scale: f64,
}

impl Training {
    fn new(weight: Tensor, open: TrainableSet) -> Result<Self> {
        let values: Vec<f32> = weight.flatten_all()?.to_vec1()?;
        let squares: f64 = values.iter().map(|&w| f64::from(w).powi(2)).sum();
        Ok(Self {
            adam: Adam::new(open.values.len(), BETA2),
            scale: (squares / values.len() as f64).sqrt(),
            weight,
            open,
        })
    }

    /// Adam's step at the open neurons, from their gradients.
    fn update(&mut self, g: &[f32], rate: f64) {
        let rate = (rate * self.scale) as f32;
        self.adam.step(
            &mut self.open.values,
            |i| g[i],
            EPSILON,
            |v, direction| v - rate * direction,
        );
    }

    /// Adds to `sum`, one for each open neuron, the gradients of those that a subject has, from that of the whole
    /// weight.
    fn gather(&self, subject: usize, g: &Tensor, sum: &mut [f32]) -> Result<()> {
        let g: Vec<f32> = g.flatten_all()?.to_vec1()?;
        for (place, index) in self.open.neurons.neurons_of(Some(subject)) {
            sum[place as usize] += g[index as usize];
        }
        Ok(())
    }

    /// The weight with a subject's neurons at their values.
    fn weight_of(&self, subject: usize) -> Result<Tensor> {
        let mut weight: Vec<f32> = self.weight.flatten_all()?.to_vec1()?;
        for (place, index) in self.open.neurons.neurons_of(Some(subject)) {
            weight[index as usize] = self.open.values[place as usize];
        }
        let (shape, device) = (self.weight.shape(), self.weight.device());
        Ok(Tensor::from_vec(weight, shape, device)?)
    }
}

/// The values of all sites, trained step by step.
struct Tuning<'a> {
    schedule: &'a ScheduleConfig,
    subjects: &'a [DreamBoothData],
    options: &'a Options,
    sites: BTreeMap<Site, Training>,
}

impl Objective for Tuning<'_> {
    fn steps(&self) -> usize {
        self.options.steps
    }

    fn searched(&self) -> (SiteSelection, Scope) {
        let selection = match self.sites.keys().all(Site::is_cross) {
            true => SiteSelection::Cross,
            false => SiteSelection::All,
        };
        (selection, self.options.scope)
    }

    fn begin(&self, unet: &mut UNet) -> Result<()> {
        self.put(unet)
    }

    fn batch(&mut self, k: usize, _: usize) -> Result<Batch> {
        Batch::stratified(
            self.schedule,
            self.subjects,
            self.options.batch_size,
            self.options.prior_loss_weight,
            self.options.seed.wrapping_add(k as u64),
            k,
        )
    }

    fn absorb(&mut self, k: usize, gradients: Vec<Gradients>) -> Result<()> {
        let rate = self.options.learning_rate * cooled(k, self.options.steps);
        for (site, training) in &mut self.sites {
            let mut sum = vec![0.0; training.open.values.len()];
            for (subject, gradients) in gradients.iter().enumerate() {
                if let Some(g) = gradients.get(site) {
                    training.gather(subject, g, &mut sum)?;
                }
            }
            training.update(&sum, rate);
        }
        Ok(())
    }

    fn put(&self, unet: &mut UNet) -> Result<()> {
        let weights = |subject: usize| -> Result<BTreeMap<Site, Tensor>> {
            let weight = |(site, t): (&Site, &Training)| Ok((site.clone(), t.weight_of(subject)?));
            self.sites.iter().map(weight).collect()
        };
        match self.options.scope {
            Scope::Prompt => unet.set_site_weights(weights(0)?),
            Scope::Words => {
                let all = (0..self.subjects.len()).map(weights);
                unet.set_word_weights(all.collect::<Result<_>>()?)
            }
        }
    }

    fn save(&self, state: &mut TrainerState) -> Result<()> {
        for (site, training) in &self.sites {
            state.keep(format!("values.{site}"), training.open.values.clone());
            training.adam.save(site.as_str(), state);
        }
        Ok(())
    }

    fn load(&mut self, state: &TrainerState) -> Result<()> {
        for (site, training) in &mut self.sites {
            let values = &mut training.open.values;
            let kept = state.array_of(&format!("values.{site}"), values.len())?;
            values.copy_from_slice(kept);
            training.adam.load(site.as_str(), state)?;
        }
        Ok(())
    }
}

/// Trains the values of the `open` neurons on the sum of the subjects' losses. With [`Scope::Words`] subject s is the
/// neurons' owner s.
///
/// Steps are measured in the root mean square of a site's weights. Returns the trained values in the order of the
/// neurons. The model is given back as it was; it must have nothing shut. It begins where `from` is, if that is given.
///
/// # Errors
/// If there is no subject or one without pictures, a site is not in the model or of another shape, `from` is of another
/// run, an error of `after_step`, or a loss that is not a number.
pub(crate) fn values(
    unet: &mut UNet,
    schedule: &ScheduleConfig,
    subjects: &[DreamBoothData],
    open: BTreeMap<Site, TrainableSet>,
    options: &Options,
    from: Option<&TrainerState>,
    after_step: impl FnMut(&Moment) -> Result<()>,
) -> Result<BTreeMap<Site, Vec<f32>>> {
    if subjects.is_empty() {
        return Err(Error::value("subjects to tune on", "at least one", "none"));
    }
    subjects.iter().try_for_each(DreamBoothData::check)?;
    let weights = unet.site_weights(SiteSelection::All);
    let mut sites = BTreeMap::new();
    for (site, open) in open {
        let shape = open.neurons.shape();
        let count = open.neurons.count();
        let [rows, columns] = shape.map(|side| side as usize);
        let known = weights.get(&site);
        let known = known.filter(|w| w.shape() == (rows, columns));
        let Some(weight) = known.filter(|_| open.values.len() == count) else {
            let found = format!("one of shape {shape:?} with {} values", open.values.len());
            let expected = format!("a site of this model, with {count} values");
            return Err(Error::value(format!("site `{site}`"), expected, found));
        };
        sites.insert(site, Training::new(weight.tensor()?, open)?);
    }
    let mut tuning = Tuning {
        schedule,
        subjects,
        options,
        sites,
    };
    unet.restoring(|unet| trainer::run(unet, &mut tuning, from, after_step))?;
    let values = tuning.sites.into_iter().map(|(site, training)| {
        let values = training.open.values;
        unet.check_finite(|| format!("tuned values of `{site}`"), &values)?;
        Ok((site, values))
    });
    values.collect()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn only_open_neurons_move_each_by_the_gradients_of_its_subjects() {
        let weight = Tensor::new(&[[1.0f32, 2.0, -2.0]], &Device::Cpu).unwrap();
        let neurons = NeuronSet::new([1, 3], vec![0, 2])
            .unwrap()
            .with_owners(vec![vec![0], vec![0, 1]])
            .unwrap();
        let values = vec![0.0, 0.5];
        let mut training = Training::new(weight, TrainableSet { neurons, values }).unwrap();
        let mut sum = vec![0.0; 2];
        let gradient = |g: [f32; 3]| Tensor::new(&[g], &Device::Cpu).unwrap();
        for (subject, g) in [[1.0, 5.0, 7.0], [0.25, 5.0, -3.0]].into_iter().enumerate() {
            training.gather(subject, &gradient(g), &mut sum).unwrap();
        }
        assert_eq!(sum, [1.25, -3.0]);
        training.update(&sum, 0.1); // a step is 0.1·sqrt(9/3)
        let close = |a: f32, b: f32| (a - b).abs() < 1e-5;
        let step = 0.1 * 3f32.sqrt();
        let row = |subject| {
            let weight = training.weight_of(subject).unwrap();
            weight.to_vec2::<f32>().unwrap().remove(0)
        };
        let (first, second) = (row(0), row(1));
        assert!(
            close(first[0], -step) && first[1] == 2.0 && first[2] == -2.0,
            "{first:?}"
        );
        assert!(
            close(second[0], -step) && close(second[2], 0.5 + step),
            "{second:?}"
        );
    }
}

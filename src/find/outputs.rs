//! What K and V of a subject's own words should be: learned as such, and given to [`rounding`](super::rounding), which
//! chooses the neurons whose shutting comes closest to it.
//!
//! K and V are products with single tokens. A mask at T words can say no more than T numbers a row: by how much the
//! row's output at each of them changes. These are learned instead of the mask's thousands: for δ of a row w with the
//! embeddings e_1 … e_T of the words,
//!
//! w + Σ_t δ_t·p_t, with p = (EᵀE)⁻¹Eᵀ, has the outputs w·e_t + δ_t,
//!
//! and its gradient, which is Σ_t (∂L/∂y_t)·e_tᵀ, times pᵀ is ∂L/∂δ. So the model computes with an ordinary weight, and
//! few numbers need few steps.
//!
//! Shutting neurons can change an output only so far: down by the terms w_j·e_j that are positive, up by those that are
//! negative. δ stays within that, so that what one row cannot give is learned by others, and is not lost in rounding.
//! Keys stay within a small share of it ([`Options::key_reach`]): they say how much the words are looked at, for which
//! those of several subjects compete.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use super::adam::Adam;
use super::learned::{Options, cooled};
use super::loss::{Batch, DreamBoothData};
use super::state::TrainerState;
use super::trainer::{self, Gradients, Moment, Objective};
use super::words::{Words, reach};
use crate::Result;
use crate::index::{Projection, Scope, Site, SiteSelection};
use crate::model::UNet;
use crate::sampling::ScheduleConfig;

/// Arrays as large as all sites searched that are alive at once: weights, changed weights, gradients.
pub(super) const ARRAYS: u64 = 3;

/// Decay of the running mean of squared gradients.
const BETA2: f32 = 0.99;
/// Below this share of a site's root mean square, a gradient is noise.
const EPSILON: f64 = 1e-3;

/// What one site should give at the words, row by row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wanted {
    /// δ, the change of each output: `[out, T]`.
    pub(crate) changes: Vec<f32>,
    /// The mean of (∂L/∂δ)² over the steps: how much the loss minds that a row misses it, `[out, T]`.
    pub(crate) importance: Vec<f32>,
}

impl Wanted {
    /// As a file of scores has it, row by row: T changes, then the importance of each, `[out, 2·T]`.
    pub(super) fn into_values(self, words: usize) -> Vec<f32> {
        let rows = self
            .changes
            .chunks_exact(words)
            .zip(self.importance.chunks_exact(words));
        rows.flat_map(|(changes, importance)| [changes, importance].concat())
            .collect()
    }

    /// Of such values, of T words.
    pub(super) fn from_values(values: &[f32], words: usize) -> Self {
        let rows = || values.chunks_exact(2 * words);
        Self {
            changes: rows().flat_map(|row| row[..words].to_vec()).collect(),
            importance: rows().flat_map(|row| row[words..].to_vec()).collect(),
        }
    }
}

/// The outputs of one site on their way, and the state of their optimiser.
struct Outputs {
    /// `[out, e]`
    weight: Tensor,
    /// Root mean square of the model's own outputs at the words: the unit of a step.
    unit: f64,
    /// δ in that unit, `[out, T]`.
    change: Vec<f32>,
    /// What each may be at least and at most: a share of what all neurons shut together would give.
    reach: Vec<(f32, f32)>,
    /// Sums of squared gradients with respect to δ, `[out, T]`.
    squares: Vec<f64>,
    adam: Adam,
}

impl Outputs {
    /// Of which changes may go as far as `share` of what shutting neurons could give.
    fn new(weight: &Tensor, words: &Words, share: f32) -> Result<Self> {
        let own = weight.matmul(&words.embeddings.t()?)?;
        let unit = f64::from(own.sqr()?.mean_all()?.to_scalar::<f32>()?).sqrt();
        let mut reach = reach(&weight.to_vec2()?, &words.embeddings.to_vec2()?, unit);
        for (least, most) in &mut reach {
            *least *= share;
            *most *= share;
        }
        let len = reach.len();
        Ok(Self {
            weight: weight.clone(),
            unit,
            change: vec![0.0; len],
            reach,
            squares: vec![0.0; len],
            adam: Adam::new(len, BETA2),
        })
    }

    /// One step of Adam along ∂L/∂W, `[out, e]`, and back to what is in reach.
    fn update(&mut self, gradient: &Tensor, words: &Words, rate: f64) -> Result<()> {
        let gradient = gradient
            .matmul(&words.duals.t()?)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        for (sum, g) in self.squares.iter_mut().zip(&gradient) {
            *sum += f64::from(*g).powi(2);
        }
        // Adam's direction does not depend on the unit, but for its ε, which is a share.
        let rate = rate as f32;
        let moved = |change, direction: f32| change - rate * direction;
        self.adam
            .step(&mut self.change, |i| gradient[i], EPSILON, moved);
        for (change, (least, most)) in self.change.iter_mut().zip(&self.reach) {
            // Not `clamp`, which panics where a bound is not a number.
            if *change < *least {
                *change = *least;
            } else if *change > *most {
                *change = *most;
            }
        }
        Ok(())
    }

    /// δ, `[out, T]`.
    fn changes(&self) -> Vec<f32> {
        self.change
            .iter()
            .map(|&c| (self.unit * f64::from(c)) as f32)
            .collect()
    }

    /// W + δ·p
    fn weight(&self, words: &Words) -> Result<Tensor> {
        let shape = (self.weight.dim(0)?, words.count);
        let changes = Tensor::from_vec(self.changes(), shape, &Device::Cpu)?;
        let change = changes
            .to_device(self.weight.device())?
            .matmul(&words.duals)?;
        Ok((&self.weight + change)?)
    }
}

/// The outputs of all sites, learned step by step.
struct Learning<'a> {
    schedule: &'a ScheduleConfig,
    data: &'a DreamBoothData,
    options: &'a Options,
    words: Words,
    sites: BTreeMap<Site, Outputs>,
}

impl Objective for Learning<'_> {
    fn steps(&self) -> usize {
        self.options.steps
    }

    fn searched(&self) -> (SiteSelection, Scope) {
        (self.options.sites, Scope::Words)
    }

    fn batch(&mut self, k: usize, _: usize) -> Result<Batch> {
        self.options.batch(self.schedule, self.data, k)
    }

    fn absorb(&mut self, k: usize, gradients: Vec<Gradients>) -> Result<()> {
        let rate = self.options.learning_rate * cooled(k, self.options.steps);
        for (site, gradient) in gradients.into_iter().take(1).flatten() {
            if let Some(outputs) = self.sites.get_mut(&site) {
                outputs.update(&gradient, &self.words, rate)?;
            }
        }
        Ok(())
    }

    fn put(&self, unet: &mut UNet) -> Result<()> {
        let weight =
            |(site, outputs): (&Site, &Outputs)| Ok((site.clone(), outputs.weight(&self.words)?));
        let weights = self.sites.iter().map(weight).collect::<Result<_>>()?;
        unet.set_weights_of(Scope::Words, weights)
    }

    fn save(&self, state: &mut TrainerState) -> Result<()> {
        for (site, outputs) in &self.sites {
            state.keep(format!("change.{site}"), outputs.change.clone());
            state.keep_numbers(format!("squares.{site}"), outputs.squares.clone());
            outputs.adam.save(site.as_str(), state);
        }
        Ok(())
    }

    fn load(&mut self, state: &TrainerState) -> Result<()> {
        for (site, outputs) in &mut self.sites {
            let len = outputs.change.len();
            let change = state.array_of(&format!("change.{site}"), len)?;
            outputs.change.copy_from_slice(change);
            let squares = state.numbers_of(&format!("squares.{site}"), len)?;
            outputs.squares.copy_from_slice(squares);
            outputs.adam.load(site.as_str(), state)?;
        }
        Ok(())
    }
}

/// Learns by how much the outputs of every row should change at the words that the data's instance prompt marks.
///
/// The model is given back unchanged, also after an error; it must have nothing shut at words. It begins where `from`
/// is, if that is given.
///
/// # Errors
/// If a list of pictures is empty, the prompt has no words of a single subject, `from` is of another run, an error of
/// `after_step`, or a loss that is not a number.
pub(crate) fn learn_outputs(
    unet: &mut UNet,
    schedule: &ScheduleConfig,
    data: &DreamBoothData,
    options: &Options,
    from: Option<&TrainerState>,
    after_step: impl FnMut(&Moment) -> Result<()>,
) -> Result<BTreeMap<Site, Wanted>> {
    data.check()?;
    let words = Words::of(&data.instance.context)?;
    let sites = unet
        .site_tensors(options.sites)?
        .into_iter()
        .map(|(site, weight)| {
            let share = match site.projection() {
                Projection::Key => options.key_reach as f32,
                Projection::Value => 1.0,
            };
            let outputs = Outputs::new(&weight, &words, share)?;
            Ok((site, outputs))
        })
        .collect::<Result<_>>()?;
    let mut learning = Learning {
        schedule,
        data,
        options,
        words,
        sites,
    };
    unet.restoring(|unet| trainer::run(unet, &mut learning, from, after_step))?;
    let steps = options.steps.max(1) as f64;
    let wanted = learning.sites.into_iter().map(|(site, outputs)| {
        let changes = outputs.changes();
        unet.check_finite(|| format!("learned outputs of `{site}`"), &changes)?;
        let importance = outputs.squares.iter().map(|s| (s / steps) as f32).collect();
        Ok((
            site,
            Wanted {
                changes,
                importance,
            },
        ))
    });
    wanted.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Conditioning;

    #[test]
    fn a_weight_gives_the_outputs_that_were_learned() {
        let device = Device::Cpu;
        let embedding = Tensor::new(
            &[[[9f32, 9.0, 9.0], [1.0, 2.0, 0.0], [0.0, 1.0, 3.0]]],
            &device,
        )
        .unwrap();
        let context = Conditioning::with_words(embedding, &[vec![vec![1, 2]]]).unwrap();
        let words = Words::of(&context).unwrap();
        let weight = Tensor::new(&[[1f32, 0.0, 2.0], [0.5, -1.0, 0.0]], &device).unwrap();
        let mut outputs = Outputs::new(&weight, &words, 1.0).unwrap();
        // Towards lower outputs of the first row at the first word, whatever the second.
        let gradient = words.embeddings.narrow(0, 0, 1).unwrap();
        let gradient = Tensor::cat(&[&gradient, &gradient.zeros_like().unwrap()], 0).unwrap();
        outputs.update(&gradient, &words, 0.2).unwrap();
        let changed = outputs
            .weight(&words)
            .unwrap()
            .matmul(&words.embeddings.t().unwrap())
            .unwrap();
        let own = weight.matmul(&words.embeddings.t().unwrap()).unwrap();
        let change = (changed - own)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        let step = -0.2 * outputs.unit as f32;
        for (found, expected) in change.iter().zip([step, 0.0, 0.0, 0.0]) {
            assert!((found - expected).abs() < 2e-3 * step.abs(), "{change:?}");
        }
        assert!((outputs.squares[0] - 1.0).abs() < 1e-4 && outputs.squares[1] < 1e-8);
        // Of the first row's terms at the first word, 1·1, 0·2 and 2·0, shutting the first is all that there is.
        outputs.update(&gradient, &words, 9.0).unwrap();
        assert!(
            (outputs.changes()[0] + 1.0).abs() < 1e-6,
            "{:?}",
            outputs.changes()
        );
        // Or a share of it.
        let mut outputs = Outputs::new(&weight, &words, 0.25).unwrap();
        outputs.update(&gradient, &words, 9.0).unwrap();
        assert!((outputs.changes()[0] + 0.25).abs() < 1e-6);
    }
}

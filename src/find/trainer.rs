//! The loop of all methods, which are objectives: what to look at in a step, what to make of the gradients, and what
//! weights to put into the model then.

use std::collections::BTreeMap;
use std::time::Instant;

use candle_core::Tensor;

use super::loss::{Batch, Step};
use super::state::TrainerState;
use crate::index::{Scope, Site, SiteSelection};
use crate::model::UNet;
use crate::{Error, Result};

/// Gradients with respect to sites, `[out, in]` each.
pub(super) type Gradients = BTreeMap<Site, Tensor>;

/// What a method does in the loop.
pub(super) trait Objective {
    /// The most steps there are.
    fn steps(&self) -> usize;

    /// Which sites' gradients it wants, and at which tokens.
    fn searched(&self) -> (SiteSelection, Scope);

    /// Puts what the first step needs into the model.
    fn begin(&self, _unet: &mut UNet) -> Result<()> {
        Ok(())
    }

    /// How many batches a step has, one after the other.
    fn batches(&self) -> usize {
        1
    }

    /// Batch `i` of step `k`.
    fn batch(&mut self, k: usize, i: usize) -> Result<Batch>;

    /// Takes the gradients of that batch: the model's alone, or those of each subject at its own words.
    fn absorb(&mut self, k: usize, gradients: Vec<Gradients>) -> Result<()>;

    /// The loss of a step from the sum of its batches' losses.
    fn loss(&self, sum: f32) -> f32 {
        sum
    }

    /// Puts the weights into the model that the next step is taken at.
    fn put(&self, unet: &mut UNet) -> Result<()>;

    /// Whether more steps would change nothing.
    fn is_settled(&self, _taken: usize) -> Result<bool> {
        Ok(false)
    }

    /// Keeps everything that the steps so far have changed.
    fn save(&self, state: &mut TrainerState) -> Result<()>;

    /// Takes back what [`Objective::save`] kept.
    fn load(&mut self, state: &TrainerState) -> Result<()>;
}

/// A run between two steps.
pub struct Moment<'a> {
    /// What the last step did.
    pub step: Step,
    objective: &'a dyn Objective,
    steps: &'a [Step],
}

impl Moment<'_> {
    /// Everything that is needed to go on from here, copied.
    ///
    /// # Errors
    /// If an array cannot be read back from the device.
    pub fn state(&self) -> Result<TrainerState> {
        let mut state = TrainerState::new(self.steps);
        self.objective.save(&mut state)?;
        Ok(state)
    }
}

/// Takes the steps of an objective, from the first or from where a state is, to the same bits.
///
/// # Errors
/// If the state is of another objective, a loss is not a number; the first error of `after_step`.
pub(super) fn run(
    unet: &mut UNet,
    objective: &mut impl Objective,
    from: Option<&TrainerState>,
    mut after_step: impl FnMut(&Moment) -> Result<()>,
) -> Result<()> {
    objective.begin(unet)?;
    let mut steps = Vec::with_capacity(objective.steps());
    if let Some(state) = from {
        if state.steps.len() > objective.steps() {
            let expected = format!("at most {}", objective.steps());
            let found = state.steps.len();
            return Err(Error::value("steps of the state of a run", expected, found));
        }
        steps.extend_from_slice(&state.steps);
        objective.load(state)?;
        objective.put(unet)?;
    }
    let (sites, scope) = objective.searched();
    while steps.len() < objective.steps()
        && (steps.is_empty() || !objective.is_settled(steps.len())?)
    {
        let (start, k) = (Instant::now(), steps.len());
        let mut sum = 0.0;
        for i in 0..objective.batches() {
            let batch = objective.batch(k, i)?;
            let (loss, gradients) = batch.gradients_by_subject(unet, sites, scope, k)?;
            objective.absorb(k, gradients)?;
            sum += loss;
        }
        objective.put(unet)?;
        let step = Step {
            step: k,
            loss: objective.loss(sum),
            seconds: start.elapsed().as_secs_f64(),
        };
        steps.push(step);
        after_step(&Moment {
            step,
            objective,
            steps: &steps,
        })?;
    }
    Ok(())
}

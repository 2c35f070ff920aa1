//! The measuring of a concept: at one density or several, beside the plain model and random neurons.

use std::cell::RefCell;

use candle_core::Tensor;

use super::held_out::HeldOut;
use super::measured::Measured;
use super::metric::{Values, differences, mean_of};
use super::plan::{Dose, EvalPlan};
use super::state::{EvalShape, EvalState};
use super::study::{Condition, Study};
use super::verdict::Verdict;
use crate::find::{ClassImages, Observer, PRIOR_LOSS_WEIGHT};
use crate::index::{NeuronIndex, random_control};
use crate::pipeline::ShutOptions;
use crate::prompt::Marks;
use crate::{Photos, Pipeline, Result};

/// What is shut in a condition that is being measured, with the density of that.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shut {
    /// Nothing.
    Nothing,
    /// A concept.
    Concept(f64),
    /// Random neurons.
    Random(f64),
}

/// How far the measuring of a condition has come.
#[derive(Debug, Clone, Copy)]
pub struct Measuring {
    /// Which condition.
    pub shut: Shut,
    /// Whether its losses are taken, after its pictures were drawn.
    pub losses: bool,
    /// Passes, or losses, so far.
    pub done: usize,
    /// All there will be.
    pub total: usize,
}

/// The number of the next condition, what is measured so far, who is told, and the model.
struct Run<'a> {
    next: usize,
    state: &'a RefCell<EvalState>,
    progress: &'a mut dyn FnMut(Measuring) -> Result<()>,
    pipeline: &'a mut Pipeline,
}

/// What was measured.
#[derive(Debug, Clone)]
pub struct Figures {
    /// The photos themselves, as far as pictures can be measured: each by its likeness to the others, and by its class.
    pub photos: Values,
    /// The plain model.
    pub plain: Condition,
    /// Each dose.
    pub doses: Vec<Measured>,
    /// The weight of the class in the loss that the concept was found with.
    pub prior_loss_weight: f64,
    /// Whether an index as it is does what it claims; several densities are no question of yes or no.
    pub verdict: Option<Verdict>,
}

/// A measuring that can begin.
pub struct Bench<'a> {
    /// What is measured.
    pub plan: EvalPlan<'a>,
    /// What its state is like.
    pub shape: EvalShape,
    /// The most bytes of its state.
    pub state_bytes: u64,
    study: Study<'a>,
    held_out: Option<HeldOut>,
    plain_predictions: Vec<Tensor>,
    prior_loss_weight: f64,
}

impl<'a> Bench<'a> {
    /// Embeds photos and prompts, and where losses are measured, encodes photos and pictures of the class for them:
    /// they are taken on noise that `find` did not see. Of the photos some at a time are in memory.
    ///
    /// # Errors
    /// If there is no prompt, photo or picture, a picture that cannot be read or encoded, the seeds leave no room for
    /// all pictures, or pictures of the class cannot be drawn or kept, or there are none; an error of `observer`.
    pub fn new(
        plan: EvalPlan<'a>,
        pipeline: &Pipeline,
        (photos, class): (&Photos, &ClassImages),
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let study = Study::new(&plan, photos)?;
        let shape = EvalShape {
            conditions: 1 + plan.doses.len() * (1 + plan.controls),
            count: plan.count,
            shown: plan.shown.min(plan.count),
            size: plan.options.size.unwrap_or(pipeline.size),
            width: study.width(),
            draws: plan.loss_draws,
        };
        let of = (plan.subject, plan.index);
        let draws = (plan.seed, plan.loss_draws);
        let held_out = match plan.loss_draws {
            0 => None,
            _ => Some(HeldOut::new(
                pipeline,
                of,
                (photos, class),
                draws,
                observer,
            )?),
        };
        Ok(Self {
            prior_loss_weight: prior_loss_weight(plan.index),
            plan,
            shape,
            state_bytes: shape.bytes(),
            study,
            held_out,
            plain_predictions: Vec::new(),
        })
    }

    /// Measures the plain model, and each dose with random controls of the plan's seed and the following. It goes on
    /// from a state and to the same figures; `progress` is told what there is of them. Nothing is shut afterwards.
    ///
    /// # Errors
    /// If an index does not fit the model, a file of the model or the encoder was changed meanwhile; an error of
    /// drawing, or of `progress`.
    pub fn measure(
        mut self,
        pipeline: &mut Pipeline,
        from: EvalState,
        mut progress: impl FnMut(Measuring, &EvalState) -> Result<()>,
    ) -> Result<Figures> {
        let state = RefCell::new(from);
        let mut progress = |measuring: Measuring| progress(measuring, &state.borrow());
        let mut run = Run {
            next: 0,
            state: &state,
            progress: &mut progress,
            pipeline,
        };
        let plain = self.condition(Shut::Nothing, None, &mut run)?;
        let doses = std::mem::take(&mut self.plan.doses);
        let mut measured: Vec<Measured> = Vec::with_capacity(doses.len());
        for dose in doses {
            let mut dose = self.dose(dose, &plain, &mut run)?;
            let previous = measured.last().map(|previous| &previous.shut.values);
            dose.against_previous = previous.map(|p| differences(&dose.shut.values, p));
            measured.push(dose);
        }
        run.pipeline.check_unchanged()?;
        let photos = self.study.photos();
        let verdict = match measured.as_slice() {
            [lone] if lone.dose.asked.is_none() => {
                let (noun, seed) = (&self.plan.subject.noun, self.plan.seed);
                Some(Verdict::of(&photos, &plain.values, lone, noun, seed)?)
            }
            _ => None,
        };
        Ok(Figures {
            photos,
            plain,
            doses: measured,
            prior_loss_weight: self.prior_loss_weight,
            verdict,
        })
    }

    /// Measures the model with the neurons of an index shut, or with none; the plain model comes first.
    fn condition(
        &mut self,
        shut: Shut,
        index: Option<&NeuronIndex>,
        run: &mut Run,
    ) -> Result<Condition> {
        let Run {
            next,
            state,
            progress,
            pipeline,
        } = run;
        let number = *next;
        *next += 1;
        if let Some((values, pictures)) = state.borrow().measured(number) {
            return Ok(Condition { pictures, values });
        }
        let mut at = |shut, losses, done, total| {
            progress(Measuring {
                shut,
                losses,
                done,
                total,
            })
        };
        if let (Some(held_out), Some(_), true) =
            (&self.held_out, index, self.plain_predictions.is_empty())
        {
            // The plain model was measured by a run that was stopped.
            self.plain_predictions = held_out.predict(pipeline.unet(), |done, total| {
                at(Shut::Nothing, true, done, total)
            })?;
        }
        let marks = match index {
            Some(index) => pipeline.shut(&[index], ShutOptions::default())?.marks,
            None => Marks::default(),
        };
        self.study.draw(pipeline, &marks, (number, state), |p| {
            at(shut, false, p.done, p.total)
        })?;
        let mut condition = Condition {
            values: self.study.compare(&state.borrow().embeddings(number)),
            pictures: Vec::new(),
        };
        if let Some(held_out) = &self.held_out {
            let predictions =
                held_out.predict(pipeline.unet(), |done, total| at(shut, true, done, total))?;
            if index.is_none() {
                self.plain_predictions.clone_from(&predictions);
            }
            let losses = held_out.losses(&predictions, &self.plain_predictions)?;
            condition.add_losses(losses, self.prior_loss_weight);
        }
        pipeline.open()?;
        let values = condition.values.clone();
        condition.pictures = state.borrow_mut().finish(number, values);
        Ok(condition)
    }

    /// Measures the concept at one density, and random neurons beside it.
    fn dose(&mut self, dose: Dose, plain: &Condition, run: &mut Run) -> Result<Measured> {
        let density = dose.index.extent().density;
        let shut = self.condition(Shut::Concept(density), Some(&dose.index), run)?;
        let controls = (0..self.plan.controls as u64)
            .map(|i| {
                let random = random_control(&dose.index, self.plan.seed.wrapping_add(i))?;
                self.condition(Shut::Random(density), Some(&random), run)
            })
            .collect::<Result<Vec<_>>>()?;
        let control = mean_of(&controls.iter().map(|c| &c.values).collect::<Vec<_>>());
        Ok(Measured {
            against_plain: differences(&shut.values, &plain.values),
            against_control: differences(&shut.values, &control),
            against_previous: None,
            dose,
            shut,
            controls,
            control,
        })
    }
}

/// The weight of the class in the loss that a concept was found with.
fn prior_loss_weight(index: &NeuronIndex) -> f64 {
    let stored = index.provenance().settings.get("prior_weight");
    let number = stored.and_then(|text| text.parse().ok());
    let finite = number.filter(|weight: &f64| weight.is_finite());
    finite.unwrap_or(PRIOR_LOSS_WEIGHT)
}

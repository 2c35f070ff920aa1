//! The measuring of a concept: at one density or several, beside the plain model and random neurons.

use std::cell::RefCell;

use candle_core::Tensor;

use super::held_out::HeldOut;
use super::metric::Values;
use super::metric::{differences, mean_of};
use super::state::EvalState;
use super::study::{Condition, Study};
use crate::find::{PRIOR_LOSS_WEIGHT, Scores};
use crate::index::{LayerSelection, NeuronIndex, random_control};
use crate::pipeline::ShutOptions;
use crate::prompt::Marks;
use crate::{Picture, Pipeline, Result};

/// A concept at one density.
#[derive(Debug, Clone)]
pub struct Dose {
    /// The density that was asked for; an index as it is has none.
    pub asked: Option<f64>,
    /// The concept.
    pub index: NeuronIndex,
}

/// A dose measured.
#[derive(Debug, Clone)]
pub struct Measured {
    /// What was shut.
    pub dose: Dose,
    /// With its neurons shut.
    pub shut: Condition,
    /// With random neurons shut, as many in every site; see [`random_control`].
    pub controls: Vec<Condition>,
    /// The mean over all controls.
    pub control: Values,
    /// Shut less plain.
    pub against_plain: Values,
    /// Shut less control.
    pub against_control: Values,
    /// Shut less the dose before, where there is one.
    pub against_previous: Option<Values>,
}

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

/// The number of the next condition, what is measured so far, and who is told.
type Run<'a> = (
    usize,
    &'a RefCell<EvalState>,
    &'a mut dyn FnMut(Measuring) -> Result<()>,
);

/// A model, and what it is measured by.
pub struct Bench<'a> {
    pipeline: &'a mut Pipeline,
    study: Study<'a>,
    held_out: Option<HeldOut>,
    plain_predictions: Vec<Tensor>,
    prior_loss_weight: f64,
}

impl Dose {
    /// An index as it is, or with scores the concepts of these densities in its place; in some layers or in all.
    ///
    /// # Errors
    /// If a score is not a number, or a pattern of the layers fits no site.
    pub fn all(
        scores: Option<&Scores>,
        densities: &[f64],
        index: &NeuronIndex,
        layers: Option<&LayerSelection>,
    ) -> Result<Vec<Self>> {
        let one = |asked, index: NeuronIndex| {
            let chosen = layers
                .map(|layers| layers.restrict(&[&index]))
                .transpose()?;
            let index = chosen.and_then(|mut chosen| chosen.pop()).unwrap_or(index);
            Ok(Self { asked, index })
        };
        let Some(scores) = scores else {
            return Ok(vec![one(None, index.clone())?]);
        };
        let dose =
            |&density: &f64| one(Some(density), scores.concept(density, index.provenance())?);
        densities.iter().map(dose).collect()
    }
}

impl<'a> Bench<'a> {
    /// A model to measure by a study, and where they are given by losses.
    pub fn new(
        pipeline: &'a mut Pipeline,
        study: Study<'a>,
        held_out: Option<HeldOut>,
        prior_loss_weight: f64,
    ) -> Self {
        Self {
            pipeline,
            study,
            held_out,
            plain_predictions: Vec::new(),
            prior_loss_weight,
        }
    }

    /// Measures the plain model, and each dose with so many random controls of these and the following seeds. It goes
    /// on from a state and to the same figures; `progress` is told what there is of them.
    ///
    /// # Errors
    /// If an index does not fit the model, a file of the model or the encoder was changed meanwhile; an error of
    /// drawing, or of `progress`.
    pub fn measure(
        &mut self,
        doses: Vec<Dose>,
        (controls, seed): (usize, u64),
        from: EvalState,
        mut progress: impl FnMut(Measuring, &EvalState) -> Result<()>,
    ) -> Result<(Condition, Vec<Measured>)> {
        let state = RefCell::new(from);
        let mut progress = |measuring: Measuring| progress(measuring, &state.borrow());
        let mut run = (
            0,
            &state,
            &mut progress as &mut dyn FnMut(Measuring) -> Result<()>,
        );
        let plain = self.condition(Shut::Nothing, None, &mut run)?;
        let mut measured: Vec<Measured> = Vec::with_capacity(doses.len());
        for dose in doses {
            let mut dose = self.dose(dose, controls, seed, &plain, &mut run)?;
            let previous = measured.last().map(|previous| &previous.shut.values);
            dose.against_previous = previous.map(|p| differences(&dose.shut.values, p));
            measured.push(dose);
        }
        self.pipeline.check_unchanged()?;
        Ok((plain, measured))
    }

    /// Measures the model with the neurons of an index shut, or with none; the plain model comes first.
    fn condition(
        &mut self,
        shut: Shut,
        index: Option<&NeuronIndex>,
        (next, state, progress): &mut Run,
    ) -> Result<Condition> {
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
            self.plain_predictions = held_out.predict(self.pipeline.unet(), |done, total| {
                at(Shut::Nothing, true, done, total)
            })?;
        }
        let marks = match index {
            Some(index) => self.pipeline.shut(&[index], ShutOptions::default())?.marks,
            None => Marks::default(),
        };
        self.study
            .draw(self.pipeline, &marks, (number, state), |p| {
                at(shut, false, p.done, p.total)
            })?;
        let mut condition = Condition {
            values: self.study.compare(&state.borrow().embeddings(number)),
            pictures: Vec::new(),
        };
        if let Some(held_out) = &self.held_out {
            let predictions = held_out.predict(self.pipeline.unet(), |done, total| {
                at(shut, true, done, total)
            })?;
            if index.is_none() {
                self.plain_predictions.clone_from(&predictions);
            }
            let losses = held_out.losses(&predictions, &self.plain_predictions)?;
            condition.add_losses(losses, self.prior_loss_weight);
        }
        self.pipeline.open()?;
        let values = condition.values.clone();
        condition.pictures = state.borrow_mut().finish(number, values);
        Ok(condition)
    }

    /// Measures the concept at one density, and random neurons beside it.
    fn dose(
        &mut self,
        dose: Dose,
        controls: usize,
        seed: u64,
        plain: &Condition,
        run: &mut Run,
    ) -> Result<Measured> {
        let density = dose.index.density();
        let shut = self.condition(Shut::Concept(density), Some(&dose.index), run)?;
        let controls = (0..controls as u64)
            .map(|i| {
                let random = random_control(&dose.index, seed.wrapping_add(i))?;
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
pub fn prior_loss_weight(index: &NeuronIndex) -> f64 {
    let stored = index.provenance().settings.get("prior_weight");
    let number = stored.and_then(|text| text.parse().ok());
    let finite = number.filter(|weight: &f64| weight.is_finite());
    finite.unwrap_or(PRIOR_LOSS_WEIGHT)
}

/// The pictures of a sheet, row by row, each with its name: photos; plain; of each dose the concept; of a lone dose its
/// random controls too; of each the first `columns`.
pub fn rows(
    photos: &[Picture],
    plain: &Condition,
    doses: &[Measured],
    columns: usize,
) -> Vec<(String, Vec<Picture>)> {
    let row = |name: &str, pictures: &[Picture]| {
        let first = pictures.iter().take(columns).cloned();
        (name.to_owned(), first.collect())
    };
    let mut rows = vec![row("photos", photos), row("plain", &plain.pictures)];
    for Measured { dose, shut, .. } in doses {
        let name = match dose.asked {
            None => "concept".to_owned(),
            Some(_) => format!("{:.2} %", 100.0 * dose.index.density()),
        };
        rows.push(row(&name, &shut.pictures));
    }
    if let [Measured { dose, controls, .. }] = doses
        && dose.asked.is_none()
    {
        rows.extend(controls.iter().map(|c| row("random", &c.pictures)));
    }
    rows
}

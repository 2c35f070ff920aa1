//! The concept-implanting loss `L_con` and the random part of a step, which all methods share.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::{Site, SiteSelection};
use crate::model::UNet;
use crate::sampling::{Generator, Prediction, ScheduleConfig};
use crate::{Error, Result};

/// Pictures of one prompt, ready for the loss.
#[derive(Debug, Clone)]
pub struct Examples {
    /// Latents of each picture, `[1, c, h, w]`: the posterior's mean times the scaling factor.
    pub latents: Vec<Tensor>,
    /// The prompt's embedding, `[1, t, e]`.
    pub context: Tensor,
}

impl Examples {
    /// Picture `i` of the endless repetition of the pictures, and the prompt.
    fn get(&self, i: usize) -> (&Tensor, &Tensor) {
        (&self.latents[i % self.latents.len()], &self.context)
    }
}

/// What one subject is learned from: pictures of it, and pictures of its class that must stay as they are.
#[derive(Debug, Clone)]
pub struct Lesson {
    /// The photos, with the prompt that has the token.
    pub subject: Examples,
    /// Pictures of the class, with the prompt that has the noun alone.
    pub class: Examples,
}

impl Lesson {
    /// # Errors
    /// If one of the two has no pictures.
    pub(crate) fn check(&self) -> Result<()> {
        for (name, examples) in [
            ("pictures of the subject", &self.subject),
            ("pictures of the class", &self.class),
        ] {
            if examples.latents.is_empty() {
                return Err(Error::value(name, "at least one", "none"));
            }
        }
        Ok(())
    }
}

/// What one step did.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// k, from 0.
    pub step: usize,
    /// `L_con` of the step's samples.
    pub loss: f32,
    /// Wall-clock time.
    pub seconds: f64,
}

/// The samples of one step: pictures with noise, and what the model should say of them.
pub(crate) struct Batch {
    /// `[r, c, h, w]`
    noisy: Tensor,
    /// r of them.
    timesteps: Vec<f32>,
    /// `[r, t, e]`
    context: Tensor,
    /// The noise or the velocity, `[r, c, h, w]`.
    pub(crate) target: Tensor,
    /// The weight of each row's mean squared error in the loss.
    weights: Vec<f32>,
}

impl Batch {
    /// Step `k` of Algorithm 1: row 0 is subject picture k mod n, row 1 class picture k mod m. The generator gives first
    /// both timesteps, then the noise.
    pub(crate) fn pair(
        schedule: &ScheduleConfig,
        lesson: &Lesson,
        prior_weight: f64,
        seed: u64,
        k: usize,
    ) -> Result<Self> {
        let rows = [lesson.subject.get(k), lesson.class.get(k)];
        let mut generator = Generator::new(seed);
        let timesteps = generator.randint(0, schedule.num_train_timesteps() as i64, 2)?;
        Self::new(
            schedule,
            &rows.map(|row| row.0),
            &timesteps,
            &mut generator,
            Tensor::cat(&rows.map(|row| row.1), 0)?,
            vec![1.0, prior_weight as f32],
        )
    }

    /// Step `k` of a method that takes larger steps: for each lesson `half` subject pictures, then `half` class pictures.
    ///
    /// Picture i of a half is number (k·half + i) mod n, and its timestep is drawn from the i-th of `half` equal parts
    /// of the schedule: of equal expectation as independent draws, with less noise in the gradient.
    pub(super) fn stratified(
        schedule: &ScheduleConfig,
        lessons: &[Lesson],
        half: usize,
        prior_weight: f64,
        seed: u64,
        k: usize,
    ) -> Result<Self> {
        let (mut latents, mut contexts, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for lesson in lessons {
            for (examples, weight) in [(&lesson.subject, 1.0), (&lesson.class, prior_weight)] {
                for i in 0..half {
                    let (picture, prompt) = examples.get(k * half + i);
                    latents.push(picture);
                    contexts.push(prompt);
                    weights.push((weight / (half * lessons.len()) as f64) as f32);
                }
            }
        }
        let (length, parts) = (schedule.num_train_timesteps() as i64, half as i64);
        let mut generator = Generator::new(seed);
        let mut timesteps = generator.randint(0, length, latents.len())?;
        for (i, t) in timesteps.iter_mut().enumerate() {
            *t = ((i % half) as i64 * length + *t) / parts;
        }
        let context = Tensor::cat(&contexts, 0)?;
        Self::new(
            schedule,
            &latents,
            &timesteps,
            &mut generator,
            context,
            weights,
        )
    }

    fn new(
        schedule: &ScheduleConfig,
        latents: &[&Tensor],
        timesteps: &[i64],
        generator: &mut Generator,
        context: Tensor,
        weights: Vec<f32>,
    ) -> Result<Self> {
        let latents = Tensor::cat(latents, 0)?;
        let clean = latents.flatten_all()?.to_vec1::<f32>()?;
        let noise = generator.randn(clean.len());
        let row = clean.len() / timesteps.len().max(1);
        let (mut noisy, mut target) = (
            Vec::with_capacity(clean.len()),
            Vec::with_capacity(clean.len()),
        );
        for (i, &t) in timesteps.iter().enumerate() {
            let (signal, sigma) = schedule.signal_and_noise(t as usize)?;
            for (&z, &e) in clean[i * row..][..row].iter().zip(&noise[i * row..][..row]) {
                noisy.push(signal * z + sigma * e);
                target.push(match schedule.prediction() {
                    Prediction::Epsilon => e,
                    Prediction::Velocity => signal * e - sigma * z,
                });
            }
        }
        Ok(Self {
            noisy: Tensor::from_vec(noisy, latents.shape(), latents.device())?,
            timesteps: timesteps.iter().map(|&t| t as f32).collect(),
            context,
            target: Tensor::from_vec(target, latents.shape(), latents.device())?,
            weights,
        })
    }

    /// What the model predicts for the samples, `[r, c, h, w]`.
    pub(crate) fn predict(&self, unet: &UNet) -> Result<Tensor> {
        unet.forward(&self.noisy, &self.timesteps, &self.context)
    }

    /// The loss of step `k` and its gradient with respect to every selected site, `[out, in]` each.
    ///
    /// # Errors
    /// If the loss is not a number.
    pub(super) fn gradients(
        &self,
        unet: &UNet,
        sites: SiteSelection,
        k: usize,
    ) -> Result<(f32, BTreeMap<Site, Tensor>)> {
        let (prediction, saved) =
            unet.forward_saving(&self.noisy, &self.timesteps, &self.context)?;
        let (loss, grad) = self.loss(&prediction)?;
        if !loss.is_finite() {
            return Err(Error::value(format!("loss at step {k}"), "a number", loss));
        }
        Ok((loss, unet.backward(saved, &grad, sites)?))
    }

    /// L = Σ weight·mse(row), and ∂L/∂prediction.
    fn loss(&self, prediction: &Tensor) -> Result<(f32, Tensor)> {
        let error = (prediction - &self.target)?;
        let (r, c, h, w) = error.dims4()?;
        let weights = Tensor::from_slice(&self.weights, (r, 1, 1, 1), error.device())?;
        let means = error.sqr()?.flatten_from(1)?.mean(1)?.to_vec1::<f32>()?;
        let loss = means.iter().zip(&self.weights).map(|(m, w)| m * w).sum();
        let grad = (error.broadcast_mul(&weights)? * (2.0 / (c * h * w) as f64))?;
        Ok((loss, grad))
    }
}

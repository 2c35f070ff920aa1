//! The concept-implanting loss `L_con` and the random part of a step, which all methods share.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::empirical_denoiser::expected_picture;
use super::sums;
use crate::index::{Scope, Site, SiteSelection};
use crate::model::{Conditioning, UNet};
use crate::pipeline::rows_at_once;
use crate::sampling::{Generator, Prediction, ScheduleConfig};
use crate::{Error, Result, Size};

/// Pictures of one prompt, ready for the loss.
#[derive(Debug, Clone)]
pub(crate) struct PromptedLatents {
    /// Latents of each picture, `[1, c, h, w]`: the posterior's mean times the scaling factor.
    pub latents: Vec<Tensor>,
    /// The prompt, of one row.
    pub context: Conditioning,
}

impl PromptedLatents {
    /// The numbers of each picture.
    pub(super) fn values(&self) -> Result<Vec<Vec<f32>>> {
        self.latents.iter().map(values).collect()
    }

    /// Picture `i` of the endless repetition of the pictures, and the prompt.
    fn get(&self, i: usize) -> (&Tensor, &Conditioning) {
        (&self.latents[i % self.latents.len()], &self.context)
    }
}

/// What one subject is learned from: pictures of it, and pictures of its class that must stay as they are.
#[derive(Debug, Clone)]
pub(crate) struct DreamBoothData {
    /// The photos, with the prompt that has the token.
    pub instance: PromptedLatents,
    /// Pictures of the class, with the prompt that has the noun alone; none where that prompt cannot change, because
    /// what is shut is shut at the subject's words.
    pub class: Option<PromptedLatents>,
}

impl DreamBoothData {
    /// # Errors
    /// If one of the two has no pictures.
    pub(crate) fn check(&self) -> Result<()> {
        let class = self.class.as_ref().map(|c| ("pictures of the class", c));
        for (name, examples) in [("pictures of the subject", &self.instance)]
            .into_iter()
            .chain(class)
        {
            if examples.latents.is_empty() {
                return Err(Error::value(name, "at least one", "none"));
            }
        }
        Ok(())
    }

    /// The class.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn class(&self) -> Result<&PromptedLatents> {
        self.class
            .as_ref()
            .ok_or_else(|| Error::value("pictures of the class", "at least one", "none"))
    }
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// k, from 0.
    pub step: usize,
    /// `L_con` of the step's samples.
    pub loss: f32,
    /// Wall-clock time.
    pub seconds: f64,
}

/// Of noise that `find` does not see, draw k has a generator of seed `FIRST_SEED + seed + k`. `find` draws with seeds
/// from `--seed` on, one for each step: the two meet only if its seed and this one's are two thousand million apart.
pub const FIRST_SEED: u64 = 1 << 31;

/// The samples of one step: pictures with noise, and what the model should say of them.
pub(crate) struct Batch {
    /// `[r, c, h, w]`
    noisy: Tensor,
    /// r of them.
    timesteps: Vec<f32>,
    /// Of r prompts.
    context: Conditioning,
    /// The noise or the velocity, `[r, c, h, w]`.
    pub(crate) target: Tensor,
    /// What is expected of the target for such noisy pictures, if it is known: gradients are taken towards it.
    expected: Option<Tensor>,
    /// The weight of each row's mean squared error in the loss.
    weights: Vec<f32>,
}

impl Batch {
    /// Step `k` of Algorithm 1: row 0 is subject picture k mod n, row 1 class picture k mod m. The generator gives
    /// first both timesteps, then the noise.
    pub(crate) fn pair(
        schedule: &ScheduleConfig,
        data: &DreamBoothData,
        prior_loss_weight: f64,
        seed: u64,
        k: usize,
    ) -> Result<Self> {
        let rows = [data.instance.get(k), data.class()?.get(k)];
        let mut generator = Generator::new(seed);
        let timesteps = generator.randint(0, schedule.num_train_timesteps() as i64, 2)?;
        Self::new(
            schedule,
            &rows.map(|row| row.0),
            &timesteps,
            &mut generator,
            Conditioning::cat(&rows.map(|row| row.1))?,
            vec![1.0, prior_loss_weight as f32],
        )
    }

    /// Step `k` of a method that takes larger steps: for each subject `batch_size` pictures of it, then as many of its
    /// class if it has any.
    ///
    /// Picture i of b = `batch_size` is number (k·b + i) mod n, and its timestep is drawn from part (k + i) mod b of as
    /// many equal parts of the schedule: of equal expectation as independent draws, with less noise in the gradient.
    /// The k sees to it that every picture meets every part.
    pub(super) fn stratified(
        schedule: &ScheduleConfig,
        subjects: &[DreamBoothData],
        batch_size: usize,
        prior_loss_weight: f64,
        seed: u64,
        k: usize,
    ) -> Result<Self> {
        let (mut latents, mut contexts, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for data in subjects {
            let class = data.class.as_ref().map(|class| (class, prior_loss_weight));
            for (examples, weight) in [(&data.instance, 1.0)].into_iter().chain(class) {
                for i in 0..batch_size {
                    let (picture, prompt) = examples.get(k * batch_size + i);
                    latents.push(picture);
                    contexts.push(prompt);
                    weights.push((weight / (batch_size * subjects.len()) as f64) as f32);
                }
            }
        }
        let (length, parts) = (schedule.num_train_timesteps() as i64, batch_size as i64);
        let mut generator = Generator::new(seed);
        let mut timesteps = generator.randint(0, length, latents.len())?;
        for (i, t) in timesteps.iter_mut().enumerate() {
            *t = (((i + k) % batch_size) as i64 * length + *t) / parts;
        }
        let context = Conditioning::cat(&contexts)?;
        Self::new(
            schedule,
            &latents,
            &timesteps,
            &mut generator,
            context,
            weights,
        )
    }

    /// Picture `k` of some, at a timestep that was chosen.
    pub(super) fn single(
        schedule: &ScheduleConfig,
        examples: &PromptedLatents,
        weight: f64,
        timestep: usize,
        k: usize,
        generator: &mut Generator,
    ) -> Result<Self> {
        let (picture, prompt) = examples.get(k);
        let timesteps = [timestep as i64];
        let prompt = Conditioning::cat(&[prompt])?;
        let weights = vec![weight as f32];
        Self::new(schedule, &[picture], &timesteps, generator, prompt, weights)
    }

    /// A sample of [`Batch::single`] whose gradient is that towards the target that is expected of the noisy picture,
    /// if any of `pictures` may be in it: of equal mean, with less noise. `k` is as it was there.
    pub(super) fn expecting(
        self,
        schedule: &ScheduleConfig,
        pictures: &[Vec<f32>],
        k: usize,
    ) -> Result<Self> {
        let levels = schedule.signal_and_noise(self.timesteps[0] as usize)?;
        if levels.1 <= 0.0 {
            return Ok(self); // without noise there is no doubt
        }
        let picture = &pictures[k % pictures.len()];
        let mean = expected_picture(&values(&self.noisy)?, pictures, levels);
        // With z the picture and z̄ the expected one: e + (z − z̄)·signal/σ, and signal·that − σ·z̄ = v + (z − z̄)/σ.
        let (signal, sigma) = levels;
        let factor = match schedule.prediction() {
            Prediction::Epsilon => signal / sigma,
            Prediction::Velocity => 1.0 / sigma,
        };
        let differences = picture.iter().zip(mean).map(|(z, mean)| z - mean);
        let targets = values(&self.target)?.into_iter().zip(differences);
        let expected: Vec<f32> = targets.map(|(t, d)| t + d * factor).collect();
        let (shape, device) = (self.target.shape(), self.target.device());
        let expected = Some(Tensor::from_vec(expected, shape, device)?);
        Ok(Self { expected, ..self })
    }

    fn new(
        schedule: &ScheduleConfig,
        latents: &[&Tensor],
        timesteps: &[i64],
        generator: &mut Generator,
        context: Conditioning,
        weights: Vec<f32>,
    ) -> Result<Self> {
        let latents = Tensor::cat(latents, 0)?;
        let clean = values(&latents)?;
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
            expected: None,
            weights,
        })
    }

    /// What the model predicts for the samples, `[r, c, h, w]`.
    ///
    /// # Errors
    /// If a prediction is not a number.
    pub(crate) fn predict(&self, unet: &UNet) -> Result<Tensor> {
        let prediction = unet.forward(&self.noisy, &self.timesteps, &self.context)?;
        unet.check_finite(|| "prediction".to_owned(), &values(&prediction)?)?;
        Ok(prediction)
    }

    /// The loss of step `k` and its gradients with respect to every selected site, `[out, in]` each: the model's alone,
    /// or for each subject whose words the prompts have those of its own weights.
    ///
    /// # Errors
    /// If the loss is not a number.
    pub(super) fn gradients_by_subject(
        &self,
        unet: &UNet,
        sites: SiteSelection,
        scope: Scope,
        k: usize,
    ) -> Result<(f32, Vec<BTreeMap<Site, Tensor>>)> {
        let (mut loss, mut sums) = (0.0, Vec::<BTreeMap<Site, Tensor>>::new());
        for part in self.parts()? {
            let part = part?;
            let (prediction, saved) =
                unet.forward_saving(&part.noisy, &part.timesteps, &part.context)?;
            let (part_loss, grad) = part.loss(&prediction)?;
            loss += part_loss;
            unet.check_finite(|| format!("loss at step {}", k + 1), &[loss])?;
            let gradients = match scope {
                Scope::Prompt => vec![unet.backward(saved, &grad, sites)?],
                Scope::Words => unet.backward_at_words(saved, &grad, sites)?,
            };
            sums = match sums.is_empty() {
                true => gradients,
                false => sums::add(sums, gradients)?,
            };
        }
        Ok((loss, sums))
    }

    /// As many rows at a time as are taken in one pass.
    fn parts(&self) -> Result<impl Iterator<Item = Result<Self>>> {
        let (rows, _, h, w) = self.noisy.dims4()?;
        let at_once = rows_at_once(rows, Size::new(w, h));
        let part = move |first| self.narrow(first, at_once.min(rows - first));
        Ok((0..rows).step_by(at_once).map(part))
    }

    /// Some of the rows, with the weights that they have among all.
    fn narrow(&self, first: usize, count: usize) -> Result<Self> {
        Ok(Self {
            noisy: self.noisy.narrow(0, first, count)?,
            timesteps: self.timesteps[first..][..count].to_vec(),
            context: self.context.narrow(first, count)?,
            target: self.target.narrow(0, first, count)?,
            expected: (self.expected.as_ref())
                .map(|x| x.narrow(0, first, count))
                .transpose()?,
            weights: self.weights[first..][..count].to_vec(),
        })
    }

    /// The mean squared error of what the model predicts, for each row.
    ///
    /// # Errors
    /// If a prediction is not a number.
    pub(super) fn errors(&self, unet: &UNet) -> Result<Vec<f32>> {
        let mut errors = Vec::with_capacity(self.timesteps.len());
        for part in self.parts()? {
            let part = part?;
            errors.extend(mean_squares(&(part.predict(unet)? - &part.target)?)?);
        }
        Ok(errors)
    }

    /// L = Σ weight·mse(row), and ∂L/∂prediction, or its expectation.
    fn loss(&self, prediction: &Tensor) -> Result<(f32, Tensor)> {
        let error = (prediction - &self.target)?;
        let (r, c, h, w) = error.dims4()?;
        let weights = Tensor::from_slice(&self.weights, (r, 1, 1, 1), error.device())?;
        let means = mean_squares(&error)?;
        let loss = means.iter().zip(&self.weights).map(|(m, w)| m * w).sum();
        let error = match &self.expected {
            Some(expected) => (prediction - expected)?,
            None => error,
        };
        let grad = (error.broadcast_mul(&weights)? * (2.0 / (c * h * w) as f64))?;
        Ok((loss, grad))
    }
}

/// The mean square of each row.
pub(crate) fn mean_squares(x: &Tensor) -> Result<Vec<f32>> {
    Ok(x.sqr()?.flatten_from(1)?.mean(1)?.to_vec1()?)
}

fn values(x: &Tensor) -> Result<Vec<f32>> {
    Ok(x.flatten_all()?.to_vec1()?)
}

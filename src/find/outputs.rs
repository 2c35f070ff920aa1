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

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::adam::Adam;
use super::learned::{Options, cooled};
use super::loss::{Batch, DreamBoothData};
use super::state::TrainerState;
use super::trainer::{self, Gradients, Moment, Objective};
use crate::index::{Scope, Site, SiteSelection};
use crate::model::{Conditioning, UNet};
use crate::sampling::ScheduleConfig;
use crate::{Error, Result};

/// Arrays as large as all sites searched that are alive at once: weights, changed weights, gradients.
pub(super) const ARRAYS: u64 = 3;

/// Decay of the running mean of squared gradients.
const BETA2: f32 = 0.99;
/// Below this share of a site's root mean square, a gradient is noise.
const EPSILON: f64 = 1e-3;
/// What is added to the diagonal of EᵀE, as a share of its mean: words of one embedding are two numbers still.
const RIDGE: f64 = 1e-9;

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

/// The embeddings of the words, and what has a product of one with a single one of them.
struct Words {
    /// `[T, e]`
    embeddings: Tensor,
    /// p, `[T, e]`
    duals: Tensor,
    count: usize,
}

impl Words {
    /// Of a prompt with one subject's words.
    fn of(context: &Conditioning) -> Result<Self> {
        let [words] = context.words() else {
            return Err(Error::value(
                "prompt",
                "one whose words of one subject are marked",
                format!("{} subjects", context.words().len()),
            ));
        };
        let marked: Vec<u8> = words.flatten_all()?.to_vec1()?;
        let places: Vec<u32> = (0u32..)
            .zip(&marked)
            .filter(|(_, m)| **m != 0)
            .map(|(i, _)| i)
            .collect();
        let device = context.embedding().device();
        let (count, places) = (places.len(), Tensor::new(places, device)?);
        let embeddings = context
            .embedding()
            .squeeze(0)?
            .to_dtype(DType::F32)?
            .index_select(&places, 0)?;
        let rows: Vec<Vec<f32>> = embeddings.to_vec2()?;
        let duals = duals(&rows)?;
        let width = duals.len() / count.max(1);
        let duals = Tensor::from_vec(duals, (count, width), device)?;
        Ok(Self {
            embeddings,
            duals,
            count,
        })
    }
}

/// p = (EᵀE + ridge)⁻¹Eᵀ of embeddings, one after the other.
fn duals(rows: &[Vec<f32>]) -> Result<Vec<f32>> {
    let n = rows.len();
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    };
    let mut gram: Vec<Vec<f64>> = rows
        .iter()
        .map(|a| rows.iter().map(|b| dot(a, b)).collect())
        .collect();
    let mean = (0..n).map(|i| gram[i][i]).sum::<f64>() / n.max(1) as f64;
    let mut solved: Vec<Vec<f64>> = rows
        .iter()
        .map(|row| row.iter().map(|&v| f64::from(v)).collect())
        .collect();
    for (i, row) in gram.iter_mut().enumerate() {
        row[i] += RIDGE * mean;
    }
    // Gauss and Jordan, without a choice of pivots: the matrix is positive definite.
    for i in 0..n {
        let pivot = gram[i][i];
        if pivot.is_nan() || pivot <= 0.0 {
            return Err(Error::value(
                "embeddings of the words",
                "numbers, not all zero",
                pivot,
            ));
        }
        for row in [&mut gram[i], &mut solved[i]] {
            row.iter_mut().for_each(|v| *v /= pivot);
        }
        let (pivots, solution) = (gram[i].clone(), solved[i].clone());
        for j in (0..n).filter(|j| *j != i) {
            let by = gram[j][i];
            gram[j]
                .iter_mut()
                .zip(&pivots)
                .for_each(|(v, p)| *v -= by * p);
            solved[j]
                .iter_mut()
                .zip(&solution)
                .for_each(|(v, p)| *v -= by * p);
        }
    }
    Ok(solved.into_iter().flatten().map(|v| v as f32).collect())
}

/// The outputs of one site on their way, and the state of their optimiser.
struct Outputs {
    /// `[out, e]`
    weight: Tensor,
    /// Root mean square of the model's own outputs at the words: the unit of a step.
    unit: f64,
    /// δ in that unit, `[out, T]`.
    change: Vec<f32>,
    /// What each may be at least and at most, which all neurons shut together would give.
    reach: Vec<(f32, f32)>,
    /// Sums of squared gradients with respect to δ, `[out, T]`.
    squares: Vec<f64>,
    adam: Adam,
}

impl Outputs {
    fn new(weight: &Tensor, words: &Words) -> Result<Self> {
        let own = weight.matmul(&words.embeddings.t()?)?;
        let unit = f64::from(own.sqr()?.mean_all()?.to_scalar::<f32>()?).sqrt();
        let reach = reach(&weight.to_vec2()?, &words.embeddings.to_vec2()?, unit);
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
            *change = change.clamp(*least, *most);
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

/// By how much shutting neurons can lower and raise each row's output at each word, in `unit`s: Σ max(w_j·e_j, 0) and
/// Σ max(−w_j·e_j, 0).
fn reach(weight: &[Vec<f32>], words: &[Vec<f32>], unit: f64) -> Vec<(f32, f32)> {
    let pairs: Vec<_> = (weight.iter())
        .flat_map(|row| words.iter().map(move |word| (row, word)))
        .collect();
    let reach = |(row, word): &(&Vec<f32>, &Vec<f32>)| {
        let (mut least, mut most) = (0f64, 0f64);
        for (w, e) in row.iter().zip(*word) {
            let term = f64::from(*w) * f64::from(*e);
            least -= term.max(0.0);
            most += (-term).max(0.0);
        }
        // Where a site gives nothing but zeros there is no unit, and nothing to reach.
        let in_units = |reach: f64| {
            if unit > 0.0 {
                (reach / unit) as f32
            } else {
                0.0
            }
        };
        (in_units(least), in_units(most))
    };
    pairs.par_iter().map(reach).collect()
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
        .map(|(site, weight)| Ok((site, Outputs::new(&weight, &words)?)))
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

    #[test]
    fn a_dual_meets_its_own_word_alone() {
        let rows = vec![
            vec![1.0, 2.0, 0.5, -1.0],
            vec![0.9, 2.1, 0.4, -1.2],
            vec![0.0, 1.0, 1.0, 1.0],
        ];
        let duals = duals(&rows).unwrap();
        for (i, dual) in duals.chunks_exact(4).enumerate() {
            for (j, row) in rows.iter().enumerate() {
                let dot: f32 = dual.iter().zip(row).map(|(a, b)| a * b).sum();
                let expected = f32::from(u8::from(i == j));
                assert!((dot - expected).abs() < 1e-4, "{i} {j}: {dot}");
            }
        }
        assert!(super::duals(&[vec![0.0, 0.0]]).is_err());
    }

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
        let mut outputs = Outputs::new(&weight, &words).unwrap();
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
    }
}

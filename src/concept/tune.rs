//! Fine-tuning the values of neurons: Custom Diffusion (Kumari et al. 2022), on as many weights as are opened.
//!
//! With the neurons of merged concepts opened it mends what their union gets wrong; with every weight opened it is the
//! dense fine-tuning that sets of integers have to be compared with.

use std::collections::BTreeMap;
use std::time::Instant;

use candle_core::Tensor;

use super::adam::Adam;
use super::learn::cooled;
use super::loss::Batch;
use super::{Lesson, Site, SiteSelection, Step};
use crate::model::UNet;
use crate::sampling::ScheduleConfig;
use crate::{Error, Result};

/// Settings of [`values`].
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Steps K.
    pub steps: usize,
    /// For each subject its pictures in a step, and pictures of its class.
    pub half: usize,
    /// Step size, as a share of the root mean square of a site's weights.
    pub rate: f64,
    /// Weight of the class pictures in the loss.
    pub prior_weight: f64,
    /// Step k draws from a generator seeded with `seed + k`.
    pub seed: u64,
}

/// Default of [`Options::half`].
pub const HALF: usize = 8;
/// Default of [`Options::rate`].
pub const RATE: f64 = 0.01;

/// Decay of the running mean of squared gradients.
const BETA2: f32 = 0.999;
/// As torch has it, next to nothing.
const EPSILON: f64 = 1e-8;

/// The weights of a site, its open positions and the state of their optimiser.
struct Open {
    shape: (usize, usize),
    weight: Vec<f32>,
    positions: Vec<u32>,
    /// The weights at the positions.
    values: Vec<f32>,
    adam: Adam,
    scale: f64,
}

impl Open {
    fn new(weight: &Tensor, scale: f64, positions: Vec<u32>) -> Result<Self> {
        let shape = weight.dims2()?;
        let weight: Vec<f32> = weight.flatten_all()?.to_vec1()?;
        Ok(Self {
            shape,
            values: positions.iter().map(|&at| weight[at as usize]).collect(),
            adam: Adam::new(positions.len(), BETA2),
            weight,
            scale,
            positions,
        })
    }

    /// Adam's step at the open positions.
    fn update(&mut self, g: &[f32], rate: f64) {
        let (positions, rate) = (&self.positions, (rate * self.scale) as f32);
        self.adam.step(
            &mut self.values,
            |i| g[positions[i] as usize],
            EPSILON,
            |v, direction| v - rate * direction,
        );
        for (&at, &v) in self.positions.iter().zip(&self.values) {
            self.weight[at as usize] = v;
        }
    }

    fn tensor(&self, like: &Tensor) -> Result<Tensor> {
        Ok(Tensor::from_slice(&self.weight, self.shape, like.device())?)
    }
}

/// Trains the weights at the `open` positions on the sum of the lessons' losses, from where they are in `unet` now.
///
/// `scales` gives for each site the root mean square of its untouched weights, in which steps are measured.
/// Returns the values at the open positions, in their order. The model is given back as it was.
///
/// # Errors
/// If there is no lesson or one without pictures, an open position is outside its site or its site is not in the
/// model, an error of `after_step`, or a loss that is not a number.
pub fn values(
    unet: &mut UNet,
    schedule: &ScheduleConfig,
    lessons: &[Lesson],
    open: BTreeMap<Site, Vec<u32>>,
    scales: &BTreeMap<Site, f64>,
    options: &Options,
    after_step: impl FnMut(Step) -> Result<()>,
) -> Result<BTreeMap<Site, Vec<f32>>> {
    if lessons.is_empty() {
        return Err(Error::value("subjects to tune on", "at least one", "none"));
    }
    lessons.iter().try_for_each(Lesson::check)?;
    let before = unet.site_weights(SiteSelection::All);
    let mut sites = BTreeMap::new();
    for (site, positions) in open {
        let known = before.get(&site).zip(scales.get(&site));
        let Some((weight, &scale)) =
            known.filter(|(w, _)| positions.iter().all(|&at| (at as usize) < w.elem_count()))
        else {
            let found = "none of that name, or a smaller one";
            return Err(Error::value(
                format!("site `{site}`"),
                "a site of this model",
                found,
            ));
        };
        sites.insert(site, Open::new(weight, scale, positions)?);
    }
    let result = run(unet, schedule, lessons, &mut sites, options, after_step);
    unet.set_site_weights(before)?;
    result?;
    Ok(sites
        .into_iter()
        .map(|(site, open)| (site, open.values))
        .collect())
}

fn run(
    unet: &mut UNet,
    schedule: &ScheduleConfig,
    lessons: &[Lesson],
    sites: &mut BTreeMap<Site, Open>,
    options: &Options,
    mut after_step: impl FnMut(Step) -> Result<()>,
) -> Result<()> {
    let selection = match sites.keys().all(Site::is_cross) {
        true => SiteSelection::Cross,
        false => SiteSelection::All,
    };
    for k in 0..options.steps {
        let start = Instant::now();
        let seed = options.seed.wrapping_add(k as u64);
        let batch = Batch::stratified(
            schedule,
            lessons,
            options.half,
            options.prior_weight,
            seed,
            k,
        )?;
        let (loss, gradients) = batch.gradients(unet, selection, k)?;
        let rate = options.rate * cooled(k, options.steps);
        let mut weights = BTreeMap::new();
        for (site, g) in gradients {
            if let Some(open) = sites.get_mut(&site) {
                open.update(&g.flatten_all()?.to_vec1()?, rate);
                weights.insert(site, open.tensor(&g)?);
            }
        }
        unet.set_site_weights(weights)?;
        after_step(Step {
            step: k,
            loss,
            seconds: start.elapsed().as_secs_f64(),
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn only_open_positions_move() {
        let weight = Tensor::new(&[[1.0f32, 2.0, 3.0]], &Device::Cpu).unwrap();
        let mut open = Open::new(&weight, 0.5, vec![0, 2]).unwrap();
        open.update(&[1e-3, 5.0, -7.0], 0.1);
        let close = |a: f32, b: f32| (a - b).abs() < 1e-5;
        assert!(
            close(open.weight[0], 0.95) && open.weight[1] == 2.0 && close(open.weight[2], 3.05)
        );
        assert_eq!(open.values, [open.weight[0], open.weight[2]]);
    }
}

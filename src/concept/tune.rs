//! Fine-tuning the values of neurons: Custom Diffusion (Kumari et al. 2022), on as many weights as are opened.
//!
//! With the neurons of merged concepts opened it mends what their union gets wrong; with every weight opened it is the
//! dense fine-tuning that sets of integers have to be compared with.

use std::collections::BTreeMap;
use std::time::Instant;

use candle_core::Tensor;

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

/// Decays of Adam's running means (Kingma and Ba 2015), and what keeps its division defined.
const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-12;

/// The weights of a site, its open positions and the state of their optimiser.
struct Open {
    shape: (usize, usize),
    weight: Vec<f32>,
    positions: Vec<u32>,
    mean: Vec<f64>,
    mean_square: Vec<f64>,
    scale: f64,
}

impl Open {
    fn new(weight: &Tensor, scale: f64, positions: Vec<u32>) -> Result<Self> {
        Ok(Self {
            shape: weight.dims2()?,
            weight: weight.flatten_all()?.to_vec1()?,
            mean: vec![0.0; positions.len()],
            mean_square: vec![0.0; positions.len()],
            scale,
            positions,
        })
    }

    /// Adam's step k at the open positions.
    fn update(&mut self, g: &[f32], k: usize, rate: f64) {
        let unbias = |decay: f64| 1.0 - decay.powi(i32::try_from(k + 1).unwrap_or(i32::MAX));
        let (unbias1, unbias2) = (unbias(BETA1), unbias(BETA2));
        for ((&at, m), v) in self
            .positions
            .iter()
            .zip(&mut self.mean)
            .zip(&mut self.mean_square)
        {
            let g = f64::from(g[at as usize]);
            *m = BETA1 * *m + (1.0 - BETA1) * g;
            *v = BETA2 * *v + (1.0 - BETA2) * g * g;
            let step = (*m / unbias1) / ((*v / unbias2).sqrt() + EPSILON);
            self.weight[at as usize] -= (rate * self.scale * step) as f32;
        }
    }

    fn tensor(&self, like: &Tensor) -> Result<Tensor> {
        Ok(Tensor::from_slice(&self.weight, self.shape, like.device())?)
    }

    fn values(&self) -> Vec<f32> {
        self.positions
            .iter()
            .map(|&at| self.weight[at as usize])
            .collect()
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
    let before = unet.site_weights(SiteSelection::All)?;
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
        .map(|(site, open)| (site, open.values()))
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
                open.update(&g.flatten_all()?.to_vec1()?, k, rate);
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

    /// Adam by hand: its first step is the rate against the gradient's sign, whatever the gradient's size.
    #[test]
    fn only_open_positions_move_and_by_adams_rule() {
        let weight = Tensor::new(&[[1.0f32, 2.0, 3.0]], &Device::Cpu).unwrap();
        let mut open = Open::new(&weight, 0.5, vec![0, 2]).unwrap();
        open.update(&[1e-3, 5.0, -7.0], 0, 0.1);
        let close = |a: f32, b: f32| (a - b).abs() < 1e-5;
        assert!(
            close(open.weight[0], 0.95) && open.weight[1] == 2.0 && close(open.weight[2], 3.05)
        );
        // The second: m = 0.9·0.1g1 + 0.1·g2 over 1 − 0.81, v = (0.999·g1² + g2²)/1000 over 1 − 0.999².
        open.update(&[3e-3, 5.0, -7.0], 1, 0.1);
        let m = (0.9 * 0.1 * 1e-3 + 0.1 * 3e-3) / 0.19;
        let v = (0.999 * 0.001 * 1e-6 + 0.001 * 9e-6) / (1.0 - 0.999f64.powi(2));
        assert!(close(open.weight[0], 0.95 - (0.05 * m / v.sqrt()) as f32));
        assert_eq!(open.values(), [open.weight[0], open.weight[2]]);
    }
}

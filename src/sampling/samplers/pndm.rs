//! Pseudo numerical methods for diffusion models (Liu et al. 2022).

use super::super::timesteps::Timesteps;
use super::Run;
use crate::{Error, Result};

impl Run<'_> {
    /// PNDM (Liu et al. 2022, algorithm 2): the transfer of eq. 9 along a slope made of several
    /// outputs, by Runge-Kutta (eq. 13) in the first three steps and by linear multistep (eq. 12)
    /// in all others.
    ///
    /// With `skip_prk_steps`, as in Stable Diffusion, multistep starts at once: with one output,
    /// then, over the same step again, the mean of that and a second one, and then with orders 2, 3
    /// and 4.
    pub(super) fn pndm<E: From<Error>>(
        &self,
        mut x: Vec<f32>,
        mut model: impl FnMut(usize, &mut [f32]) -> Result<Vec<f32>, E>,
    ) -> Result<Vec<f32>, E> {
        let Timesteps {
            timesteps,
            stride,
            prk_calls,
            ..
        } = self.grid;
        let mut start = x.clone(); // where a step began that takes several calls
        let mut sum = vec![0.0; x.len()]; // of Runge-Kutta's weighted slopes
        let mut slopes: Vec<Vec<f32>> = Vec::new(); // the latest last, four at most
        for (index, &timestep) in timesteps.iter().enumerate() {
            let m = model(index, &mut x)?;
            if index == 0 {
                start.clone_from(&x);
            }
            let timestep = timestep as i64;
            if index < *prk_calls {
                let (stage, from) = (index % 4, timesteps[index / 4 * 4] as i64);
                let weight = if matches!(stage, 0 | 3) {
                    1.0 / 6.0
                } else {
                    1.0 / 3.0
                };
                if stage == 0 {
                    start.clone_from(&x);
                    slopes.push(m.clone());
                    sum.fill(0.0);
                }
                sum.iter_mut()
                    .zip(&m)
                    .for_each(|(sum, m)| *sum += weight * m);
                let to = if stage % 2 == 1 {
                    timestep
                } else {
                    timestep - stride / 2
                };
                x = self.transfer(&start, from, to, if stage == 3 { &sum } else { &m })?;
            } else if let (1, 0, [first]) = (index, *prk_calls, &slopes[..]) {
                let mean: Vec<f32> = m
                    .iter()
                    .zip(first)
                    .map(|(m, first)| (m + first) / 2.0)
                    .collect();
                x = self.transfer(&start, timestep + stride, timestep, &mean)?;
            } else {
                slopes.drain(..slopes.len().saturating_sub(3));
                slopes.push(m);
                x = self.transfer(&x, timestep, timestep - stride, &multistep(&slopes))?;
            }
        }
        Ok(x)
    }

    /// PNDM's transfer of `x` from one timestep to another along the slope `m` (Liu et al. 2022,
    /// eq. 9): `√(ᾱ'/ᾱ)·x - (ᾱ' - ᾱ)·ε / (ᾱ·√(1-ᾱ') + √(ᾱ·(1-ᾱ)·ᾱ'))`.
    fn transfer(&self, x: &[f32], from: i64, to: i64, m: &[f32]) -> Result<Vec<f32>> {
        let (here, next) = self.alphas(from, to)?;
        let level = (here.sqrt(), (1.0 - here).sqrt());
        let keep = (next / here).sqrt();
        let divisor = here * (1.0 - next).sqrt() + (here * (1.0 - here) * next).sqrt();
        let value = |(x, m): (&f32, &f32)| {
            let (_, epsilon) = self.data_and_noise(level, *x, *m);
            keep * x - (next - here) * epsilon / divisor
        };
        Ok(x.iter().zip(m).map(value).collect())
    }
}

/// The Adams-Bashforth slope of the latest one to four outputs (Liu et al. 2022, eq. 12; lower
/// orders in its appendix).
fn multistep(slopes: &[Vec<f32>]) -> Vec<f32> {
    match slopes {
        [d, c, b, a] => combine([a, b, c, d], |[a, b, c, d]| {
            (1.0 / 24.0) * (55.0 * a - 59.0 * b + 37.0 * c - 9.0 * d)
        }),
        [c, b, a] => combine([a, b, c], |[a, b, c]| {
            (23.0 * a - 16.0 * b + 5.0 * c) / 12.0
        }),
        [b, a] => combine([a, b], |[a, b]| (3.0 * a - b) / 2.0),
        _ => slopes.last().cloned().unwrap_or_default(),
    }
}

/// `f` of the values at each index of `N` lists.
fn combine<const N: usize>(lists: [&Vec<f32>; N], f: impl Fn([f32; N]) -> f32) -> Vec<f32> {
    (0..lists[0].len())
        .map(|i| f(lists.map(|list| list[i])))
        .collect()
}

//! Which timestep to look at next: importance sampling for Algorithm 1.
//!
//! Most of the noise of θ∘∂L/∂θ comes from few timesteps, and which these are is seen after some samples. A timestep is
//! drawn in proportion to the size that its gradients have had, and its gradient divided by how much oftener that is
//! than by even chance, so that the expectation stays the mean over all timesteps (Katharopoulos and Fleuret 2018,
//! section 3).

use super::state::TrainerState;
use crate::Result;

/// Width of the kernel that the sizes are smoothed with, in parts of the schedule.
const BANDWIDTH: f64 = 0.08;
/// Part of the draws that is by even chance whatever has been seen: no gradient is multiplied by more than its inverse.
const EVEN: f64 = 0.15;
/// Samples before the sizes that were seen count.
const START: usize = 8;
/// A sample that would count more than this times the mean counts only so much: sizes at one timestep have long tails.
/// The only part that is not free of bias.
const MOST: f64 = 2.0;
/// The golden ratio: multiples of it, modulo 1, are even at every length.
const GOLDEN: f64 = 0.618_033_988_749_895;

/// Draws timesteps 0..T for samples of one kind, and learns where their gradients are large.
#[derive(Debug, Clone)]
pub(super) struct Importance {
    /// Where in 0..1 the draws begin.
    offset: f64,
    count: usize,
    /// For each timestep the sums of kernels, and of kernels times sizes.
    kernels: Vec<f64>,
    sizes: Vec<f64>,
}

/// A timestep to look at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draw {
    pub(super) timestep: usize,
    /// Chance under even draws over chance under these.
    weight: f64,
}

impl Importance {
    /// For a schedule of so many timesteps, at least 1; `offset` in 0..1.
    pub(super) fn new(timesteps: usize, offset: f64) -> Self {
        Self {
            offset,
            count: 0,
            kernels: vec![0.0; timesteps],
            sizes: vec![0.0; timesteps],
        }
    }

    /// Keeps what the samples so far have changed.
    pub(super) fn save(&self, name: &str, state: &mut TrainerState) {
        state.keep_numbers(format!("{name}.count"), vec![self.count as f64]);
        state.keep_numbers(format!("{name}.kernels"), self.kernels.clone());
        state.keep_numbers(format!("{name}.sizes"), self.sizes.clone());
    }

    /// Takes it back.
    pub(super) fn load(&mut self, name: &str, state: &TrainerState) -> Result<()> {
        let timesteps = self.sizes.len();
        self.count = state.count_of(&format!("{name}.count"), u32::MAX as usize)?;
        let kernels = state.sizes_of(&format!("{name}.kernels"), timesteps)?;
        self.kernels.copy_from_slice(kernels);
        let sizes = state.sizes_of(&format!("{name}.sizes"), timesteps)?;
        self.sizes.copy_from_slice(sizes);
        Ok(())
    }

    /// Samples so far.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The expected size of a sample, once enough have been seen.
    pub(super) fn mean(&self) -> Option<f64> {
        (self.count >= START).then(|| self.profile().sum::<f64>() / self.sizes.len() as f64)
    }

    /// The smoothed size at each timestep.
    fn profile(&self) -> impl Iterator<Item = f64> {
        let both = self.sizes.iter().zip(&self.kernels);
        both.map(|(size, kernel)| size / kernel) // no kernel is so far away that it is 0
    }

    /// The next timestep.
    pub(super) fn draw(&self) -> Draw {
        let n = self.sizes.len();
        let chances: Vec<f64> = match self.mean().filter(|mean| *mean > 0.0) {
            Some(mean) => self
                .profile()
                .map(|size| (1.0 - EVEN) * size / mean + EVEN)
                .collect(),
            None => vec![1.0; n],
        };
        let place =
            (self.offset + self.count as f64 * GOLDEN).fract() * chances.iter().sum::<f64>();
        let mut sum = 0.0;
        let found = chances.iter().position(|chance| {
            sum += chance;
            place < sum
        });
        let timestep = found.unwrap_or(n - 1); // rounding may leave the last one over
        Draw {
            timestep,
            weight: 1.0 / chances[timestep],
        }
    }

    /// Takes note of the size of a drawn sample's gradient: by how much to multiply it.
    pub(super) fn observe(&mut self, draw: Draw, size: f64) -> f64 {
        let n = self.sizes.len() as f64;
        for (t, (kernel, sum)) in self.kernels.iter_mut().zip(&mut self.sizes).enumerate() {
            let far = (t as f64 - draw.timestep as f64) / (BANDWIDTH * n);
            let k = (-0.5 * far * far).exp();
            *kernel += k;
            *sum += k * size;
        }
        self.count += 1;
        let mean = self.profile().sum::<f64>() / n;
        let counts = draw.weight * size;
        match counts > MOST * mean {
            true => draw.weight * MOST * mean / counts,
            false => draw.weight,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mean over so many samples of a size that depends on the timestep alone.
    fn estimate(size: impl Fn(usize) -> f64, samples: usize, offset: f64) -> f64 {
        let mut importance = Importance::new(1000, offset);
        let mut sum = 0.0;
        for _ in 0..samples {
            let draw = importance.draw();
            sum += size(draw.timestep) * importance.observe(draw, size(draw.timestep));
        }
        sum / samples as f64
    }

    #[test]
    fn means_are_those_of_even_draws() {
        let steep = |t: usize| 1.0 + (t as f64 / 125.0).exp2();
        let want = (0..1000).map(steep).sum::<f64>() / 1000.0;
        for offset in [0.0, 0.3, 0.77] {
            let got = estimate(steep, 400, offset);
            assert!((got / want - 1.0).abs() < 0.06, "{got} {want}");
        }
    }

    #[test]
    fn sizes_of_zero_are_drawn_evenly() {
        let mut importance = Importance::new(10, 0.0);
        for _ in 0..100 {
            let draw = importance.draw();
            assert!(draw.timestep < 10);
            let times = importance.observe(draw, 0.0);
            assert!((times - 1.0).abs() < 1e-12, "{times}");
        }
    }

    #[test]
    fn one_large_sample_does_not_count_alone() {
        let mut importance = Importance::new(1000, 0.5);
        for _ in 0..100 {
            let draw = importance.draw();
            importance.observe(draw, 1.0);
        }
        let times = importance.observe(importance.draw(), 1000.0);
        assert!(times * 1000.0 < 60.0, "{times}");
    }

    #[test]
    fn large_gradients_are_looked_at_oftener() {
        let mut importance = Importance::new(1000, 0.1);
        let mut late = 0;
        for _ in 0..200 {
            let draw = importance.draw();
            late += usize::from(draw.timestep >= 900);
            importance.observe(draw, if draw.timestep >= 900 { 10.0 } else { 1.0 });
        }
        // 20 by even chance, 92 without smoothing.
        assert!((60..140).contains(&late), "{late}");
    }
}

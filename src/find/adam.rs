//! Adam (Kingma and Ba 2015), on part of a site's weights.

use rayon::prelude::*;

use super::state::TrainerState;
use crate::Result;

/// Decay of the running mean of the gradients.
const BETA1: f32 = 0.9;

/// Running means of the gradients of some values and of their squares, both from zero.
#[derive(Debug)]
pub(super) struct Adam {
    mean: Vec<f32>,
    mean_square: Vec<f32>,
    /// Decay of the mean of squares.
    beta2: f32,
    steps: i32,
}

impl Adam {
    pub(super) fn new(len: usize, beta2: f32) -> Self {
        Self {
            mean: vec![0.0; len],
            mean_square: vec![0.0; len],
            beta2,
            steps: 0,
        }
    }

    /// Keeps what the steps so far have changed, under the name of what it optimises.
    pub(super) fn save(&self, name: &str, state: &mut TrainerState) {
        state.keep(format!("adam.mean.{name}"), self.mean.clone());
        state.keep(format!("adam.square.{name}"), self.mean_square.clone());
        state.keep_numbers(format!("adam.steps.{name}"), vec![f64::from(self.steps)]);
    }

    /// Takes it back.
    pub(super) fn load(&mut self, name: &str, state: &TrainerState) -> Result<()> {
        let length = self.mean.len();
        let mean = state.array_of(&format!("adam.mean.{name}"), length)?;
        self.mean.copy_from_slice(mean);
        let square = state.array_of(&format!("adam.square.{name}"), length)?;
        self.mean_square.copy_from_slice(square);
        let steps = state.count_of(&format!("adam.steps.{name}"), state.steps.len())?;
        self.steps = steps as i32;
        Ok(())
    }

    /// One step: every value v becomes `moved(v, d)` with the direction d = m / (√s + ε), where m and s are the running
    /// means of its gradient and of the square, free of their bias towards the zeros that they started with.
    ///
    /// ε is the share `epsilon` of the root mean square of all gradients so far: what hardly matters does not move as
    /// what matters does.
    pub(super) fn step(
        &mut self,
        values: &mut [f32],
        gradient: impl Fn(usize) -> f32 + Sync,
        epsilon: f64,
        moved: impl Fn(f32, f32) -> f32 + Sync,
    ) {
        self.steps += 1;
        let beta2 = self.beta2;
        let unbias = |decay: f32| (1.0 - f64::from(decay).powi(self.steps)) as f32;
        let (unbias1, unbias2) = (unbias(BETA1), unbias(beta2));
        // In blocks of a fixed length: a sum whose order hung on the threads would be another in its last bits.
        const BLOCK: usize = 1 << 12;
        let sums: Vec<f64> = self
            .mean
            .par_chunks_mut(BLOCK)
            .zip(self.mean_square.par_chunks_mut(BLOCK))
            .enumerate()
            .map(|(block, (means, squares))| {
                let both = means.iter_mut().zip(squares).enumerate();
                let sizes = both.map(|(i, (m, s))| {
                    let g = gradient(block * BLOCK + i);
                    *m = BETA1 * *m + (1.0 - BETA1) * g;
                    *s = beta2 * *s + (1.0 - beta2) * g * g;
                    f64::from(*s)
                });
                sizes.sum()
            })
            .collect();
        let total: f64 = sums.iter().sum();
        let mean = total / self.mean.len().max(1) as f64 / f64::from(unbias2);
        let epsilon = (epsilon * mean.sqrt()) as f32;
        values
            .par_iter_mut()
            .zip(&self.mean)
            .zip(&self.mean_square)
            .for_each(|((v, m), s)| {
                let size = (s / unbias2).sqrt() + epsilon;
                // Where no gradient ever came, 0/0 is no direction.
                if size > 0.0 {
                    *v = moved(*v, m / unbias1 / size);
                }
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: the first step goes against the gradient's sign whatever its size, the second as the means say.
    #[test]
    fn steps_are_the_equation() {
        let mut adam = Adam::new(3, 0.999);
        let mut values = [1.0f32, 2.0, 3.0];
        let step = |v: f32, d: f32| v - 0.1 * d;
        let first = [1e-3, -7.0, 0.0];
        adam.step(&mut values, |i| first[i], 0.0, step);
        let close = |a: f32, b: f32| (a - b).abs() < 1e-5;
        assert!(close(values[0], 0.9) && close(values[1], 2.1));
        assert_eq!(values[2], 3.0);
        let second = [3e-3, -7.0, 0.0];
        adam.step(&mut values, |i| second[i], 0.0, step);
        let m = (0.9 * 0.1 * 1e-3 + 0.1 * 3e-3) / 0.19;
        let s = (0.999 * 0.001 * 1e-6 + 0.001 * 9e-6) / (1.0 - 0.999f32.powi(2));
        assert!(close(values[0], 0.9 - 0.1 * m / s.sqrt()));
    }

    #[test]
    fn epsilon_holds_back_what_hardly_matters() {
        let mut adam = Adam::new(2, 0.99);
        let mut values = [0.0f32; 2];
        adam.step(&mut values, |i| [1.0, 1e-3][i], 1e-2, |v, d| v - d);
        // The root mean square is 1/√2.
        let epsilon = 1e-2 / 2f32.sqrt();
        assert!((values[0] + 1.0 / (1.0 + epsilon)).abs() < 1e-4);
        assert!((values[1] + 1e-3 / (1e-3 + epsilon)).abs() < 1e-4);
    }
}

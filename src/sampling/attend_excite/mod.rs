//! Attend-and-excite: moving the latents until every subject of the prompt has a place where the picture attends to it.
//!
//! Chefer et al. 2023, "Attend-and-Excite", with the numbers of its authors' code, which diffusers has too:
//!
//! 1. `A [h, w, t]`: cross-attention probabilities of the prompt's half, averaged over heads and over the layers of one
//!    resolution ([`UNet::attend`](crate::model::UNet::attend)).
//! 2. `P = softmax(100·A)` over the tokens 1..t−1: the start token, which takes most of the attention, is left out, and
//!    so is the last place of the text.
//! 3. `G_s`: the map of token s smoothed by a 3 × 3 kernel, `exp(-(x² + y²)/(2σ)²)` at σ = 0.5, normalised; the borders
//!    are mirrored.
//! 4. `L = max_s max(0, 1 − max(G_s))` (eq. 1).
//! 5. `z ← z − α·∂L/∂z` (eq. 2), `α = 20·√r`, r from 1 at the first step to 0.5 at the last.
//! 6. At the steps of [`AttendExcite::thresholds`], 5 is repeated until `L ≤ 1 − threshold`.

use super::samplers::Step;
use crate::{Error, Result, Size};

/// Factor before the softmax over the tokens.
const SHARPNESS: f32 = 100.0;

/// The settings of attend-and-excite; [`Default`] has those of the paper, for 50 steps.
#[derive(Debug, Clone, PartialEq)]
pub struct AttendExcite {
    /// Steps at which latents are moved until the loss is at most 1 − threshold: `(step, threshold)`, steps from 0.
    pub thresholds: Vec<(usize, f64)>,
    /// Scale of all steps.
    pub scale_factor: f64,
    /// From the first sampling step to the last: the square of what `scale_factor` is multiplied by.
    pub scale_range: (f64, f64),
    /// Steps from this one on are left alone, but for thresholds.
    pub max_iterations: usize,
    /// Moves for one threshold at most.
    pub max_refinements: usize,
}

impl Default for AttendExcite {
    fn default() -> Self {
        Self {
            thresholds: vec![(0, 0.05), (10, 0.5), (20, 0.8)],
            scale_factor: 20.0,
            scale_range: (1.0, 0.5),
            max_iterations: 25,
            max_refinements: 20,
        }
    }
}

/// A loss and its gradient.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Loss {
    /// L, 0..=1.
    pub value: f32,
    /// ∂L/∂ each input.
    pub gradient: Vec<f32>,
}

impl AttendExcite {
    /// The step size α at one call of the model.
    fn step_size(&self, step: &Step) -> f32 {
        let (first, last) = self.scale_range;
        let part = step.index as f64 / step.total.saturating_sub(1).max(1) as f64;
        (self.scale_factor * (first + (last - first) * part).sqrt()) as f32
    }

    /// Moves the latents of one picture at one call of the model; `evaluate` gives the loss and ∂L/∂latents.
    ///
    /// As in the authors' code a threshold's last move is followed by the step's own one.
    ///
    /// # Errors
    /// Those of `evaluate`.
    pub(crate) fn update<E>(
        &self,
        step: &Step,
        latents: &mut [f32],
        mut evaluate: impl FnMut(&[f32]) -> Result<Loss, E>,
    ) -> Result<(), E> {
        let threshold = self.thresholds.iter().find(|(at, _)| *at == step.index);
        let moves = step.index < self.max_iterations;
        if !moves && threshold.is_none() {
            return Ok(());
        }
        let size = self.step_size(step);
        let descend = |latents: &mut [f32], loss: &Loss| {
            for (z, g) in latents.iter_mut().zip(&loss.gradient) {
                *z -= size * g;
            }
        };
        let mut loss = evaluate(latents)?;
        if let Some((_, threshold)) = threshold {
            let target = (1.0 - threshold).max(0.0) as f32;
            let mut refinements = 0;
            while loss.value > target && refinements < self.max_refinements {
                // The loss that ends the loop is one move old, as in the authors' code.
                if refinements > 0 {
                    loss = evaluate(latents)?;
                }
                descend(latents, &loss);
                refinements += 1;
            }
            if refinements > 0 && moves {
                loss = evaluate(latents)?;
            }
        }
        if moves {
            descend(latents, &loss);
        }
        Ok(())
    }
}

/// The loss of a map, and its gradient with respect to the map.
///
/// # Shapes
/// - `map`: `[h, w, t]`, row by row, with h and w those of `size`
/// - `tokens`: positions 1..t−1 of the tokens to excite
/// - the gradient: `[h, w, t]`
///
/// # Errors
/// If there is no token or one outside 1..t−1, a side of the map is less than 2, its length does not fit, or a value is
/// not finite.
pub(crate) fn attention_loss(map: &[f32], size: Size, tokens: &[usize]) -> Result<Loss> {
    let (h, w) = (size.height, size.width);
    if h < 2 || w < 2 {
        let expected = "pictures whose attention maps are at least 2x2 for attend-and-excite";
        return Err(Error::value("size", expected, size));
    }
    let t = map.len() / (h * w);
    if t * h * w != map.len() || map.iter().any(|v| !v.is_finite()) {
        let expected = format!("finite values for {size} pixels");
        return Err(Error::value("attention map", expected, "others"));
    }
    let inner = 1..t.saturating_sub(1);
    if let Some(token) = tokens.iter().find(|token| !inner.contains(token)) {
        let expected = format!("a position in {inner:?}");
        return Err(Error::value("token to excite", expected, token));
    }
    let shares: Vec<Vec<f32>> = map
        .chunks_exact(t)
        .map(|row| softmax(&row[inner.clone()]))
        .collect();
    let mut worst: Option<(f32, usize, Vec<f32>)> = None; // 1 − max, the token, its smoothed map
    for &token in tokens {
        let image: Vec<f32> = shares.iter().map(|share| share[token - 1]).collect();
        let smooth = smoothed(&image, h, w);
        let lack = (1.0 - highest(&smooth)).max(0.0);
        if worst.as_ref().is_none_or(|(most, ..)| lack > *most) {
            worst = Some((lack, token, smooth));
        }
    }
    let Some((value, token, smooth)) = worst else {
        return Err(Error::value("tokens to excite", "at least one", "none"));
    };
    let mut gradient = vec![0.0; map.len()];
    if value > 0.0 {
        let to_image = smoothed_transposed(&to_highest(&smooth), h, w);
        let rows = gradient.chunks_exact_mut(t).zip(&shares);
        for ((row, share), g) in rows.zip(to_image).filter(|(_, g)| *g != 0.0) {
            // ∂p_s/∂A_j = 100·p_s·(δ_js − p_j)
            let scale = SHARPNESS * g * share[token - 1];
            for (d, p) in row[inner.clone()].iter_mut().zip(share) {
                *d = -scale * p;
            }
            row[token] += scale;
        }
    }
    Ok(Loss { value, gradient })
}

/// softmax of the sharpened values.
fn softmax(values: &[f32]) -> Vec<f32> {
    let most = highest(values);
    let powers: Vec<f32> = values
        .iter()
        .map(|v| (SHARPNESS * v - SHARPNESS * most).exp())
        .collect();
    let sum: f32 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
}

fn highest(values: &[f32]) -> f32 {
    values.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// ∂(1 − max)/∂ each value; where several are highest each has its share, as in torch.
fn to_highest(values: &[f32]) -> Vec<f32> {
    let most = highest(values);
    let count = values.iter().filter(|&&v| v >= most).count() as f32;
    let slope = |v: &f32| if *v >= most { -1.0 / count } else { 0.0 };
    values.iter().map(slope).collect()
}

/// Weight of the kernel's side taps, 1 in the middle, before normalising: `exp(-1/(2σ)²)` at σ = 0.5. This is a
/// Gaussian of σ = 1/√2, for the published code divides by 2σ inside the square.
const SIDE: f32 = 0.367_879_44;

/// Calls `f(pixel, weight, source)` for each of a pixel's nine taps, whose mirror image is taken beyond a border.
fn taps(h: usize, w: usize, mut f: impl FnMut(usize, f32, usize)) {
    const WEIGHTS: [f32; 3] = [SIDE, 1.0, SIDE];
    let total: f32 = WEIGHTS.iter().sum();
    // −1 is 1, and n is n − 2.
    let mirrored = |at: usize, n: usize| match at {
        0 => 1,
        at if at > n => n - 2,
        at => at - 1,
    };
    for y in 0..h {
        for x in 0..w {
            for (i, wy) in WEIGHTS.iter().enumerate() {
                for (j, wx) in WEIGHTS.iter().enumerate() {
                    let source = mirrored(y + i, h) * w + mirrored(x + j, w);
                    f(y * w + x, wy * wx / (total * total), source);
                }
            }
        }
    }
}

/// An image `[h, w]` under the kernel.
fn smoothed(image: &[f32], h: usize, w: usize) -> Vec<f32> {
    let mut out = vec![0.0; image.len()];
    taps(h, w, |to, weight, from| out[to] += weight * image[from]);
    out
}

/// ∂L/∂image of [`smoothed`].
fn smoothed_transposed(grad: &[f32], h: usize, w: usize) -> Vec<f32> {
    let mut out = vec![0.0; grad.len()];
    taps(h, w, |to, weight, from| out[from] += weight * grad[to]);
    out
}

#[cfg(test)]
mod tests;

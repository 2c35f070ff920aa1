//! Group normalisation.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor};
use rayon::prelude::*;

use crate::Result;

/// What follows a group norm inside the same operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    None,
    /// `x·σ(x)`.
    Silu,
}

/// Group normalisation with an optional SiLU behind it: Wu and He 2018.
///
/// `y = act(w·(x − μ)/√(σ² + ε) + b)`, with μ and σ² over each group of channels of each sample.
#[derive(Debug, Clone)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
    epsilon: f64,
    activation: Activation,
}

impl GroupNorm {
    /// A norm from its weight and bias, both `[c]`; `groups` divides c.
    pub fn new(
        weight: Tensor,
        bias: Tensor,
        groups: usize,
        epsilon: f64,
        activation: Activation,
    ) -> Self {
        Self {
            weight,
            bias,
            groups,
            epsilon,
            activation,
        }
    }

    /// `[b, c, ..]` to the same shape.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if x.device().is_cpu() {
            let kernel = self.kernel()?;
            return Ok(x.contiguous()?.apply_op1_no_bwd(&kernel)?);
        }
        let n = self.affine(&self.normalised(x)?.0)?.reshape(x.shape())?;
        Ok(match self.activation {
            Activation::None => n,
            Activation::Silu => n.silu()?,
        })
    }

    /// ∂L/∂x from the input `x` and `grad`, both `[b, c, ..]`; the statistics are taken from `x` again.
    ///
    /// With x̂ = (x − μ)/σ and a = ∂L/∂x̂: ∂L/∂x = (a − mean(a) − x̂·mean(a·x̂))/σ, means over the group.
    pub fn backward(&self, x: &Tensor, grad: &Tensor) -> Result<Tensor> {
        if x.device().is_cpu() {
            let kernel = self.kernel()?;
            return Ok(x
                .contiguous()?
                .apply_op2_no_bwd(&grad.contiguous()?, &kernel)?);
        }
        self.backward_generic(x, grad)
    }

    fn backward_generic(&self, x: &Tensor, grad: &Tensor) -> Result<Tensor> {
        let (xhat, inv_std) = self.normalised(x)?; // [b, g, m], [b, g, 1]
        let (b, g, m) = xhat.dims3()?;
        let c = self.weight.dim(0)?;
        let grad = grad.reshape((b, c, ()))?;
        let grad = match self.activation {
            Activation::None => grad,
            Activation::Silu => {
                // silu'(n) = s·(1 + n·(1 − s)), s = σ(n)
                let n = self.affine(&xhat)?;
                let s = candle_nn::ops::sigmoid(&n)?;
                (grad * (&s * ((&n * (1.0 - &s)?)? + 1.0)?)?)?
            }
        };
        let a = grad
            .broadcast_mul(&self.weight.reshape((1, c, 1))?)?
            .reshape((b, g, m))?;
        let mean = a.mean_keepdim(2)?;
        let along = (&a * &xhat)?.mean_keepdim(2)?;
        let dx = a
            .broadcast_sub(&mean)?
            .sub(&xhat.broadcast_mul(&along)?)?
            .broadcast_mul(&inv_std)?;
        Ok(dx.reshape(x.shape())?)
    }

    /// x̂ as `[b, groups, m]` and 1/σ as `[b, groups, 1]`.
    fn normalised(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let x = x.reshape((x.dim(0)?, self.groups, ()))?;
        let x = x.broadcast_sub(&x.mean_keepdim(2)?)?;
        let inv_std = (x.sqr()?.mean_keepdim(2)? + self.epsilon)?
            .sqrt()?
            .recip()?;
        Ok((x.broadcast_mul(&inv_std)?, inv_std))
    }

    /// `w·x̂ + b` as `[b, c, m·groups/c]`.
    fn affine(&self, xhat: &Tensor) -> Result<Tensor> {
        let c = self.weight.dim(0)?;
        let xhat = xhat.reshape((xhat.dim(0)?, c, ()))?;
        Ok(xhat
            .broadcast_mul(&self.weight.reshape((1, c, 1))?)?
            .broadcast_add(&self.bias.reshape((1, c, 1))?)?)
    }

    fn kernel(&self) -> Result<GroupNormKernel> {
        Ok(GroupNormKernel {
            weight: self.weight.to_vec1()?,
            bias: self.bias.to_vec1()?,
            groups: self.groups,
            epsilon: self.epsilon as f32,
            silu: self.activation == Activation::Silu,
        })
    }
}

/// The CPU form of [`GroupNorm`]: one pass over each group for the statistics, one for the result.
struct GroupNormKernel {
    weight: Vec<f32>,
    bias: Vec<f32>,
    groups: usize,
    epsilon: f32,
    silu: bool,
}

impl GroupNormKernel {
    /// Channels per group and pixels per channel of `[b, c, ..]`.
    fn extents(&self, shape: &Shape) -> (usize, usize) {
        let c = self.weight.len();
        (c / self.groups, shape.dims().iter().skip(2).product())
    }

    /// Calls `f(group, x, out)` for every group of every sample, in parallel.
    fn each_group(
        &self,
        x: &[f32],
        shape: &Shape,
        f: impl Fn(usize, &[f32], &mut [f32], usize) + Sync,
    ) -> Vec<f32> {
        let (channels, pixels) = self.extents(shape);
        let len = (channels * pixels).max(1);
        let mut out = vec![0f32; x.len()];
        out.par_chunks_mut(len)
            .zip(x.par_chunks(len))
            .enumerate()
            .for_each(|(i, (out, x))| f(i % self.groups, x, out, i * len));
        out
    }

    /// The weights and biases of a group's channels, each with its pixels in `x`.
    fn channels(&self, group: usize, shape: &Shape) -> impl Iterator<Item = (usize, f32, f32)> {
        let (channels, pixels) = self.extents(shape);
        (0..channels).map(move |j| {
            let c = group * channels + j;
            (j * pixels, self.weight[c], self.bias[c])
        })
    }
}

/// Mean and 1/σ, summed in f64: groups at 512 × 512 have millions of members.
fn statistics(x: &[f32], epsilon: f32) -> (f32, f32) {
    let n = x.len() as f64;
    let mean = (sum(x, |v| v) / n) as f32;
    let variance = sum(x, |v| (v - mean) * (v - mean)) / n;
    (mean, (1.0 / (variance + f64::from(epsilon)).sqrt()) as f32)
}

/// Sum of `f` over `x`: in f32 within runs of 16 lanes of 64, so that it vectorises, and in f64 across them.
fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f64 {
    const LANES: usize = 16;
    let mut total = 0f64;
    for block in x.chunks(LANES * 64) {
        let mut lanes = [0f32; LANES];
        let runs = block.chunks_exact(LANES);
        let rest: f32 = runs.remainder().iter().map(|&v| f(v)).sum();
        for run in runs {
            for (lane, &v) in lanes.iter_mut().zip(run) {
                *lane += f(v);
            }
        }
        total += lanes.iter().map(|&v| f64::from(v)).sum::<f64>() + f64::from(rest);
    }
    total
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

impl CustomOp1 for GroupNormKernel {
    fn name(&self) -> &'static str {
        "group-norm"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let shape = layout.shape();
        let (_, pixels) = self.extents(shape);
        let out = self.each_group(
            super::values(storage, layout)?,
            shape,
            |group, x, out, _| {
                let (mean, inv_std) = statistics(x, self.epsilon);
                for (at, weight, bias) in self.channels(group, shape) {
                    let scale = weight * inv_std;
                    let shift = bias - mean * scale;
                    for (y, &x) in out[at..at + pixels].iter_mut().zip(&x[at..at + pixels]) {
                        let n = x * scale + shift;
                        *y = if self.silu { n * sigmoid(n) } else { n };
                    }
                }
            },
        );
        Ok((CpuStorage::F32(out), shape.clone()))
    }
}

/// The backward pass: first operand x, second ∂L/∂y.
impl CustomOp2 for GroupNormKernel {
    fn name(&self) -> &'static str {
        "group-norm-backward"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let shape = l1.shape();
        let (_, pixels) = self.extents(shape);
        let grad = super::values(s2, l2)?;
        let out = self.each_group(super::values(s1, l1)?, shape, |group, x, out, offset| {
            let (mean, inv_std) = statistics(x, self.epsilon);
            let grad = &grad[offset..offset + x.len()];
            for (at, weight, bias) in self.channels(group, shape) {
                let range = at..at + pixels;
                for ((a, &x), &g) in out[range.clone()]
                    .iter_mut()
                    .zip(&x[range.clone()])
                    .zip(&grad[range])
                {
                    let slope = if self.silu {
                        let n = (x - mean) * inv_std * weight + bias;
                        let s = sigmoid(n);
                        s * (1.0 + n * (1.0 - s))
                    } else {
                        1.0
                    };
                    *a = g * slope * weight;
                }
            }
            let n = x.len() as f64;
            let mean_a = (sum(out, |a| a) / n) as f32;
            let dot: f64 = out
                .iter()
                .zip(x)
                .map(|(&a, &x)| f64::from(a * (x - mean) * inv_std))
                .sum();
            let along = (dot / n) as f32;
            for (a, &x) in out.iter_mut().zip(x) {
                *a = (*a - mean_a - (x - mean) * inv_std * along) * inv_std;
            }
        });
        Ok((CpuStorage::F32(out), shape.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::random;
    use super::*;

    /// The kernels against the plain formula, which is what other devices run.
    #[test]
    fn group_norm_kernels_equal_the_formula() {
        for activation in [Activation::None, Activation::Silu] {
            let x = ((random(&[2, 12, 5, 7], 1) * 3.0).unwrap() + 10.0).unwrap();
            let grad = random(&[2, 12, 5, 7], 2);
            let norm = GroupNorm::new(random(&[12], 3), random(&[12], 4), 3, 1e-5, activation);
            let n = norm
                .affine(&norm.normalised(&x).unwrap().0)
                .unwrap()
                .reshape(x.shape())
                .unwrap();
            let formula = if activation == Activation::Silu {
                n.silu().unwrap()
            } else {
                n
            };
            for (kernel, formula) in [
                (norm.forward(&x).unwrap(), formula),
                (
                    norm.backward(&x, &grad).unwrap(),
                    norm.backward_generic(&x, &grad).unwrap(),
                ),
            ] {
                let worst = (kernel - formula)
                    .unwrap()
                    .abs()
                    .unwrap()
                    .max_all()
                    .unwrap()
                    .to_scalar::<f32>()
                    .unwrap();
                assert!(worst < 2e-5, "{activation:?}: {worst}");
            }
        }
    }
}

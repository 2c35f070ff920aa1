//! Group normalisation.

use std::ops::Range;

use candle_core::Tensor;
use rayon::prelude::*;

use super::dispatch::{has_kernels, wide};
use super::math::{sigmoid, sum_in_f64, vectorised};
use super::values::{misfit, values_of};
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
    ///
    /// # Errors
    /// If `x` has not c channels.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if !has_kernels(x) {
            return self.forward_generic(x);
        }
        self.each_group(
            x,
            None,
            #[inline(always)]
            |group, out| {
                let (mean, inv_std) = group.statistics(self.epsilon);
                for channel in group.channels() {
                    let (scale, bias) = (channel.weight * inv_std, channel.bias);
                    let pixels = out[channel.range.clone()].iter_mut().zip(channel.x);
                    match self.activation {
                        Activation::None => {
                            for (y, &x) in pixels {
                                *y = (x - mean) * scale + bias;
                            }
                        }
                        Activation::Silu => {
                            for (y, &x) in pixels {
                                let n = (x - mean) * scale + bias;
                                *y = n * sigmoid(n);
                            }
                        }
                    }
                }
            },
        )
    }

    /// ∂L/∂x from the input `x` and `grad`, both `[b, c, ..]`; the statistics are taken from `x` again.
    ///
    /// With x̂ = (x − μ)/σ and a = ∂L/∂x̂: ∂L/∂x = (a − mean(a) − x̂·mean(a·x̂))/σ, means over the group.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn backward(&self, x: &Tensor, grad: &Tensor) -> Result<Tensor> {
        if !has_kernels(x) {
            return self.backward_generic(x, grad);
        }
        self.each_group(
            x,
            Some(grad),
            #[inline(always)]
            |group, out| {
                let (mean, inv_std) = group.statistics(self.epsilon);
                for channel in group.channels() {
                    let (scale, bias, weight) =
                        (channel.weight * inv_std, channel.bias, channel.weight);
                    let pixels = out[channel.range.clone()].iter_mut().zip(channel.x);
                    let pixels = pixels.zip(channel.grad);
                    match self.activation {
                        Activation::None => {
                            for ((a, _), &g) in pixels {
                                *a = g * weight;
                            }
                        }
                        Activation::Silu => {
                            for ((a, &x), &g) in pixels {
                                let n = (x - mean) * scale + bias;
                                let s = sigmoid(n);
                                *a = g * weight * (s * (1.0 + n * (1.0 - s)));
                            }
                        }
                    }
                }
                let n = group.x.len() as f64;
                let mean_a = (sum_in_f64(out, out, |a, _| a) / n) as f32;
                let dot = sum_in_f64(out, group.x, |a, x| a * (x - mean));
                let along = (dot / n) as f32 * inv_std * inv_std;
                for (a, &x) in out.iter_mut().zip(group.x) {
                    *a = (*a - mean_a - (x - mean) * along) * inv_std;
                }
            },
        )
    }

    /// Calls `f(group, out)` for every group of every sample, in parallel.
    fn each_group(
        &self,
        x: &Tensor,
        grad: Option<&Tensor>,
        f: impl Fn(Group, &mut [f32]) + Sync,
    ) -> Result<Tensor> {
        let c = self.weight.dim(0)?;
        if x.rank() < 2 || x.dim(1)? != c {
            return Err(misfit(&format!("{c} channels"), x));
        }
        if let Some(grad) = grad.filter(|g| g.shape() != x.shape()) {
            let expected = format!("a gradient of shape {:?}", x.shape());
            return Err(misfit(&expected, grad));
        }
        let (x, grad) = (x.contiguous()?, grad.map(Tensor::contiguous).transpose()?);
        let (xs, gs) = (values_of(&x)?, grad.as_ref().map(values_of).transpose()?);
        let (xs, gs): (&[f32], Option<&[f32]>) = (&xs, gs.as_deref());
        let (weights, biases) = (values_of(&self.weight)?, values_of(&self.bias)?);
        let (weights, biases): (&[f32], &[f32]) = (&weights, &biases);
        let pixels: usize = x.dims()[2..].iter().product();
        let (channels, mut out) = (c / self.groups, vec![0f32; xs.len()]);
        let len = (channels * pixels).max(1);
        out.par_chunks_mut(len).enumerate().for_each(|(i, out)| {
            let (members, own) = (i * len..(i + 1) * len, i % self.groups * channels);
            let group = Group {
                x: &xs[members.clone()],
                grad: gs.map_or(&[], |gs| &gs[members]),
                weights: &weights[own..own + channels],
                biases: &biases[own..own + channels],
            };
            vectorised(
                #[inline(always)]
                || f(group, out),
            );
        });
        Ok(Tensor::from_vec(out, x.shape(), x.device())?)
    }

    fn forward_generic(&self, x: &Tensor) -> Result<Tensor> {
        let n = self.affine(&self.normalised(x)?.0)?.reshape(x.shape())?;
        let y = match self.activation {
            Activation::None => n,
            Activation::Silu => n.silu()?,
        };
        Ok(y.to_dtype(x.dtype())?)
    }

    fn backward_generic(&self, x: &Tensor, grad: &Tensor) -> Result<Tensor> {
        let (xhat, inv_std) = self.normalised(x)?; // [b, g, m], [b, g, 1]
        let (b, g, m) = xhat.dims3()?;
        let c = self.weight.dim(0)?;
        let grad = wide(grad)?.reshape((b, c, ()))?;
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
        Ok(dx.reshape(x.shape())?.to_dtype(x.dtype())?)
    }

    /// x̂ as `[b, groups, m]` and 1/σ as `[b, groups, 1]`.
    fn normalised(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let x = wide(x)?.reshape((x.dim(0)?, self.groups, ()))?;
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
}

/// The channels of one sample that are normalised together.
struct Group<'a> {
    x: &'a [f32],
    /// Empty on the way forward.
    grad: &'a [f32],
    weights: &'a [f32],
    biases: &'a [f32],
}

/// One channel of a [`Group`].
struct Channel<'a> {
    range: Range<usize>,
    x: &'a [f32],
    grad: &'a [f32],
    weight: f32,
    bias: f32,
}

impl<'a> Group<'a> {
    #[inline(always)]
    fn channels(&self) -> impl Iterator<Item = Channel<'a>> {
        let pixels = self.x.len() / self.weights.len();
        let Self { x, grad, .. } = *self;
        let affine = self.weights.iter().zip(self.biases).enumerate();
        affine.map(move |(j, (&weight, &bias))| {
            let range = j * pixels..(j + 1) * pixels;
            Channel {
                x: &x[range.clone()],
                grad: grad.get(range.clone()).unwrap_or_default(),
                range,
                weight,
                bias,
            }
        })
    }

    /// Mean and 1/σ.
    #[inline(always)]
    fn statistics(&self, epsilon: f64) -> (f32, f32) {
        let (x, n) = (self.x, self.x.len() as f64);
        let mean = (sum_in_f64(x, x, |x, _| x) / n) as f32;
        let variance = sum_in_f64(x, x, |x, _| (x - mean) * (x - mean)) / n;
        (mean, (1.0 / (variance + epsilon).sqrt()) as f32)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::super::testing::{random, worst};
    use super::*;

    /// The kernels and what other devices run against the same in f64: far off centre, at odd sizes, with groups of a
    /// million members.
    #[test]
    fn both_paths_equal_f64() {
        let f64_of = |x: &Tensor| x.to_dtype(DType::F64).unwrap();
        for (shape, groups, mean) in [
            (&[2, 12, 5, 7][..], 3, 10.0),
            (&[1, 6, 1, 1], 2, 0.0),
            (&[3, 40, 37, 3], 8, 1000.0),
            (&[1, 4, 512, 1100], 2, 3.0),
        ] {
            let c = shape[1];
            let x = ((random(shape, 1) * 3.0).unwrap() + mean).unwrap();
            let grad = random(shape, 2);
            let (weight, bias) = (random(&[c], 3), random(&[c], 4));
            for activation in [Activation::None, Activation::Silu] {
                let exact =
                    GroupNorm::new(f64_of(&weight), f64_of(&bias), groups, 1e-5, activation);
                let norm = GroupNorm::new(weight.clone(), bias.clone(), groups, 1e-5, activation);
                // The mean is rounded to f32, and the deviations are in units of about 3.
                let tolerance = 4e-6 + mean as f32 * 1.5e-7;
                let close = |got: Tensor, want: Tensor| {
                    let error = worst(&got, &want.to_dtype(DType::F32).unwrap());
                    assert!(error < tolerance, "{activation:?} {shape:?}: {error:e}");
                };
                let want = || exact.forward_generic(&f64_of(&x)).unwrap();
                close(norm.forward(&x).unwrap(), want());
                let want = || exact.backward_generic(&f64_of(&x), &f64_of(&grad)).unwrap();
                close(norm.backward(&x, &grad).unwrap(), want());
                if mean < 100.0 {
                    close(norm.backward_generic(&x, &grad).unwrap(), want());
                }
            }
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let norm = GroupNorm::new(random(&[4], 1), random(&[4], 2), 2, 1e-5, Activation::Silu);
        let x = random(&[1, 4, 3], 3);
        assert!(norm.forward(&random(&[1, 6, 2], 4)).is_err());
        assert!(norm.forward(&random(&[4], 4)).is_err());
        assert!(norm.backward(&x, &random(&[1, 4, 2], 4)).is_err());
    }
}

//! Group normalisation, a task for each group of each sample.

use std::ops::Range;

use candle_core::Tensor;
use rayon::prelude::*;

use super::math::{sigmoid, sum_in_f64, vectorised};
use super::zeros::zeros;
use crate::Result;
use crate::nn::parameters::{Activation, GroupNormParameters};
use crate::nn::tensor::numbers_of;

pub(super) fn forward(norm: &GroupNormParameters, x: &Tensor) -> Result<Tensor> {
    each_group(
        norm,
        x,
        None,
        #[inline(always)]
        |group, out| {
            let (mean, inv_std) = group.statistics(norm.epsilon);
            for channel in group.channels() {
                let (scale, bias) = (channel.weight * inv_std, channel.bias);
                let pixels = out[channel.range.clone()].iter_mut().zip(channel.x);
                match norm.activation {
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

pub(super) fn backward(norm: &GroupNormParameters, x: &Tensor, grad: &Tensor) -> Result<Tensor> {
    each_group(
        norm,
        x,
        Some(grad),
        #[inline(always)]
        |group, out| {
            let (mean, inv_std) = group.statistics(norm.epsilon);
            for channel in group.channels() {
                let (scale, bias, weight) =
                    (channel.weight * inv_std, channel.bias, channel.weight);
                let pixels = out[channel.range.clone()].iter_mut().zip(channel.x);
                let pixels = pixels.zip(channel.grad);
                match norm.activation {
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
    norm: &GroupNormParameters,
    x: &Tensor,
    grad: Option<&Tensor>,
    f: impl Fn(Group, &mut [f32]) + Sync,
) -> Result<Tensor> {
    let c = norm.weight.dim(0)?;
    let (x, grad) = (x.contiguous()?, grad.map(Tensor::contiguous).transpose()?);
    let (xs, gs) = (numbers_of(&x)?, grad.as_ref().map(numbers_of).transpose()?);
    let (xs, gs): (&[f32], Option<&[f32]>) = (&xs, gs.as_deref());
    let (weights, biases) = (numbers_of(&norm.weight)?, numbers_of(&norm.bias)?);
    let (weights, biases): (&[f32], &[f32]) = (&weights, &biases);
    let pixels: usize = x.dims()[2..].iter().product();
    let (channels, mut out) = (c / norm.groups, zeros(xs.len()));
    let len = (channels * pixels).max(1);
    out.par_chunks_mut(len).enumerate().for_each(|(i, out)| {
        let (members, own) = (i * len..(i + 1) * len, i % norm.groups * channels);
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

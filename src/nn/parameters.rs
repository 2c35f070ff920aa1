//! What a backend computes from: the parameters of layers, and what one call adds to them.
//!
//! Layers check shapes before they hand anything over.

use candle_core::{DType, Tensor};

use super::layout::{Direction, Layout};
use super::weight::Weight;
use crate::Result;

/// One use of a linear layer: `onto + bias + x·Wᵀ`, or `onto + grad·W`.
#[derive(Clone, Copy)]
pub(super) struct LinearCall<'a> {
    /// `[out, in]`
    pub(super) weight: &'a Weight,
    /// `[out]`; none on the way back, as it is no part of the derivative.
    pub(super) bias: Option<&'a Tensor>,
    pub(super) direction: Direction,
    /// What goes in, which is a gradient on the way back.
    pub(super) x: &'a Tensor,
    pub(super) from: Layout,
    pub(super) to: Layout,
    /// A summand of the output's shape.
    pub(super) onto: Option<&'a Tensor>,
    /// Of the output.
    pub(super) shape: &'a [usize],
}

/// A linear layer with a GEGLU behind, and its input.
#[derive(Clone, Copy)]
pub(super) struct GegluCall<'a> {
    /// `[2·inner, in]`
    pub(super) weight: &'a Weight,
    /// `[2·inner]`
    pub(super) bias: Option<&'a Tensor>,
    /// `[.., in]`
    pub(super) x: &'a Tensor,
}

impl GegluCall<'_> {
    /// Half of the layer's outputs.
    pub(super) fn inner(&self) -> usize {
        self.weight.shape().0 / 2
    }

    /// `[.., c]` with the leading dimensions of the input.
    pub(super) fn shape(&self, c: usize) -> Vec<usize> {
        [&self.x.dims()[..self.x.rank() - 1], &[c]].concat()
    }
}

/// A convolution with a square kernel.
#[derive(Debug, Clone)]
pub(super) struct Filter {
    /// `[c_out, c_in·k·k]`
    pub(super) weight: Weight,
    pub(super) k: usize,
    /// `[c_out]`
    pub(super) bias: Tensor,
    pub(super) stride: usize,
    pub(super) padding: usize,
}

/// Channels on both sides of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Channels {
    pub(super) input: usize,
    pub(super) output: usize,
}

impl Filter {
    /// c_in and c_out.
    pub(super) fn channels(&self) -> Channels {
        let (output, columns) = self.weight.shape();
        let input = columns / (self.k * self.k);
        Channels { input, output }
    }

    /// The whole weight, `[c_out, c_in, k, k]`.
    pub(super) fn kernels(&self, dtype: DType) -> Result<Tensor> {
        let Channels { input, output } = self.channels();
        let whole = self.weight.as_dtype(dtype)?;
        Ok(whole.reshape((output, input, self.k, self.k))?)
    }
}

/// What is added to the output of a convolution.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Addends<'a> {
    /// A value for each channel of each sample, `[b, c_out]`, or of all samples, `[1, c_out]`.
    pub shift: Option<&'a Tensor>,
    /// As large as the output, `[b, c_out, h', w']`.
    pub residual: Option<&'a Tensor>,
}

/// What follows a group norm inside the same operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// Nothing.
    None,
    /// `x·σ(x)`.
    Silu,
}

/// A group norm.
#[derive(Debug, Clone)]
pub(super) struct GroupNormParameters {
    /// `[c]`
    pub(super) weight: Tensor,
    /// `[c]`
    pub(super) bias: Tensor,
    /// A divisor of c.
    pub(super) groups: usize,
    pub(super) epsilon: f64,
    pub(super) activation: Activation,
}

/// A layer norm.
#[derive(Debug, Clone)]
pub(super) struct LayerNormParameters {
    /// `[c]`
    pub(super) weight: Tensor,
    /// `[c]`
    pub(super) bias: Tensor,
    pub(super) epsilon: f64,
}

/// What an attention's forward pass leaves for its backward pass.
#[derive(Debug, Clone)]
pub(crate) struct AttentionKept {
    /// `[b, n, heads·d]`
    pub(super) output: Tensor,
    /// The largest score of each query and head, and what makes probabilities of the powers relative to it, as the
    /// backend lays them out.
    pub(super) softmax: Tensor,
}

/// What an attention reads: `q: [b, n, heads·d]`, `k` and `v: [b, t, heads·d]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct AttentionInput<'a> {
    pub(super) q: &'a Tensor,
    pub(super) k: &'a Tensor,
    pub(super) v: &'a Tensor,
    pub(super) heads: usize,
}

/// What the loss says of an attention, or of a layer with attentions inside: at least one of the two.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttentionGrad<'a> {
    /// ∂L/∂output, `[b, n, heads·d]` for an attention; `None` where the loss does not depend on the output.
    pub output: Option<&'a Tensor>,
    /// ∂L/∂(mean of P over the heads), `[b, n, t]`, of a loss on [`attention_map`](super::attention_map).
    pub map: Option<&'a Tensor>,
}

/// ∂L/∂q, ∂L/∂k and ∂L/∂v.
pub(super) type InputGrads = (Tensor, Tensor, Tensor);

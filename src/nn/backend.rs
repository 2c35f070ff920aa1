//! What a backend can compute, and what is computed for it where it has no kernel of its own.

use candle_core::Tensor;

use super::candle;
use super::layout::Plane;
use super::parameters::{
    Addends, AttentionGrad, AttentionInput, AttentionKept, Filter, GegluCall, GroupNormParameters,
    InputGrads, LayerNormParameters, LinearCall,
};
use crate::Result;

/// The operations of the layers. What a backend leaves out is done by candle's operations, which run everywhere.
///
/// Shapes have been checked by the layers; tensors may still lie in memory in any way.
pub(super) trait Backend: Sync {
    /// `x·Φ(x)`.
    fn gelu(&self, x: &Tensor) -> Result<Tensor> {
        candle::activation::gelu(x)
    }

    /// `x·σ(1.702·x)`.
    fn quick_gelu(&self, x: &Tensor) -> Result<Tensor> {
        candle::activation::quick_gelu(x)
    }

    /// A linear layer, forward or backward.
    fn linear(&self, call: LinearCall) -> Result<Tensor> {
        candle::linear::apply(call)
    }

    /// `a·gelu(g)` of the halves `[a, g]` of a linear layer's output.
    fn geglu(&self, call: GegluCall) -> Result<Tensor> {
        candle::linear::geglu(call)
    }

    /// [`Backend::geglu`], and the linear layer's output.
    fn geglu_keeping(&self, call: GegluCall) -> Result<(Tensor, Tensor)> {
        candle::linear::geglu_keeping(call)
    }

    /// ∂L/∂(the linear layer's output) of [`Backend::geglu`], from that output.
    fn geglu_slopes(&self, kept: &Tensor, grad: &Tensor) -> Result<Tensor> {
        candle::activation::geglu_backward(kept, grad)
    }

    /// ∂L/∂(the linear layer's output) of [`Backend::geglu`].
    fn geglu_gradient(&self, call: GegluCall, grad: &Tensor) -> Result<Tensor> {
        candle::linear::geglu_gradient(call, grad)
    }

    /// `gradᵀ·x`, summed over all leading dimensions.
    fn weight_gradient(&self, x: &Tensor, grad: &Tensor) -> Result<Tensor> {
        candle::linear::weight_gradient(x, grad)
    }

    /// A convolution of `x` enlarged to `seen` by nearest neighbours.
    fn conv(&self, filter: &Filter, x: &Tensor, seen: Plane, addends: Addends) -> Result<Tensor> {
        candle::conv::forward(filter, x, seen, addends)
    }

    /// ∂L/∂x of [`Backend::conv`], where `stored` is the size of x.
    fn conv_backward(
        &self,
        filter: &Filter,
        grad: &Tensor,
        stored: Plane,
        seen: Plane,
    ) -> Result<Tensor> {
        candle::conv::backward(filter, grad, stored, seen)
    }

    /// A group norm and its activation.
    fn group_norm(&self, norm: &GroupNormParameters, x: &Tensor) -> Result<Tensor> {
        candle::group_norm::forward(norm, x)
    }

    /// ∂L/∂x of [`Backend::group_norm`].
    fn group_norm_backward(
        &self,
        norm: &GroupNormParameters,
        x: &Tensor,
        grad: &Tensor,
    ) -> Result<Tensor> {
        candle::group_norm::backward(norm, x, grad)
    }

    /// A layer norm.
    fn layer_norm(&self, norm: &LayerNormParameters, x: &Tensor) -> Result<Tensor> {
        candle::layer_norm::forward(norm, x)
    }

    /// ∂L/∂x of [`Backend::layer_norm`].
    fn layer_norm_backward(
        &self,
        norm: &LayerNormParameters,
        x: &Tensor,
        grad: &Tensor,
    ) -> Result<Tensor> {
        candle::layer_norm::backward(norm, x, grad)
    }

    /// `softmax(Q·Kᵀ/√d)·V` for each head.
    fn attention(&self, input: AttentionInput) -> Result<Tensor> {
        candle::attention::forward(input)
    }

    /// [`Backend::attention`], and what [`Backend::attention_backward`] can use.
    fn attention_keeping(&self, input: AttentionInput) -> Result<(Tensor, Option<AttentionKept>)> {
        Ok((self.attention(input)?, None))
    }

    /// The probabilities of an attention, averaged over its heads.
    fn attention_map(&self, q: &Tensor, k: &Tensor, heads: usize) -> Result<Tensor> {
        candle::attention::map(q, k, heads)
    }

    /// The gradients of [`Backend::attention`], of [`Backend::attention_map`], or of both.
    fn attention_backward(
        &self,
        input: AttentionInput,
        _kept: Option<&AttentionKept>,
        grad: AttentionGrad,
    ) -> Result<InputGrads> {
        candle::attention::backward(input, grad)
    }
}

//! The kernels of the CPU, for f32.

mod activation;
mod attention;
pub(super) mod bf16;
mod cache;
mod conv;
mod epilogue;
mod gemm;
mod group_norm;
mod layer_norm;
mod linear;
mod math;
mod scratch;
mod tile;
mod unfold;
mod weight;
mod winograd;
mod zeros;

use candle_core::Tensor;

use super::backend::Backend;
use super::candle;
use super::layout::Plane;
use super::parameters::{
    Addends, AttentionGrad, AttentionInput, AttentionKept, Filter, GegluCall, GroupNormParameters,
    InputGrads, LayerNormParameters, LinearCall,
};
use crate::Result;

/// The backend of f32 tensors on the CPU.
pub(super) struct Cpu;

impl Backend for Cpu {
    fn gelu(&self, x: &Tensor) -> Result<Tensor> {
        activation::gelu(x)
    }

    fn quick_gelu(&self, x: &Tensor) -> Result<Tensor> {
        activation::quick_gelu(x)
    }

    fn linear(&self, call: LinearCall) -> Result<Tensor> {
        linear::apply(call)
    }

    fn geglu(&self, call: GegluCall) -> Result<Tensor> {
        linear::geglu(call)
    }

    fn geglu_keeping(&self, call: GegluCall) -> Result<(Tensor, Tensor)> {
        linear::geglu_keeping(call)
    }

    fn geglu_slopes(&self, kept: &Tensor, grad: &Tensor) -> Result<Tensor> {
        activation::geglu_slopes(kept, grad)
    }

    fn geglu_gradient(&self, call: GegluCall, grad: &Tensor) -> Result<Tensor> {
        linear::geglu_gradient(call, grad)
    }

    fn weight_gradient(&self, x: &Tensor, grad: &Tensor) -> Result<Tensor> {
        linear::weight_gradient(x, grad)
    }

    fn conv(&self, filter: &Filter, x: &Tensor, seen: Plane, addends: Addends) -> Result<Tensor> {
        conv::forward(filter, x, seen, addends)
    }

    fn conv_backward(
        &self,
        filter: &Filter,
        grad: &Tensor,
        stored: Plane,
        seen: Plane,
    ) -> Result<Tensor> {
        conv::backward(filter, grad, stored, seen)
    }

    fn group_norm(&self, norm: &GroupNormParameters, x: &Tensor) -> Result<Tensor> {
        group_norm::forward(norm, x)
    }

    fn group_norm_backward(
        &self,
        norm: &GroupNormParameters,
        x: &Tensor,
        grad: &Tensor,
    ) -> Result<Tensor> {
        group_norm::backward(norm, x, grad)
    }

    fn layer_norm(&self, norm: &LayerNormParameters, x: &Tensor) -> Result<Tensor> {
        layer_norm::forward(norm, x)
    }

    fn layer_norm_backward(
        &self,
        norm: &LayerNormParameters,
        x: &Tensor,
        grad: &Tensor,
    ) -> Result<Tensor> {
        layer_norm::backward(norm, x, grad)
    }

    fn attention(&self, input: AttentionInput) -> Result<Tensor> {
        attention::forward(input)
    }

    fn attention_keeping(&self, input: AttentionInput) -> Result<(Tensor, Option<AttentionKept>)> {
        attention::forward_keeping(input)
    }

    fn attention_backward(
        &self,
        input: AttentionInput,
        kept: Option<&AttentionKept>,
        grad: AttentionGrad,
    ) -> Result<InputGrads> {
        match (grad.output, grad.map) {
            (Some(output), None) => attention::backward(input, kept, output),
            // Of maps, which only attend-and-excite asks for.
            _ => candle::attention::backward(input, grad),
        }
    }
}

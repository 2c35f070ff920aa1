//! The differentiable layers: each forward pass with its backward pass written out beside it.
//!
//! There is no autograd graph. candle's would compute gradients for frozen weights, keep every intermediate
//! alive, and silently lose what passes through its fused softmax and layer norm. Here a layer's `forward`
//! leaves its caller to keep exactly what the layer's `backward` asks for, and weight gradients exist only
//! where a [`Site`](crate::index::Site) asks for one.
//!
//! # Letters
//!
//! Everywhere below this module: b batch, c channels, h and w height and width, n = h·w latent pixels or other vectors
//! of a sample, t text tokens, d width of one head, k side of a convolution's kernel.
//!
//! A `grad` argument is always ∂L/∂output of that operation, and what comes back is ∂L/∂input.
//!
//! # What is where
//!
//! | | |
//! | --- | --- |
//! | `linear` `conv` `group_norm` | the layers: what they compute, their shapes, |
//! | `layer_norm` `attention` `activation` | and the check that these fit |
//! | `weight` | frozen matrices in the type of their file |
//! | `layout` `parameters` `tensor` | what layers and backends speak of: sizes, what is read, a tensor's numbers |
//! | `backend` | the list of operations, each with candle's as its default |
//! | `dispatch` | which backend computes what: the one place that chooses |
//! | `candle/` | every operation by candle's own, on any device, of any float type: what GPUs run |
//! | `cpu/` | our kernels, for f32 on the CPU |
//!
//! A layer is made from its tensors: `Conv2d::new(weight, k, bias, stride, padding)`. The models' loader,
//! `model::weights`, makes them from the files by name. To use one is to call its `forward` and to keep what
//! its `backward` asks for.
//!
//! They use each other in one direction: layers → `dispatch` → `cpu` → `backend` → `candle` → `parameters`.
//!
//! # A new backend
//!
//! Kernels of another device go into a folder of their own, one file a layer, as `cpu/` has them; a `nn/cuda/mod.rs`
//! would hold `struct Cuda` and its `impl Backend`, which lists the operations that it has. The others stay candle's.
//! Its one line elsewhere is in `dispatch::backend_of`. The tests of each layer compare the backend of their device
//! with candle's operations.

mod activation;
mod attention;
mod backend;
#[cfg(test)]
mod bf16_tests;
mod candle;
mod conv;
mod cpu;
mod dispatch;
mod group_norm;
mod layer_norm;
mod layout;
mod linear;
mod parameters;
mod tensor;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod weight;

pub(crate) use activation::{gelu, quick_gelu, silu};
pub(crate) use attention::{attention, attention_backward, attention_keeping, attention_map};
pub(crate) use conv::Conv2d;
pub(crate) use cpu::bf16::available as has_bf16;
pub(crate) use dispatch::{ProductsIn, by_candle};
pub(crate) use group_norm::GroupNorm;
pub(crate) use layer_norm::LayerNorm;
pub(crate) use linear::Linear;
pub(crate) use parameters::{Activation, Addends, AttentionGrad, AttentionKept};
pub(crate) use weight::Weight;

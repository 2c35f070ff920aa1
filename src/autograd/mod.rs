//! The differentiable layer operations: each forward pass with its backward pass written out beside it.
//!
//! There is no autograd graph. candle's would compute gradients for frozen weights, keep every intermediate
//! alive, and silently lose what passes through its fused softmax and layer norm. Here a layer's `forward`
//! leaves its caller to keep exactly what the layer's `backward` asks for, and weight gradients exist only
//! where a [`Site`](crate::concept::Site) asks for one. Dimension letters, everywhere below this module:
//! b batch, c channels, h and w height and width, n = h·w latent pixels, t text tokens, d width of one head.
//!
//! A `grad` argument is always ∂L/∂output of that operation, and what comes back is ∂L/∂input.

mod activation;
mod attention;
mod attention_kernel;
mod conv;
mod dispatch;
mod gemm;
mod layer_norm;
mod linear;
mod linear_kernel;
mod math;
mod norm;
mod resample;
mod scratch;
mod start;
mod tile;
mod unfold;
mod values;
mod weight;
mod winograd;

use activation::{geglu, geglu_backward};
pub use activation::{gelu, quick_gelu, silu};
pub use attention::{AttentionGrad, attention, attention_backward, attention_map};
pub use conv::{Addends, Conv2d};
pub use dispatch::by_candle;
pub use layer_norm::LayerNorm;
pub use linear::{Linear, Order};
pub use norm::{Activation, GroupNorm};
pub use resample::{upsample_nearest, upsample2x_backward};
pub use weight::Weight;

/// The values of a contiguous f32 tensor on the CPU, for kernels.
fn values<'a>(
    storage: &'a candle_core::CpuStorage,
    layout: &candle_core::Layout,
) -> candle_core::Result<&'a [f32]> {
    let all = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&all[from..to]),
        None => candle_core::bail!("this kernel needs a contiguous tensor"),
    }
}

/// What the tests of the operations share.
#[cfg(test)]
mod testing {
    use candle_core::{Device, Tensor};

    /// Unit normals of this shape.
    pub(super) fn random(shape: &[usize], seed: u64) -> Tensor {
        let values = crate::sampling::Generator::new(seed).randn(shape.iter().product());
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    /// The largest difference of two tensors of one shape.
    pub(super) fn worst(got: &Tensor, want: &Tensor) -> f32 {
        assert_eq!(got.dims(), want.dims());
        let error = (got - want).unwrap().abs().unwrap();
        error.max_all().unwrap().to_scalar::<f32>().unwrap()
    }
}

//! Every layer by candle's operations: what GPUs run, and what other backends are tested against.
//!
//! Any float type in and out; sums and exponentials of half precision are taken in f32.

pub(super) mod activation;
pub(super) mod attention;
pub(super) mod conv;
pub(super) mod group_norm;
pub(super) mod layer_norm;
pub(super) mod linear;
mod resample;

use candle_core::{DType, Tensor};

use crate::Result;

/// Half precision as f32, for sums and exponentials; anything else as it is.
fn wide(x: &Tensor) -> Result<Tensor> {
    Ok(match x.dtype() {
        DType::F16 | DType::BF16 => x.to_dtype(DType::F32)?,
        _ => x.clone(),
    })
}

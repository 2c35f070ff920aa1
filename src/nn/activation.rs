//! Pointwise activations.

use candle_core::Tensor;

use super::dispatch::backend_of;
use crate::Result;

/// `x·σ(x)`: Elfwing et al. 2017.
///
/// # Errors
/// If the device refuses.
pub(crate) fn silu(x: &Tensor) -> Result<Tensor> {
    Ok(x.silu()?)
}

/// `x·σ(1.702·x)`, the activation of the text encoders of Stable Diffusion 1.x.
///
/// # Errors
/// If the device refuses.
pub(crate) fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    backend_of([x]).quick_gelu(x)
}

/// `x·Φ(x)`, Φ the normal distribution: Hendrycks and Gimpel 2016.
///
/// # Errors
/// If the device refuses.
pub(crate) fn gelu(x: &Tensor) -> Result<Tensor> {
    backend_of([x]).gelu(x)
}

#[cfg(test)]
mod tests {
    use super::super::dispatch::by_candle;
    use super::super::testing::{random, worst};
    use super::*;

    #[test]
    fn kernels_equal_candles_operations() {
        let x = (random(&[3, 7, 2341], 1) * 4.0).unwrap();
        // Of a transposed tensor too, which lies in memory in another way.
        for x in [x.transpose(1, 2).unwrap(), x] {
            let run = || gelu(&x).unwrap();
            let error = worst(&run(), &by_candle(run));
            assert!(error < 2e-6, "{error}");
            let run = || quick_gelu(&x).unwrap();
            let error = worst(&run(), &by_candle(run));
            assert!(error < 4e-6, "{error}");
        }
    }
}

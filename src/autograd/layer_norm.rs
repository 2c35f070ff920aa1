//! Layer normalisation.

use candle_core::{D, Tensor};

use crate::Result;

/// Layer normalisation over the last dimension: Ba et al. 2016.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    epsilon: f64,
}

impl LayerNorm {
    /// A norm from its weight and bias, both `[c]`.
    pub fn new(weight: Tensor, bias: Tensor, epsilon: f64) -> Self {
        Self {
            weight,
            bias,
            epsilon,
        }
    }

    /// `w·(x − μ)/√(σ² + ε) + b`: `[.., c]` to the same shape.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(candle_nn::ops::layer_norm(
            &x.contiguous()?,
            &self.weight,
            &self.bias,
            self.epsilon as f32,
        )?)
    }

    /// ∂L/∂x from the input `x` and `grad`, both `[.., c]`; the equation of [`GroupNorm::backward`](super::GroupNorm::backward), by rows.
    pub fn backward(&self, x: &Tensor, grad: &Tensor) -> Result<Tensor> {
        let x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let inv_std = (x.sqr()?.mean_keepdim(D::Minus1)? + self.epsilon)?
            .sqrt()?
            .recip()?;
        let xhat = x.broadcast_mul(&inv_std)?;
        let a = grad.broadcast_mul(&self.weight)?;
        let mean = a.mean_keepdim(D::Minus1)?;
        let along = (&a * &xhat)?.mean_keepdim(D::Minus1)?;
        Ok(a.broadcast_sub(&mean)?
            .sub(&xhat.broadcast_mul(&along)?)?
            .broadcast_mul(&inv_std)?)
    }
}

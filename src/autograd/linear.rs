//! The linear layer.

use candle_core::Tensor;

use crate::Result;

/// `y = x·Wᵀ + b`, with W frozen: the backward pass gives ∂L/∂x, and ∂L/∂W only when asked.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// A layer from its weight `[out, in]` and bias `[out]`.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias }
    }

    /// The weight, `[out, in]`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// Puts another weight of the same shape in place of this one.
    pub(crate) fn set_weight(&mut self, weight: Tensor) {
        debug_assert_eq!(weight.shape(), self.weight.shape());
        self.weight = weight;
    }

    /// `[.., in]` to `[.., out]`, as one matrix product over all leading dimensions.
    ///
    /// # Errors
    /// If the last dimension of `x` is not `in`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = product(x, &self.weight.t()?)?;
        Ok(match &self.bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        })
    }

    /// ∂L/∂x = grad·W: `[.., out]` to `[.., in]`.
    ///
    /// # Errors
    /// If the last dimension of `grad` is not `out`.
    pub fn backward(&self, grad: &Tensor) -> Result<Tensor> {
        product(grad, &self.weight)
    }

    /// ∂L/∂W = gradᵀ·x, summed over all leading dimensions: `[out, in]`.
    ///
    /// # Shapes
    /// - `x`: `[.., in]`, what `forward` was given
    /// - `grad`: `[.., out]`
    ///
    /// # Errors
    /// If the leading dimensions differ.
    pub fn weight_gradient(x: &Tensor, grad: &Tensor) -> Result<Tensor> {
        Ok(rows(grad)?.t()?.matmul(&rows(x)?)?)
    }
}

/// `[.., c]` as a matrix `[rows, c]`.
fn rows(x: &Tensor) -> Result<Tensor> {
    Ok(x.flatten_to(x.rank() - 2)?)
}

/// `x·m` over the last dimension of `x`, `m: [from, to]`.
fn product(x: &Tensor, m: &Tensor) -> Result<Tensor> {
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = m.dim(1)?;
    }
    Ok(rows(x)?.matmul(m)?.reshape(shape)?)
}

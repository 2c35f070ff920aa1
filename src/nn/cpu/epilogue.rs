//! What a convolution adds to its products.

/// The summands of each output beside its products: a value of its channel, and that of a residual.
pub(super) struct Epilogue<'a> {
    /// `[b, c]`: bias and shift.
    pub(super) channels: Vec<f32>,
    /// `[b, c, n]`.
    pub(super) residual: Option<&'a [f32]>,
}

impl Epilogue<'_> {
    /// Zeros for `planes` = b·c.
    pub(super) fn zeros(planes: usize) -> Self {
        Self {
            channels: vec![0.0; planes],
            residual: None,
        }
    }

    /// Lays the summands of outputs `from..` of a plane of `n` into `out`.
    pub(super) fn lay(&self, plane: usize, from: usize, n: usize, out: &mut [f32]) {
        let value = self.channels[plane];
        match self.residual {
            None => out.fill(value),
            Some(residual) => {
                let residual = &residual[plane * n + from..][..out.len()];
                for (out, r) in out.iter_mut().zip(residual) {
                    *out = r + value;
                }
            }
        }
    }

    /// The same with the products `values` added.
    #[inline(always)]
    pub(super) fn add(&self, plane: usize, from: usize, n: usize, values: &[f32], out: &mut [f32]) {
        let value = self.channels[plane];
        match self.residual {
            None => {
                for (out, v) in out.iter_mut().zip(values) {
                    *out = v + value;
                }
            }
            Some(residual) => {
                let residual = &residual[plane * n + from..][..out.len()];
                for ((out, v), r) in out.iter_mut().zip(values).zip(residual) {
                    *out = v + r + value;
                }
            }
        }
    }
}

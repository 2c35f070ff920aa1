//! Who computes a layer: the kernels of this module, or candle's operations.

use std::cell::Cell;

use candle_core::{DType, Tensor};

use crate::Result;

thread_local! {
    static BY_CANDLE: Cell<bool> = const { Cell::new(false) };
}

/// Calls `f` with the layers that this thread runs computed by candle's operations, as they are on GPUs: to check the two
/// against each other, and to compare their times.
pub fn by_candle<R>(f: impl FnOnce() -> R) -> R {
    struct Back(bool);
    impl Drop for Back {
        fn drop(&mut self) {
            BY_CANDLE.set(self.0);
        }
    }
    let _back = Back(BY_CANDLE.replace(true));
    f()
}

/// Whether the kernels take this tensor: f32 on the CPU.
pub(super) fn has_kernels(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32 && !BY_CANDLE.get()
}

/// Half precision as f32, for sums and exponentials; anything else as it is.
pub(super) fn wide(x: &Tensor) -> Result<Tensor> {
    Ok(match x.dtype() {
        DType::F16 | DType::BF16 => x.to_dtype(DType::F32)?,
        _ => x.clone(),
    })
}

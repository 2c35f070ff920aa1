//! Which backend computes a layer: the one place that chooses.

use std::cell::Cell;

use candle_core::{DType, Tensor};

use super::backend::Backend;
use super::cpu::Cpu;

/// Candle's operations and nothing else.
struct Candle;

impl Backend for Candle {}

thread_local! {
    static BY_CANDLE: Cell<bool> = const { Cell::new(false) };
}

/// Calls `f` with the layers that this thread runs computed by candle's operations, as they are on GPUs: to check the
/// backends against each other, and to compare their times.
#[doc(hidden)]
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

/// The backend of an operation that reads all of these tensors.
pub(super) fn backend_of<const N: usize>(tensors: [&Tensor; N]) -> &'static dyn Backend {
    let on_cpu = |x: &Tensor| x.device().is_cpu() && x.dtype() == DType::F32;
    match tensors.into_iter().all(on_cpu) && !BY_CANDLE.get() {
        true => &Cpu,
        false => &Candle,
    }
}

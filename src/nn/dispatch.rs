//! Which backend computes a layer: the one place that chooses.

use std::cell::Cell;
use std::thread::LocalKey;

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
pub(crate) fn by_candle<R>(f: impl FnOnce() -> R) -> R {
    let _back = Switched::new(&BY_CANDLE, true);
    f()
}

thread_local! {
    static IN_BF16: Cell<bool> = const { Cell::new(false) };
}

/// As long as it lives, the products of the layers that this thread runs on the CPU are taken in bf16, or in f32: what
/// goes in and comes out is f32 all the same.
#[must_use]
pub(crate) struct ProductsIn(#[expect(dead_code, reason = "it is dropped")] Switched);

impl ProductsIn {
    pub(crate) fn bf16(on: bool) -> Self {
        Self(Switched::new(&IN_BF16, on))
    }
}

/// A switch of this thread, put back when this is dropped.
struct Switched {
    switch: &'static LocalKey<Cell<bool>>,
    before: bool,
}

impl Switched {
    fn new(switch: &'static LocalKey<Cell<bool>>, on: bool) -> Self {
        let before = switch.replace(on);
        Self { switch, before }
    }
}

impl Drop for Switched {
    fn drop(&mut self) {
        self.switch.set(self.before);
    }
}

/// Whether products are taken in bf16.
pub(super) fn in_bf16() -> bool {
    IN_BF16.get()
}

/// The backend of an operation that reads all of these tensors.
pub(super) fn backend_of<const N: usize>(tensors: [&Tensor; N]) -> &'static dyn Backend {
    let on_cpu = |x: &Tensor| x.device().is_cpu() && x.dtype() == DType::F32;
    match tensors.into_iter().all(on_cpu) && !BY_CANDLE.get() {
        true => &Cpu,
        false => &Candle,
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    /// Whatever happens inside, and inside that.
    #[test]
    fn a_thread_goes_back_to_its_kernels() {
        let chosen = || BY_CANDLE.get();
        by_candle(|| {
            assert!(chosen());
            by_candle(|| assert!(chosen()));
            assert!(chosen());
            let other = std::thread::spawn(move || BY_CANDLE.get());
            assert!(!other.join().unwrap());
        });
        assert!(!chosen());
        assert!(catch_unwind(|| by_candle(|| panic!("inside"))).is_err());
        assert!(!chosen());
    }
}

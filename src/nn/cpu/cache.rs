//! The lines in which a processor's caches hold memory.

/// Bytes of a line.
const BYTES: usize = 64;

/// Values of a type that a line holds.
pub(super) const fn line<T>() -> usize {
    BYTES / size_of::<T>()
}

/// Asks for the line of a value that will be read, if there is one.
#[inline(always)]
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[expect(unsafe_code, reason = "an instruction that takes a pointer")]
pub(super) fn fetch<T>(at: *const T) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: nothing is read, and an address that cannot be is passed over.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
}

/// Leaves it to the processor.
#[inline(always)]
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
pub(super) fn fetch<T>(_: *const T) {}

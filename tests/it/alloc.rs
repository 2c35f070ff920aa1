//! An allocator that knows how much each thread holds, for the tests that promise a bound.
#![expect(
    unsafe_code,
    reason = "a global allocator is an unsafe trait; this one only counts and calls the system's"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes that the thread allocated and did not free; below zero if it freed those of another thread.
    static HELD: Cell<isize> = const { Cell::new(0) };
    /// The most that `HELD` has been.
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, counted. Threads count for themselves, so tests that run at the same time do not mix.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts `change` bytes, after `moment` bytes more were held for a moment.
fn count(change: isize, moment: isize) {
    let _ = HELD.try_with(|held| {
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get() + change.max(moment))));
        held.set(held.get() + change);
    });
}

// SAFETY: every call goes to `System` unchanged, and the counters neither allocate nor unwind.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize, 0);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize, 0);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize), 0);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // The old and the new block may both be there for a moment.
        count(size as isize - layout.size() as isize, size as isize);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// What `work` returns, and the most bytes that it held at once on this thread.
pub(crate) fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let result = work();
    (result, usize::try_from(PEAK.get() - before).unwrap_or(0))
}

#[test]
fn it_counts() {
    let (kept, peak) = peak_of(|| {
        drop(std::hint::black_box(vec![0_u8; 1_000_000]));
        std::hint::black_box(vec![1_u8; 1000])
    });
    assert!((1_000_000..1_010_000).contains(&peak), "{peak}");
    let (_, peak) = peak_of(|| drop(kept));
    assert_eq!(peak, 0);
}

//! Memory that kernels use again from call to call, so that the system need not hand out fresh pages each time.

use std::cell::RefCell;

use super::cache::line;

thread_local! {
    /// The buffers of this thread that nobody holds.
    static FREE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Numbers of a cache line. A vector that lies across two of them takes twice the time to read.
const LINE: usize = line::<f32>();

/// Calls `f` with `len` numbers of any value, from the start of a cache line on. Calls may be nested.
pub(super) fn with<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = FREE.with_borrow_mut(Vec::pop).unwrap_or_default();
    if buffer.len() < len + LINE {
        // What it held is of no use: freed first, so that both are never there at once.
        buffer = Vec::new();
        buffer.resize(len + LINE, 0.0);
    }
    let start = buffer.as_ptr().align_offset(LINE * size_of::<f32>());
    let result = f(&mut buffer[start.min(LINE)..][..len]);
    FREE.with_borrow_mut(|free| free.push(buffer));
    result
}

#[cfg(test)]
mod tests {
    #[test]
    fn nested_buffers_are_apart() {
        super::with(10, |outer| {
            outer.fill(1.0);
            super::with(20, |inner| inner.fill(2.0));
            assert_eq!(outer, [1.0; 10]);
        });
        super::with(15, |again| assert_eq!(again.len(), 15));
    }
}

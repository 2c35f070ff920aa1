//! Memory that has been freed is used again.

/// Has the process keep freed memory for the next tensor instead of giving it back to the system, which would have to
/// fill it with zeros anew, page by page, and tell all cores each time: a tenth of a find step at Stable Diffusion's
/// size. Pieces that do not fit each other add a tenth to the peak. For programs to call once, first of all; does
/// something where the C library is glibc.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: `mallopt` only sets parameters of the allocator.
        #[expect(unsafe_code, reason = "a call of the C library")]
        unsafe {
            // No block is mapped on its own, however large: such are unmapped when they are freed.
            libc::mallopt(libc::M_MMAP_MAX, 0);
            // No end of the heap is given back, however long.
            libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
        }
    }
}

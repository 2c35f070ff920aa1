//! Memory that has been freed is used again.

/// Has the process keep freed memory for the next tensor instead of giving it back to the system, which would have to
/// fill it with zeros anew, page by page, and tell all cores each time: some 7 % of a find step at Stable Diffusion's
/// size. The peak stays what it is. For programs to call once, first of all; does something where the C library is
/// glibc.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// The largest that glibc takes: larger blocks are mapped and unmapped on their own.
        const LARGEST: libc::c_int = 32 << 20;
        // SAFETY: `mallopt` only sets parameters of the allocator.
        #[expect(unsafe_code, reason = "a call of the C library")]
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGEST);
            libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
        }
    }
}

//! Which files are mapped where: for whoever has to say what file it was, of an address that cannot be read.
//!
//! A file that is made shorter while it is mapped ends the program with `SIGBUS` at the next read behind its new end.
//! Reading it instead would take as much memory as the model, where pages of a map are the system's, and shared by all
//! runs on a machine; and looking at its size before a read would be too early. So the signal is answered, with the
//! file's name; what is here can be read from a handler of signals: numbers that are written in whole.

use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use memmap2::Mmap;

/// A file that is mapped.
struct Slot {
    /// 0 where the slot is free.
    start: AtomicUsize,
    length: AtomicUsize,
    /// Of the name, which is never freed.
    name: AtomicPtr<u8>,
    name_length: AtomicUsize,
}

/// More files than any model has; of the others only the name is not known.
const SLOTS: usize = 256;

static MAPPED: [Slot; SLOTS] = [const {
    Slot {
        start: AtomicUsize::new(0),
        length: AtomicUsize::new(0),
        name: AtomicPtr::new(std::ptr::null_mut()),
        name_length: AtomicUsize::new(0),
    }
}; SLOTS];

/// A map whose file is in the list.
pub(crate) struct MappedFile {
    /// Goes first.
    _noted: Noted,
    map: Mmap,
}

impl MappedFile {
    pub(super) fn new(map: Mmap, path: &Path) -> Self {
        Self {
            _noted: note(&map, path),
            map,
        }
    }
}

impl Deref for MappedFile {
    type Target = Mmap;

    fn deref(&self) -> &Mmap {
        &self.map
    }
}

/// The place of a map in the list, until it is dropped.
struct Noted(Option<usize>);

/// Notes a map and whose it is.
fn note(map: &[u8], path: &Path) -> Noted {
    /// Taken, and not yet filled in.
    const TAKEN: usize = usize::MAX;
    let free = MAPPED.iter().position(|slot| {
        let taken = slot
            .start
            .compare_exchange(0, TAKEN, Ordering::AcqRel, Ordering::Relaxed);
        taken.is_ok()
    });
    if let Some(free) = free {
        let slot = &MAPPED[free];
        let name: &'static mut [u8] = crate::escaped(&path.to_string_lossy()).into_bytes().leak();
        slot.length.store(map.len(), Ordering::Release);
        slot.name_length.store(name.len(), Ordering::Release);
        slot.name.store(name.as_mut_ptr(), Ordering::Release);
        slot.start.store(map.as_ptr() as usize, Ordering::Release);
    }
    Noted(free)
}

impl Drop for Noted {
    fn drop(&mut self) {
        if let Some(slot) = self.0 {
            MAPPED[slot].start.store(0, Ordering::Release);
        }
    }
}

/// The name of the mapped file that has this address. It may be asked from a handler of signals: it allocates nothing
/// and waits for nothing.
pub fn mapped_file_at(address: usize) -> Option<&'static [u8]> {
    let slot = MAPPED.iter().find(|slot| {
        let start = slot.start.load(Ordering::Acquire);
        start > 0
            && address
                .checked_sub(start)
                .is_some_and(|at| at < slot.length.load(Ordering::Acquire))
    })?;
    let (name, length) = (
        slot.name.load(Ordering::Acquire),
        slot.name_length.load(Ordering::Acquire),
    );
    // SAFETY: a slot that has a start has a name, of so many bytes, that is never freed or changed. The map that has
    // this address is one that is being read, so its slot is not being filled in.
    #[expect(unsafe_code, reason = "a name in a static list")]
    Some(unsafe { std::slice::from_raw_parts(name, length) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_as_long_as_it_is_mapped() {
        let map = [0u8; 100];
        let at = map.as_ptr() as usize;
        let noted = note(&map, Path::new("a\nb"));
        for (address, known) in [
            (at, true),
            (at + 99, true),
            (at + 100, false),
            (at - 1, false),
        ] {
            let found = mapped_file_at(address);
            assert_eq!(
                found,
                known.then_some(&b"a\\nb"[..]),
                "{}",
                address as isize - at as isize
            );
        }
        drop(noted);
        assert_eq!(mapped_file_at(at), None);
    }
}

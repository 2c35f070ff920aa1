//! The numbers of a tensor, for kernels.

use std::ops::{Deref, Range};

use candle_core::{CpuStorage, Storage, Tensor};

use crate::Result;

/// The numbers of a contiguous f32 tensor on the CPU, as long as the result lives.
///
/// # Errors
/// If the tensor is another kind.
pub(super) fn values_of(x: &Tensor) -> Result<impl Deref<Target = [f32]>> {
    let (storage, layout) = x.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(_)), Some((from, to))) => Ok(Values {
            storage,
            range: from..to,
        }),
        _ => Err(misfit("a contiguous f32 tensor on the CPU", x)),
    }
}

struct Values<S> {
    storage: S,
    range: Range<usize>,
}

impl<S: Deref<Target = Storage>> Deref for Values<S> {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(all)) => &all[self.range.clone()],
            _ => unreachable!("`values_of` takes no other storage"),
        }
    }
}

/// The error of a kernel that was given another tensor than it takes.
pub(super) fn misfit(expected: &str, x: &Tensor) -> crate::Error {
    let found = format!("{:?} of {:?} on {:?}", x.shape(), x.dtype(), x.device());
    candle_core::Error::Msg(format!("this kernel needs {expected}, and got {found}")).into()
}

//! The numbers of a tensor, for kernels on the CPU; and the error of a tensor that does not fit.

use std::ops::{Deref, Range};

use candle_core::{CpuStorage, Storage, Tensor};

use crate::Result;

/// The numbers of a contiguous f32 tensor on the CPU, as long as the result lives.
///
/// # Errors
/// If the tensor is another kind.
pub(super) fn numbers_of(x: &Tensor) -> Result<impl Deref<Target = [f32]>> {
    let (storage, layout) = x.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(_)), Some((from, to))) => Ok(Guard {
            storage,
            range: from..to,
        }),
        _ => Err(misfit("a contiguous f32 tensor on the CPU", x)),
    }
}

/// Holds a tensor's storage while its numbers are read.
struct Guard<S> {
    storage: S,
    range: Range<usize>,
}

impl<S: Deref<Target = Storage>> Deref for Guard<S> {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(all)) => &all[self.range.clone()],
            _ => unreachable!("`numbers_of` takes no other storage"),
        }
    }
}

/// The error of a layer that was given another tensor than it takes.
pub(super) fn misfit(expected: &str, x: &Tensor) -> crate::Error {
    let found = format!("{:?} of {:?} on {:?}", x.shape(), x.dtype(), x.device());
    candle_core::Error::Msg(format!("this layer needs {expected}, and got {found}")).into()
}

/// Refuses a tensor of another shape; `name` says what it is, with its article.
///
/// # Errors
/// If it has another shape.
pub(super) fn expect_shape(name: &str, x: &Tensor, shape: &[usize]) -> Result<()> {
    if x.dims() != shape {
        return Err(misfit(&format!("{name} of shape {shape:?}"), x));
    }
    Ok(())
}

//! Frozen weights in the type of their file, which become f32 where a kernel uses them.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};

use super::tensor::numbers_of;
use crate::Result;

/// The bytes of a file, shared by the weights in it.
type SharedBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// A matrix of weights `[out, in]`: a tensor, or a part of a mapped file that is read in place.
#[derive(Clone)]
pub(crate) struct Weight {
    shape: (usize, usize),
    store: Store,
}

#[derive(Clone)]
enum Store {
    Tensor(Tensor),
    File(FilePart),
}

/// Numbers in a file.
#[derive(Clone)]
struct FilePart {
    file: SharedBytes,
    range: Range<usize>,
    dtype: DType,
}

impl FilePart {
    fn bytes(&self) -> &[u8] {
        &(*self.file).as_ref()[self.range.clone()]
    }

    /// `None` where they are not aligned, or of another type.
    fn numbers(&self) -> Option<Numbers<'_>> {
        Numbers::of(self.bytes(), self.dtype)
    }

    /// A copy of them, as a matrix of their own type.
    fn tensor(&self, (rows, columns): (usize, usize), device: &Device) -> Result<Tensor> {
        let shape = [rows, columns];
        let tensor = Tensor::from_raw_buffer(self.bytes(), self.dtype, &shape, device)?;
        Ok(tensor)
    }
}

impl From<Tensor> for Weight {
    /// # Panics
    /// If the tensor is no matrix.
    fn from(tensor: Tensor) -> Self {
        match *tensor.dims() {
            [rows, columns] => Self {
                shape: (rows, columns),
                store: Store::Tensor(tensor),
            },
            ref shape => panic!("a weight is a matrix, not {shape:?}"),
        }
    }
}

impl fmt::Debug for Weight {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (rows, columns) = self.shape;
        let place = match &self.store {
            Store::Tensor(_) => "tensor".to_owned(),
            Store::File(part) => format!("{:?} of a file", part.dtype),
        };
        write!(f, "Weight({rows} x {columns}, {place})")
    }
}

impl Weight {
    /// The matrix of these bytes of a file; read in place if they are aligned, and copied if not.
    ///
    /// # Errors
    /// If they are not as many as a matrix of this shape and type has, or of a type that is not supported.
    pub(crate) fn of_file(
        file: Arc<dyn AsRef<[u8]> + Send + Sync>,
        range: Range<usize>,
        dtype: DType,
        shape: (usize, usize),
    ) -> Result<Self> {
        let part = FilePart { file, range, dtype };
        let fits = |numbers: Numbers| shape.0.checked_mul(shape.1) == Some(numbers.len());
        if !part.numbers().is_some_and(fits) {
            let tensor = part.tensor(shape, &Device::Cpu)?;
            return Ok(tensor.to_dtype(DType::F32)?.into());
        }
        let store = Store::File(part);
        Ok(Self { shape, store })
    }

    /// The tensor that it is, where it is not read in a file.
    pub(crate) fn held(&self) -> Option<&Tensor> {
        match &self.store {
            Store::Tensor(tensor) => Some(tensor),
            Store::File(_) => None,
        }
    }

    /// Rows and columns.
    pub(crate) fn shape(&self) -> (usize, usize) {
        self.shape
    }

    /// The whole matrix as an f32 tensor; a copy if it is read in place.
    ///
    /// # Errors
    /// If the copy fails.
    pub(crate) fn tensor(&self) -> Result<Tensor> {
        self.as_dtype(DType::F32)
    }

    /// The whole matrix as a tensor of this type.
    pub(super) fn as_dtype(&self, dtype: DType) -> Result<Tensor> {
        Ok(match &self.store {
            Store::Tensor(tensor) => tensor.to_dtype(dtype)?,
            Store::File(part) => part.tensor(self.shape, &Device::Cpu)?.to_dtype(dtype)?,
        })
    }

    /// The matrix on another device, in the type of its file.
    pub(crate) fn to_device(&self, device: &Device) -> Result<Self> {
        Ok(match &self.store {
            Store::Tensor(tensor) => tensor.to_device(device)?,
            Store::File(part) => part.tensor(self.shape, device)?,
        }
        .into())
    }

    /// Calls `f` with the numbers of a matrix on the CPU.
    ///
    /// # Errors
    /// Those of `f`; or if it is a tensor that is not contiguous, not f32 or not on the CPU.
    pub(super) fn with<R>(&self, f: impl FnOnce(Numbers) -> Result<R>) -> Result<R> {
        match &self.store {
            Store::Tensor(tensor) => f(Numbers::F32(&numbers_of(tensor)?)),
            Store::File(part) => match part.numbers() {
                Some(numbers) => f(numbers),
                None => unreachable!("`of_file` copies what is not aligned"),
            },
        }
    }
}

/// Numbers in the type that they are stored in.
#[derive(Clone, Copy)]
pub(super) enum Numbers<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    Bf16(&'a [bf16]),
}

impl<'a> Numbers<'a> {
    /// Little-endian bytes as numbers; `None` where they are not aligned, or of another type.
    fn of(bytes: &'a [u8], dtype: DType) -> Option<Self> {
        if cfg!(target_endian = "big") {
            return None;
        }
        match dtype {
            DType::F32 => aligned(bytes).map(Self::F32),
            DType::F16 => aligned(bytes).map(Self::F16),
            DType::BF16 => aligned(bytes).map(Self::Bf16),
            _ => None,
        }
    }

    fn len(self) -> usize {
        match self {
            Self::F32(x) => x.len(),
            Self::F16(x) => x.len(),
            Self::Bf16(x) => x.len(),
        }
    }
}

/// A type of which every pattern of bits is a number.
trait Plain: Copy {}
impl Plain for f32 {}
impl Plain for f16 {}
impl Plain for bf16 {}

fn aligned<T: Plain>(bytes: &[u8]) -> Option<&[T]> {
    // SAFETY: every pattern of bits is a `T`.
    #[expect(unsafe_code, reason = "bytes read as numbers")]
    let (before, numbers, after) = unsafe { bytes.align_to::<T>() };
    (before.is_empty() && after.is_empty()).then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every type, aligned and not: the numbers of the file.
    #[test]
    fn weights_are_the_files_numbers() {
        let values: Vec<f32> = (0..35).map(|i| i as f32 * 0.5 - 3.0).collect();
        let encoded = |dtype| -> Vec<u8> {
            match dtype {
                DType::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
                DType::F16 => values
                    .iter()
                    .flat_map(|&v| f16::from_f32(v).to_le_bytes())
                    .collect(),
                _ => values
                    .iter()
                    .flat_map(|&v| bf16::from_f32(v).to_le_bytes())
                    .collect(),
            }
        };
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let data = encoded(dtype);
            for offset in 0..4 {
                let mut file = vec![0; offset];
                file.extend(&data);
                let bytes: SharedBytes = Arc::new(file);
                let range = offset..offset + data.len();
                let weight = Weight::of_file(bytes, range, dtype, (5, 7)).unwrap();
                let whole = weight.tensor().unwrap().flatten_all().unwrap();
                assert_eq!(whole.to_vec1::<f32>().unwrap(), values);
                let count = |numbers: Numbers| Ok(numbers.len());
                assert_eq!(weight.with(count).unwrap(), 35);
            }
        }
    }

    #[test]
    fn too_few_bytes_are_refused() {
        let bytes: SharedBytes = Arc::new(vec![0u8; 16]);
        assert!(Weight::of_file(bytes, 0..16, DType::F32, (5, 1)).is_err());
    }
}

//! Numbers that are not finite, and the weights that they come from.
//!
//! What goes from one network to the next is looked at always: it is a few thousand numbers. The weights are looked
//! through only when such a number was seen, so that the error can name the tensor and the file.

use std::fmt;

use safetensors::Dtype;

use crate::checkpoint::TensorFile;
use crate::{Error, Result};

/// A network, as errors call it, and the file that its weights are in.
#[derive(Clone)]
pub(crate) struct Origin {
    network: &'static str,
    file: TensorFile,
}

/// What the weights of a file say about a number that is not finite.
#[derive(Debug, PartialEq)]
enum Blame {
    /// The first tensor that holds such a number itself.
    Tensor { name: String, value: f32 },
    /// None does; the tensor with the largest number, if there is any.
    Overflow { largest: Option<(String, f32)> },
}

/// Beyond this, which no network means, squares are no longer finite in f32.
const MOST: f32 = 1e18;
/// The largest number of f16: a weight beyond it is of no model that was trained.
const LARGE: f32 = 65504.0;

/// Whether a number is finite, and can be computed with.
fn usable(value: f32) -> bool {
    value.abs() <= MOST // false of NaN
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: `{}`", self.network, self.file.label())
    }
}

impl Origin {
    pub(crate) fn new(network: &'static str, file: &TensorFile) -> Self {
        let file = file.clone();
        Self { network, file }
    }

    /// That all of `values`, which the network gave, are finite and can be computed with; `what` names them.
    ///
    /// # Errors
    /// [`Error::NotFinite`], which names the network and its tensor.
    pub(crate) fn check(&self, what: impl FnOnce() -> String, values: &[f32]) -> Result<()> {
        match values.iter().find(|value| !usable(**value)) {
            None => Ok(()),
            Some(&found) => Err(self.error(what(), found)),
        }
    }

    fn error(&self, what: String, found: f32) -> Error {
        let file = self.file.label();
        let (cause, hint) = match blame(&self.file) {
            Blame::Tensor { name, value } => (
                format!("tensor `{name}` of `{file}` holds {}", shown(value)),
                "the file is damaged, or was converted or trained to such numbers; fetch it again, or take \
                 another copy of the model",
            ),
            Blame::Overflow { largest } => {
                let largest = largest.filter(|(_, value)| *value > LARGE);
                let largest = largest.map_or_else(String::new, |(name, value)| {
                    format!(" (its largest, {value:e}, is in tensor `{name}`)")
                });
                (
                    format!(
                        "every weight of `{file}` is in order{largest}, so the values overflowed"
                    ),
                    "compute in f32, at a lower guidance, and with concepts of this very model",
                )
            }
        };
        Error::NotFinite {
            what,
            found: shown(found),
            network: self.network,
            cause,
            hint: hint.to_owned(),
        }
    }
}

fn shown(value: f32) -> String {
    match value {
        v if v.is_nan() => "NaN".to_owned(),
        f32::INFINITY => "infinity".to_owned(),
        f32::NEG_INFINITY => "-infinity".to_owned(),
        v => format!("{v:e}"),
    }
}

fn blame(file: &TensorFile) -> Blame {
    let mut largest: Option<(String, f32)> = None;
    for (name, dtype, bytes) in file.contents() {
        let mut most = 0f32;
        let mut see = |value: f32| {
            most = most.max(value.abs());
            (!usable(value)).then_some(value)
        };
        let found = match dtype {
            Dtype::F32 => four(bytes).map(f32::from_le_bytes).find_map(&mut see),
            Dtype::F16 => two(bytes)
                .map(|b| half::f16::from_le_bytes(b).to_f32())
                .find_map(&mut see),
            Dtype::BF16 => two(bytes)
                .map(|b| half::bf16::from_le_bytes(b).to_f32())
                .find_map(&mut see),
            _ => None, // no weight
        };
        if let Some(value) = found {
            let name = name.to_owned();
            return Blame::Tensor { name, value };
        }
        if largest.as_ref().is_none_or(|(_, value)| most > *value) {
            largest = Some((name.to_owned(), most));
        }
    }
    Blame::Overflow { largest }
}

fn four(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> + '_ {
    bytes.chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]])
}

fn two(bytes: &[u8]) -> impl Iterator<Item = [u8; 2]> + '_ {
    bytes.chunks_exact(2).map(|b| [b[0], b[1]])
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};
    use safetensors::tensor::TensorView;

    use super::*;

    /// A file with a good tensor and one of these bytes.
    fn file(dtype: Dtype, bytes: &[u8]) -> TensorFile {
        let good = 1f32.to_le_bytes();
        let tensors = [
            ("a.weight", TensorView::new(Dtype::F32, vec![1], &good)),
            (
                "b.bias",
                TensorView::new(dtype, vec![bytes.len() * 8 / dtype.bitsize()], bytes),
            ),
        ];
        let tensors = tensors.map(|(name, view)| (name, view.unwrap()));
        let bytes = safetensors::serialize(tensors, None).unwrap();
        TensorFile::embedded(bytes.leak(), "unet/x.safetensors").unwrap()
    }

    #[test]
    fn the_tensor_is_found_in_every_type() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3e38, -1e19] {
            let (f16, bf16) = (f16::from_f32(value), bf16::from_f32(value));
            let f32 = [0.5f32.to_le_bytes(), value.to_le_bytes()].concat();
            for (dtype, bytes, stored) in [
                (Dtype::F32, &f32[..], value),
                (Dtype::F16, &f16.to_le_bytes(), f16.to_f32()),
                (Dtype::BF16, &bf16.to_le_bytes(), bf16.to_f32()),
            ] {
                let origin = Origin::new("the UNet", &file(dtype, bytes));
                let error = origin.check(|| "latents".to_owned(), &[0.0, value]);
                let error = error.unwrap_err().to_string();
                let holds = format!(
                    "tensor `b.bias` of `unet/x.safetensors` holds {}",
                    shown(stored)
                );
                assert!(error.contains(&holds), "{dtype:?}: {error}");
                assert!(error.contains("the UNet"), "{error}");
            }
        }
    }

    #[test]
    fn finite_weights_are_said_to_be_so() {
        let check = |value: f32, seen: f32| {
            let origin = Origin::new("the UNet", &file(Dtype::F32, &value.to_le_bytes()));
            origin.check(|| "latents".to_owned(), &[seen])
        };
        assert!(check(f32::NAN, 1.0).is_ok(), "weights are not looked at");
        let error = check(3e5, f32::INFINITY).unwrap_err().to_string();
        assert!(
            error.contains("its largest, 3e5, is in tensor `b.bias`"),
            "{error}"
        );
        let error = check(3.0, f32::NAN).unwrap_err().to_string();
        assert!(
            error.contains("is in order, so the values overflowed"),
            "{error}"
        );
        assert_eq!(
            blame(&file(Dtype::U8, &[0xFF])),
            Blame::Overflow {
                largest: Some(("a.weight".to_owned(), 1.0))
            }
        );
    }
}

//! All that a run is at between two steps, as a plain value and as bytes.
//!
//! Step k draws from a generator of its own, seeded with `seed + k`, so that no generator is part of it. As bytes it is
//! a safetensors file: `array.NAME` (F32), `number.NAME` (F64), `steps.loss` and `steps.seconds` (F64), all of one
//! dimension. What names stand for is the method's affair; see [`trainer`](super::trainer).

use std::collections::BTreeMap;
use std::io::{self, Write};

use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};

use super::loss::Step;
use crate::shown::shown;
use crate::{Error, Result};

/// The state of a run between two steps: taken out and put back, it goes on to the same bits.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrainerState {
    /// What the steps so far did; as many are taken.
    pub steps: Vec<Step>,
    arrays: BTreeMap<String, Vec<f32>>,
    numbers: BTreeMap<String, Vec<f64>>,
}

/// What tells a state from other safetensors files, with its version.
const FORMAT: (&str, &str) = ("format", "cones.state 1");

impl TrainerState {
    /// A state after these steps, of nothing else yet.
    pub(super) fn new(steps: &[Step]) -> Self {
        Self {
            steps: steps.to_vec(),
            ..Self::default()
        }
    }

    /// Keeps an array.
    pub(super) fn keep(&mut self, name: impl Into<String>, values: Vec<f32>) {
        self.arrays.insert(name.into(), values);
    }

    /// Keeps numbers that have to be exact.
    pub(super) fn keep_numbers(&mut self, name: impl Into<String>, values: Vec<f64>) {
        self.numbers.insert(name.into(), values);
    }

    /// An array if it was kept.
    pub(super) fn array(&self, name: &str) -> Option<&[f32]> {
        self.arrays.get(name).map(Vec::as_slice)
    }

    /// An array of this length.
    ///
    /// # Errors
    /// If there is none: the state is of another method, model or plan.
    pub(super) fn array_of(&self, name: &str, length: usize) -> Result<&[f32]> {
        let found = self.array(name);
        found
            .filter(|values| values.len() == length)
            .ok_or_else(|| foreign(name, length, found.map(<[f32]>::len)))
    }

    /// Numbers, so many, none of them negative.
    ///
    /// # Errors
    /// As [`TrainerState::array_of`], and if one is no such number.
    pub(super) fn sizes_of(&self, name: &str, length: usize) -> Result<&[f64]> {
        let found = self.numbers_of(name, length)?;
        let no_size = found
            .iter()
            .find(|size| !(size.is_finite() && **size >= 0.0));
        match no_size {
            None => Ok(found),
            Some(size) => Err(damaged(&format!("sizes in `{name}`"), size)),
        }
    }

    /// A count of steps or samples, at most this.
    ///
    /// # Errors
    /// If there is none, or it is no such number.
    pub(super) fn count_of(&self, name: &str, most: usize) -> Result<usize> {
        let found = self.numbers_of(name, 1)?[0];
        let count = found as usize;
        match count as f64 == found && count <= most {
            true => Ok(count),
            false => Err(damaged(&format!("`{name}` up to {most}"), found)),
        }
    }

    /// Numbers, so many.
    ///
    /// # Errors
    /// As [`TrainerState::array_of`].
    pub(super) fn numbers_of(&self, name: &str, length: usize) -> Result<&[f64]> {
        let found = self.numbers.get(name).map(Vec::as_slice);
        found
            .filter(|values| values.len() == length)
            .ok_or_else(|| foreign(name, length, found.map(<[f64]>::len)))
    }

    /// The bytes of a file: the same for the same state.
    ///
    /// # Errors
    /// Never: memory takes what is written.
    #[cfg(test)]
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let written = self.write(&mut bytes);
        written.map_err(Error::io(
            "write",
            std::path::Path::new("the state of a run"),
        ))?;
        Ok(bytes)
    }

    /// Writes these bytes, array by array: a state may be as large as several of the model's layers, and is not held
    /// twice.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let losses: Vec<f64> = self.steps.iter().map(|s| f64::from(s.loss)).collect();
        let seconds: Vec<f64> = self.steps.iter().map(|s| s.seconds).collect();
        let steps = [("steps.loss", &losses), ("steps.seconds", &seconds)];
        // Wide numbers first, so that each begins where numbers of its width may.
        let numbers: Vec<(String, &[f64])> = (self.numbers.iter())
            .map(|(name, values)| (format!("number.{name}"), values.as_slice()))
            .chain(steps.map(|(name, values)| (name.to_owned(), values.as_slice())))
            .collect();
        let mut header = Map::new();
        header.insert("__metadata__".to_owned(), json!({FORMAT.0: FORMAT.1}));
        let mut end = 0;
        let mut entry = |name: String, dtype: &str, length: usize, width: usize| {
            let start = end;
            end += length * width;
            let entry = json!({"dtype": dtype, "shape": [length], "data_offsets": [start, end]});
            header.insert(name, entry);
        };
        for (name, values) in &numbers {
            entry(name.clone(), "F64", values.len(), 8);
        }
        for (name, values) in &self.arrays {
            entry(format!("array.{name}"), "F32", values.len(), 4);
        }
        let mut header = Value::Object(header).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        for (_, values) in &numbers {
            in_blocks(out, values, |v| v.to_le_bytes())?;
        }
        for values in self.arrays.values() {
            in_blocks(out, values, |v| v.to_le_bytes())?;
        }
        Ok(())
    }
}

/// The state of a file's bytes, which are not trusted: an error if they are not what [`TrainerState::write`] writes.
impl TryFrom<&[u8]> for TrainerState {
    type Error = Error;

    fn try_from(bytes: &[u8]) -> Result<Self> {
        let refused = |error: safetensors::SafeTensorError| damaged("a safetensors file", error);
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(refused)?;
        let format = header.metadata().as_ref().and_then(|m| m.get(FORMAT.0));
        if format.is_none_or(|format| format != FORMAT.1) {
            let found = format.map_or_else(|| "none".to_owned(), |format| shown(format));
            return Err(damaged(&format!("format `{}`", FORMAT.1), found));
        }
        let file = SafeTensors::deserialize(bytes).map_err(refused)?;
        let (mut state, mut losses, mut seconds) = (Self::default(), None, None);
        for (name, tensor) in file.tensors() {
            if tensor.shape().len() != 1 {
                return Err(damaged("tensors of one dimension", shown(&name)));
            }
            let data = tensor.data();
            match (name.split_once('.'), tensor.dtype()) {
                (Some(("array", name)), Dtype::F32) => {
                    state.arrays.insert(name.to_owned(), values32(data));
                }
                (Some(("number", name)), Dtype::F64) => {
                    state.numbers.insert(name.to_owned(), values64(data));
                }
                (Some(("steps", "loss")), Dtype::F64) => losses = Some(values64(data)),
                (Some(("steps", "seconds")), Dtype::F64) => seconds = Some(values64(data)),
                (_, dtype) => {
                    let found = format!("{} of {dtype:?}", shown(&name));
                    return Err(damaged("arrays of F32 and numbers of F64", found));
                }
            }
        }
        let (Some(losses), Some(seconds)) = (losses, seconds) else {
            return Err(damaged("losses and seconds of steps", "none"));
        };
        if losses.len() != seconds.len() {
            let expected = format!("the seconds of {} steps", losses.len());
            return Err(damaged(&expected, seconds.len()));
        }
        let no_loss = |loss: &&f64| !loss.is_finite() || f64::from(**loss as f32) != **loss;
        if let Some(found) = losses.iter().find(no_loss) {
            return Err(damaged("losses of F32", found));
        }
        if let Some(found) = seconds.iter().find(|s| !(s.is_finite() && **s >= 0.0)) {
            return Err(damaged("seconds of steps", found));
        }
        let steps = losses.iter().zip(&seconds).enumerate();
        state.steps = steps
            .map(|(step, (&loss, &seconds))| Step {
                step,
                loss: loss as f32,
                seconds,
            })
            .collect();
        Ok(state)
    }
}

/// Writes numbers some thousands at a time.
fn in_blocks<T: Copy, const N: usize>(
    out: &mut dyn Write,
    values: &[T],
    bytes: impl Fn(T) -> [u8; N],
) -> io::Result<()> {
    const BLOCK: usize = 1 << 14;
    let mut block = Vec::with_capacity(values.len().min(BLOCK) * N);
    for values in values.chunks(BLOCK) {
        block.clear();
        block.extend(values.iter().flat_map(|&value| bytes(value)));
        out.write_all(&block)?;
    }
    Ok(())
}

fn values32(bytes: &[u8]) -> Vec<f32> {
    let (values, _) = bytes.as_chunks();
    values.iter().copied().map(f32::from_le_bytes).collect()
}

fn values64(bytes: &[u8]) -> Vec<f64> {
    let (values, _) = bytes.as_chunks();
    values.iter().copied().map(f64::from_le_bytes).collect()
}

fn damaged(expected: &str, found: impl ToString) -> Error {
    let hint = "the file is damaged or of another program: begin again without it";
    Error::file("state of a run", expected, found.to_string(), hint)
}

fn foreign(name: &str, length: usize, found: Option<usize>) -> Error {
    let found = found.map_or_else(|| "none".to_owned(), |found| found.to_string());
    let expected = format!("{length} values of `{name}`");
    let hint = "the state is of another method, model or plan: begin again without it";
    Error::file("state of a run", expected, found, hint)
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::TensorView;

    use super::*;

    fn state() -> TrainerState {
        let step = |step| Step {
            step,
            loss: 0.1 + step as f32,
            seconds: 0.3,
        };
        let mut state = TrainerState::new(&[step(0), step(1)]);
        state.keep("z.a", vec![0.1, f32::MIN_POSITIVE, -0.0]);
        state.keep("z.b", Vec::new());
        state.keep_numbers("count", vec![1.0 / 3.0]);
        state
    }

    #[test]
    fn bytes_are_the_state() {
        let bytes = state().to_bytes().unwrap();
        let read = TrainerState::try_from(bytes.as_slice()).unwrap();
        assert_eq!(read, state());
        assert_eq!(read.to_bytes().unwrap(), bytes);
        assert_eq!(read.steps.len(), 2);
    }

    #[test]
    fn what_is_no_state_is_refused() {
        let bytes = state().to_bytes().unwrap();
        for length in 0..bytes.len() {
            assert!(
                TrainerState::try_from(&bytes[..length]).is_err(),
                "{length}"
            );
        }
        let view = |dtype, shape: Vec<usize>, data: &'static [u8]| {
            TensorView::new(dtype, shape, data).unwrap()
        };
        let loss = ("steps.loss", view(Dtype::F64, vec![0], b""));
        let seconds = ("steps.seconds", view(Dtype::F64, vec![0], b""));
        let format = |text: &str| Some([("format".to_owned(), text.to_owned())].into());
        let file = |tensors: Vec<(&str, TensorView)>, text| {
            safetensors::serialize(tensors, format(text)).unwrap()
        };
        let (l, s) = (|| loss.clone(), || seconds.clone());
        TrainerState::try_from(file(vec![l(), s()], FORMAT.1).as_slice()).unwrap();
        for (tensors, text) in [
            (vec![l(), s()], "cones.state 2"),
            (vec![l()], FORMAT.1),
            (
                vec![l(), s(), ("x", view(Dtype::F32, vec![0], b""))],
                FORMAT.1,
            ),
            (
                vec![l(), s(), ("array.x", view(Dtype::F64, vec![0], b""))],
                FORMAT.1,
            ),
            (
                vec![l(), s(), ("array.x", view(Dtype::F32, vec![0, 2], b""))],
                FORMAT.1,
            ),
            (
                vec![l(), ("steps.seconds", view(Dtype::F64, vec![1], &[0; 8]))],
                FORMAT.1,
            ),
        ] {
            assert!(TrainerState::try_from(file(tensors, text).as_slice()).is_err());
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = state().array_of("z.a", 4).unwrap_err().to_string();
        assert!(error.contains("4 values of `z.a`, found 3"), "{error}");
        assert!(state().numbers_of("z.a", 1).is_err());
        assert_eq!(state().numbers_of("count", 1).unwrap(), [1.0 / 3.0]);
    }
}

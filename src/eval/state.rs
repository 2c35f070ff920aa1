//! What is measured so far, as a plain value and as bytes: taken up again, the measuring comes to the same figures.
//!
//! As bytes it is a safetensors file. Of condition C, in order of their measuring: `C.embedding.K` (F32, `[d]`) of
//! picture K, `C.picture.K` (U8, `[h, w, 3]`) where it is shown, and once all are drawn `C.METRIC` (F64) instead of
//! embeddings.

use std::collections::BTreeMap;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::metric::{Metric, Values};
use crate::{Error, Picture, Result, Size};

/// The conditions that were measured, and the pictures of the one that is being measured.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EvalState {
    conditions: Vec<ConditionState>,
}

/// One condition so far.
#[derive(Debug, Clone, Default, PartialEq)]
struct ConditionState {
    /// By number of the picture; empty where there are values.
    embeddings: BTreeMap<usize, Vec<f32>>,
    /// Those that are shown.
    pictures: BTreeMap<usize, Picture>,
    values: Option<Values>,
}

/// What all conditions of a measuring are like.
#[derive(Debug, Clone, Copy)]
pub struct EvalShape {
    /// Conditions.
    pub conditions: usize,
    /// Pictures of each.
    pub count: usize,
    /// How many of them are shown.
    pub shown: usize,
    /// Their size.
    pub size: Size,
    /// Numbers in an embedding.
    pub width: usize,
    /// Draws of the loss.
    pub draws: usize,
}

/// The key and its value that tell such a file from others.
const FORMAT: (&str, &str) = ("format", "cones.eval 2");

impl EvalShape {
    /// The most bytes of a state.
    pub(crate) fn bytes(&self) -> u64 {
        const NAMES: usize = 200;
        let shown = self.shown * (3 * self.size.pixels() + NAMES);
        let values = 8 * (5 * self.count + 4 * self.draws) + Metric::ALL.len() * NAMES;
        let one = self.count * (4 * self.width + NAMES) + shown + values;
        (NAMES + self.conditions * one) as u64
    }

    /// How many values a condition has of a metric.
    fn values(&self, metric: Metric) -> usize {
        match Metric::OF_PICTURES.contains(&metric) {
            true => self.count,
            false => self.draws,
        }
    }
}

impl EvalState {
    /// Pictures drawn so far, over all conditions of so many.
    pub fn drawn(&self, count: usize) -> usize {
        let of = |state: &ConditionState| match state.values {
            Some(_) => count,
            None => state.embeddings.len(),
        };
        self.conditions.iter().map(of).sum()
    }

    /// The values of a condition that was measured, and its pictures.
    pub(super) fn measured(&self, number: usize) -> Option<(Values, Vec<Picture>)> {
        let state = self.conditions.get(number)?;
        let pictures = state.pictures.values().cloned().collect();
        Some((state.values.clone()?, pictures))
    }

    /// Whether a picture of a condition is drawn.
    pub(super) fn has(&self, number: usize, picture: usize) -> bool {
        let state = self.conditions.get(number);
        state.is_some_and(|state| state.embeddings.contains_key(&picture))
    }

    /// The embeddings of a condition, in order of its pictures.
    pub(super) fn embeddings(&self, number: usize) -> Vec<Vec<f32>> {
        let state = self.conditions.get(number);
        state.map_or_else(Vec::new, |state| {
            state.embeddings.values().cloned().collect()
        })
    }

    /// Takes note of a picture: its embedding, and the picture if it is shown.
    pub(super) fn add(
        &mut self,
        number: usize,
        picture: usize,
        embedding: Vec<f32>,
        shown: Option<Picture>,
    ) {
        let state = self.condition(number);
        state.embeddings.insert(picture, embedding);
        state.pictures.extend(shown.map(|shown| (picture, shown)));
    }

    /// Takes note of what a condition came to: its pictures.
    pub(super) fn finish(&mut self, number: usize, values: Values) -> Vec<Picture> {
        let state = self.condition(number);
        state.embeddings.clear();
        state.values = Some(values);
        state.pictures.values().cloned().collect()
    }

    fn condition(&mut self, number: usize) -> &mut ConditionState {
        let length = self.conditions.len().max(number + 1);
        self.conditions.resize_with(length, ConditionState::default);
        &mut self.conditions[number]
    }

    /// The bytes of a file: the same for the same state.
    ///
    /// # Errors
    /// If there is more than a file can say.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut all: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> = BTreeMap::new();
        for (c, state) in self.conditions.iter().enumerate() {
            for (k, embedding) in &state.embeddings {
                let bytes = embedding.iter().flat_map(|v| v.to_le_bytes()).collect();
                let entry = (Dtype::F32, vec![embedding.len()], bytes);
                all.insert(format!("{c}.embedding.{k}"), entry);
            }
            for (k, picture) in &state.pictures {
                let Size { width, height } = picture.size();
                let shape = vec![height, width, 3];
                let entry = (Dtype::U8, shape, picture.rgb().to_vec());
                all.insert(format!("{c}.picture.{k}"), entry);
            }
            for (metric, values) in state.values.iter().flatten() {
                let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                let entry = (Dtype::F64, vec![values.len()], bytes);
                all.insert(format!("{c}.{}", metric.as_ref()), entry);
            }
        }
        let refused = |error: safetensors::SafeTensorError| damaged("tensors", error);
        let views = all.iter().map(|(name, (dtype, shape, bytes))| {
            let view = TensorView::new(*dtype, shape.clone(), bytes).map_err(refused)?;
            Ok((name.as_str(), view))
        });
        let views = views.collect::<Result<Vec<_>>>()?;
        // One key alone: the library writes several in random order.
        let metadata = [(FORMAT.0.to_owned(), FORMAT.1.to_owned())].into();
        safetensors::serialize(views, Some(metadata)).map_err(refused)
    }

    /// The state of a file's bytes, which are not trusted.
    ///
    /// # Errors
    /// If they are not what [`EvalState::to_bytes`] makes of a measuring of this shape.
    pub fn from_bytes(bytes: &[u8], shape: &EvalShape) -> Result<Self> {
        let refused = |error: safetensors::SafeTensorError| damaged("a safetensors file", error);
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(refused)?;
        let format = header.metadata().as_ref().and_then(|m| m.get(FORMAT.0));
        if format.is_none_or(|format| format != FORMAT.1) {
            return Err(damaged(FORMAT.1, "another format"));
        }
        let file = SafeTensors::deserialize(bytes).map_err(refused)?;
        let mut state = Self::default();
        for (name, tensor) in file.tensors() {
            let known = state.take(&name, &tensor, shape);
            known
                .ok_or_else(|| damaged("embeddings, pictures and figures", name.escape_debug()))?;
        }
        for condition in &state.conditions {
            let Some(values) = &condition.values else {
                continue;
            };
            let wanted = |metric: &Metric| shape.values(*metric) > 0;
            let all = Metric::ALL.into_iter().filter(wanted);
            let pictures = condition.pictures.len() == shape.shown.min(shape.count);
            if !values.keys().copied().eq(all) || !condition.embeddings.is_empty() || !pictures {
                return Err(damaged("all figures of a condition", "some"));
            }
        }
        Ok(state)
    }

    /// Takes one tensor; none if it has no place here.
    fn take(&mut self, name: &str, tensor: &TensorView, shape: &EvalShape) -> Option<()> {
        let (number, rest) = name.split_once('.')?;
        let number: usize = number.parse().ok().filter(|n| *n < shape.conditions)?;
        let state = self.condition(number);
        let picture = |text: &str| text.parse().ok().filter(|k: &usize| *k < shape.count);
        let (data, size) = (tensor.data(), shape.size);
        match (rest.split_once('.'), tensor.dtype()) {
            (Some(("embedding", k)), Dtype::F32) if tensor.shape() == [shape.width] => {
                let values = data.as_chunks().0.iter().copied().map(f32::from_le_bytes);
                let values: Vec<f32> = values.collect();
                let finite = values.iter().all(|value| value.is_finite());
                state
                    .embeddings
                    .insert(picture(k).filter(|_| finite)?, values);
            }
            (Some(("picture", k)), Dtype::U8) if tensor.shape() == [size.height, size.width, 3] => {
                let (width, height) = (size.width as u32, size.height as u32);
                let read = Picture::new(width, height, data.to_vec()).ok()?;
                let k = picture(k).filter(|k| *k < shape.shown)?;
                state.pictures.insert(k, read);
            }
            (None, Dtype::F64) => {
                let metric = Metric::ALL
                    .into_iter()
                    .find(|metric| metric.as_ref() == rest)?;
                let values = data.as_chunks().0.iter().copied().map(f64::from_le_bytes);
                let values: Vec<f64> = values.collect();
                let finite = values.iter().all(|value| value.is_finite());
                if !finite || tensor.shape() != [shape.values(metric)] {
                    return None;
                }
                state.values.get_or_insert_default().insert(metric, values);
            }
            _ => return None,
        }
        Some(())
    }
}

fn damaged(expected: &str, found: impl ToString) -> Error {
    let hint = "the file is damaged or of another program: begin again without it";
    Error::file("state of a measuring", expected, found.to_string(), hint)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Of a small measuring.
    pub(crate) const SHAPE: EvalShape = EvalShape {
        conditions: 3,
        count: 2,
        shown: 1,
        size: Size {
            width: 2,
            height: 1,
        },
        width: 3,
        draws: 2,
    };

    /// One condition done and one begun.
    pub(crate) fn state() -> EvalState {
        let mut state = EvalState::default();
        let picture = |k: usize| Picture::new(2, 1, vec![k as u8; 6]).ok();
        state.add(0, 0, vec![0.5, -1.0, 0.1], picture(0));
        state.add(0, 1, vec![0.25, 1.0, 0.1], None);
        let values = Metric::ALL.map(|metric| (metric, vec![1.0 / 3.0, -0.0]));
        state.finish(0, values.into());
        state.add(1, 1, vec![0.5, 0.5, f32::MIN_POSITIVE], None);
        state
    }

    #[test]
    fn bytes_are_the_state() {
        let bytes = state().to_bytes().unwrap();
        let read = EvalState::from_bytes(&bytes, &SHAPE).unwrap();
        assert_eq!(read, state());
        assert_eq!(read.to_bytes().unwrap(), bytes);
        assert_eq!(read.drawn(2), 3);
        assert!(bytes.len() as u64 <= SHAPE.bytes(), "{}", bytes.len());
        assert!(read.has(1, 1) && !read.has(1, 0) && read.measured(1).is_none());
    }

    #[test]
    fn what_is_no_state_of_the_measuring_is_refused() {
        let bytes = state().to_bytes().unwrap();
        for length in 0..bytes.len() {
            assert!(
                EvalState::from_bytes(&bytes[..length], &SHAPE).is_err(),
                "{length}"
            );
        }
        let all = |change: fn(&mut EvalShape)| {
            let mut shape = SHAPE;
            change(&mut shape);
            EvalState::from_bytes(&bytes, &shape)
        };
        assert!(all(|_| ()).is_ok());
        let others: [fn(&mut EvalShape); 6] = [
            |shape| shape.conditions = 1,
            |shape| shape.count = 1,
            |shape| shape.shown = 0,
            |shape| shape.size = Size::square(2),
            |shape| shape.width = 4,
            |shape| shape.draws = 0,
        ];
        for (i, change) in others.into_iter().enumerate() {
            assert!(all(change).is_err(), "{i}");
        }
        let mut some = state();
        let values = some.conditions[0].values.as_mut().unwrap();
        values.remove(&Metric::Loss);
        assert!(EvalState::from_bytes(&some.to_bytes().unwrap(), &SHAPE).is_err());
        let mut infinite = state();
        infinite.add(1, 0, vec![0.0, f32::NAN, 0.0], None);
        assert!(EvalState::from_bytes(&infinite.to_bytes().unwrap(), &SHAPE).is_err());
    }
}

//! The scores that `find --scores` wrote, and the concepts of other densities that they give.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::selection::{Selection, select};
use crate::index::{NeuronIndex, NeuronSet, Provenance, Site};
use crate::{Error, Result};

/// The score of every neuron of some sites.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    shapes: BTreeMap<Site, [u32; 2]>,
    values: BTreeMap<Site, Vec<f32>>,
    fingerprint: Option<String>,
}

/// The key of the model's fingerprint in the file's metadata.
const FINGERPRINT: &str = "fingerprint";

impl Scores {
    /// A file of scores `[out, in]` of a model with this fingerprint.
    ///
    /// # Errors
    /// If there are not as many scores as the shape of a site says.
    pub(crate) fn to_bytes(
        values: &BTreeMap<Site, Vec<f32>>,
        shapes: &BTreeMap<Site, [u32; 2]>,
        fingerprint: &str,
    ) -> Result<Vec<u8>> {
        let bytes: BTreeMap<&Site, Vec<u8>> = values
            .iter()
            .map(|(site, values)| (site, values.iter().flat_map(|v| v.to_le_bytes()).collect()))
            .collect();
        let refused =
            |error: safetensors::SafeTensorError| wrong("scores", "one for each neuron", error);
        let views = bytes
            .iter()
            .map(|(site, bytes)| {
                let shape = shapes
                    .get(*site)
                    .map_or(Vec::new(), |s| s.map(|n| n as usize).to_vec());
                let view = TensorView::new(Dtype::F32, shape, bytes).map_err(refused)?;
                Ok((site.to_string(), view))
            })
            .collect::<Result<Vec<_>>>()?;
        // One key alone: the library writes several in random order, and the same run is to give the same bytes.
        let metadata = [(FINGERPRINT.to_owned(), fingerprint.to_owned())].into();
        safetensors::serialize(views, Some(metadata)).map_err(refused)
    }

    /// Reads a safetensors file with one f32 tensor `[out, in]` for each site.
    ///
    /// # Errors
    /// If the file cannot be read, or holds anything else.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(&crate::files::read(path)?)
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let file = SafeTensors::deserialize(bytes)
            .map_err(|error| wrong("scores", "a safetensors file", error))?;
        let (mut shapes, mut values) = (BTreeMap::new(), BTreeMap::new());
        for (name, tensor) in file.tensors() {
            let site: Site = name.parse()?;
            let thing = format!("scores of `{site}`");
            if tensor.dtype() != Dtype::F32 {
                return Err(wrong(thing, "F32", format!("{:?}", tensor.dtype())));
            }
            let side = |side: usize| u32::try_from(side).ok();
            let shape = match *tensor.shape() {
                [out, input] => side(out).zip(side(input)),
                _ => None,
            };
            let Some((out, input)) = shape else {
                return Err(wrong(
                    thing,
                    "shape [out, in]",
                    format!("{:?}", tensor.shape()),
                ));
            };
            let numbers = tensor.data().chunks_exact(4);
            let numbers = numbers.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            values.insert(site.clone(), numbers.collect());
            shapes.insert(site, [out, input]);
        }
        if values.is_empty() {
            return Err(wrong("scores", "at least one site", "none"));
        }
        let fingerprint = SafeTensors::read_metadata(bytes)
            .ok()
            .and_then(|(_, header)| header.metadata().as_ref()?.get(FINGERPRINT).cloned());
        Ok(Self {
            shapes,
            values,
            fingerprint,
        })
    }

    /// That the scores are of the model with this fingerprint; of a file that names none, nothing is known.
    ///
    /// # Errors
    /// If they are of another model.
    pub fn check_fingerprint(&self, fingerprint: &str) -> Result<()> {
        match &self.fingerprint {
            Some(found) if found != fingerprint => Err(wrong(
                "model fingerprint",
                &format!("{fingerprint}, this model's"),
                found,
            )),
            _ => Ok(()),
        }
    }

    /// The concept with the highest scores, as many as this share of all neurons; see [`Selection::Density`].
    ///
    /// # Errors
    /// If a score is not a number.
    pub(crate) fn concept(&self, density: f64, provenance: &Provenance) -> Result<NeuronIndex> {
        let mut index = NeuronIndex::new(Provenance {
            settings: [("density".to_owned(), density.to_string())].into(),
            ..provenance.clone()
        })?;
        for (site, chosen) in select(&self.values, Selection::Density(density))? {
            let indices = NeuronSet::new(self.shapes[&site], chosen)?;
            index.insert(site, indices)?;
        }
        Ok(index)
    }
}

fn wrong(thing: impl Into<String>, expected: &str, found: impl ToString) -> Error {
    let hint = "give a file of scores that `cones find` wrote";
    Error::file(thing, expected, found.to_string(), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: &str = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight";

    fn parse(name: &str, dtype: Dtype, shape: &[usize]) -> Result<Scores> {
        let count: usize = shape.iter().product();
        let data = vec![0; count * if dtype == Dtype::F32 { 4 } else { 2 }];
        let view = TensorView::new(dtype, shape.to_vec(), &data).unwrap();
        Scores::parse(&safetensors::serialize([(name, view)], None).unwrap())
    }

    #[test]
    fn what_is_written_is_read() {
        let site: Site = SITE.parse().unwrap();
        let values = [(site.clone(), vec![0.5, -1.0, 0.25, 2.0, 0.0, 1.0])].into();
        let shapes = [(site.clone(), [2, 3])].into();
        let file = Scores::to_bytes(&values, &shapes, "abc").unwrap();
        let scores = Scores::parse(&file).unwrap();
        assert_eq!((&scores.shapes, &scores.values), (&shapes, &values));
        assert!(scores.check_fingerprint("abc").is_ok());
        assert!(scores.check_fingerprint("abd").is_err());
        assert!(Scores::to_bytes(&values, &BTreeMap::new(), "abc").is_err());
    }

    #[test]
    fn only_scores_are_read() {
        assert_eq!(parse(SITE, Dtype::F32, &[2, 3]).unwrap().shapes.len(), 1);
        for (name, dtype, shape) in [
            ("weight", Dtype::F32, &[2, 3][..]),
            (SITE, Dtype::F16, &[2, 3]),
            (SITE, Dtype::F32, &[6]),
        ] {
            assert!(
                parse(name, dtype, shape).is_err(),
                "{name} {dtype:?} {shape:?}"
            );
        }
        assert!(Scores::parse(b"no safetensors").is_err());
        let empty: [(&str, TensorView); 0] = [];
        assert!(Scores::parse(&safetensors::serialize(empty, None).unwrap()).is_err());
    }
}

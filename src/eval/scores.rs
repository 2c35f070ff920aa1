//! The scores that `find --scores` wrote, and the concepts of other densities that they give.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use crate::concept::select::{Selection, select};
use crate::concept::{NeuronIndex, Provenance, Site, SiteIndices};
use crate::{Error, Result};

/// The score of every neuron of some sites.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    shapes: BTreeMap<Site, [u32; 2]>,
    values: BTreeMap<Site, Vec<f32>>,
}

impl Scores {
    /// Reads a safetensors file with one f32 tensor `[out, in]` for each site.
    ///
    /// # Errors
    /// If the file cannot be read, or holds anything else.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(&crate::file::read(path)?)
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
        Ok(Self { shapes, values })
    }

    /// The shape `[out, in]` of each site.
    pub fn shapes(&self) -> &BTreeMap<Site, [u32; 2]> {
        &self.shapes
    }

    /// The concept with the highest scores, as many as this share of all neurons; see [`Selection::Density`].
    ///
    /// # Errors
    /// If a score is not a number.
    pub fn concept(&self, density: f64, provenance: &Provenance) -> Result<NeuronIndex> {
        let mut index = NeuronIndex::new(Provenance {
            settings: [("density".to_owned(), density.to_string())].into(),
            ..provenance.clone()
        })?;
        for (site, chosen) in select(&self.values, Selection::Density(density))? {
            let indices = SiteIndices::new(self.shapes[&site], chosen)?;
            index.insert(site, indices)?;
        }
        Ok(index)
    }
}

fn wrong(thing: impl Into<String>, expected: &str, found: impl ToString) -> Error {
    Error::Index {
        thing: thing.into(),
        expected: expected.to_owned(),
        found: found.to_string(),
        hint: "give a file that `cones find --scores FILE` wrote".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: &str = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight";

    fn parse(name: &str, dtype: Dtype, shape: &[usize]) -> Result<Scores> {
        let count: usize = shape.iter().product();
        let data = vec![0; count * if dtype == Dtype::F32 { 4 } else { 2 }];
        let view = safetensors::tensor::TensorView::new(dtype, shape.to_vec(), &data).unwrap();
        Scores::parse(&safetensors::serialize([(name, view)], None).unwrap())
    }

    #[test]
    fn only_scores_are_read() {
        assert_eq!(parse(SITE, Dtype::F32, &[2, 3]).unwrap().shapes().len(), 1);
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
        let empty: [(&str, safetensors::tensor::TensorView); 0] = [];
        assert!(Scores::parse(&safetensors::serialize(empty, None).unwrap()).is_err());
    }
}

//! A concept: the shut neurons of every site, and where they came from.
//!
//! How one becomes bytes is in `metadata` (the strings), `codec` (the indices) and `container` (the file); how several
//! become one, in `union`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::path::Path;

use super::container::{Dtype, Tensor, Tensors, serialize, tensors_sha256};
use super::owners;
use super::provenance::Provenance;
use super::scope::Scope;
use super::set::NeuronSet;
use super::site::Site;
use crate::files;
use crate::{Error, IndexError, Result};

/// A concept: sets of shut neurons by site, with their [`Provenance`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeuronIndex {
    pub(super) provenance: Provenance,
    pub(super) sites: BTreeMap<Site, NeuronSet>,
}

/// How many neurons a concept shuts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Extent {
    /// The number of shut neurons.
    pub shut: u64,
    /// The number of neurons of all sites.
    pub total: u64,
    /// Shut neurons / all neurons of the sites; 0 without sites.
    pub density: f64,
    /// Whether any site holds tuned values instead of zeros.
    pub tuned: bool,
}

impl NeuronIndex {
    /// A concept of every site that was searched, also of those without shut neurons, so that densities are right.
    ///
    /// # Errors
    /// [`Error::Index`] if no file can be made of the provenance: without subject, or with a hash that is none; if a
    /// site comes twice, or its neurons' owners are not those that the provenance asks for: with [`Scope::Words`] each
    /// of several subjects, in a cross-attention, else none.
    pub fn new(
        provenance: Provenance,
        sites: impl IntoIterator<Item = (Site, NeuronSet)>,
    ) -> Result<Self> {
        provenance.check()?;
        let mut index = Self {
            provenance,
            sites: BTreeMap::new(),
        };
        for (site, indices) in sites {
            index.insert(site, indices)?;
        }
        Ok(index)
    }

    /// Adds a site.
    pub(crate) fn insert(&mut self, site: Site, indices: NeuronSet) -> Result<()> {
        if self.provenance.scope == Scope::Words && !site.is_cross() {
            let site = site.to_string();
            return Err(IndexError::SelfAttention { site }.into());
        }
        let (expected, found) = (self.provenance.owners(), indices.told_of_owners().count());
        if expected != found {
            let site = site.to_string();
            let owners = IndexError::Owners {
                site,
                expected,
                found,
            };
            return Err(owners.into());
        }
        match self.sites.entry(site) {
            Entry::Vacant(place) => {
                place.insert(indices);
                Ok(())
            }
            Entry::Occupied(place) => {
                let site = place.key().to_string();
                Err(IndexError::SiteTwice { site }.into())
            }
        }
    }

    /// Where it came from.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// The sites in order of name.
    pub fn sites(&self) -> impl ExactSizeIterator<Item = (&Site, &NeuronSet)> {
        self.sites.iter()
    }

    /// One site, if it was searched.
    pub(crate) fn site(&self, site: &Site) -> Option<&NeuronSet> {
        self.sites.get(site)
    }

    /// How many neurons it shuts, and of how many.
    pub fn extent(&self) -> Extent {
        let shut = self.sites.values().map(|site| site.count() as u64).sum();
        let total = self.sites.values().fold(0, |total: u64, site| {
            total.saturating_add(site.weight_count())
        });
        Extent {
            shut,
            total,
            density: shut as f64 / total.max(1) as f64,
            tuned: self.sites.values().any(|site| site.values().is_some()),
        }
    }

    /// The SHA-256 over the tensors, which tells one concept from another whatever their metadata say.
    pub fn sha256(&self) -> String {
        tensors_sha256(&self.tensors())
    }

    /// The tensors of the file: `SITE`; where there are values, `SITE.values`; and where neurons have owners,
    /// `SITE.subject.K` for each subject but the last: the places of its neurons among those of `SITE`, encoded alike;
    /// and `SITE.shared`: which of the neurons of these subjects are the last one's, too. Those of none are its own.
    pub(super) fn tensors(&self) -> Tensors<Cow<'_, [u8]>> {
        let coded = |bytes| Tensor {
            dtype: Dtype::U8,
            bytes: Cow::Borrowed(bytes),
        };
        let mut tensors = Tensors::new();
        for (site, set) in &self.sites {
            tensors.insert(site.to_string(), coded(set.coded().bytes()));
            let subjects = self.provenance.owners();
            for (subject, told) in set.told_of_owners().enumerate() {
                let name = owners::tensor(site.as_str(), subject, subjects);
                tensors.insert(name, coded(told.bytes()));
            }
            if let Some(values) = set.values() {
                let bytes = values.iter().flat_map(|value| value.to_le_bytes());
                let values = Tensor {
                    dtype: Dtype::F16,
                    bytes: bytes.collect(),
                };
                tensors.insert(format!("{site}.values"), values);
            }
        }
        tensors
    }

    /// A concept of the file at `path`.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::Index`] naming the path and what is wrong, as
    /// its [`TryFrom`] of bytes.
    pub fn read(path: &Path) -> Result<Self> {
        files::read(path)
            .and_then(|bytes| Self::try_from(bytes.as_slice()))
            .map_err(|error| match error {
                Error::Index(error) => error.within(path).into(),
                other => other,
            })
    }

    /// Writes the file, beside `path` first and then under its name.
    ///
    /// # Errors
    /// [`Error::Io`] naming the path.
    pub fn write(&self, path: &Path) -> Result<()> {
        files::replace(path, &self.to_bytes()?)
    }

    /// A safetensors file of plain U32 indices, one tensor per site, for other programs.
    ///
    /// # Errors
    /// [`Error::Index`] if it would be larger than 1 GiB.
    pub fn to_plain_bytes(&self) -> Result<Vec<u8>> {
        let tensor = |set: &NeuronSet| Tensor {
            dtype: Dtype::U32,
            bytes: set.iter().flat_map(u32::to_le_bytes).collect::<Vec<u8>>(),
        };
        let tensors = self
            .sites
            .iter()
            .map(|(site, set)| (site.to_string(), tensor(set)))
            .collect();
        serialize(&BTreeMap::new(), &tensors)
    }
}

/// The indices as text: a line for each site, its name, a tab, and the indices with spaces between them.
impl fmt::Display for NeuronIndex {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (site, set) in &self.sites {
            write!(out, "{site}\t")?;
            for (at, index) in set.iter().enumerate() {
                write!(out, "{}{index}", if at == 0 { "" } else { " " })?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::subject::Subject;
    use super::*;

    /// A site.
    pub(crate) fn site(block: u16) -> Site {
        format!("down_blocks.{block}.attentions.0.transformer_blocks.0.attn2.to_k.weight")
            .parse()
            .unwrap()
    }

    /// A concept of these sites.
    pub(crate) fn concept(noun: &str, sites: &[(Site, [u32; 2], &[u32])]) -> NeuronIndex {
        let provenance = Provenance {
            model: "pocket".to_owned(),
            fingerprint: "0123456789abcdef".repeat(4),
            architecture: Some("pocket".to_owned()),
            prediction_type: Some("epsilon".to_owned()),
            subjects: vec![Subject {
                noun: noun.to_owned(),
                token: "sks".to_owned(),
            }],
            prompts: vec![
                format!("a photo of a sks {noun}"),
                format!("a photo of a {noun}"),
            ],
            method: "paper".to_owned(),
            scope: Scope::Prompt,
            settings: [("rho", "2e-5"), ("steps", "30")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            seed: Some(7),
            pictures: vec!["ab".repeat(32)],
            merged_from: Vec::new(),
        };
        let set = |(site, shape, indices): &(Site, [u32; 2], &[u32])| {
            let set = NeuronSet::new(*shape, indices.to_vec()).unwrap();
            (site.clone(), set)
        };
        NeuronIndex::new(provenance, sites.iter().map(set)).unwrap()
    }

    #[test]
    fn counts() {
        let index = concept(
            "dog",
            &[(site(0), [4, 5], &[0, 1, 2]), (site(1), [2, 5], &[])],
        );
        assert_eq!(
            index.extent(),
            Extent {
                shut: 3,
                total: 30,
                density: 0.1,
                tuned: false,
            }
        );
        assert_eq!(
            index.site(&site(0)).map(NeuronSet::indices),
            Some(vec![0, 1, 2])
        );
        assert_eq!(index.site(&site(2)), None);
        assert_eq!(concept("dog", &[]).extent().density, 0.0);
    }

    #[test]
    fn what_is_no_set_of_neurons_is_refused() {
        for (shape, indices) in [
            ([0, 5], vec![]),
            ([2, 2], vec![4]),
            ([2, 2], vec![1, 1]),
            ([2, 2], vec![1, 0]),
        ] {
            NeuronSet::new(shape, indices).unwrap_err();
        }
        NeuronSet::new([1 << 16, (1 << 16) + 1], vec![]).unwrap_err();
        NeuronSet::new([1 << 16, 1 << 16], vec![u32::MAX]).unwrap();
        let set = NeuronSet::new([2, 2], vec![0, 3]).unwrap();
        set.clone().with_values(vec![1]).unwrap_err();
        set.clone().with_values(vec![1, 0x7c00]).unwrap_err();
        set.clone().with_values(vec![1, 0xfe00]).unwrap_err();
        set.with_values(vec![1, 0xfbff]).unwrap();
        let mut index = concept("dog", &[(site(0), [4, 5], &[0])]);
        index
            .insert(site(0), NeuronSet::new([4, 5], vec![]).unwrap())
            .unwrap_err();
    }

    #[test]
    fn another_model_is_refused_by_name() {
        let index = concept("dog", &[]);
        index
            .provenance()
            .check_fingerprint(&index.provenance().fingerprint)
            .unwrap();
        let error = index
            .provenance()
            .check_fingerprint(&"f".repeat(64))
            .unwrap_err();
        assert!(
            error.to_string().contains("(model `pocket`), found ffff"),
            "{error}"
        );
        assert!(error.hint().unwrap().contains("give that model"));
    }

    #[test]
    fn text_and_plain_indices() {
        let index = concept(
            "dog",
            &[(site(0), [4, 5], &[0, 1, 19]), (site(1), [2, 5], &[])],
        );
        assert_eq!(
            index.to_string(),
            format!("{}\t0 1 19\n{}\t\n", site(0), site(1))
        );

        let bytes = index.to_plain_bytes().unwrap();
        let plain = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let tensor = plain.tensor(site(0).as_str()).unwrap();
        assert_eq!(
            (tensor.dtype(), tensor.shape()),
            (safetensors::Dtype::U32, &[3][..])
        );
        assert_eq!(tensor.data(), [0, 0, 0, 0, 1, 0, 0, 0, 19, 0, 0, 0]);
        assert_eq!(plain.tensor(site(1).as_str()).unwrap().shape(), [0]);
    }
}

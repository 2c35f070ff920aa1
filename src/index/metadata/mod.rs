//! A concept as the bytes of a file, and back.
//!
//! Beside the tensors, the safetensors header carries these strings:
//!
//! | key | value |
//! | --- | --- |
//! | `format`, `version` | `cones.index`, `1` |
//! | `model`, `fingerprint` | the model's name; the SHA-256 over its K and V weights |
//! | `shapes` | JSON: `{"SITE": [out, in], …}` |
//! | `shut`, `total` | the numbers of shut neurons, and of neurons, of all sites |
//! | `subjects` | JSON: `[{"noun": "dog", "token": "sks"}, …]` |
//! | `subject`, `token` | the same for people: the nouns, and the tokens, with `, ` between them |
//! | `prompts`, `pictures` | JSON: lists of strings; pictures are the SHA-256 of each file |
//! | `scope` | `words` where the neurons are shut at the subjects' own words only, else absent |
//! | `method`, `settings` | its name; JSON: an object of strings |
//! | `seed` | the seed, if there was one |
//! | `merged_from` | JSON, of a merge only: subjects, method, counts and SHA-256 of each part |
//! | `sha256` | over the tensors |
//! | `modelspec.*` | what other tools show: ModelSpec 1.0.1 |
//!
//! The `sha256` is over, for each tensor in order of name: the name, the type's name (`U8`), the number of elements,
//! the bytes; name, type's name and bytes each after their length, lengths and numbers as little-endian u64.
//!
//! A file has at most 1 GiB, its header 4 MiB, 64 subjects, 30,000 pictures, 256 prompts and settings of 1,000
//! characters each; nouns and tokens have at most 200. Texts have no control characters, and a prompt can tell the
//! subjects apart. The same limits hold for what is written. Reading takes about twice the file's size, and time in
//! proportion to it.
//!
//! Nothing depends on the time, the place or the run, so the same concept gives the same bytes. When a file is read,
//! every string but the `modelspec.*` ones must be the one that would be written; keys that are not known are ignored.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::codec::Coded;
use super::concept::{Extent, NeuronIndex};
use super::container;
use super::container::{Dtype, Strings, Tensor, Tensors};
use super::owners;
use super::owners::Held;
use super::provenance::Provenance;
use super::scope::Scope;
use super::set::NeuronSet;
use super::site::Site;
use super::subject::Subject;
use crate::files::regular;
use crate::shown::shown;
use crate::{Error, IndexError, Result};

/// What tells an index from other safetensors files.
const FORMAT: &str = "cones.index";
/// Goes up when files change so that older programs would misread them.
const VERSION: &str = "1";
/// What follows the model's architecture in `modelspec.architecture`.
const ARCHITECTURE: &str = "/cones";
/// What stands for an architecture that is not known.
const UNKNOWN: &str = "unknown";

impl NeuronIndex {
    /// The bytes of the file: the same for the same concept.
    ///
    /// # Errors
    /// [`Error::Index`] if they would be more than is read: a header of 4 MiB, a file of 1 GiB.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let tensors = self.tensors();
        let mut strings = strings(self, &container::tensors_sha256(&tensors));
        strings.extend(modelspec(
            self.provenance(),
            &container::data_sha256(&tensors),
        ));
        container::serialize(&strings, &tensors)
    }

    /// What an index's file says of where it came from, without its neurons: no more than the header is read.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Index`] if the file is no index of a version that is known here.
    pub fn read_provenance(path: &Path) -> Result<Provenance> {
        let (file, _) = regular::open(path)?;
        let strings = container::parse_metadata(file)?;
        check_format(&strings)?;
        let provenance = provenance(&strings)?;
        provenance.check()?;
        Ok(provenance)
    }
}

/// The concept of a file's bytes, which are not trusted: every claim is checked before it is used. The error,
/// [`Error::Index`], names what is wrong: the container, the format or its version, the SHA-256, a site, or a string.
impl TryFrom<&[u8]> for NeuronIndex {
    type Error = Error;

    fn try_from(bytes: &[u8]) -> Result<Self> {
        let (strings, tensors) = container::parse(bytes)?;
        check_format(&strings)?;
        let sha256 = container::tensors_sha256(&tensors);
        if text(&strings, "sha256")? != sha256 {
            let mismatch = IndexError::ChecksumMismatch {
                expected: shown(text(&strings, "sha256")?),
                found: sha256,
            };
            return Err(mismatch.into());
        }
        let mut index = Self::new(provenance(&strings)?, [])?;
        let shapes: BTreeMap<String, [u32; 2]> = json(&strings, "shapes")?;
        let shut: u64 = json(&strings, "shut")?;
        let (mut left, owners) = (shut, index.provenance().owners());
        for (name, tensor) in &tensors {
            if belongs_to(name, owners).is_some_and(|site| tensors.contains_key(site)) {
                continue; // read with its site
            }
            let site: Site = name.parse()?;
            let shape = shapes.get(name).copied();
            let shape =
                shape.ok_or_else(|| damaged("shapes", format!("the shape of `{site}`"), "none"))?;
            let set = site_indices(shape, tensor, tensors.get(&format!("{name}.values")), left)
                .and_then(|set| with_owners(set, name, owners, &tensors))
                .map_err(|error| match error {
                    Error::Index(error) => error.at(&site).into(),
                    other => other,
                })?;
            left = left.saturating_sub(set.count() as u64);
            index.insert(site, set)?;
        }
        if index.sites().len() != shapes.len() {
            let (sites, shapes) = (index.sites().len(), shapes.len());
            let expected = format!("the shapes of {sites} sites");
            return Err(damaged("shapes", expected, shapes));
        }
        for (key, value) in self::strings(&index, &sha256) {
            if text(&strings, &key)? != value {
                let found = shown(text(&strings, &key)?);
                return Err(damaged(&key, shown(&value), found));
            }
        }
        Ok(index)
    }
}

/// The site that a tensor beside those of sites belongs to.
fn belongs_to(name: &str, owners: usize) -> Option<&str> {
    if let Some(site) = name.strip_suffix(".values") {
        return Some(site);
    }
    let at = name.rfind(".shared").or_else(|| name.rfind(".subject."))?;
    let site = &name[..at];
    (0..owners)
        .any(|subject| name == owners::tensor(site, subject, owners))
        .then_some(site)
}

/// The neurons with the subjects that they belong to.
fn with_owners(
    set: NeuronSet,
    site: &str,
    subjects: usize,
    tensors: &Tensors<&[u8]>,
) -> Result<NeuronSet> {
    let Some(last) = subjects.checked_sub(1) else {
        return Ok(set);
    };
    let neurons = set.count();
    let told = |subject: usize, universe: u64| {
        let name = owners::tensor(site, subject, subjects);
        let tensor = tensors.get(&name).ok_or_else(|| IndexError::Tensor {
            name: format!("`{name}`"),
            expected: "the subject's neurons".to_owned(),
            found: "none".to_owned(),
        })?;
        typed("the subject's neurons", tensor, Dtype::U8)?;
        Coded::read(tensor.bytes, universe, neurons)
    };
    let others = (0..last).map(|subject| told(subject, neurons as u64));
    let others: Vec<Coded> = others.collect::<Result<_>>()?;
    let held = Held::by(&others, neurons);
    let shared = told(last, held.len())?;
    set.with_told_owners(others, &held, shared)
}

fn typed(part: &'static str, tensor: &Tensor<&[u8]>, dtype: Dtype) -> Result<()> {
    match tensor.dtype == dtype {
        true => Ok(()),
        false => Err(IndexError::Type {
            part,
            expected: dtype.name(),
            found: tensor.dtype.name(),
        }
        .into()),
    }
}

/// The neurons of one site; of no more than `most` indices.
fn site_indices(
    shape: [u32; 2],
    tensor: &Tensor<&[u8]>,
    values: Option<&Tensor<&[u8]>>,
    most: u64,
) -> Result<NeuronSet> {
    typed("indices", tensor, Dtype::U8)?;
    let weight_count = u64::from(shape[0]) * u64::from(shape[1]);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let set = NeuronSet::of(shape, Coded::read(tensor.bytes, weight_count, most)?)?;
    let Some(values) = values else { return Ok(set) };
    typed("values", values, Dtype::F16)?;
    let (values, _) = values.bytes.as_chunks();
    set.with_values(values.iter().copied().map(u16::from_le_bytes).collect())
}

/// Everything but the `modelspec.*` keys.
fn strings(index: &NeuronIndex, sha256: &str) -> Strings {
    let own = index.provenance();
    let list =
        |of: fn(&Subject) -> &str| own.subjects.iter().map(of).collect::<Vec<_>>().join(", ");
    let shapes: BTreeMap<&str, [u32; 2]> = index
        .sites()
        .map(|(site, set)| (site.as_str(), set.shape()))
        .collect();
    let Extent { shut, total, .. } = index.extent();
    let mut strings: Strings = [
        ("format", FORMAT.to_owned()),
        ("version", VERSION.to_owned()),
        ("model", own.model.clone()),
        ("fingerprint", own.fingerprint.clone()),
        ("shapes", to_json(&shapes)),
        ("shut", shut.to_string()),
        ("total", total.to_string()),
        ("subjects", to_json(&own.subjects)),
        ("subject", list(|subject| &subject.noun)),
        ("token", list(|subject| &subject.token)),
        ("prompts", to_json(&own.prompts)),
        ("pictures", to_json(&own.pictures)),
        ("method", own.method.clone()),
        ("settings", to_json(&own.settings)),
        ("sha256", sha256.to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    if own.scope != Scope::default() {
        strings.insert("scope".to_owned(), own.scope.to_string());
    }
    strings.extend(own.seed.map(|seed| ("seed".to_owned(), seed.to_string())));
    if !own.merged_from.is_empty() {
        strings.insert("merged_from".to_owned(), to_json(&own.merged_from));
    }
    strings
}

/// What [`strings`] says of where the concept came from.
fn provenance(strings: &Strings) -> Result<Provenance> {
    let optional = |key: &str| strings.get(key).filter(|text| !text.is_empty()).cloned();
    let architecture = optional("modelspec.architecture")
        .and_then(|text| Some(text.strip_suffix(ARCHITECTURE)?.to_owned()))
        .filter(|architecture| architecture != UNKNOWN);
    Ok(Provenance {
        model: text(strings, "model")?.to_owned(),
        fingerprint: text(strings, "fingerprint")?.to_owned(),
        architecture,
        prediction_type: optional("modelspec.prediction_type"),
        subjects: json(strings, "subjects")?,
        prompts: json(strings, "prompts")?,
        method: text(strings, "method")?.to_owned(),
        scope: match strings.get("scope") {
            Some(scope) => scope.parse()?,
            None => Scope::default(),
        },
        settings: json(strings, "settings")?,
        seed: strings
            .contains_key("seed")
            .then(|| json(strings, "seed"))
            .transpose()?,
        pictures: json(strings, "pictures")?,
        merged_from: strings
            .contains_key("merged_from")
            .then(|| json(strings, "merged_from"))
            .transpose()?
            .unwrap_or_default(),
    })
}

/// The keys of ModelSpec 1.0.1 for an adapter.
fn modelspec(own: &Provenance, data_sha256: &str) -> Strings {
    let title = |subjects: &[Subject]| {
        subjects
            .iter()
            .map(|subject| subject.noun.as_str())
            .collect::<Vec<_>>()
            .join(", ")
            + " (cones)"
    };
    let mut keys = vec![
        ("sai_model_spec", "1.0.1".to_owned()),
        (
            "architecture",
            format!(
                "{}{ARCHITECTURE}",
                own.architecture.as_deref().unwrap_or(UNKNOWN)
            ),
        ),
        ("implementation", "cones".to_owned()),
        ("title", title(&own.subjects)),
        ("trigger_phrase", Subject::phrases(&own.subjects)),
        ("hash_sha256", format!("0x{data_sha256}")),
    ];
    keys.extend(
        own.prediction_type
            .clone()
            .map(|kind| ("prediction_type", kind)),
    );
    if !own.merged_from.is_empty() {
        let titles: Vec<String> = own
            .merged_from
            .iter()
            .map(|source| title(&source.subjects))
            .collect();
        keys.push(("merged_from", titles.join(", ")));
    }
    keys.into_iter()
        .map(|(key, value)| (format!("modelspec.{key}"), value))
        .collect()
}

/// That the file is an index of a version that is known here.
fn check_format(strings: &Strings) -> Result<()> {
    let found = strings.get("format");
    if found.is_none_or(|format| format != FORMAT) {
        let none = || "a safetensors file without `format`".to_owned();
        let found = found.map_or_else(none, |format| format!("format {}", shown(format)));
        let expected = FORMAT;
        return Err(IndexError::Format { expected, found }.into());
    }
    let version = text(strings, "version")?;
    if version == VERSION {
        return Ok(());
    }
    let found = version
        .parse()
        .map_or_else(|_| shown(version), |number: u32| number.to_string());
    let expected = VERSION;
    Err(IndexError::Version { expected, found }.into())
}

/// A string that must be there.
fn text<'a>(strings: &'a Strings, key: &str) -> Result<&'a str> {
    strings
        .get(key)
        .map(String::as_str)
        .ok_or_else(|| damaged(key, "a value", "none"))
}

/// A value that must be there, of its JSON (a number's is its digits).
fn json<T: DeserializeOwned>(strings: &Strings, key: &str) -> Result<T> {
    let text = text(strings, key)?;
    serde_json::from_str(text)
        .map_err(|error| damaged(key, "valid JSON of its kind", shown(&error.to_string())))
}

/// Compact JSON.
fn to_json(value: &impl Serialize) -> String {
    // Maps of strings and plain structs have no way to fail; the empty text would be refused when read, if they ever
    // did.
    serde_json::to_string(value).unwrap_or_default()
}

/// The error of a string that claims what is not so.
fn damaged(key: &str, expected: impl Into<String>, found: impl ToString) -> Error {
    let metadata = IndexError::Metadata {
        key: key.to_owned(),
        expected: expected.into(),
        found: found.to_string(),
    };
    metadata.into()
}

#[cfg(test)]
mod tests;

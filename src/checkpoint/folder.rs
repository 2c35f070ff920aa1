//! Which files of a folder hold a network's weights: plain, of a variant, or in shards.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::ErrorKind;
use std::path::Path;

use super::tensors::{TensorFile, is_weight};
use super::weight_names::{Part, parse};
use super::within;
use crate::config::ConfigReader;
use crate::files::regular;
use crate::{Error, Result};

/// Variants in the order in which they are taken where nothing is asked for; the plain one comes before all.
const PREFERRED: [&str; 2] = ["fp32", "fp16"];

/// Longer indices than this are of no model: Stable Diffusion XL's has 0.2 MB.
const LONGEST_INDEX: u64 = 4 << 20;

/// The files of one network by variant, which is empty for the plain one.
#[derive(Debug, Default)]
pub(super) struct WeightFiles {
    found: BTreeMap<String, BTreeSet<(Part, String)>>,
    /// Whether there are pickled weights.
    pub(super) pickled: bool,
}

impl WeightFiles {
    /// Looks through a folder for the weights that are called `stem`; a folder that is not there has none.
    pub(super) fn list(folder: &Path, stem: &str) -> Result<Self> {
        let mut files = Self::default();
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(files),
            Err(error) => return Err(Error::io("read", folder)(error)),
        };
        for entry in entries {
            let name = entry.map_err(Error::io("read", folder))?.file_name();
            let Some(name) = name.to_str() else {
                continue; // no name of a model's file
            };
            files.pickled |= name.ends_with(".bin")
                && (name.starts_with(stem) || name.starts_with("pytorch_model"));
            if let Some((variant, part)) = name.strip_prefix(stem).and_then(parse) {
                let parts = files.found.entry(variant.to_owned()).or_default();
                parts.insert((part, name.to_owned()));
            }
        }
        Ok(files)
    }

    /// Whether there is something of this variant.
    pub(super) fn has(&self, variant: &str) -> bool {
        self.found.contains_key(variant)
    }

    /// What there is, to choose from.
    pub(super) fn variants(&self) -> impl Iterator<Item = &str> {
        self.found.keys().map(String::as_str)
    }

    /// The variant to take: the one that is asked for, or the plain one where this network has it not; else the plain
    /// one, the only one, or the first of [`PREFERRED`]. `Ok(None)` where there are no weights.
    ///
    /// # Errors
    /// The variants, where none of this says which.
    fn choose(&self, wanted: Option<&str>) -> Result<Option<&str>, String> {
        let order = wanted.into_iter().chain([""]).chain(PREFERRED);
        let mut all = self.variants();
        match (
            order.into_iter().find(|v| self.has(v)),
            all.next(),
            all.next(),
        ) {
            (Some(variant), ..) => Ok(self.found.get_key_value(variant).map(|(v, _)| v.as_str())),
            (None, only, None) => Ok(only),
            (None, ..) => {
                let list: Vec<String> = self.variants().map(|v| format!("`{v}`")).collect();
                Err(list.join(", "))
            }
        }
    }

    /// Opens the weights in the folder `dir` of the model at `root`; `None` where there are none.
    ///
    /// # Errors
    /// If a file is missing, damaged, or of another kind.
    pub(super) fn open(
        &self,
        (root, dir): (&Path, &str),
        wanted: Option<&str>,
        convert: &str,
    ) -> Result<Option<TensorFile>> {
        let refuse = |found: String, hint: &str| {
            let what = if dir.is_empty() {
                "the model's folder"
            } else {
                dir
            };
            Err(Error::file(what, "weights as safetensors", found, hint))
        };
        let variant = match self.choose(wanted) {
            Ok(None) => return Ok(None),
            Ok(Some(variant)) => variant,
            Err(list) => {
                let hint = "say which variant to take";
                return refuse(format!("several variants and no plain one: {list}"), hint);
            }
        };
        match self.found[variant].first() {
            None => Ok(None),
            Some((Part::Whole, name)) => {
                let label = within(dir, name);
                TensorFile::open(&root.join(&label), &label, convert).map(Some)
            }
            Some((Part::Index, index)) => open_shards(root, dir, index, convert).map(Some),
            Some((Part::Shard(..), shard)) => {
                let hint = "the model is not complete: fetch it again, with its `….safetensors.index.json`";
                refuse(
                    format!("`{shard}`, one of several files, without their index"),
                    hint,
                )
            }
        }
    }
}

/// Opens all files that an index names, which must have just the tensors that it says.
fn open_shards(root: &Path, dir: &str, index: &str, convert: &str) -> Result<TensorFile> {
    let label = within(dir, index);
    let path = root.join(&label);
    let again = "the file is damaged: fetch it again, with the files that it names";
    let refuse = |found: String, hint: &str| {
        let expected = "the list of the files of a network";
        Err(Error::file(&label, expected, found, hint))
    };
    let length = std::fs::metadata(&path)
        .map_err(Error::io("read", &path))?
        .len();
    if length > LONGEST_INDEX {
        return refuse(
            format!("{length} bytes, which is longer than any model's"),
            again,
        );
    }
    let text = super::text_of(&regular::read(&path)?, &label)?;
    let mut keys = ConfigReader::parse(&label, &text)?;
    let map: BTreeMap<String, String> = keys.required("weight_map")?;
    if map.is_empty() {
        return refuse("no tensors in it".to_owned(), again);
    }
    let mut shards: BTreeMap<&str, (TensorFile, HashSet<String>)> = BTreeMap::new();
    for (tensor, file) in &map {
        if !shards.contains_key(file.as_str()) {
            // The names of a folder's own files, and nothing that leads out of it.
            let plain = !file.contains(['/', '\\', ':', '\0']) && file.ends_with(".safetensors");
            if !plain {
                let found = format!(
                    "\"{}\" in it, which is no file of this folder",
                    file.escape_debug()
                );
                return refuse(
                    found,
                    "take the index and its files from one place, and fetch both again",
                );
            }
            let shard = within(dir, file);
            let path = root.join(&shard);
            if path.symlink_metadata().is_err() {
                let found = format!("`{}` in it, which is not there", file.escape_debug());
                return refuse(
                    found,
                    "the model is not complete: fetch the files that are missing",
                );
            }
            let opened = TensorFile::open(&path, &shard, convert)?;
            let names = opened
                .contents()
                .map(|(name, ..)| name.to_owned())
                .collect();
            shards.insert(file, (opened, names));
        }
        if is_weight(tensor) && !shards[file.as_str()].1.contains(tensor) {
            return Err(Error::Weight {
                file: within(dir, file),
                name: tensor.escape_debug().to_string(),
                expected: format!("this tensor, as `{label}` says"),
                found: "no such tensor".to_owned(),
            });
        }
    }
    TensorFile::join(&label, shards.into_values().map(|(file, _)| file).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What there is, what is asked for, and what is taken.
    type Row<'a> = (
        &'a [&'a str],
        Option<&'a str>,
        Result<Option<&'a str>, &'a str>,
    );

    #[test]
    fn the_plain_one_comes_first() {
        #[rustfmt::skip]
        let rows: [Row; 11] = [
            (&[], None, Ok(None)),
            (&["", "fp16"], None, Ok(Some(""))),
            (&["", "fp16"], Some("fp16"), Ok(Some("fp16"))),
            (&["", "fp16"], Some("bf16"), Ok(Some(""))),
            (&["fp16"], Some("bf16"), Ok(Some("fp16"))),
            (&["bf16"], None, Ok(Some("bf16"))),
            (&["bf16", "fp16"], None, Ok(Some("fp16"))),
            (&["bf16", "fp16", "fp32"], None, Ok(Some("fp32"))),
            (&["bf16", "fp16"], Some("bf16"), Ok(Some("bf16"))),
            (&["bf16", "non_ema"], None, Err("`bf16`, `non_ema`")),
            (&["", "non_ema"], None, Ok(Some(""))),
        ];
        for (there, wanted, want) in rows {
            let found = there.iter().map(|v| ((*v).to_owned(), BTreeSet::new()));
            let files = WeightFiles {
                found: found.collect(),
                pickled: false,
            };
            assert_eq!(
                files.choose(wanted),
                want.map_err(str::to_owned),
                "{there:?} {wanted:?}"
            );
        }
    }
}

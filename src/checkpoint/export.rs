//! A model's weights with a concept's neurons shut, for other programs: every byte is copied from the model's own file
//! as it is written, so that no more than one tensor is in memory.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use half::{bf16, f16};
use safetensors::Dtype;
use serde_json::{Map, Value, json};

use super::header::Header;
use super::tensors::{Stored, TensorFile};
use super::{Place, Source};
use crate::files;
use crate::index::{NeuronIndex, NeuronSet, Scope, Subject};
use crate::{Error, Result};

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// The UNet under diffusers' names: a folder with its `config.json`, or a file where the name ends in
    /// `.safetensors`.
    Diffusers,
    /// The whole single file, as the model is one, under its own names.
    Checkpoint,
    /// The changed weights alone: `SITE.indices` and `SITE.values`.
    Delta,
}

/// The largest piece that is copied at a time.
const PIECE: usize = 4 << 20;
const UNET: &str = "unet";
const UNET_STEM: &str = "diffusion_pytorch_model";

impl Source {
    /// Writes the model with the neurons of `index` shut, which are of the whole prompt, `strength` of the way. Types
    /// stay those of the model's own file.
    ///
    /// # Errors
    /// If the index is bound to words, which is no change of weights; if the model has no such sites; if it is no
    /// single file and is to be written as one; or a file cannot be written.
    pub fn export(
        &self,
        index: &NeuronIndex,
        strength: f64,
        format: ExportFormat,
        out: &Path,
    ) -> Result<()> {
        if index.provenance().scope == Scope::Words {
            let hint = "find it with `--scope prompt`, or use the index itself in that program: \
                        `examples/diffusers/cones_diffusers.py` and the nodes of `examples/comfyui` read it";
            let expected = "an index of scope `prompt`, which is a change of weights";
            let found = "one of scope `words`, whose neurons are shut at the subject's words alone";
            return Err(Error::file("export", expected, found, hint));
        }
        let unet = self.tensors(UNET, UNET_STEM)?;
        let changes = Changes::new(&unet, index, strength)?;
        let notes = notes(self.name(), index);
        match format {
            ExportFormat::Diffusers => self.export_unet(&unet, &changes, &notes, out),
            ExportFormat::Checkpoint => self.export_single(&changes, &notes, out),
            ExportFormat::Delta => export_delta(&changes, &notes, out),
        }
    }

    fn export_unet(
        &self,
        unet: &TensorFile,
        changes: &Changes,
        notes: &Notes,
        out: &Path,
    ) -> Result<()> {
        let file = match out
            .extension()
            .is_some_and(|ending| ending == "safetensors")
        {
            true => out.to_owned(),
            false => {
                std::fs::create_dir_all(out).map_err(Error::io("create", out))?;
                let config = self.required_text("unet/config.json")?;
                files::replace(&out.join("config.json"), config.as_bytes())?;
                out.join(format!("{UNET_STEM}.safetensors"))
            }
        };
        let stored = || {
            unet.names()
                .filter_map(|name| Some((name, unet.get(name)?)))
        };
        let shapes = stored().map(|(name, t)| (name.to_owned(), t.dtype, t.shape.clone()));
        let header = header(shapes, notes, "pt");
        files::replace_with(&file, |to| {
            to.write_all(&header)?;
            for (name, tensor) in stored() {
                let bytes = unet.bytes(tensor);
                match changes.0.get(name) {
                    Some(change) => {
                        to.write_all(&change.applied(&(**bytes).as_ref()[tensor.range.clone()]))?
                    }
                    None => copy(to, bytes, tensor.range.clone())?,
                }
                bytes.release(tensor.range.clone());
            }
            Ok(())
        })
    }

    fn export_single(&self, changes: &Changes, notes: &Notes, out: &Path) -> Result<()> {
        let Place::Single { file, .. } = &self.place else {
            return Err(Error::Model {
                model: self.name.clone(),
                problem: "no single file: expected one to write it anew".to_owned(),
                hint: "give the model as a single `.safetensors` file, or write `--as diffusers`"
                    .to_owned(),
            });
        };
        let Some(unet) = file.tensors(UNET) else {
            return Err(self.missing("the file", "no UNet in it"));
        };
        let mut changed: Vec<(&Stored, &Change)> = Vec::new();
        for (site, change) in &changes.0 {
            changed.extend(unet.get(site).map(|stored| (stored, change)));
        }
        changed.sort_by_key(|(stored, _)| stored.range.start);
        let Some((first, _)) = changed.first() else {
            return Err(self.missing("the file", "no weights to change in it"));
        };
        let bytes = unet.bytes(first).clone();
        let all = (*bytes).as_ref();
        let old = Header::parse(all, unet.label(), "")?;
        let data_start = old.data_start;
        let header = renewed(&old, notes);
        files::replace_with(out, |to| {
            to.write_all(&header)?;
            let mut at = data_start;
            for (stored, change) in changed {
                copy(to, &bytes, at..stored.range.start)?;
                to.write_all(&change.applied(&all[stored.range.clone()]))?;
                at = stored.range.end;
            }
            copy(to, &bytes, at..all.len())
        })
    }
}

fn export_delta(changes: &Changes, notes: &Notes, out: &Path) -> Result<()> {
    let tensors = changes.0.iter().flat_map(|(site, change)| {
        let count = vec![change.places.len()];
        [
            (format!("{site}.indices"), Dtype::I32, count.clone()),
            (format!("{site}.values"), change.dtype, count),
        ]
    });
    let header = header(tensors, notes, "cones.delta");
    files::replace_with(out, |to| {
        to.write_all(&header)?;
        for change in changes.0.values() {
            let places: Vec<u8> = change.places.iter().flat_map(|p| p.to_le_bytes()).collect();
            to.write_all(&places)?;
            to.write_all(&change.values)?;
        }
        Ok(())
    })
}

/// Copies a part of a file in pieces, whose memory is given back.
fn copy(
    to: &mut dyn Write,
    bytes: &super::tensors::Bytes,
    range: std::ops::Range<usize>,
) -> io::Result<()> {
    for at in range.clone().step_by(PIECE) {
        let piece = at..range.end.min(at + PIECE);
        to.write_all(&bytes.as_ref()[piece.clone()])?;
        bytes.release(piece);
    }
    Ok(())
}

/// What becomes of one tensor.
struct Change {
    dtype: Dtype,
    /// Flat places, ascending.
    places: Vec<u32>,
    /// What stands there afterwards, in the tensor's own type.
    values: Vec<u8>,
}

impl Change {
    /// The tensor's bytes with the changes.
    fn applied(&self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        let size = self.values.len() / self.places.len().max(1);
        for (place, value) in self
            .places
            .iter()
            .zip(self.values.chunks_exact(size.max(1)))
        {
            bytes[*place as usize * size..][..size].copy_from_slice(value);
        }
        bytes
    }
}

/// What becomes of the sites that have shut neurons.
struct Changes(BTreeMap<String, Change>);

impl Changes {
    fn new(unet: &TensorFile, index: &NeuronIndex, strength: f64) -> Result<Self> {
        let mut changes = BTreeMap::new();
        for (site, set) in index.sites().filter(|(_, set)| set.count() > 0) {
            let stored = unet
                .get(site.as_str())
                .ok_or_else(|| mismatch(site.as_str(), set, "no such site"))?;
            if stored.shape != set.shape().map(|side| side as usize) {
                return Err(mismatch(
                    site.as_str(),
                    set,
                    &format!("shape {:?}", stored.shape),
                ));
            }
            let bytes = &(**unet.bytes(stored)).as_ref()[stored.range.clone()];
            let change = Change::new(stored.dtype, bytes, set, strength as f32);
            changes.insert(site.to_string(), change);
            unet.bytes(stored).release(stored.range.clone());
        }
        Ok(Self(changes))
    }
}

impl Change {
    fn new(dtype: Dtype, bytes: &[u8], set: &NeuronSet, strength: f32) -> Self {
        let places = set.indices();
        let target = |n: usize| set.values().map_or(0.0, |v| f16::from_bits(v[n]).to_f32());
        let between = |from: f32, n: usize| (1.0 - strength) * from + strength * target(n);
        let mut values = Vec::new();
        for (n, &place) in places.iter().enumerate() {
            let at = place as usize;
            let two = || [bytes[2 * at], bytes[2 * at + 1]];
            match dtype {
                Dtype::F16 => {
                    let value = between(f16::from_le_bytes(two()).to_f32(), n);
                    values.extend(f16::from_f32(value).to_le_bytes());
                }
                Dtype::BF16 => {
                    let value = between(bf16::from_le_bytes(two()).to_f32(), n);
                    values.extend(bf16::from_f32(value).to_le_bytes());
                }
                _ => {
                    let four = [0, 1, 2, 3].map(|i| bytes[4 * at + i]);
                    values.extend(between(f32::from_le_bytes(four), n).to_le_bytes());
                }
            }
        }
        Self {
            dtype,
            places,
            values,
        }
    }
}

fn mismatch(site: &str, set: &NeuronSet, found: &str) -> Error {
    let other = crate::IndexError::NotInModel {
        site: site.to_owned(),
        expected: format!("shape {:?}", set.shape()),
        found: format!("{found} in this model"),
    };
    other.into()
}

/// Strings for the header.
type Notes = BTreeMap<String, String>;

fn notes(model: &str, index: &NeuronIndex) -> Notes {
    let own = index.provenance();
    let notes = [
        ("cones.model", model.to_owned()),
        ("cones.index", index.sha256()),
        ("cones.subjects", Subject::phrases(&own.subjects)),
        ("modelspec.trigger_phrase", Subject::phrases(&own.subjects)),
    ];
    notes
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

/// The header of a file of these tensors, in this order, without gaps.
fn header(
    tensors: impl Iterator<Item = (String, Dtype, Vec<usize>)>,
    notes: &Notes,
    format: &str,
) -> Vec<u8> {
    let mut map = Map::new();
    let mut notes = notes.clone();
    notes.insert("format".to_owned(), format.to_owned());
    map.insert("__metadata__".to_owned(), json!(notes));
    let mut at = 0;
    for (name, dtype, shape) in tensors {
        let end = at + shape.iter().product::<usize>() * dtype.bitsize() / 8;
        let tensor =
            json!({"dtype": format!("{dtype:?}"), "shape": shape, "data_offsets": [at, end]});
        map.insert(name, tensor);
        at = end;
    }
    framed(&Value::Object(map))
}

/// A file's header with notes of what was changed, and without hashes that are true no more.
fn renewed(old: &Header, notes: &Notes) -> Vec<u8> {
    let mut map = Map::new();
    let stale = |key: &str| key.contains("hash");
    let mut all: Notes = old
        .notes
        .clone()
        .into_iter()
        .filter(|(key, _)| !stale(key))
        .collect();
    all.extend(notes.clone());
    map.insert("__metadata__".to_owned(), json!(all));
    for (name, info) in &old.tensors {
        let (from, to) = info.data_offsets;
        let tensor = json!({"dtype": format!("{:?}", info.dtype), "shape": info.shape, "data_offsets": [from, to]});
        map.insert(name.clone(), tensor);
    }
    framed(&Value::Object(map))
}

fn framed(header: &Value) -> Vec<u8> {
    let mut text = header.to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    [&(text.len() as u64).to_le_bytes()[..], &text].concat()
}

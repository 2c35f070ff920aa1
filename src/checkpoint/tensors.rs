//! The tensors of one network: by name, read in place from one file or several, under the names of today.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use safetensors::Dtype;
use sha2::{Digest, Sha256};

use super::header::Header;
use super::mapped::MappedFile;
use crate::files::regular::{self, Stamp};
use crate::{Error, Result};

/// The bytes of a safetensors file, mapped from disk or built into the program.
pub(crate) enum Bytes {
    Mapped(MappedFile, Stamp),
    Embedded(&'static [u8]),
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Mapped(map, _) => map,
            Self::Embedded(bytes) => bytes,
        }
    }
}

impl Bytes {
    /// Gives the memory of a part back, until it is read again.
    pub(super) fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Self::Mapped(map, _) = self {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: the map is of a file, is only read, and has the file's contents again at the next read.
            #[expect(unsafe_code, reason = "advice on a map")]
            let result = unsafe { map.unchecked_advise_range(advice, range.start, range.len()) };
            // Without it the program needs more memory, and computes the same.
            drop(result);
        }
    }

    /// Maps a file.
    pub(super) fn map(path: &Path) -> Result<Self> {
        let (file, metadata) = regular::open(path)?;
        // SAFETY: the map is only read, as bytes or as numbers of which every pattern of bits is one, and what its
        // header claims was copied and checked once. Whoever changes the file while this program runs changes the
        // numbers that it computes with, which [`Pages::check_unchanged`] notices, and whoever makes it shorter ends
        // the program with SIGBUS: weights are read from it all the time. The binary answers that with an error.
        #[expect(unsafe_code, reason = "mapping a file")]
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(Error::io("map", path))?;
        Ok(Self::Mapped(
            MappedFile::new(map, path),
            Stamp::new(path, &metadata),
        ))
    }
}

/// One tensor: what it is, and where its numbers lie.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    /// The name in the file.
    pub(crate) name: String,
    /// The shape that it is used in.
    pub(crate) shape: Vec<usize>,
    pub(crate) dtype: Dtype,
    /// Of its bytes in the file.
    pub(crate) range: Range<usize>,
    /// Whether the file has the matrix with rows and columns exchanged.
    pub(crate) transposed: bool,
    /// Which of the network's files.
    file: usize,
}

impl Stored {
    /// A tensor of the first file.
    pub(super) fn new(name: &str, shape: Vec<usize>, dtype: Dtype, range: Range<usize>) -> Self {
        Self {
            name: name.to_owned(),
            shape,
            dtype,
            range,
            transposed: false,
            file: 0,
        }
    }
}

/// One file of a network.
struct File {
    /// What errors call it.
    label: String,
    bytes: Arc<Bytes>,
}

struct Network {
    label: String,
    files: Vec<File>,
    /// By today's name.
    tensors: BTreeMap<String, Stored>,
}

impl Network {
    fn bytes(&self, tensor: &Stored) -> &[u8] {
        &(*self.files[tensor.file].bytes).as_ref()[tensor.range.clone()]
    }

    /// The stretches of each file that its tensors take, without gaps.
    fn stretches(&self) -> Vec<(usize, Range<usize>)> {
        let mut all: Vec<(usize, Range<usize>)> = (self.tensors.values())
            .map(|t| (t.file, t.range.clone()))
            .collect();
        all.sort_by_key(|(file, range)| (*file, range.start));
        let mut joined: Vec<(usize, Range<usize>)> = Vec::new();
        for (file, range) in all {
            match joined.last_mut() {
                Some((last, before)) if *last == file && before.end >= range.start => {
                    before.end = before.end.max(range.end);
                }
                _ => joined.push((file, range)),
            }
        }
        joined
    }
}

/// The memory that the weights of one network take while they are read in place.
#[derive(Clone)]
pub(crate) struct Pages {
    network: Arc<Network>,
    /// The stretches of each file that the tensors take, without gaps.
    stretches: Arc<[(usize, Range<usize>)]>,
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pages of `{}`", self.network.label)
    }
}

impl Pages {
    /// Gives the memory back until the weights are read again: the system keeps the file's contents as long as it has
    /// room. Of a file that other networks are in too, it is this network's part.
    pub(crate) fn release(&self) {
        for (file, range) in &*self.stretches {
            self.network.files[*file].bytes.release(range.clone());
        }
    }

    /// Whether there is memory to give back: that of files.
    pub(crate) fn are_mapped(&self) -> bool {
        let mut files = self.network.files.iter();
        files.all(|file| matches!(&*file.bytes, Bytes::Mapped(..)))
    }

    /// That the files on disk are still those that were mapped.
    ///
    /// # Errors
    /// If one was changed, replaced or removed.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        for file in &self.network.files {
            if let Bytes::Mapped(_, stamp) = &*file.bytes {
                stamp.check()?;
            }
        }
        Ok(())
    }

    /// The sizes and times of the files, as text.
    pub(crate) fn stamps(&self) -> String {
        let stamp = |file: &File| match &*file.bytes {
            Bytes::Mapped(_, stamp) => stamp.text(),
            Bytes::Embedded(bytes) => bytes.len().to_string(),
        };
        self.network
            .files
            .iter()
            .map(stamp)
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// SHA-256 over the tensors in order of today's names: each name, type and shape, and the numbers as the network
    /// uses them. It is the same whether they lie in one file, in several, or in one with other networks. The memory of
    /// each is given back, so that a network is not in memory as a whole.
    pub(crate) fn sha256(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for (name, tensor) in &self.network.tensors {
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name);
            hash.update(format!("{:?}{:?}", tensor.dtype, tensor.shape));
            let bytes = self.network.bytes(tensor);
            match (tensor.transposed, &tensor.shape[..]) {
                (true, &[rows, columns]) if rows * columns > 0 => {
                    let size = bytes.len() / (rows * columns);
                    let place = |row: usize, column: usize| (column * rows + row) * size;
                    for at in (0..rows).flat_map(|r| (0..columns).map(move |c| place(r, c))) {
                        hash.update(&bytes[at..at + size]);
                    }
                }
                _ => hash.update(bytes),
            }
            let file = &self.network.files[tensor.file];
            file.bytes.release(tensor.range.clone());
        }
        hash.finalize().into()
    }
}

/// The tensors of one network, their headers checked, and their bytes.
#[derive(Clone)]
pub(crate) struct TensorFile(Arc<Network>);

impl TensorFile {
    /// Maps the file at `path`; `label` is what errors call it, and `convert` says how to convert it if it is pickled.
    pub(crate) fn open(path: &Path, label: &str, convert: &str) -> Result<Self> {
        let bytes = Bytes::map(path)?;
        let header = Header::parse(bytes.as_ref(), label, convert)?;
        Self::new(Arc::new(bytes), label, &header)
    }

    /// Reads a file built into the program.
    pub(crate) fn embedded(bytes: &'static [u8], label: &str) -> Result<Self> {
        let header = Header::parse(bytes, label, "")?;
        Self::new(Arc::new(Bytes::Embedded(bytes)), label, &header)
    }

    /// All tensors of one file, which is a network's own.
    pub(super) fn new(bytes: Arc<Bytes>, label: &str, header: &Header) -> Result<Self> {
        let mut tensors = BTreeMap::new();
        for (name, info) in &header.tensors {
            if !is_weight(name) {
                continue;
            }
            let today = RENAMED
                .iter()
                .fold(name.clone(), |n, (old, new)| n.replace(old, new));
            let (from, to) = info.data_offsets;
            let range = header.data_start + from..header.data_start + to;
            let tensor = Stored::new(name, info.shape.clone(), info.dtype, range);
            if let Some(other) = tensors.insert(today, tensor) {
                return Err(twice(label, name, &other.name));
            }
        }
        Ok(Self::of(bytes, label, tensors))
    }

    /// Tensors of one file, by today's names.
    pub(super) fn of(bytes: Arc<Bytes>, label: &str, tensors: BTreeMap<String, Stored>) -> Self {
        let (label, file) = (label.to_owned(), label.to_owned());
        Self(Arc::new(Network {
            label,
            files: vec![File { label: file, bytes }],
            tensors,
        }))
    }

    /// One network from several files, called `label`.
    ///
    /// # Errors
    /// If two of them have a tensor of one name.
    pub(super) fn join(label: &str, parts: Vec<Self>) -> Result<Self> {
        let (mut files, mut tensors) = (Vec::new(), BTreeMap::<String, Stored>::new());
        for part in parts {
            let first = files.len();
            for (name, tensor) in &part.0.tensors {
                let mut tensor = tensor.clone();
                tensor.file += first;
                let own = &part.0.files[tensor.file - first].label;
                if let Some(other) = tensors.insert(name.clone(), tensor) {
                    let file: &File = &files[other.file];
                    let place = format!("{}` and `{own}", file.label);
                    return Err(twice(label, name, &place));
                }
            }
            files.extend(part.0.files.iter().map(|file| File {
                label: file.label.clone(),
                bytes: file.bytes.clone(),
            }));
        }
        let label = label.to_owned();
        Ok(Self(Arc::new(Network {
            label,
            files,
            tensors,
        })))
    }

    /// The memory of its contents.
    pub(crate) fn pages(&self) -> Pages {
        Pages {
            network: self.0.clone(),
            stretches: self.0.stretches().into(),
        }
    }

    /// Bytes of its tensors.
    pub(crate) fn size(&self) -> u64 {
        let lengths = self.0.tensors.values().map(|t| t.range.len() as u64);
        lengths.sum()
    }

    /// SHA-256 of the whole file, or of its files in a row, in hexadecimal.
    pub(crate) fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        for file in &self.0.files {
            hash.update((*file.bytes).as_ref());
        }
        crate::files::hex(&hash.finalize())
    }

    /// What errors call it.
    pub(crate) fn label(&self) -> &str {
        &self.0.label
    }

    /// What errors call the file of one tensor.
    pub(crate) fn file_of(&self, tensor: &Stored) -> &str {
        &self.0.files[tensor.file].label
    }

    /// Its tensors: name in the file, type and bytes.
    pub(crate) fn contents(&self) -> impl Iterator<Item = (&str, Dtype, &[u8])> {
        let tensors = self.0.tensors.values();
        tensors.map(|t| (t.name.as_str(), t.dtype, self.0.bytes(t)))
    }

    /// The bytes of the file that a tensor is in.
    pub(crate) fn bytes(&self, tensor: &Stored) -> &Arc<Bytes> {
        &self.0.files[tensor.file].bytes
    }

    /// Today's names of its weights.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.tensors.keys().map(String::as_str)
    }

    /// The tensor of this name of today.
    pub(crate) fn get(&self, name: &str) -> Option<&Stored> {
        self.0.tensors.get(name)
    }
}

/// An error about two tensors that are one.
pub(super) fn twice(label: &str, name: &str, other: &str) -> Error {
    let found = format!(
        "tensor `{}` twice (`{}`)",
        name.escape_debug(),
        other.escape_debug()
    );
    let hint = "the file is damaged, or was put together from two: fetch it again";
    Error::file(label, "each tensor once", found, hint)
}

/// Name prefixes of older files, and what they are called today. diffusers renamed the VAE's attention in 2023;
/// Stable Diffusion 1.x is still stored under the old names.
const RENAMED: [(&str, &str); 4] = [
    (".query.", ".to_q."),
    (".key.", ".to_k."),
    (".value.", ".to_v."),
    (".proj_attn.", ".to_out.0."),
];

/// Whether a tensor is a weight. Older files have counters 0, 1, 2, … that later versions no longer store.
pub(super) fn is_weight(name: &str) -> bool {
    !name.ends_with("embeddings.position_ids")
}

//! What can be wrong with an index: a file that is none or lies, a set that is none, indices that do not go together.

use std::path::{Path, PathBuf};

/// An index, or a set of neurons, that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// A file that is no container of an index.
    #[error("index: expected a safetensors file as `cones find` writes it, found {found}")]
    Container {
        /// What it is.
        found: String,
    },
    /// A key that is twice in a container, where no reader could say which counts.
    #[error(
        "index: expected a safetensors file as `cones find` writes it, \
         found a header that cannot be read: {key} twice"
    )]
    KeyTwice {
        /// `tensor NAME` or `metadata NAME`.
        key: String,
    },
    /// A safetensors file of another format.
    #[error("index: expected format `{expected}`, found {found}")]
    Format {
        /// What indices have.
        expected: &'static str,
        /// What this file has.
        found: String,
    },
    /// An index of a version that is not known here.
    #[error("index: expected format version {expected}, found {found}")]
    Version {
        /// The version that is read.
        expected: &'static str,
        /// That of the file.
        found: String,
    },
    /// A file that is larger than what is read.
    #[error("index: expected at most {most} bytes, found more")]
    TooLargeToRead {
        /// Bytes that are read.
        most: u64,
    },
    /// An index that could not be read again.
    #[error("{part}: expected at most {most} bytes, found {found}")]
    TooLargeToWrite {
        /// The header, or all of it.
        part: &'static str,
        /// Bytes that are read.
        most: u64,
        /// Bytes that it would have.
        found: u64,
    },
    /// A tensor's entry in the header that cannot be.
    #[error("tensor {name}: expected {expected}, found {found}")]
    Tensor {
        /// Its name, fit to be printed.
        name: String,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// Data that tensors do not tile.
    #[error("index: expected {expected}, found {found}")]
    TensorData {
        /// What must be.
        expected: String,
        /// What is.
        found: String,
    },
    /// Tensors that are not those that were written.
    #[error("SHA-256 of the tensors: expected {expected}, found {found}")]
    ChecksumMismatch {
        /// What the metadata say, fit to be printed.
        expected: String,
        /// What they have.
        found: String,
    },
    /// A string of the metadata that is not what the tensors make it.
    #[error("metadata `{key}`: expected {expected}, found {found}")]
    Metadata {
        /// Its key.
        key: String,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A tensor of another type.
    #[error("{part}: expected type {expected}, found {found}")]
    Type {
        /// Indices, values, or a subject's neurons.
        part: &'static str,
        /// The type that it must have.
        expected: &'static str,
        /// Its type.
        found: &'static str,
    },
    /// Bytes that are not the code of a set.
    #[error("coded indices: expected {expected}, found {found}")]
    Coding {
        /// What must be.
        expected: String,
        /// What is.
        found: String,
    },
    /// Positions that are no set of neurons.
    #[error("indices: expected {expected}, found {found}")]
    Indices {
        /// What they must be.
        expected: String,
        /// What they are.
        found: String,
    },
    /// A site without weights.
    #[error("shape: expected at least one weight, found {shape:?}")]
    EmptySite {
        /// `[out, in]`
        shape: [u32; 2],
    },
    /// Values that are not one finite number for each neuron.
    #[error("values: expected {expected}, found {found}")]
    Values {
        /// What they must be.
        expected: String,
        /// What they are.
        found: String,
    },
    /// A neuron of no subject, where subjects have neurons of their own.
    #[error("neuron: expected a subject that it belongs to, found none at index {index}")]
    Ownerless {
        /// Its position.
        index: u32,
    },
    /// A name that is no site's.
    #[error(
        "site: expected a name like `down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight`, \
         found {found}"
    )]
    SiteName {
        /// The name, fit to be printed.
        found: String,
    },
    /// A site that sees no words, in a concept that is bound to words.
    #[error(
        "site `{site}`: expected a cross-attention, where the concept is bound to words, found a self-attention"
    )]
    SelfAttention {
        /// The site.
        site: String,
    },
    /// A site whose neurons have other owners than the concept has subjects.
    #[error("site `{site}`: expected neurons of {expected} subjects of their own, found {found}")]
    Owners {
        /// The site.
        site: String,
        /// Subjects with neurons of their own.
        expected: usize,
        /// Owners of the site's neurons.
        found: usize,
    },
    /// A site that is there already.
    #[error("site `{site}`: expected one set of indices, found two")]
    SiteTwice {
        /// The site.
        site: String,
    },
    /// Something that no index may say of where it came from.
    #[error("{key}: expected {expected}, found {found}")]
    Provenance {
        /// What of it.
        key: &'static str,
        /// What it may be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// Too many subjects, for one index or one picture.
    #[error("subjects: expected at most {most}, found {found}")]
    TooManySubjects {
        /// As many as there may be.
        most: usize,
        /// As many as there are.
        found: usize,
    },
    /// Subjects that a prompt cannot tell apart.
    #[error("subjects: expected {expected}, found {first} and {second}")]
    Ambiguous {
        /// What would tell them apart.
        expected: &'static str,
        /// One of them, and its file if there is one.
        first: String,
        /// The other.
        second: String,
    },
    /// An index that was found on another model.
    #[error("fingerprint of the model: expected {fingerprint} (model `{model}`), found {found}")]
    OtherModel {
        /// The fingerprint of the model that it was found on.
        fingerprint: String,
        /// That model's name.
        model: String,
        /// The fingerprint of the model in use.
        found: String,
    },
    /// A site that the model does not have, or has in another shape.
    #[error("site `{site}`: expected {expected}, found {found}")]
    NotInModel {
        /// The site.
        site: String,
        /// What the index has.
        expected: String,
        /// What the model has.
        found: String,
    },
    /// Indices to merge, of which there are none.
    #[error("indices to merge: expected at least one, found none")]
    NothingToMerge,
    /// Indices of different models.
    #[error(
        "fingerprint of the model: expected {} (model `{}`), found {} (model `{}`)",
        first.0, first.1, found.0, found.1
    )]
    DifferentModels {
        /// Fingerprint and name of the first one's.
        first: (String, String),
        /// Of another's.
        found: (String, String),
    },
    /// Indices that are shut at words and in the whole prompt.
    #[error("scope of the indices: expected `{first}`, that of the first, found `{found}`")]
    DifferentScopes {
        /// The scope of the first.
        first: String,
        /// Another's.
        found: String,
    },
    /// Indices that have a site in different shapes.
    #[error("shape of site `{site}`: expected {first:?}, found {second:?}")]
    DifferentShapes {
        /// The site.
        site: String,
        /// `[out, in]` in the one.
        first: [u32; 2],
        /// `[out, in]` in the other.
        second: [u32; 2],
    },
    /// Indices that hold different values at one neuron.
    #[error("site `{site}`: expected one value at index {index}, found two different ones")]
    Conflict {
        /// The site.
        site: String,
        /// The neuron's position.
        index: u32,
    },
    /// A pattern of layers that fits no site.
    #[error(
        "layers `{pattern}`: expected a pattern that some site of the concepts matches, found none that does"
    )]
    NoSuchLayer {
        /// The pattern.
        pattern: String,
        /// The layers that there are.
        there: String,
    },
    /// Something wrong in a site of an index.
    #[error("site `{site}`: {error}")]
    At {
        /// The site.
        site: String,
        /// What is wrong.
        error: Box<IndexError>,
    },
    /// Something wrong in a file.
    #[error("index `{}`{}", path.display(), rest(error))]
    In {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: Box<IndexError>,
    },
}

/// What an error says of an index that was named: `: expected …`, or `: the part: expected …`.
fn rest(error: &IndexError) -> String {
    let text = error.to_string();
    format!(": {}", text.strip_prefix("index: ").unwrap_or(&text))
}

impl IndexError {
    /// What is wrong, wherever it is.
    pub fn cause(&self) -> &Self {
        match self {
            Self::At { error, .. } | Self::In { error, .. } => error.cause(),
            other => other,
        }
    }

    /// In a site.
    pub(crate) fn at(self, site: impl ToString) -> Self {
        Self::At {
            site: site.to_string(),
            error: Box::new(self),
        }
    }

    /// In a file.
    pub(crate) fn within(self, path: &Path) -> Self {
        Self::In {
            path: path.to_owned(),
            error: Box::new(self),
        }
    }

    /// The next step, where there is one to name.
    pub(crate) fn hint(&self) -> Option<&str> {
        Some(match self.cause() {
            Self::Container { .. } | Self::KeyTwice { .. } => {
                "the file is of another kind or damaged; give an index that `cones find` or `cones merge` wrote"
            }
            Self::Format { .. } | Self::TooLargeToRead { .. } => {
                "give an index that `cones find` or `cones merge` wrote"
            }
            Self::Version { .. } => "update cones, or run `cones find` again",
            Self::TooLargeToWrite { .. } => {
                "nothing was written, for it could not be read: make it of fewer photos, subjects or sites"
            }
            Self::Tensor { .. }
            | Self::TensorData { .. }
            | Self::ChecksumMismatch { .. }
            | Self::Metadata { .. }
            | Self::Type { .. }
            | Self::Coding { .. } => {
                "the file is damaged or was edited; get it again, or make it again with `cones find` or `cones merge`"
            }
            Self::Indices { .. } => "an index is the position of a weight in its row-major matrix",
            Self::SiteName { .. } => {
                "sites are the `to_k` and `to_v` weights of the UNet's attention layers, by their diffusers names"
            }
            Self::TooManySubjects { .. } => "a prompt has no room for so many",
            Self::Ambiguous { .. } => {
                "a prompt cannot tell these apart: find one of them again with another token"
            }
            Self::OtherModel { .. } => {
                "indices mean something only in the model that they were found on; give that model"
            }
            Self::NotInModel { .. } => "the index was found on another model: use it with that one",
            Self::DifferentModels { .. } => {
                "indices of different models cannot be merged; run `cones find` for all subjects on one model"
            }
            Self::DifferentScopes { .. } => {
                "what is shut at the subject's words and what is shut in the whole prompt make no one index; draw with \
                 both of them"
            }
            Self::DifferentShapes { .. } => {
                "the indices are of models of different sizes, whose positions cannot be compared"
            }
            Self::Conflict { .. } => {
                "a tuned merge fits only itself; merge the untuned indices, and tune that merge"
            }
            Self::NoSuchLayer { there, .. } => there,
            _ => return None,
        })
    }
}

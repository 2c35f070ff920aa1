//! What can go wrong, in the user's words: the thing, what was expected, what was found, and what to do.

mod index;

pub use index::IndexError;

use std::path::{Path, PathBuf};

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error that a user can act on: [`Error::hint`] gives the next step where there is one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused a file.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried: "read", "write", "create".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A value given by the user is outside what it may be.
    #[error("{name}: expected {expected}, found {found}")]
    Value {
        /// The option or argument, as the user typed it.
        name: String,
        /// What it may be.
        expected: String,
        /// What it was.
        found: String,
    },
    /// A model cannot be used as a whole.
    #[error("model `{model}`: {problem}")]
    Model {
        /// The model as the user named it.
        model: String,
        /// What is wrong with it.
        problem: String,
        /// What to do about it.
        hint: String,
    },
    /// A configuration value that this program does not support, or that contradicts another.
    #[error("{file}: `{key}`: expected {expected}, found {found}")]
    Config {
        /// The file, relative to the model.
        file: String,
        /// The key in it.
        key: String,
        /// What is supported.
        expected: String,
        /// What the file says.
        found: String,
    },
    /// A file that is not what belongs there: damaged, of another kind, or of another model.
    #[error("{file}: expected {expected}, found {found}")]
    File {
        /// The file.
        file: String,
        /// What belongs there.
        expected: String,
        /// What it is.
        found: String,
        /// What to do about it.
        hint: String,
    },
    /// A weight is missing, is not known, or has the wrong shape or type.
    #[error("{file}: tensor `{name}`: expected {expected}, found {found}")]
    Weight {
        /// The file, relative to the model.
        file: String,
        /// The tensor's name in it.
        name: String,
        /// The shape or type that the configuration asks for.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// An index file, or a set of neurons, that cannot be used.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A picture that cannot be read or written.
    #[error("picture `{}`: {problem}", path.display())]
    Picture {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to do about it.
        hint: String,
    },
    /// A network gave numbers that are not finite.
    #[error("{what}: expected finite numbers from {network}, found {found}; {cause}")]
    NotFinite {
        /// The numbers.
        what: String,
        /// NaN or an infinity.
        found: String,
        /// Where they come from.
        network: &'static str,
        /// The tensor of the network's file that holds such a number, or that there is none.
        cause: String,
        /// What to do about it.
        hint: String,
    },
    /// Something else is kept where the unfinished state of a run would be.
    #[error("`{}`: expected the state of this very run, found {found}", path.display())]
    OtherWork {
        /// The file.
        path: PathBuf,
        /// What it is: another run, and in what that differs; a damaged file; something else.
        found: String,
    },
    /// Another process works on the same output.
    #[error("`{}` is locked: another run writes the same output", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The user interrupted the run.
    #[error("interrupted")]
    Interrupted,
    /// A tensor operation failed.
    #[error("tensor operation failed")]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    /// The next step, where there is one to name.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Model { hint, .. }
            | Self::File { hint, .. }
            | Self::Picture { hint, .. }
            | Self::NotFinite { hint, .. }
                if !hint.is_empty() =>
            {
                Some(hint)
            }
            Self::Index(error) => error.hint(),
            Self::Config { .. } => Some(
                "this option changes what the model computes and is not supported, so the model is refused",
            ),
            Self::Weight { .. } => Some(
                "the weights and their `config.json` are of different models; fetch or export both together again",
            ),
            _ => None,
        }
    }

    /// An [`Error::Io`] about `path`, for `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// An [`Error::File`].
    pub(crate) fn file(
        file: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::File {
            file: file.into(),
            expected: expected.into(),
            found: found.into(),
            hint: hint.into(),
        }
    }

    /// An [`Error::Value`].
    pub(crate) fn value(
        name: impl Into<String>,
        expected: impl Into<String>,
        found: impl ToString,
    ) -> Self {
        Self::Value {
            name: name.into(),
            expected: expected.into(),
            found: found.to_string(),
        }
    }
}

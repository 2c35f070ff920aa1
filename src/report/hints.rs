//! The next step after an error, with the options of the command line.

use cones::{Error, IndexError};

/// What to do about an error of the library, where there is something to name.
pub(crate) fn hint(error: &Error) -> Option<&str> {
    if let Error::Index(index) = error {
        match index.cause() {
            IndexError::Ambiguous { .. } => {
                return Some(
                    "a prompt cannot tell these apart: find one of them again with another `--token`, as in \
                     `cones find --token zwx`",
                );
            }
            IndexError::DifferentScopes { .. } => {
                return Some(
                    "what is shut at the subject's words and what is shut in the whole prompt make no one index; \
                     give both files to `generate --concepts A,B`",
                );
            }
            _ => {}
        }
    }
    match error {
        Error::Value { name, .. } if name == "rho" => {
            Some("give the same command with `--rho 0`, for all parts")
        }
        Error::OtherWork { .. } => Some(
            "finish that run with its own command, give another output, or add `--restart`, which begins again and \
             loses what is kept there",
        ),
        Error::InUse { .. } => Some("wait until it has ended, or give another output"),
        _ => error.hint(),
    }
}

//! Where in a prompt a concept's neurons are shut.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// At which tokens of the prompt the shut neurons are shut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// At all of them, as the Cones paper has it: the weight itself is changed.
    #[default]
    Prompt,
    /// At the tokens of the subject's own words, `TOKEN NOUN`: K and V of these tokens come from the weight with the
    /// subject's neurons shut, those of all others from the weight as it is. Cross-attentions only.
    Words,
}

impl Scope {
    /// `prompt` or `words`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Words => "words",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for Scope {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        [Self::Prompt, Self::Words]
            .into_iter()
            .find(|scope| scope.name() == text)
            .ok_or_else(|| Error::value("scope", "`prompt` or `words`", format!("`{text}`")))
    }
}

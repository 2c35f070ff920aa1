//! What the user has set for the hub, by the variables that its own tools read.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::cache;
use crate::files::regular;
use crate::{Error, Result};

/// The hub's own address.
const ENDPOINT: &str = "https://huggingface.co";

/// A hub, and how to talk to it.
#[derive(Debug, Clone)]
pub struct Hub {
    /// Where it is, `https://host`.
    pub endpoint: String,
    /// Who asks.
    pub token: Option<Token>,
    /// The folder that holds `models--owner--name`.
    pub cache: PathBuf,
    /// Whether nothing may be asked.
    pub offline: bool,
    /// A file of certificates (PEM) to trust in place of the built-in ones.
    pub certificates: Option<PathBuf>,
    /// How long to wait.
    pub patience: Patience,
}

/// The secret that says who asks; never shown.
#[derive(Clone)]
pub struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// A token as the user has it.
    ///
    /// # Errors
    /// If it cannot be one; `name` is where it is from.
    fn new(name: &str, text: &str) -> Result<Self> {
        match text.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Self(text.to_owned())),
            false => Err(Error::value(
                name,
                "a token of the hub, `hf_…`",
                "text with blanks or characters that are not ASCII",
            )),
        }
    }

    pub(super) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

/// A token as the user has it.
impl FromStr for Token {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::new("token", text)
    }
}

/// How long to wait, and how often to try.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For the next byte; there is no limit on a whole file.
    pub stall: Duration,
    /// Before a second try; each further one waits twice as long.
    pub pause: Duration,
    /// How many tries in a row may bring nothing.
    pub tries: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            pause: Duration::from_millis(500),
            tries: 5,
        }
    }
}

impl Hub {
    /// The hub as the environment says: `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HUB_OFFLINE`,
    /// `HF_HUB_DOWNLOAD_TIMEOUT`, `SSL_CERT_FILE`, and where the cache is.
    ///
    /// # Errors
    /// If one of them makes no sense, or nothing says where the cache is.
    pub fn from_environment() -> Result<Self> {
        let cache = cache::root().ok_or_else(|| {
            let expected = "the folder of the hub's cache";
            Error::value(
                "HF_HOME",
                expected,
                "nothing, and the user has no home folder",
            )
        })?;
        let mut patience = Patience::default();
        if let Some(seconds) = text("HF_HUB_DOWNLOAD_TIMEOUT") {
            patience.stall = match seconds.trim().parse() {
                Ok(seconds @ 1..=86_400) => Duration::from_secs(seconds),
                _ => {
                    return Err(Error::value(
                        "HF_HUB_DOWNLOAD_TIMEOUT",
                        "seconds, 1 to 86400",
                        seconds,
                    ));
                }
            };
        }
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: token()?,
            cache,
            offline: is_offline(),
            certificates: cache::variable("SSL_CERT_FILE").map(PathBuf::from),
            patience,
        })
    }
}

/// Whether the environment says that nothing may be asked.
fn is_offline() -> bool {
    is_true("HF_HUB_OFFLINE") || is_true("TRANSFORMERS_OFFLINE")
}

fn text(name: &str) -> Option<String> {
    cache::variable(name).map(|value| value.to_string_lossy().into_owned())
}

/// What Python's tools take for yes.
fn is_true(name: &str) -> bool {
    let yes = ["1", "ON", "YES", "TRUE"];
    text(name).is_some_and(|value| yes.contains(&value.to_ascii_uppercase().as_str()))
}

/// The token of the variables, or of the file that `hf auth login` writes.
fn token() -> Result<Option<Token>> {
    if is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
        return Ok(None);
    }
    for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
        if let Some(value) = text(name).filter(|value| !value.trim().is_empty()) {
            return Token::new(name, value.trim()).map(Some);
        }
    }
    let path = match cache::variable("HF_TOKEN_PATH") {
        Some(path) => cache::place(&path),
        None => cache::home().map(|home| home.join("token")),
    };
    path.map_or(Ok(None), |path| of_file(&path))
}

fn of_file(path: &Path) -> Result<Option<Token>> {
    let bytes = match regular::read(path) {
        Ok(bytes) => bytes,
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let text = String::from_utf8_lossy(&bytes);
    match text.trim() {
        "" => Ok(None),
        text => Token::new(&path.display().to_string(), text).map(Some),
    }
}

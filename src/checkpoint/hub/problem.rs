//! What can go wrong on the way to the hub, in words, and whether another try may do.

use std::io::ErrorKind;
use std::time::Duration;

use ureq::http::HeaderMap;

use super::settings::Patience;
use crate::Error;

/// The longest that the hub may have us wait.
const LONGEST_PAUSE: u64 = 60;

/// Why something did not come.
#[derive(Debug)]
pub(super) enum Failure {
    /// Of the hub, or on the way to it.
    Hub(Problem),
    /// On this machine, or the user's wish.
    Ours(Box<Error>),
}

/// What is wrong, and what to do about it.
#[derive(Debug)]
pub(super) struct Problem {
    what: String,
    hint: String,
    /// Whether another try may do.
    pub(super) again: bool,
    /// How long the hub asks to wait before.
    pub(super) wait: Option<Duration>,
    /// How many bytes had come before it.
    pub(super) gained: u64,
    /// Whether there was no connection at all.
    pub(super) unreached: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Ours(Box::new(error))
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Hub(problem)
    }
}

impl Failure {
    /// The same, after so many bytes.
    pub(super) fn after(self, gained: u64) -> Self {
        match self {
            Self::Hub(problem) => Self::Hub(Problem { gained, ..problem }),
            ours => ours,
        }
    }

    /// The error for the user.
    pub(super) fn of(self, model: &str) -> Error {
        match self {
            Self::Ours(error) => *error,
            Self::Hub(Problem { what, hint, .. }) => Error::Model {
                model: model.to_owned(),
                problem: what,
                hint,
            },
        }
    }
}

/// Something to try again, what is here being kept.
const LATER: &str = "run it again: what has come is kept, and it goes on from there";
const REACH: &str =
    "check the connection, the proxy (HTTPS_PROXY) and the hub's address (HF_ENDPOINT)";
/// Something that answers in the hub's place.
const BETWEEN: &str =
    "a proxy or a login page may stand between: check the connection and HF_ENDPOINT";

impl Problem {
    /// One that no other try makes better.
    pub(super) fn last(what: impl Into<String>, hint: impl Into<String>) -> Self {
        let (what, hint) = (what.into(), hint.into());
        Self {
            what,
            hint,
            again: false,
            wait: None,
            gained: 0,
            unreached: false,
        }
    }

    /// One that may pass.
    pub(super) fn passing(what: impl Into<String>) -> Self {
        Self {
            again: true,
            ..Self::last(what, LATER)
        }
    }

    /// An answer that the hub would not give.
    pub(super) fn foreign(what: impl Into<String>) -> Self {
        Self::last(what, BETWEEN)
    }

    /// The same, not to be tried again.
    pub(super) fn at_once(self) -> Self {
        Self {
            again: false,
            ..self
        }
    }

    fn unreached(what: String) -> Self {
        Self {
            again: true,
            unreached: true,
            ..Self::last(what, REACH)
        }
    }
}

/// What was asked for, for the words about an answer.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) endpoint: &'a str,
    pub(super) id: &'a str,
    pub(super) revision: &'a str,
    pub(super) with_token: bool,
    /// Who answered.
    pub(super) host: &'a str,
}

/// What a status other than success says.
pub(super) fn of_status(status: u16, headers: &HeaderMap, asked: &Asked) -> Problem {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let Asked {
        endpoint,
        id,
        revision,
        with_token,
        host,
    } = asked;
    let page = format!("{endpoint}/{id}");
    let login = "log in with `hf auth login`, or set HF_TOKEN";
    let said = match header("x-error-message") {
        Some(text) => {
            let text: String = text.chars().take(200).collect();
            format!(": \"{}\"", text.escape_debug())
        }
        None => String::new(),
    };
    let code = header("x-error-code").unwrap_or_default();
    match (status, code) {
        (401 | 403, "GatedRepo") if *with_token => Problem::last(
            format!("it is gated, and this token's user has no access yet (status {status})"),
            format!("accept its terms at {page}, with the user of the token"),
        ),
        (401 | 403, "GatedRepo") => Problem::last(
            format!("it is gated: its terms are to be accepted first (status {status})"),
            format!("accept its terms at {page}, then {login}"),
        ),
        (401, _) if *with_token => Problem::last(
            format!(
                "the hub does not take the token, or the model is not there (status 401){said}"
            ),
            format!(
                "check the name at {page}, and the token: it may be mistyped or no longer valid"
            ),
        ),
        (401, _) => Problem::last(
            format!("there is no such model on the hub, or it is private (status 401){said}"),
            format!("check the name at {page}; for a private model, {login}"),
        ),
        (403, _) => Problem::last(
            format!("the hub does not let this user read it (status 403){said}"),
            format!(
                "look at {page} for what it asks; a token needs the right to read gated or private models"
            ),
        ),
        (404, "RevisionNotFound") => Problem::last(
            format!(
                "it has no revision `{}` (status 404)",
                revision.escape_debug()
            ),
            format!("look at {page}/tree/main for its branches, tags and commits"),
        ),
        (404, "EntryNotFound") => Problem::last(
            "a file that the hub has listed is not there (status 404)".to_owned(),
            "run it again: the model may have been changed just now",
        ),
        (404, "RepoNotFound") => Problem::last(
            "there is no such model on the hub (status 404)",
            format!("check the name at {page}"),
        ),
        (404, _) => Problem::last(
            format!(
                "there is no such model on the hub, or no revision `{}` of it (status 404)",
                revision.escape_debug()
            ),
            format!("check the name at {page}, and the hub's address (HF_ENDPOINT)"),
        ),
        (408 | 425 | 429 | 500..=599, _) => {
            let what = match status {
                429 => format!("{host} has had too many requests (status 429)"),
                _ => format!("{host} fails (status {status}){said}"),
            };
            let wait = header("retry-after").and_then(|seconds| seconds.trim().parse().ok());
            let wait = wait.map(|seconds: u64| Duration::from_secs(seconds.min(LONGEST_PAUSE)));
            Problem {
                wait,
                ..Problem::passing(what)
            }
        }
        _ => Problem::foreign(format!("{host} answers with status {status}{said}")),
    }
}

/// What a request says that got no answer, or only a part.
pub(super) fn of_transport(error: &ureq::Error, host: &str, patience: &Patience) -> Problem {
    use ureq::{Error as E, Timeout};
    match error {
        E::HostNotFound => no_host(host),
        E::Timeout(Timeout::Connect | Timeout::Resolve) => Problem::unreached(format!(
            "no connection to {host} within {}",
            seconds(patience.connect)
        )),
        E::Timeout(_) => Problem::passing(format!(
            "{host} sent nothing for {}",
            seconds(patience.stall)
        )),
        E::Io(error) => of_io(error, host),
        E::Rustls(error) => of_tls(&error.to_string(), host),
        E::Tls(text) => of_tls(text, host),
        E::LargeResponseHeader(..) => {
            Problem::foreign(format!("{host} answers with a head that is far too long"))
        }
        E::Protocol(error) => {
            Problem::foreign(format!("{host} answers with what is no HTTP: {error}"))
        }
        E::InvalidProxyUrl | E::ConnectProxyFailed(_) | E::ConnectionFailed => {
            Problem::unreached(format!("no connection to {host}: {error}"))
        }
        error => Problem::last(format!("no answer from {host}: {error}"), REACH),
    }
}

fn no_host(host: &str) -> Problem {
    Problem::unreached(format!("no network, or no host `{host}`"))
}

fn of_io(error: &std::io::Error, host: &str) -> Problem {
    if let Some(inner) = error.get_ref() {
        let text = inner.to_string();
        if is_certificate(&text) {
            return of_tls(&text, host);
        }
    }
    match error.kind() {
        ErrorKind::ConnectionRefused
        | ErrorKind::NetworkUnreachable
        | ErrorKind::HostUnreachable
        | ErrorKind::NetworkDown
        | ErrorKind::AddrNotAvailable => {
            Problem::unreached(format!("no network, or nobody answers at {host}: {error}"))
        }
        ErrorKind::TimedOut | ErrorKind::WouldBlock => {
            Problem::passing(format!("{host} sent nothing for too long"))
        }
        ErrorKind::InvalidData => of_tls(&error.to_string(), host),
        // Of the standard library, which has no kind for it.
        _ if error.to_string().contains("lookup address") => no_host(host),
        _ => Problem::passing(format!("the connection to {host} broke: {error}")),
    }
}

fn is_certificate(text: &str) -> bool {
    text.contains("certificate") || text.contains("UnknownIssuer")
}

fn of_tls(text: &str, host: &str) -> Problem {
    match is_certificate(text) {
        true => Problem::last(
            format!("the certificate of {host} is not to be trusted: {text}"),
            "check the clock and the network; where a proxy has its own certificate, give it as SSL_CERT_FILE",
        ),
        false => Problem::foreign(format!("no encrypted connection to {host}: {text}")),
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

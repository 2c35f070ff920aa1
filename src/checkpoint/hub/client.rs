//! Requests to the hub. The token goes to the endpoint's own host alone, so redirects are followed here; and the user
//! may end the work while the network is silent, so a thread of its own waits for it.

use std::cell::Cell;
use std::io::Read;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use ureq::http::{HeaderMap, Uri, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use super::address::{has_user, host_of, resolve, same_origin};
use super::problem::{Asked, Failure, Problem, of_status, of_transport};
use super::settings::{Hub, Patience};
use crate::files::regular;
use crate::{Error, Result};

/// How often the user is listened to.
const TICK: Duration = Duration::from_millis(100);

/// The longest chain of redirects.
const MOST_HOPS: usize = 10;

/// Bytes that are read at once, and so many pieces of which may wait.
const PIECE: usize = 64 << 10;
const PIECES: usize = 16;

/// A download that brings so many bytes between two breaks has all tries again.
const GAIN: u64 = 1 << 20;

/// Called again and again; an error of it ends the work.
pub(super) type Tick<'a> = dyn FnMut() -> Result<()> + 'a;

/// Who asks the hub about one model.
pub(super) struct Client {
    agent: ureq::Agent,
    endpoint: String,
    origin: Uri,
    authorization: Option<String>,
    patience: Patience,
    pub(super) id: String,
    pub(super) revision: String,
    /// Whether anything has been answered: before that, no connection is no network.
    reached: Cell<bool>,
}

/// What comes of a request.
enum Event {
    Head(u16, HeaderMap),
    Piece(Vec<u8>),
    End,
    Failed(ureq::Error),
}

/// The start of an answer; its body is yet to come.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) host: String,
    events: Receiver<Event>,
    patience: Patience,
}

impl Client {
    pub(super) fn new(hub: &Hub, id: &str, revision: &str) -> Result<Self> {
        let wrong = || {
            Error::value(
                "HF_ENDPOINT",
                "the address of a hub, `https://host`",
                format!("`{}`", hub.endpoint),
            )
        };
        let origin: Uri = hub.endpoint.parse().map_err(|_| wrong())?;
        let web = matches!(origin.scheme_str(), Some("https" | "http"));
        if !web
            || origin.host().is_none_or(str::is_empty)
            || has_user(&origin)
            || origin.query().is_some()
        {
            return Err(wrong());
        }
        let patience = hub.patience;
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("cones/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(patience.connect))
            .timeout_connect(Some(patience.connect))
            .timeout_per_read(Some(patience.stall))
            .timeout_per_write(Some(patience.stall))
            .timeout_recv_response(Some(2 * patience.stall));
        if matches!(origin.host(), Some("localhost" | "127.0.0.1" | "[::1]")) {
            config = config.proxy(None); // which would look for it on its own machine
        }
        if let Some(path) = &hub.certificates {
            let text = regular::read(path)?;
            let certificates: Vec<_> = parse_pem(&text)
                .filter_map(|item| match item {
                    Ok(PemItem::Certificate(certificate)) => Some(certificate),
                    _ => None,
                })
                .collect();
            if certificates.is_empty() {
                let found = format!("none in `{}`", path.display());
                return Err(Error::value(
                    "SSL_CERT_FILE",
                    "a file of certificates (PEM)",
                    found,
                ));
            }
            let roots = RootCerts::Specific(Arc::new(certificates));
            config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        Ok(Self {
            agent: config.build().new_agent(),
            endpoint: hub.endpoint.clone(),
            origin,
            authorization: hub.token.as_ref().map(|token| token.header()),
            patience,
            id: id.to_owned(),
            revision: revision.to_owned(),
            reached: Cell::new(false),
        })
    }

    /// The address of a path of the hub, whose parts are quoted already.
    pub(super) fn address(&self, path: &str) -> Result<Uri, Failure> {
        let text = format!("{}/{path}", self.endpoint);
        let uri = text.parse();
        uri.map_err(|_| {
            Problem::last(
                format!("no address can be made of `{text}`"),
                "check HF_ENDPOINT",
            )
            .into()
        })
    }

    /// Asks for a file from byte `from` on, wherever the hub sends us for it. The answer is a success, or says that
    /// there are no such bytes.
    pub(super) fn get(&self, address: &Uri, from: u64, tick: &mut Tick) -> Result<Answer, Failure> {
        let mut address = address.clone();
        // Once the hub has sent us elsewhere, nobody is given the token again.
        let mut at_home = true;
        for _ in 0..MOST_HOPS {
            at_home &= same_origin(&address, &self.origin);
            let answer = self.exchange(&address, from, at_home, tick)?;
            match answer.status {
                200 | 206 | 416 => return Ok(answer),
                301 | 302 | 303 | 307 | 308 => {
                    let location = answer.headers.get(header::LOCATION);
                    let location = location.and_then(|location| location.to_str().ok());
                    let next = resolve(&address, location.unwrap_or_default());
                    let next = next.map_err(|why| {
                        Problem::foreign(format!("{} sends us on, but {why}", answer.host))
                    })?;
                    address = next;
                }
                status => {
                    let asked = Asked {
                        endpoint: &self.endpoint,
                        id: &self.id,
                        revision: &self.revision,
                        with_token: self.authorization.is_some(),
                        host: &answer.host,
                    };
                    return Err(of_status(status, &answer.headers, &asked).into());
                }
            }
        }
        Err(Problem::foreign(format!("the hub sends us on more than {MOST_HOPS} times")).into())
    }

    /// One request and the head of its answer.
    fn exchange(
        &self,
        address: &Uri,
        from: u64,
        at_home: bool,
        tick: &mut Tick,
    ) -> Result<Answer, Failure> {
        let mut request = self
            .agent
            .get(address.clone())
            .header(header::ACCEPT_ENCODING, "identity");
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        if let (Some(authorization), true) = (&self.authorization, at_home) {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let (sender, events) = sync_channel(PIECES);
        let work = move || {
            let _ = run(request, &sender); // nobody listens any more
        };
        let thread = std::thread::Builder::new()
            .name("hub".to_owned())
            .spawn(work);
        thread.map_err(|error| {
            let hint = "end other programs, or raise the limit (ulimit -u)";
            Problem::last(format!("cannot start a thread to fetch it: {error}"), hint)
        })?;
        let host = host_of(address);
        let patience = self.patience;
        let mut answer = Answer {
            status: 0,
            headers: HeaderMap::new(),
            host,
            events,
            patience,
        };
        match answer.event(tick) {
            Ok(Event::Head(status, headers)) => {
                self.reached.set(true);
                answer.status = status;
                answer.headers = headers;
            }
            Ok(_) => return Err(Problem::passing("no answer").into()),
            Err(Failure::Hub(problem)) if problem.unreached && !self.reached.get() => {
                return Err(problem.at_once().into());
            }
            Err(failure) => return Err(failure),
        }
        match answer.headers.get(header::CONTENT_ENCODING) {
            Some(value) if value != "identity" => {
                let what = format!(
                    "{} packs its answer ({value:?}), which was not asked for",
                    answer.host
                );
                Err(Problem::foreign(what).into())
            }
            _ => Ok(answer),
        }
    }

    /// A whole answer of at most `most` bytes.
    pub(super) fn text(
        &self,
        address: &Uri,
        most: u64,
        tick: &mut Tick,
    ) -> Result<Vec<u8>, Failure> {
        self.patiently(tick, |tick| {
            let mut answer = self.get(address, 0, tick)?;
            if answer.status != 200 {
                let what = format!(
                    "{} answers with status {}, which was not asked for",
                    answer.host, answer.status
                );
                return Err((Problem::foreign(what).into(), 0));
            }
            let mut bytes = Vec::new();
            while let Some(piece) = answer.piece(tick)? {
                bytes.extend(piece);
                if bytes.len() as u64 > most {
                    let what = format!("{} answers with more than {} MiB", answer.host, most >> 20);
                    return Err((Problem::foreign(what).into(), 0));
                }
            }
            Ok(bytes)
        })
    }

    /// Tries until it is done or has failed too often in a row; a failure comes with how many bytes were gained
    /// before it.
    pub(super) fn patiently<T>(
        &self,
        tick: &mut Tick,
        mut attempt: impl FnMut(&mut Tick) -> Result<T, (Failure, u64)>,
    ) -> Result<T, Failure> {
        let mut tries = 0;
        loop {
            let (problem, gained) = match attempt(tick) {
                Ok(done) => return Ok(done),
                Err((Failure::Hub(problem), gained)) if problem.again => (problem, gained),
                Err((failure, _)) => return Err(failure),
            };
            tries = if gained >= GAIN { 1 } else { tries + 1 };
            if tries >= self.patience.tries {
                return Err(problem.into());
            }
            let pause = self.patience.pause * (1 << (tries - 1).min(6));
            let until = Instant::now() + problem.wait.unwrap_or(pause).max(pause);
            while Instant::now() < until {
                tick()?;
                std::thread::sleep(TICK.min(until.saturating_duration_since(Instant::now())));
            }
        }
    }
}

impl From<Failure> for (Failure, u64) {
    fn from(failure: Failure) -> Self {
        (failure, 0)
    }
}

/// Sends a request, and what comes of it to whoever waits.
fn run(
    request: ureq::RequestBuilder<ureq::typestate::WithoutBody>,
    sender: &SyncSender<Event>,
) -> Result<(), std::sync::mpsc::SendError<Event>> {
    let (head, body) = match request.call() {
        Ok(response) => response.into_parts(),
        Err(error) => return sender.send(Event::Failed(error)),
    };
    sender.send(Event::Head(head.status.as_u16(), head.headers))?;
    let mut reader = body.into_reader();
    let mut piece = vec![0; PIECE];
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return sender.send(Event::End),
            Ok(n) => sender.send(Event::Piece(piece[..n].to_vec()))?,
            Err(error) => return sender.send(Event::Failed(error.into())),
        }
    }
}

impl Answer {
    /// What comes next; the user is listened to meanwhile.
    fn event(&self, tick: &mut Tick) -> Result<Event, Failure> {
        loop {
            tick()?;
            match self.events.recv_timeout(TICK) {
                Ok(Event::Failed(error)) => {
                    return Err(of_transport(&error, &self.host, &self.patience).into());
                }
                Ok(event) => return Ok(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(
                        Problem::passing(format!("the connection to {} broke", self.host)).into(),
                    );
                }
            }
        }
    }

    /// The next bytes of the body, until its end.
    pub(super) fn piece(&mut self, tick: &mut Tick) -> Result<Option<Vec<u8>>, Failure> {
        match self.event(tick)? {
            Event::Piece(piece) => Ok(Some(piece)),
            _ => Ok(None),
        }
    }

    /// How long the body is, where that is said.
    pub(super) fn length(&self) -> Option<u64> {
        self.headers
            .get(header::CONTENT_LENGTH)?
            .to_str()
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// The first byte and the whole length that `Content-Range: bytes 5-9/10` says.
    pub(super) fn range(&self) -> Option<(u64, Option<u64>)> {
        let text = self.headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
        let (range, whole) = text
            .trim()
            .strip_prefix("bytes")?
            .trim_start()
            .split_once('/')?;
        let (from, _) = range.split_once('-')?;
        Some((from.trim().parse().ok()?, whole.trim().parse().ok()))
    }
}

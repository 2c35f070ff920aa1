//! A hub and its CDN on this machine, with whatever goes wrong with such.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};

pub(crate) const COMMIT: &str = "89abcdef0123456789abcdef0123456789abcdef";
pub(crate) const ID: &str = "owner/tiny";

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) path: String,
    /// The first byte that is asked for.
    pub(crate) from: Option<u64>,
    pub(crate) authorization: Option<String>,
    /// How many requests of this path there were before.
    pub(crate) earlier: usize,
    /// Whether the CDN got it.
    pub(crate) cdn: bool,
}

/// What is answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The length that is told, in place of the body's; 0 tells none.
    pub(crate) length: Option<u64>,
    /// The connection breaks after so many bytes of the body.
    pub(crate) cut: Option<usize>,
    /// Bytes sent at once, and the pause between.
    pub(crate) drip: Option<(usize, Duration)>,
    /// The body is sent again and again.
    pub(crate) endless: bool,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// A file, from the byte on that is asked for.
    pub(crate) fn file(request: &Request, bytes: &[u8]) -> Self {
        let length = bytes.len() as u64;
        match request.from {
            None => Self::new(200).body(bytes),
            Some(from) if from >= length => {
                Self::new(416).header("Content-Range", &format!("bytes */{length}"))
            }
            Some(from) => Self::new(206)
                .header(
                    "Content-Range",
                    &format!("bytes {from}-{}/{length}", length - 1),
                )
                .body(&bytes[from as usize..]),
        }
    }
}

/// One server, and what it has been asked.
pub(crate) struct Server {
    pub(crate) port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
    served: Arc<AtomicU64>,
}

impl Server {
    pub(crate) fn start(
        cdn: bool,
        answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            requests: Arc::default(),
            served: Arc::default(),
        };
        let (requests, served, answer) = (
            server.requests.clone(),
            server.served.clone(),
            Arc::new(answer),
        );
        // Ends with the tests.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (requests, served, answer) = (requests.clone(), served.clone(), answer.clone());
                std::thread::spawn(move || {
                    let Some(mut request) = read(&stream, cdn) else {
                        return drop(write(stream, &Reply::new(400), &served));
                    };
                    let mut all = requests.lock().unwrap();
                    request.earlier = all
                        .iter()
                        .filter(|earlier| earlier.path == request.path)
                        .count();
                    all.push(request.clone());
                    drop(all);
                    let _ = write(stream, &answer(&request), &served);
                });
            }
        });
        server
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Bytes of bodies that were sent.
    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::SeqCst)
    }
}

fn read(stream: &TcpStream, cdn: bool) -> Option<Request> {
    let mut lines = BufReader::new(stream.take(1 << 20))
        .lines()
        .map_while(Result::ok);
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let mut request = Request {
        path,
        from: None,
        authorization: None,
        earlier: 0,
        cdn,
    };
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                request.from = value
                    .strip_prefix("bytes=")?
                    .strip_suffix('-')?
                    .parse()
                    .ok()
            }
            "authorization" => request.authorization = Some(value.to_owned()),
            "accept-encoding" => assert_eq!(value, "identity"),
            _ => {}
        }
    }
    Some(request)
}

fn write(mut stream: TcpStream, reply: &Reply, served: &AtomicU64) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut head = format!(
        "HTTP/1.1 {} Whatever\r\nConnection: close\r\n",
        reply.status
    );
    match reply.length {
        Some(0) => {}
        length => {
            head += &format!(
                "Content-Length: {}\r\n",
                length.unwrap_or(reply.body.len() as u64)
            )
        }
    }
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    let body = &reply.body[..reply.cut.unwrap_or(reply.body.len()).min(reply.body.len())];
    let (size, pause) = reply.drip.unwrap_or((64 << 10, Duration::ZERO));
    loop {
        for piece in body.chunks(size) {
            served.fetch_add(piece.len() as u64, Ordering::SeqCst); // before whoever reads it may look
            stream.write_all(piece)?;
            std::thread::sleep(pause);
        }
        if !reply.endless {
            return Ok(());
        }
    }
}

/// Files by name.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// The files below a folder.
pub(crate) fn files_of(folder: &Path) -> Files {
    let mut files = Files::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path
                    .strip_prefix(folder)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                files.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    files
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".bin")
}

/// What the cache calls a file's bytes.
pub(crate) fn etag(name: &str, bytes: &[u8]) -> String {
    match is_large(name) {
        true => hex(&Sha256::digest(bytes)),
        false => hex(&Sha1::new_with_prefix(format!("blob {}\0", bytes.len()))
            .chain_update(bytes)
            .finalize()),
    }
}

/// A file as the hub lists it.
pub(crate) fn listed(name: &str, bytes: &[u8]) -> Value {
    match is_large(name) {
        true => json!({
            "rfilename": name, "size": bytes.len(), "blobId": "0".repeat(40),
            "lfs": {"sha256": etag(name, bytes), "size": bytes.len(), "pointerSize": 134},
        }),
        false => json!({"rfilename": name, "size": bytes.len(), "blobId": etag(name, bytes)}),
    }
}

pub(crate) fn listing(files: &Files) -> Value {
    let siblings: Vec<Value> = files
        .iter()
        .map(|(name, bytes)| listed(name, bytes))
        .collect();
    json!({"id": ID, "sha": COMMIT, "gated": false, "private": false, "siblings": siblings})
}

/// A hub of one model; what it sends large files by is another host.
pub(crate) struct Hub {
    pub(crate) hub: Server,
    pub(crate) cdn: Server,
}

impl Hub {
    /// `twist` turns each right answer into what is to be tried.
    pub(crate) fn start(
        files: Files,
        twist: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let (files, twist) = (Arc::new(files), Arc::new(twist));
        let (blobs, twisted) = (files.clone(), twist.clone());
        let cdn = Server::start(true, move |request| {
            let found = blobs
                .iter()
                .find(|(name, bytes)| request.path == format!("/{}", etag(name, bytes)));
            let reply = found.map_or(Reply::new(404), |(_, bytes)| Reply::file(request, bytes));
            twisted(request, reply)
        });
        let away = format!("http://localhost:{}", cdn.port);
        let hub = Server::start(false, move |request| {
            twist(request, answer(&files, &away, request))
        });
        Self { hub, cdn }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.hub.port)
    }

    /// How many requests there were.
    pub(crate) fn count(&self) -> usize {
        self.hub.requests().len() + self.cdn.requests().len()
    }
}

fn answer(files: &Files, away: &str, request: &Request) -> Reply {
    if let Some(revision) = request
        .path
        .strip_prefix(&format!("/api/models/{ID}/revision/"))
    {
        return match revision.strip_suffix("?blobs=true") {
            Some("main" | "v1" | "refs%2Fpr%2F1" | COMMIT) => {
                Reply::new(200).body(listing(files).to_string())
            }
            _ => Reply::new(404).header("X-Error-Code", "RevisionNotFound"),
        };
    }
    let file = request
        .path
        .strip_prefix(&format!("/{ID}/resolve/{COMMIT}/"));
    match file.and_then(|name| Some((name, files.get(name)?))) {
        Some((name, bytes)) if is_large(name) => {
            // Its own body is no file, and longer than the small ones are.
            Reply::new(302)
                .header("Location", &format!("{away}/{}", etag(name, bytes)))
                .body(vec![b'x'; 5000])
        }
        Some((_, bytes)) => Reply::file(request, bytes),
        None => Reply::new(404).header("X-Error-Code", "RepoNotFound"),
    }
}

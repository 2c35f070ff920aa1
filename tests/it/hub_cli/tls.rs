//! A hub of whom it must be known that it is itself: certificates that are trusted, and that are not.
//!
//! `tests/golden/tls/` has a certificate for `localhost`, with its key, and that of the authority that made it, whose
//! own key is no more.

use std::io::{BufRead, BufReader};
use std::process::Child;

use super::*;

/// A server that answers every request over TLS with 404, and says its port first.
const SERVER: &str = "
import http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(404)
    def log_message(self, *_):
        pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
";

/// The server, which ends with the test.
struct Server(Child, u16);

impl Server {
    fn start() -> Self {
        let mut child = Command::new("python3")
            .args(["-c", SERVER, &golden("tls/server.pem")])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut port = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        lines.read_line(&mut port).unwrap();
        Self(child, port.trim().parse().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn certificates_are_looked_at() {
    let hub = Hub::start(files(), |_, reply| reply); // for its command; nobody asks it
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start();
    let fetched = |host: &str, trusted: Option<&str>| {
        let mut command = command(&hub, dir.path(), &DRAW);
        command.env("HF_ENDPOINT", format!("https://{host}:{}", server.1));
        command.envs(trusted.map(|file| ("SSL_CERT_FILE", golden(file))));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        text(&output)
    };
    let unknown = fetched("localhost", None);
    let known = fetched("localhost", Some("tls/ca.pem"));
    let of_another = fetched("127.0.0.1", Some("tls/ca.pem"));
    for (told, host) in [(&unknown, "localhost"), (&of_another, "127.0.0.1")] {
        let part = format!("the certificate of {host}");
        assert!(
            told.contains(&part) && told.contains("SSL_CERT_FILE"),
            "{told}"
        );
    }
    assert!(!known.contains("certificate"), "{known}");
    assert!(
        known.contains("404") || known.contains("no such model"),
        "{known}"
    );
    assert_eq!(hub.count(), 0);
}

//! Whose token it is, how much memory a listing may take, and what is asked on a terminal.

use super::*;

type Variables<'a> = &'a [(&'a str, &'a str)];

/// Where the token comes from, in Python's order.
#[test]
fn whose_token_it_is() {
    let hub = Hub::start(files(), |_, _| Reply::new(403));
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("token"), "hf_home\n").unwrap();
    std::fs::write(dir.join("other"), " hf_path ").unwrap();
    let other = dir.join("other").display().to_string();
    let rows: &[(Variables, Option<&str>)] = &[
        (&[], Some("hf_home")),
        (
            &[("HF_TOKEN", "hf_variable"), ("HF_TOKEN_PATH", &other)],
            Some("hf_variable"),
        ),
        (&[("HUGGING_FACE_HUB_TOKEN", "hf_old")], Some("hf_old")),
        (
            &[("HF_TOKEN", ""), ("HF_TOKEN_PATH", &other)],
            Some("hf_path"),
        ),
        (&[("HF_TOKEN_PATH", "$HF_HOME/other")], Some("hf_path")),
        (&[("HF_TOKEN_PATH", "nowhere")], None),
        (&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")], None),
    ];
    for (variables, expected) in rows {
        let output = command(&hub, dir, &DRAW)
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        assert!(text(&output).contains("status 403"), "{}", text(&output));
        assert!(!text(&output).contains("hf_"), "{}", text(&output));
        let sent = hub.hub.requests().last().unwrap().authorization.clone();
        assert_eq!(
            sent,
            expected.map(|token| format!("Bearer {token}")),
            "{variables:?}"
        );
    }
    let before = hub.count();
    for (name, value) in [
        ("HF_TOKEN", "hf_a b"),
        ("HF_ENDPOINT", "hub"),
        ("HF_HUB_DOWNLOAD_TIMEOUT", "soon"),
        ("SSL_CERT_FILE", "other"),
    ] {
        let output = command(&hub, dir, &DRAW).env(name, value).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(
            text(&output).contains(name) && !text(&output).contains("hf_a"),
            "{}",
            text(&output)
        );
    }
    assert_eq!(hub.count(), before);
}

/// A listing without end is refused in little memory.
#[test]
fn a_listing_without_end_takes_little_memory() {
    let hub = Hub::start(files(), |_, reply| Reply {
        body: vec![b' '; 100 << 20],
        ..reply
    });
    let dir = tempfile::tempdir().unwrap();
    let line = DRAW.map(|argument| format!("'{argument}'")).join(" ");
    let script = format!(
        "ulimit -v 400000; exec '{}' {line}",
        env!("CARGO_BIN_EXE_cones")
    );
    let mut limited = within(&command(&hub, dir.path(), &[]), "sh");
    let output = limited.args(["-c", &script]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(
        text(&output).contains("answers with more than 8 MiB"),
        "{}",
        text(&output)
    );
}

/// A terminal, and what is typed on it.
const TERMINAL: &str = "
import os, pty, signal, sys
pid, master = pty.fork()
if pid == 0:
    signal.signal(signal.SIGINT, signal.SIG_DFL) # which a shell's background has ignored
    os.execv(sys.argv[2], sys.argv[2:])
seen = b''
asked = False
while True:
    try:
        piece = os.read(master, 4096)
    except OSError:
        break
    if not piece:
        break
    seen += piece
    if b'[y/N]' in seen and not asked:
        asked = True
        os.write(master, sys.argv[1].encode().decode('unicode_escape').encode())
_, status = os.waitpid(pid, 0)
sys.stdout.write(seen.decode(errors='replace'))
sys.exit(os.waitstatus_to_exitcode(status))";

#[test]
fn a_terminal_is_asked() {
    let hub = Hub::start(files(), |_, reply| reply);
    let typed = |dir: &Path, answer: &str| {
        let started = command(&hub, dir, &[]);
        let mut python = within(&started, "python3");
        python
            .args(["-c", TERMINAL, answer])
            .arg(started.get_program())
            .args(&DRAW[..7]);
        let output = python.output().unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    for (answer, code) in [("n\\n", 1), ("\\n", 1), ("yess\\n", 1), ("\\x03", 130)] {
        let dir = tempfile::tempdir().unwrap();
        let (status, shown) = typed(dir.path(), answer);
        assert_eq!(status, Some(code), "{answer}: {shown}");
        assert!(
            shown.contains("Fetch ") && shown.contains(" of `owner/tiny` into `"),
            "{shown}"
        );
        assert!(code == 130 || shown.contains("--download"), "{shown}");
        assert_eq!(hub.cdn.requests().len(), 0, "{answer}");
    }
    let dir = tempfile::tempdir().unwrap();
    let (status, shown) = typed(dir.path(), "y\\n");
    assert_eq!(status, Some(0), "{shown}");
    assert!(dir.path().join("out.png").is_file());
    assert_eq!(
        std::fs::read(dir.path().join("hub/models--owner--tiny/refs/main")).unwrap(),
        COMMIT.as_bytes()
    );
}

//! `cones` with a model of a hub on this machine: `--download`, the question on the terminal, what is set by variables,
//! several processes, and the end of the work by Ctrl-C.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod manners;
mod room;
mod tls;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::cli::golden;
use super::hub_fetch::files;
use super::hub_server::{COMMIT, Files, Hub, ID, Reply, etag, files_of};

const UNET: &str = "unet/diffusion_pytorch_model.fp16.safetensors";
const UNSET: [&str; 18] = [
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "XDG_CACHE_HOME",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_TOKEN_PATH",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN",
    "HF_HUB_DOWNLOAD_TIMEOUT",
    "SSL_CERT_FILE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "CONES_MODEL",
];

/// `cones` whose hub is this one and whose cache is in `dir`.
fn command(hub: &Hub, dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cones"));
    for name in UNSET {
        command.env_remove(name);
    }
    command
        .args(args)
        .current_dir(dir)
        .env("HF_HOME", dir)
        .env("HF_ENDPOINT", hub.endpoint());
    command
}

/// Another program with the folder and the variables of a command.
fn within(command: &Command, program: &str) -> Command {
    let mut other = Command::new(program);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => other.env(name, value),
            None => other.env_remove(name),
        };
    }
    other.current_dir(command.get_current_dir().unwrap());
    other
}

const DRAW: [&str; 8] = [
    "generate",
    "--model",
    ID,
    "--steps",
    "1",
    "--no-metadata",
    "a dog",
    "--download",
];

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_model_is_fetched_and_drawn_with() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let hub = Hub::start(files(), |_, reply| reply);
    // Nobody has said yes.
    let output = command(&hub, dir, &DRAW[..7]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output).contains("not in the hub's cache on this machine"),
        "{}",
        text(&output)
    );
    assert!(
        text(&output).contains("--download") && text(&output).contains("`hf download owner/tiny`")
    );
    assert_eq!(hub.count(), 0);
    // Nobody may be asked.
    let output = command(&hub, dir, &DRAW)
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output).contains("HF_HUB_OFFLINE is set"),
        "{}",
        text(&output)
    );
    assert_eq!(hub.count(), 0);

    let output = command(&hub, dir, &DRAW).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert!(
        text(&output).contains("fetching 1 MB of `owner/tiny` into"),
        "{}",
        text(&output)
    );
    let drawn = std::fs::read(dir.join("out.png")).unwrap();
    let mut folder = DRAW;
    let half = golden("models/sd1-f16");
    folder[2] = &half;
    assert!(
        command(&hub, dir, &folder)
            .output()
            .unwrap()
            .status
            .success()
    );
    assert!(
        std::fs::read(dir.join("out.png")).unwrap() == drawn,
        "as from the folder"
    );

    // What is here is not asked for again.
    let before = hub.count();
    for (args, offline) in [
        (&DRAW[..7], "1"),
        (&DRAW, "1"),
        (&DRAW[..7], ""),
        (&DRAW, ""),
    ] {
        let output = command(&hub, dir, args)
            .env("HF_HUB_OFFLINE", offline)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
        assert!(std::fs::read(dir.join("out.png")).unwrap() == drawn);
    }
    assert_eq!(hub.count(), before);
}

#[test]
fn an_encoder_is_fetched_too() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let hub = Hub::start(files_of(Path::new(&golden("clip/new"))), |_, reply| reply);
    let (photos, class) = (golden("photos/subject"), golden("photos/class"));
    let find = ["find", "--subject", "dog", "--steps", "1", &photos];
    assert!(command(&hub, dir, &find).output().unwrap().status.success());
    let eval = [
        "eval",
        "dog.idx",
        "--encoder",
        ID,
        "--download",
        "--images",
        &photos,
        "--class-images",
        &class,
        "--count",
        "1",
        "--steps",
        "1",
        "--loss-draws",
        "0",
        "--json",
    ];
    let output = command(&hub, dir, &eval).output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(report.contains("owner/tiny"), "{report}{}", text(&output));
    assert!(dir.join("hub/models--owner--tiny/refs/main").is_file());
}

/// What no configuration hides: the weights are not fetched for it.
#[test]
fn a_model_that_is_not_supported_costs_its_configurations_alone() {
    let unet = |from: &str, to: &str| {
        let mut files = files();
        let config = String::from_utf8(files["unet/config.json"].clone()).unwrap();
        assert!(config.contains(from), "{config}");
        files.insert(
            "unet/config.json".to_owned(),
            config.replace(from, to).into_bytes(),
        );
        files
    };
    let scheduler = || {
        let mut files = files();
        let config = br#"{"_class_name": "NoSuchScheduler"}"#;
        files.insert(
            "scheduler/scheduler_config.json".to_owned(),
            config.to_vec(),
        );
        files
    };
    let rows: [(Files, &str); 2] = [
        (
            unet("\"in_channels\": 4", "\"in_channels\": 9"),
            "inpainting",
        ),
        (scheduler(), "NoSuchScheduler"),
    ];
    for (files, expected) in rows {
        let dir = tempfile::tempdir().unwrap();
        let hub = Hub::start(files, |_, reply| reply);
        let output = command(&hub, dir.path(), &DRAW).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output).contains(expected), "{}", text(&output));
        assert!(
            text(&output).contains("is not fetched"),
            "{}",
            text(&output)
        );
        assert_eq!(hub.cdn.requests().len(), 0);
    }
}

#[test]
fn two_at_once_fetch_once() {
    let dir = tempfile::tempdir().unwrap();
    let pause = Duration::from_millis(100);
    let hub = Hub::start(files(), move |request, reply| match request.cdn {
        true => Reply {
            drip: Some((50_000, pause)),
            ..reply
        },
        false => reply,
    });
    let both: Vec<_> = (0..2)
        .map(|n| {
            let name = format!("{n}.png");
            let args = [&DRAW[..], &["-o", &name]].concat();
            command(&hub, dir.path(), &args)
                .stderr(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in both {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }
    let weights: u64 = files_of(Path::new(&golden("models/sd1-f16")))
        .iter()
        .filter(|(name, _)| name.ends_with(".safetensors"))
        .map(|(_, bytes)| bytes.len() as u64)
        .sum();
    assert_eq!(
        (hub.cdn.requests().len(), hub.cdn.served()),
        (3, weights),
        "each file once"
    );
    let picture = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
    assert!(picture("0.png") == picture("1.png"));
}

#[test]
fn an_interrupt_is_heeded_while_the_hub_is_silent() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(files(), |request, reply| {
        match request.cdn
            && request.earlier == 0
            && request.path.ends_with(&etag(UNET, &files()[UNET]))
        {
            true => Reply {
                drip: Some((200_000, Duration::from_secs(20))),
                ..reply
            },
            false => reply,
        }
    });
    let child = command(&hub, dir.path(), &DRAW)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let part = format!(
        "hub/models--owner--tiny/blobs/{}.incomplete",
        etag(UNET, &files()[UNET])
    );
    let part = dir.path().join(part);
    let start = Instant::now();
    while !part.metadata().is_ok_and(|part| part.len() == 200_000) {
        assert!(start.elapsed() < Duration::from_secs(15), "{part:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let interrupted = Instant::now();
    Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    assert!(
        interrupted.elapsed() < Duration::from_secs(3),
        "{:?}",
        interrupted.elapsed()
    );
    assert_eq!(part.metadata().unwrap().len(), 200_000);
    let output = command(&hub, dir.path(), &DRAW).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert!(
        text(&output).contains("more are here)"),
        "{}",
        text(&output)
    );
    assert!(
        hub.cdn
            .requests()
            .iter()
            .any(|request| request.from == Some(200_000))
    );
}

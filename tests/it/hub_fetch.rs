//! Models fetched from a hub on this machine: what is asked for, what comes of breaks, and what is refused.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cones::checkpoint::hub::{Download, Hub as Settings, Layout, Patience, Token};
use cones::{Error, Result};

use super::cli::golden;
use super::hub_server::{COMMIT, Files, Hub, ID, Reply, Request, etag, files_of, listing};

const UNET: &str = "unet/diffusion_pytorch_model.fp16.safetensors";

/// A model in two precisions, with what no run needs.
pub(super) fn files() -> Files {
    let mut files = files_of(Path::new(&golden("models/sd1-f32")));
    files.extend(files_of(Path::new(&golden("models/sd1-f16"))));
    for name in [
        "README.md",
        "unet/diffusion_pytorch_model.bin",
        "safety_checker/model.safetensors",
    ] {
        files.insert(name.to_owned(), vec![7; 3000]);
    }
    files
}

/// The names of the files that a run needs of it.
fn needed() -> Vec<String> {
    let is_needed = |name: &String| match name.strip_suffix(".safetensors") {
        Some(weights) => weights.ends_with(".fp16"),
        None => name.ends_with(".json") || name.ends_with(".txt"),
    };
    files().into_keys().filter(is_needed).collect()
}

fn settings(hub: &Hub, cache: &Path) -> Settings {
    Settings {
        endpoint: hub.endpoint(),
        token: Some(Token::new("a test", "hf_secret").unwrap()),
        cache: cache.to_owned(),
        offline: false,
        certificates: None,
        patience: Patience {
            connect: Duration::from_secs(5),
            stall: Duration::from_millis(400),
            pause: Duration::from_millis(5),
            tries: 3,
        },
    }
}

fn fetch_as(settings: &Settings, model: &str, variant: Option<&str>) -> Result<PathBuf> {
    let quiet = &mut |_, _| Ok(());
    let download = Download::look_up(settings, model, Layout::Pipeline, variant, quiet)?;
    download.fetch_configs(quiet)?;
    let (mut last, size) = (0, download.size());
    download.fetch(&mut |done, total| {
        assert!(done <= total && total == size, "{done} of {total}");
        last = done;
        Ok(())
    })?;
    assert_eq!((last, download.missing()), (size, 0));
    Ok(download.folder().to_owned())
}

fn fetch(hub: &Hub, cache: &Path) -> Result<PathBuf> {
    fetch_as(&settings(hub, cache), ID, None)
}

fn message(result: Result<PathBuf>) -> String {
    let error = result.unwrap_err();
    format!("{error}; hint: {}", error.hint().unwrap_or_default())
}

/// The cache of a run that has broken off, or has not.
fn repository(cache: &Path) -> PathBuf {
    cache.join("models--owner--tiny")
}

fn incomplete(cache: &Path, name: &str) -> PathBuf {
    repository(cache).join(format!("blobs/{}.incomplete", etag(name, &files()[name])))
}

/// The requests for the UNet's bytes: where each began.
fn starts(hub: &Hub) -> Vec<Option<u64>> {
    let path = format!("/{}", etag(UNET, &files()[UNET]));
    hub.cdn
        .requests()
        .iter()
        .filter(|request| request.path == path)
        .map(|request| request.from)
        .collect()
}

/// Whether a request is the `number`th for the UNet's bytes.
fn is_unet(request: &Request, number: usize) -> bool {
    request.cdn && request.path.ends_with(&etag(UNET, &files()[UNET])) && request.earlier == number
}

#[test]
fn a_model_is_laid_out_as_python_does() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(files(), |_, reply| reply);
    let folder = fetch(&hub, dir.path()).unwrap();
    let repository = repository(dir.path());
    assert_eq!(folder, repository.join("snapshots").join(COMMIT));
    assert_eq!(
        std::fs::read(repository.join("refs/main")).unwrap(),
        COMMIT.as_bytes()
    );
    // What a run needs and nothing else, in half precision, each a link to its bytes.
    assert_eq!(files_of(&folder).into_keys().collect::<Vec<_>>(), needed());
    for (name, bytes) in files_of(&folder) {
        assert!(bytes == files()[&name], "{name}");
        let up = "../".repeat(2 + name.matches('/').count());
        let link = std::fs::read_link(folder.join(&name)).unwrap();
        assert_eq!(
            link,
            Path::new(&format!("{up}blobs/{}", etag(&name, &bytes)))
        );
        assert!(
            dir.path()
                .join(format!(
                    ".locks/models--owner--tiny/{}.lock",
                    etag(&name, &bytes)
                ))
                .is_file()
        );
    }
    let blobs = std::fs::read_dir(repository.join("blobs")).unwrap().count();
    assert_eq!(blobs, needed().len(), "and nothing is left over");
    // A second time nothing is fetched.
    let (before, served) = (hub.cdn.requests().len(), hub.cdn.served());
    fetch(&hub, dir.path()).unwrap();
    assert_eq!(
        (hub.cdn.requests().len(), hub.cdn.served()),
        (before, served)
    );
}

#[test]
fn revisions_and_variants() {
    let dir = tempfile::tempdir().unwrap();
    let mut all = files();
    let weights = all[UNET].clone();
    all.insert(
        "unet/diffusion_pytorch_model.non_ema.safetensors".to_owned(),
        weights,
    );
    let hub = Hub::start(all, |_, reply| reply);
    let settings = settings(&hub, dir.path());
    for revision in ["v1", "refs/pr/1", COMMIT] {
        fetch_as(&settings, &format!("{ID}@{revision}"), None).unwrap();
        let reference = repository(dir.path()).join("refs").join(revision);
        assert_eq!(reference.is_file(), revision != COMMIT);
    }
    let folder = fetch_as(&settings, ID, Some("non_ema")).unwrap();
    assert!(
        folder
            .join("unet/diffusion_pytorch_model.non_ema.safetensors")
            .is_file()
    );
    assert!(
        folder
            .join("vae/diffusion_pytorch_model.safetensors")
            .is_file()
    );
    let error = message(fetch_as(&settings, ID, Some("fp8")));
    assert!(
        error.contains("no network of it has a variant `fp8`; hint: it has `fp16`, `non_ema`"),
        "{error}"
    );
    let before = hub.count();
    for revision in ["", "../main", "a//b", "/etc"] {
        let error = message(fetch_as(&settings, &format!("{ID}@{revision}"), None));
        assert!(error.contains("no model's id"), "{error}");
    }
    assert_eq!(hub.count(), before);
}

#[test]
fn the_token_stays_with_the_hub() {
    let dir = tempfile::tempdir().unwrap();
    // The CDN sends back to the hub's own host, which is not to be trusted with the token any more.
    let back = Arc::new(std::sync::OnceLock::<String>::new());
    let seen = back.clone();
    let hub = Hub::start(files(), move |request, reply| {
        if request.path == "/back" {
            return Reply::file(request, &files()[UNET]);
        }
        match is_unet(request, 0) {
            true => Reply::new(307).header("Location", seen.get().unwrap()),
            false => reply,
        }
    });
    back.set(format!("{}/back", hub.endpoint())).unwrap();
    fetch(&hub, dir.path()).unwrap();
    assert!(hub.cdn.requests().len() >= 3);
    for request in hub.hub.requests().iter().chain(&hub.cdn.requests()) {
        let expected = (!request.cdn && request.path != "/back").then_some("Bearer hf_secret");
        assert_eq!(request.authorization.as_deref(), expected, "{request:?}");
    }
    assert!(
        hub.hub
            .requests()
            .iter()
            .any(|request| request.path == "/back")
    );
}

#[test]
fn what_broke_off_goes_on_at_the_byte() {
    let (cut, size) = (100_001, files()[UNET].len() as u64);
    let others: u64 = needed()
        .iter()
        .filter(|name| name.ends_with(".safetensors") && *name != UNET)
        .map(|name| files()[name].len() as u64)
        .sum();
    // Within a run: three breaks, more than there are tries without gain would be an error.
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(files(), move |request, reply| {
        match is_unet(request, 0) || is_unet(request, 1) {
            true => Reply {
                cut: Some(cut),
                ..reply
            },
            false => reply,
        }
    });
    fetch(&hub, dir.path()).unwrap();
    assert_eq!(starts(&hub), [None, Some(cut as u64), Some(2 * cut as u64)]);
    assert_eq!(hub.cdn.served(), size + others, "each byte once");
    // From one run to the next.
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(files(), move |request, reply| match is_unet(request, 0) {
        true => Reply {
            cut: Some(cut),
            ..reply
        },
        false => reply,
    });
    let mut once = settings(&hub, dir.path());
    once.patience.tries = 1;
    let error = message(fetch_as(&once, ID, None));
    assert!(
        error.contains("127.0.0.1") || error.contains("localhost"),
        "{error}"
    );
    assert!(error.contains("what has come is kept"), "{error}");
    assert_eq!(
        incomplete(dir.path(), UNET).metadata().unwrap().len(),
        cut as u64
    );
    assert!(
        !repository(dir.path()).join("refs").exists(),
        "a part is not taken for the whole"
    );
    fetch_as(&once, ID, None).unwrap();
    assert_eq!(starts(&hub), [None, Some(cut as u64)]);
    assert_eq!(hub.cdn.served(), size + others, "each byte once");
    assert!(!incomplete(dir.path(), UNET).exists());
}

/// The user's end of the work is heeded while bytes come, and keeps them.
#[test]
fn an_interrupt_keeps_what_has_come() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(files(), |_, reply| reply);
    let settings = settings(&hub, dir.path());
    let download =
        Download::look_up(&settings, ID, Layout::Pipeline, None, &mut |_, _| Ok(())).unwrap();
    let half = download.size() / 2;
    let result = download.fetch(&mut |done, _| match done > half {
        true => Err(Error::Interrupted),
        false => Ok(()),
    });
    assert!(matches!(result, Err(Error::Interrupted)), "{result:?}");
    let kept = incomplete(dir.path(), UNET).metadata().unwrap().len();
    assert!(kept > 0);
    fetch(&hub, dir.path()).unwrap();
    assert_eq!(starts(&hub), [None, Some(kept)]);
}

type Twist = Box<dyn Fn(&Request, Reply) -> Reply + Send + Sync>;

/// A twist of the answer to requests for the UNet's bytes, whose number `which` accepts.
fn of_unet(
    which: impl Fn(usize) -> bool + Send + Sync + 'static,
    twist: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static,
) -> Twist {
    Box::new(move |request, reply| {
        match is_unet(request, request.earlier) && which(request.earlier) {
            true => twist(request, reply),
            false => reply,
        }
    })
}

fn cut(reply: Reply) -> Reply {
    Reply {
        cut: Some(100_000),
        ..reply
    }
}

/// Servers that do not do as they should, and are got on with.
#[test]
fn servers_that_are_got_on_with() {
    let whole = || Reply::new(200).body(files()[UNET].clone());
    let rest = Some(100_000);
    let rows: Vec<(&str, Twist, Vec<Option<u64>>)> = vec![
        (
            "the whole to a request for the rest",
            of_unet(
                |_| true,
                move |request, reply| {
                    if request.earlier == 0 {
                        cut(reply)
                    } else {
                        whole()
                    }
                },
            ),
            vec![None, rest],
        ),
        (
            "no such rest",
            of_unet(
                |n| n < 2,
                |request, reply| {
                    if request.earlier == 0 {
                        cut(reply)
                    } else {
                        Reply::new(416)
                    }
                },
            ),
            vec![None, rest, None],
        ),
        (
            "the first byte in place of the rest",
            of_unet(
                |n| n < 2,
                move |request, reply| match request.earlier {
                    0 => cut(reply),
                    _ => {
                        let all = files()[UNET].clone();
                        let range = format!("bytes 0-{}/{}", all.len() - 1, all.len());
                        Reply::new(206).header("Content-Range", &range).body(all)
                    }
                },
            ),
            vec![None, rest],
        ),
        (
            "no length",
            of_unet(
                |_| true,
                |_, reply| Reply {
                    length: Some(0),
                    ..reply
                },
            ),
            vec![None],
        ),
        (
            "failures",
            of_unet(|n| n < 2, |_, _| Reply::new(503)),
            vec![None, None, None],
        ),
        (
            "too many requests",
            of_unet(
                |n| n == 0,
                |_, _| Reply::new(429).header("Retry-After", "0"),
            ),
            vec![None, None],
        ),
        (
            "slow, and longer than any wait for one byte",
            of_unet(
                |_| true,
                |_, reply| Reply {
                    drip: Some((40_000, Duration::from_millis(120))),
                    ..reply
                },
            ),
            vec![None],
        ),
        (
            "silence at first",
            of_unet(
                |n| n == 0,
                |_, reply| Reply {
                    drip: Some((1, Duration::from_secs(2))),
                    ..reply
                },
            ),
            vec![None, Some(1)],
        ),
    ];
    for (what, twist, expected) in rows {
        let dir = tempfile::tempdir().unwrap();
        let hub = Hub::start(files(), twist);
        let folder = fetch(&hub, dir.path()).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(
            std::fs::read(folder.join(UNET)).unwrap() == files()[UNET],
            "{what}"
        );
        assert_eq!(starts(&hub), expected, "{what}");
    }
}

/// What was left of an earlier run may be damaged, or of another length.
#[test]
fn a_damaged_part_is_fetched_again() {
    for (damaged, expected) in [
        (vec![9; 50_000], vec![Some(50_000), None]),
        (vec![9; 5_000_000], vec![None]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let hub = Hub::start(files(), |_, reply| reply);
        let path = incomplete(dir.path(), UNET);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, damaged).unwrap();
        fetch(&hub, dir.path()).unwrap();
        assert_eq!(starts(&hub), expected);
        // So are bytes under their right name, of a wrong length.
        let blob = path.with_extension("");
        std::fs::write(&blob, "x").unwrap();
        let folder = fetch(&hub, dir.path()).unwrap();
        assert!(std::fs::read(folder.join(UNET)).unwrap() == files()[UNET]);
    }
}

/// Servers that are refused, with the words for it, and how many requests for the UNet it takes.
#[test]
fn servers_that_are_refused() {
    let wrong = || {
        let mut bytes = files()[UNET].clone();
        bytes[70_000] ^= 1;
        bytes
    };
    let rows: Vec<(&str, Twist, usize)> = vec![
        (
            "its hash is wrong",
            of_unet(|_| true, move |_, _| Reply::new(200).body(wrong())),
            1,
        ),
        (
            "sent 300000 of 647920 bytes",
            of_unet(
                |_| true,
                |_, reply| Reply {
                    length: Some(0),
                    ..cut(reply)
                },
            ),
            3,
        ),
        (
            "and 5 as localhost sends it",
            of_unet(|_| true, |_, _| Reply::new(200).body("short")),
            1,
        ),
        (
            "and more as localhost sends it",
            of_unet(
                |_| true,
                |_, reply| Reply {
                    length: Some(0),
                    endless: true,
                    ..reply
                },
            ),
            1,
        ),
        (
            "a web page in place of",
            of_unet(
                |_| true,
                |_, reply| reply.header("Content-Type", "text/html; charset=utf-8"),
            ),
            1,
        ),
        (
            "packs its answer",
            of_unet(
                |_| true,
                |_, reply| reply.header("Content-Encoding", "gzip"),
            ),
            1,
        ),
        (
            "other bytes than were asked for (status 206)",
            of_unet(
                |_| true,
                |request, reply| match request.from {
                    None => cut(reply),
                    Some(_) => Reply::new(206)
                        .header("Content-Range", "bytes 7-9/647920")
                        .body("abc"),
                },
            ),
            2,
        ),
        (
            "and 10 as localhost sends it",
            of_unet(
                |_| true,
                |_, _| {
                    Reply::new(206)
                        .header("Content-Range", "bytes 0-9/10")
                        .body("0123456789")
                },
            ),
            1,
        ),
        (
            "localhost fails (status 500)",
            of_unet(|_| true, |_, _| Reply::new(500)),
            3,
        ),
        (
            "too many requests (status 429)",
            of_unet(|_| true, |_, _| Reply::new(429)),
            3,
        ),
        (
            "answers with status 418",
            of_unet(|_| true, |_, _| Reply::new(418)),
            1,
        ),
        (
            "localhost sends us on, but to no address",
            of_unet(|_| true, |_, _| Reply::new(302)),
            1,
        ),
        (
            "to no address of the web",
            of_unet(
                |_| true,
                |_, _| Reply::new(302).header("Location", "ftp://localhost/x"),
            ),
            1,
        ),
        (
            "sent nothing for 0.4 s",
            of_unet(
                |_| true,
                |_, reply| Reply {
                    drip: Some((1, Duration::from_secs(9))),
                    ..reply
                },
            ),
            3,
        ),
    ];
    for (expected, twist, requests) in rows {
        let dir = tempfile::tempdir().unwrap();
        let hub = Hub::start(files(), twist);
        let error = message(fetch(&hub, dir.path()));
        assert!(error.contains(expected), "expected `{expected}`: {error}");
        assert!(
            error.starts_with("model `owner/tiny`: ") && error.len() < 400,
            "{error}"
        );
        assert_eq!(starts(&hub).len(), requests, "{expected}");
        assert!(hub.cdn.served() < 30_000_000, "{expected}");
        assert!(!repository(dir.path()).join("refs").exists(), "{expected}");
        assert!(
            !repository(dir.path())
                .join("snapshots")
                .join(COMMIT)
                .join(UNET)
                .exists(),
            "{expected}"
        );
    }
}

/// Answers to the first request, and what is said of them.
#[test]
fn hubs_that_give_no_model() {
    let status = |status: u16, code: &str| {
        let (status, code) = (status, code.to_owned());
        move || match code.is_empty() {
            true => Reply::new(status),
            false => Reply::new(status)
                .header("X-Error-Code", &code)
                .header("X-Error-Message", "Sorry"),
        }
    };
    let text = |text: &str| {
        let text = text.to_owned();
        move || Reply::new(200).body(text.clone())
    };
    let site = |rest: &str| format!(r#"{{"sha": "{COMMIT}", "siblings": [{rest}]}}"#);
    let lists = |name: &str| {
        site(&format!(
            r#"{{"rfilename": "{name}", "size": 3, "blobId": "{COMMIT}"}}"#
        ))
    };
    let many = site(&vec![r#"{"rfilename": "a"}"#; 10_000].join(","));
    let rows: Vec<(&str, Box<dyn Fn() -> Reply + Send + Sync>)> = vec![
        ("does not take the token", Box::new(status(401, ""))),
        (
            "gated, and this token's user has no access yet (status 403); hint: accept its terms at",
            Box::new(status(403, "GatedRepo")),
        ),
        (
            "does not let this user read it (status 403)",
            Box::new(status(403, "")),
        ),
        (
            "no such model on the hub (status 404)",
            Box::new(status(404, "RepoNotFound")),
        ),
        (
            "has no revision `main` (status 404)",
            Box::new(status(404, "RevisionNotFound")),
        ),
        (
            "or no revision `main` of it (status 404)",
            Box::new(status(404, "")),
        ),
        ("127.0.0.1 fails (status 500)", Box::new(status(500, ""))),
        ("status 451", Box::new(status(451, "Legal"))),
        (
            "a listing that cannot be read",
            Box::new(text("<html>login</html>")),
        ),
        ("a listing that cannot be read", Box::new(text(""))),
        (
            "a listing that cannot be read",
            Box::new(text(&"[".repeat(1_000_000))),
        ),
        (
            "for a commit",
            Box::new(text(r#"{"sha": "../../..", "siblings": []}"#)),
        ),
        (
            "\"../x\" for the name of a file",
            Box::new(text(&lists("../x"))),
        ),
        (
            "\"/etc/x\" for the name of a file",
            Box::new(text(&lists("/etc/x"))),
        ),
        (
            r#""a\\b" for the name of a file"#,
            Box::new(text(&lists(r"a\\b"))),
        ),
        (
            r#""a\0" for the name of a file"#,
            Box::new(text(&lists(r"a\u0000"))),
        ),
        ("more than 5000 files", Box::new(text(&many))),
        (
            "no size of `model_index.json`",
            Box::new(text(&site(r#"{"rfilename": "model_index.json"}"#))),
        ),
        (
            "`model_index.json` of 99999999999 bytes, which is no configuration",
            Box::new(text(&site(&format!(
                r#"{{"rfilename": "model_index.json", "size": 99999999999, "blobId": "{COMMIT}"}}"#
            )))),
        ),
        (
            "single files (`x.safetensors`)",
            Box::new(text(&site(r#"{"rfilename": "x.safetensors"}"#))),
        ),
        (
            "a LoRA",
            Box::new(text(&site(
                r#"{"rfilename": "pytorch_lora_weights.safetensors"}"#,
            ))),
        ),
        (
            "answers with more than 8 MiB",
            Box::new(|| Reply {
                endless: true,
                length: Some(0),
                ..Reply::new(200).body(" ".repeat(1 << 16))
            }),
        ),
        (
            "answers with more than 8 MiB",
            Box::new(|| Reply::new(200).body(vec![b' '; 100 << 20])),
        ),
        (
            "a head that is far too long",
            Box::new(|| Reply::new(200).header("X", &"x".repeat(10 << 20))),
        ),
        (
            "no HTTP",
            Box::new(|| {
                (0..5000).fold(Reply::new(200), |reply, i| {
                    reply.header(&format!("X{i}"), "")
                })
            }),
        ),
        (
            "sends us on more than 10 times",
            Box::new(|| Reply::new(302).header("Location", "/round")),
        ),
        (
            "sent nothing for",
            Box::new(|| Reply {
                drip: Some((1, Duration::from_secs(2))),
                ..Reply::new(200).body("{}")
            }),
        ),
        (
            "the connection to 127.0.0.1 broke",
            Box::new(|| Reply {
                length: Some(9),
                ..Reply::new(200).body("{}")
            }),
        ),
    ];
    for (expected, reply) in rows {
        let dir = tempfile::tempdir().unwrap();
        let hub = Hub::start(files(), move |_, _| reply());
        let error = message(fetch(&hub, dir.path()));
        assert!(error.contains(expected), "expected `{expected}`: {error}");
        assert!(error.len() < 500 && !error.contains("secret"), "{error}");
        assert!(
            hub.hub.served() < 30_000_000,
            "{expected}: {} bytes",
            hub.hub.served()
        );
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            0,
            "{expected}: nothing is made"
        );
    }
    // Without a token other things are to be done.
    for (code, expected) in [
        (
            "GatedRepo",
            "its terms are to be accepted first (status 401); hint: accept its terms at",
        ),
        (
            "RepoNotFound",
            "there is no such model on the hub, or it is private (status 401)",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let hub = Hub::start(files(), move |_, _| {
            Reply::new(401).header("X-Error-Code", code)
        });
        let mut nobody = settings(&hub, dir.path());
        nobody.token = None;
        let error = message(fetch_as(&nobody, ID, None));
        assert!(
            error.contains(expected) && error.contains("hf auth login"),
            "{error}"
        );
    }
}

#[test]
fn no_hub_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(files(), |_, reply| reply);
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    for (endpoint, expected) in [
        (
            format!("http://127.0.0.1:{free}"),
            "no network, or nobody answers at 127.0.0.1",
        ),
        (
            "http://no-such-host.invalid".to_owned(),
            "no network, or no host `no-such-host.invalid`",
        ),
        (
            format!("https://127.0.0.1:{}", hub.hub.port),
            "no encrypted connection to 127.0.0.1",
        ),
        (
            "ftp://127.0.0.1".to_owned(),
            "HF_ENDPOINT: expected the address of a hub",
        ),
        (
            "not an address".to_owned(),
            "HF_ENDPOINT: expected the address of a hub",
        ),
        (
            "http://a:b@127.0.0.1".to_owned(),
            "HF_ENDPOINT: expected the address of a hub",
        ),
    ] {
        let mut other = settings(&hub, dir.path());
        other.endpoint = endpoint;
        let error = message(fetch_as(&other, ID, None));
        assert!(error.contains(expected), "expected `{expected}`: {error}");
    }
    let mut offline = settings(&hub, dir.path());
    offline.offline = true;
    let error = message(fetch_as(&offline, ID, None));
    assert!(error.contains("HF_HUB_OFFLINE is set"), "{error}");
    assert_eq!(hub.count(), 0);
    assert!(
        Token::new("HF_TOKEN", "a b").is_err() && Token::new("HF_TOKEN", "a\r\nHost: x").is_err()
    );
    assert!(!format!("{:?}", settings(&hub, dir.path())).contains("secret"));
}

/// A listing is no promise: what it says is checked, and what there is no room for is not begun.
#[test]
fn sizes_that_lie() {
    let lie = |size: u64| {
        move |request: &Request, reply: Reply| match request.path.starts_with("/api/") {
            true => {
                let text = listing(&files()).to_string();
                let told = files()[UNET].len();
                Reply::new(200)
                    .body(text.replace(&format!("\"size\":{told}"), &format!("\"size\":{size}")))
            }
            false => reply,
        }
    };
    for (size, expected) in [
        (1 << 39, "the disk is full: 549.8 GB are to be fetched"),
        (1 << 41, "more than any model's file has"),
        (
            700_000,
            "has 700000 bytes as the hub lists it, and 647920 as localhost sends it",
        ),
        (5, "has 5 bytes as the hub lists it, and 647920"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let hub = Hub::start(files(), lie(size));
        let error = message(fetch(&hub, dir.path()));
        assert!(error.contains(expected), "expected `{expected}`: {error}");
        assert!(hub.cdn.served() < 2_000_000);
    }
}

/// A model of another kind costs two small requests.
#[test]
fn other_kinds_are_refused_before_their_weights() {
    for (class, expected) in [
        ("FluxPipeline", "a Flux model"),
        ("StableDiffusion3Pipeline", "Stable Diffusion 3"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut files = files();
        let index = format!(r#"{{"_class_name": "{class}", "_diffusers_version": "0.30.0"}}"#);
        files.insert("model_index.json".to_owned(), index.into_bytes());
        files.retain(|name, _| !name.starts_with("unet/"));
        let hub = Hub::start(files, |_, reply| reply);
        let error = message(fetch(&hub, dir.path()));
        assert!(error.contains(expected), "{error}");
        assert_eq!(hub.count(), 2);
    }
    for (gone, expected) in [
        (
            ".safetensors",
            "pickled weights, which can run any code when read and are refused",
        ),
        ("vae/config.json", "no `vae/config.json`"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut files = files();
        files.retain(|name, _| !name.ends_with(gone));
        let hub = Hub::start(files, |_, reply| reply);
        let error = message(fetch(&hub, dir.path()));
        assert!(error.contains(expected), "{error}");
        assert_eq!(hub.cdn.requests().len(), 0);
    }
}

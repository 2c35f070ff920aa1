//! Hubs that give no model, and models that are not to be had: each with its own words, before any weights.
#![cfg(unix)]

use std::time::Duration;

use cones::checkpoint::hub::Token;

use super::hub_fetch::{fetch, fetch_as, files, message, settings};
use super::hub_server::{COMMIT, Hub, ID, Reply};

type Answer = Box<dyn Fn() -> Reply + Send + Sync>;

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
    let rows: Vec<(&str, Answer)> = vec![
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
    assert!("a b".parse::<Token>().is_err() && "a\r\nHost: x".parse::<Token>().is_err());
    assert!(!format!("{:?}", settings(&hub, dir.path())).contains("secret"));
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

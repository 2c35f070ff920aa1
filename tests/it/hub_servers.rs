//! Servers that do not do as they should: those that are got on with, and those that are refused.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use super::hub_fetch::{UNET, fetch, files, incomplete, is_unet, message, repository, starts};
use super::hub_server::{COMMIT, Hub, Reply, Request, listing};

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

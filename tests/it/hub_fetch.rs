//! Models fetched from a hub on this machine: what is asked for, and what comes of breaks.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cones::checkpoint::hub::{Download, Hub as Settings, Layout, Patience};
use cones::{Error, Result};

use super::cli::golden;
use super::hub_server::{COMMIT, Files, Hub, ID, Reply, Request, etag, files_of};

pub(super) const UNET: &str = "unet/diffusion_pytorch_model.fp16.safetensors";

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

pub(super) fn settings(hub: &Hub, cache: &Path) -> Settings {
    Settings {
        endpoint: hub.endpoint(),
        token: Some("hf_secret".parse().unwrap()),
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

pub(super) fn fetch_as(settings: &Settings, model: &str, variant: Option<&str>) -> Result<PathBuf> {
    let quiet = &mut |_, _| Ok(());
    let download = Download::look_up(settings, model, Layout::Pipeline, variant, quiet)?;
    let (mut last, size) = (0, download.size);
    download.fetch(&mut |done, total| {
        assert!(done <= total && total == size, "{done} of {total}");
        last = done;
        Ok(())
    })?;
    assert_eq!(last, size);
    let again = Download::look_up(settings, model, Layout::Pipeline, variant, quiet)?;
    assert_eq!(again.missing, 0);
    Ok(download.folder)
}

pub(super) fn fetch(hub: &Hub, cache: &Path) -> Result<PathBuf> {
    fetch_as(&settings(hub, cache), ID, None)
}

pub(super) fn message(result: Result<PathBuf>) -> String {
    let error = result.unwrap_err();
    format!("{error}; hint: {}", error.hint().unwrap_or_default())
}

/// The cache of a run that has broken off, or has not.
pub(super) fn repository(cache: &Path) -> PathBuf {
    cache.join("models--owner--tiny")
}

pub(super) fn incomplete(cache: &Path, name: &str) -> PathBuf {
    repository(cache).join(format!("blobs/{}.incomplete", etag(name, &files()[name])))
}

/// The requests for the UNet's bytes: where each began.
pub(super) fn starts(hub: &Hub) -> Vec<Option<u64>> {
    let path = format!("/{}", etag(UNET, &files()[UNET]));
    hub.cdn
        .requests()
        .iter()
        .filter(|request| request.path == path)
        .map(|request| request.from)
        .collect()
}

/// Whether a request is the `number`th for the UNet's bytes.
pub(super) fn is_unet(request: &Request, number: usize) -> bool {
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
    let half = download.size / 2;
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

use super::*;

fn plan(seed: u32) -> BTreeMap<String, String> {
    let values = [
        ("steps", "500".to_owned()),
        ("seed", seed.to_string()),
        ("model", "a".repeat(64)),
    ];
    values.map(|(key, value)| (key.to_owned(), value)).into()
}

const MOST: u64 = 1000;

/// Keeps some bytes as a run does that is then killed.
fn killed(output: &Path, contents: &[u8]) {
    let (mut part, _) = Part::open(output, plan(1), false, MOST).unwrap();
    part.save("step 3 of 500", |out| out.write_all(contents))
        .unwrap();
}

fn found(output: &Path, plan: BTreeMap<String, String>) -> String {
    match Part::open(output, plan, false, MOST).unwrap_err() {
        Error::OtherWork { path, found } => {
            assert_eq!(path, Part::path(output).unwrap());
            found
        }
        other => panic!("{other}"),
    }
}

#[test]
fn what_is_kept_is_taken_up() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("dog.idx");
    let path = dir.path().join("dog.idx.part");
    let open = |again| Part::open(&output, plan(1), again, MOST).unwrap();
    // Nothing is left of what has nothing.
    drop(open(false));
    assert!(!path.exists());
    killed(&output, b"abc");
    // A run that is killed while it writes leaves this too.
    fs::write(dir.path().join("dog.idx.part.new"), b"half").unwrap();
    let (mut part, kept) = open(false);
    let kept = kept.unwrap();
    assert_eq!(
        (kept.done.as_str(), &kept.contents[..]),
        ("step 3 of 500", &b"abc"[..])
    );
    part.save("step 4 of 500", |out| out.write_all(b"d"))
        .unwrap();
    // What cannot be written leaves what was there.
    part.save("step 5 of 500", |_| Err(io::Error::other("full")))
        .unwrap_err();
    drop(part);
    assert_eq!(open(false).1.unwrap().contents, b"d");
    let (part, kept) = open(true);
    assert!(kept.is_none());
    drop(part);
    assert_eq!(
        open(false).1.unwrap().contents,
        b"d",
        "nothing new came in its place"
    );
    open(false).0.finish();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    // Empty is what a run leaves that is killed before it has anything.
    fs::write(&path, b"").unwrap();
    assert!(open(false).1.is_none());
}

#[test]
fn the_lock_is_on_whatever_has_the_name() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("dog.idx");
    let busy = || {
        matches!(
            Part::open(&output, plan(2), true, MOST),
            Err(Error::InUse { .. })
        )
    };
    let (mut part, _) = Part::open(&output, plan(1), false, MOST).unwrap();
    assert!(busy());
    for i in 0..3 {
        part.save("some", |out| out.write_all(&[i])).unwrap();
        assert!(busy());
    }
    part.finish();
    assert!(!busy());
    #[cfg(unix)]
    {
        // Of a link it is the file that is written.
        std::os::unix::fs::symlink("dog.idx", dir.path().join("link.idx")).unwrap();
        let (_part, _) = Part::open(&dir.path().join("link.idx"), plan(1), false, MOST).unwrap();
        assert!(busy());
    }
}

/// One of many that take the work, and give it back at once, has it at a time.
#[test]
fn one_has_the_work_at_a_time() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("dog.idx");
    let (inside, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for i in 0..25 {
                    let mut part = loop {
                        match Part::open(&output, plan(1), false, MOST) {
                            Ok((part, _)) => break part,
                            Err(Error::InUse { .. }) => refused.fetch_add(1, Ordering::SeqCst),
                            Err(error) => panic!("{error}"),
                        };
                        std::thread::yield_now();
                    };
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    part.save("some", |out| out.write_all(b"x")).unwrap();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    match i % 2 {
                        0 => part.finish(),
                        _ => drop(part),
                    }
                }
            });
        }
    });
    assert!(refused.into_inner() > 0);
}

#[test]
fn other_work_is_not_taken_up() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("dog.idx");
    let path = Part::path(&output).unwrap();
    killed(&output, b"abc");
    let bytes = fs::read(&path).unwrap();
    let text = found(&output, plan(2));
    assert_eq!(
        text,
        "that of another one, step 3 of 500: seed 1 instead of 2"
    );
    let mut other = plan(1);
    other.insert("model".to_owned(), "b".repeat(64));
    assert!(found(&output, other).ends_with(": other model"));
    // Every byte counts.
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        fs::write(&path, &changed).unwrap();
        found(&output, plan(1));
        fs::write(&path, &bytes[..at]).unwrap();
        if at > 0 {
            found(&output, plan(1));
        }
    }
    for (there, said) in [
        (&b"junk"[..], "a file of something else"),
        (b"cones.part 2\n{}\n", "version `2`"),
        (b"cones.part 1\n{}\n", "without a plan"),
        (b"cones.part 1\x1b[2J\n{}\n", r"version `1\u{1b}[2J`"),
        (&[b'a'; 2 << 20], "a file of something else"),
    ] {
        fs::write(&path, there).unwrap();
        let text = found(&output, plan(1));
        assert!(text.contains(said), "{text}");
        assert_eq!(fs::read(&path).unwrap(), there);
    }
    killed_over(&output, &vec![0; MOST as usize + 1]);
    assert!(found(&output, plan(1)).contains("more than there can be"));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(found(&output, plan(1)).contains("a folder"));
    #[cfg(unix)]
    {
        fs::remove_dir(&path).unwrap();
        fs::write(dir.path().join("precious"), b"x").unwrap();
        std::os::unix::fs::symlink("precious", &path).unwrap();
        assert!(found(&output, plan(1)).contains("a link"));
        // As another one may do meanwhile: it is the link that is replaced.
        let (mut part, _) = Part::open(&dir.path().join("cat.idx"), plan(1), false, MOST).unwrap();
        let cat = dir.path().join("cat.idx.part");
        fs::remove_file(&cat).unwrap();
        for name in [&cat, &dir.path().join("cat.idx.part.new")] {
            std::os::unix::fs::symlink("precious", name).unwrap();
        }
        part.save("some", |out| out.write_all(b"abc")).unwrap();
        assert!(!fs::symlink_metadata(&cat).unwrap().is_symlink());
        assert_eq!(fs::read(dir.path().join("precious")).unwrap(), b"x");
    }
}

/// In place of whatever is there.
fn killed_over(output: &Path, contents: &[u8]) {
    let (mut part, _) = Part::open(output, plan(1), true, MOST).unwrap();
    part.save("step 3 of 500", |out| out.write_all(contents))
        .unwrap();
}

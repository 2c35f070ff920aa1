//! What files say of themselves does not act on the terminal.

use super::*;

/// What an index says of itself: refused, or shown so that it does nothing.
#[test]
fn metadata_do_not_act_on_the_terminal() {
    let dir = ready();
    let dir = dir.path();
    let bytes = fs::read(dir.join("a.idx")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let keys = [
        "model",
        "method",
        "fingerprint",
        "setting.rate",
        "prompts",
        "subjects",
        "token",
        "scope",
        "version",
    ];
    for hostile in HOSTILE {
        for key in keys {
            let mut header = header.clone();
            header["__metadata__"][key] = hostile.into();
            let mut text = header.to_string().into_bytes();
            text.resize(text.len().next_multiple_of(8), b' ');
            let changed = [
                &(text.len() as u64).to_le_bytes()[..],
                &text,
                &bytes[8 + length..],
            ]
            .concat();
            File::create(dir.join("e.idx")).unwrap();
            fs::write(dir.join("e.idx"), changed).unwrap();
            for args in [
                &["inspect", "e.idx"][..],
                &["inspect", "--json", "e.idx"],
                &["inspect", "e.idx", "b.idx"],
                &["merge", "e.idx", "b.idx", "-o", "m.idx", "--force"],
                &["merge", "a.idx", "-o", "e.idx"],
                &["generate", "dog", "--steps", "1", "--concepts", "e.idx"],
                &["eval", "e.idx", "--images", "p", "--encoder", "no"],
            ] {
                let output = crate::cli::cones(dir, args);
                for stream in [&output.stdout, &output.stderr] {
                    let text = String::from_utf8_lossy(stream);
                    assert!(!act(&text), "{key}, {args:?}: {text:?}");
                    assert!(
                        !text.contains("\nerror: forged"),
                        "{key}, {args:?}: {text:?}"
                    );
                }
            }
        }
    }
}

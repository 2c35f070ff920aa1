//! What subjects are called, wherever they are looked up; and the bounds of the files that hold them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod proportion;

use std::path::Path;

use cones::index::{NeuronIndex, NeuronSet, Provenance, Scope, Source, Subject};

use crate::alloc::peak_of;
use crate::cli::{cones, fails, find_learned, golden, json, ok};
use crate::index::{concept, site};

fn subject(token: &str, noun: &str) -> Subject {
    Subject {
        noun: noun.to_owned(),
        token: token.to_owned(),
    }
}

/// A concept of one subject bound to its words, with one neuron.
fn bound(token: &str, noun: &str, neuron: u32) -> NeuronIndex {
    let provenance = Provenance {
        scope: Scope::Words,
        subjects: vec![subject(token, noun)],
        ..concept("dog", 0).provenance().clone()
    };
    let set = NeuronSet::new([24, 32], vec![neuron]).unwrap();
    NeuronIndex::new(provenance, [(site("mid_block", "to_v"), set)]).unwrap()
}

fn write(dir: &Path, name: &str, index: &NeuronIndex) {
    index.write(&dir.join(name)).unwrap();
}

#[test]
fn two_subjects_of_one_phrase_are_refused_alike() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (one, two) in [
        (("sks", "dog"), ("sks", "dog")),
        (("sks", "dog"), ("Sks", "DOG")),
        (("sks", "old dog"), ("sks old", "dog")),
        (("sks", "e\u{301}t\u{e9}"), ("sks", "\u{e9}te\u{301}")),
        (("sks", "dog"), ("dog", "house")),
        (("sks", "old dog"), ("sks", "old   dog")),
    ] {
        write(dir, "one.idx", &bound(one.0, one.1, 1));
        write(dir, "two.idx", &bound(two.0, two.1, 2));
        for args in [
            &["merge", "one.idx", "two.idx", "-o", "both.idx"][..],
            &[
                "generate",
                "--concepts",
                "one.idx,two.idx",
                "a photo in a park",
            ],
            &[
                "generate",
                "--force",
                "--concepts",
                "two.idx,one.idx",
                "a photo",
            ],
        ] {
            let message = fails(dir, args, 1);
            for part in [
                format!("`{} {}` of `one.idx`", one.0, one.1),
                format!("`{} {}` of `two.idx`", two.0, two.1),
                "--token".to_owned(),
            ] {
                assert!(message.contains(&part), "{args:?}: {message}");
            }
        }
        assert!(!dir.join("both.idx").exists());
    }
    // The same index twice is one.
    std::fs::copy(dir.join("one.idx"), dir.join("copy.idx")).unwrap();
    let merge = ["merge", "one.idx", "copy.idx", "-o", "same.idx"];
    let message = String::from_utf8(cones(dir, &merge).stderr).unwrap();
    assert!(message.contains("taken once"), "{message}");
    let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
    assert_eq!(read("same.idx"), read("one.idx"));
}

#[test]
fn what_was_merged_from_an_index_goes_with_it() {
    let (dog, cat) = (bound("sks", "dog", 1), bound("sks", "cat", 2));
    let cup = bound("sks", "cup", 3);
    let pair = NeuronIndex::union(&[&dog, &cat]).unwrap();
    let other = NeuronIndex::union(&[&cat, &cup]).unwrap();
    let all = NeuronIndex::union(&[&dog, &cat, &cup]).unwrap();
    assert_eq!(NeuronIndex::union(&[&pair, &other]).unwrap(), all);
    assert_eq!(NeuronIndex::union(&[&pair, &dog, &cup]).unwrap(), all);
    let stranger = bound("sks", "dog", 4);
    NeuronIndex::union(&[&pair, &stranger]).unwrap_err();
    NeuronIndex::union(&[&stranger, &pair]).unwrap_err();
    // Files of old that hold a phrase twice are refused when they are read.
    let mut text = pair.to_bytes().unwrap();
    let old = br#"\"noun\":\"cat\""#;
    while let Some(at) = text.windows(old.len()).position(|part| part == old) {
        text[at..at + old.len()].copy_from_slice(br#"\"noun\":\"Dog\""#);
    }
    let error = NeuronIndex::try_from(text.as_slice()).unwrap_err();
    assert!(error.to_string().contains("each phrase once"), "{error}");
    assert!(error.hint().unwrap().contains("another token"));
}

#[test]
fn folders_and_subjects_are_given_by_names_that_mean_one() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let all = [
        bound("sks", "dog", 1),
        bound("zwx", "dog", 2),
        bound("sks", "\u{e9}t\u{e9}", 3),
        bound("sks", "a=b", 4),
    ];
    let all = NeuronIndex::union(&all.iter().collect::<Vec<_>>()).unwrap();
    write(dir, "all.idx", &all);
    let photos = golden("photos/subject");
    let choices = "sks dog, zwx dog, sks \u{e9}t\u{e9}, sks a=b";
    for (images, wants) in [
        (&["dog"][..], "the noun of several"),
        (&["owl"], choices),
        (&["sks dog", "SKS Dog"], "`sks dog` once"),
        (&["sks dog", "sks dog"], "`sks dog` once"),
        (
            &["sks dog", "zwx dog", "e\u{301}te\u{301}"],
            "add --images a=b=DIR",
        ),
        (
            &["sks dog", "E\u{301}T\u{c9}", "a=b"],
            "none of `zwx dog`: add --images zwx dog=DIR",
        ),
        (&["sks dog", "zwx dog", "ete", "a=b"], choices),
        (
            &["sks dog", "zwx dog", "\u{e9}t\u{e9}", "a=b", "cat"],
            choices,
        ),
    ] {
        let mut args = vec!["merge", "all.idx", "-o", "x.idx", "--tune", "1"];
        let images: Vec<String> = images
            .iter()
            .map(|name| format!("{name}={photos}"))
            .collect();
        args.extend(images.iter().flat_map(|image| ["--images", image]));
        let message = fails(dir, &args, 1);
        assert!(message.contains(wants), "{images:?}: {message}");
    }
    for (given, wants) in [
        (None, "sks dog, zwx dog, sks \u{e9}t\u{e9}, sks a=b"),
        (Some("dog"), "the noun of several"),
        (Some("cat"), choices),
        (Some("sks"), choices),
    ] {
        let mut args = vec!["eval", "all.idx", "--images", &photos];
        args.extend(given.into_iter().flat_map(|name| ["--subject", name]));
        let message = fails(dir, &args, 1);
        assert!(message.contains(wants), "{given:?}: {message}");
        assert!(message.contains("--subject"), "{message}");
    }
}

#[test]
fn prompts_that_read_alike_draw_alike() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let model = golden("models/sd1-f32");
    find_learned(dir, "caf\u{e9}", "1", &[]);
    find_learned(dir, "caf\u{e9} table", "2", &[]);
    let draw = |concepts: &str, prompt: &str| {
        let mut args = vec![
            "generate",
            "--model",
            &model,
            "--steps",
            "2",
            "--no-metadata",
        ];
        args.extend(["--json", "--concepts", concepts, prompt]);
        let used = json(&ok(dir, &args))["prompt"].as_str().unwrap().to_owned();
        (used, std::fs::read(dir.join("out.png")).unwrap())
    };
    let want = draw("caf\u{e9}.idx", "a sks caf\u{e9} here");
    for prompt in [
        "a Sks Caf\u{e9} here",
        "a sks  caf\u{e9} here",
        "a sks cafe\u{301} here",
        "a SKS\nCAFE\u{301} here",
        "a sks\u{a0}caf\u{c9} here",
    ] {
        let (used, picture) = draw("caf\u{e9}.idx", prompt);
        assert_eq!(used, prompt);
        assert!(picture == want.1, "{prompt:?}");
    }
    assert_eq!(
        draw("caf\u{e9}.idx", "a cafe\u{301} here").0,
        "a sks cafe\u{301} here"
    );
    let message = fails(
        dir,
        &[
            "generate",
            "--model",
            &model,
            "--concepts",
            "caf\u{e9}.idx",
            "a caf\u{e9}",
            "--attend-excite=caf\u{e9},CAFE\u{301}",
        ],
        1,
    );
    assert!(message.contains("each word once"), "{message}");

    // The longer phrase has its words to itself, whatever else is given.
    let table = "a sks caf\u{e9} table";
    let long = draw("caf\u{e9} table.idx", table);
    let raw = |concepts: &str| {
        let mut args = vec![
            "generate",
            "--model",
            &model,
            "--steps",
            "2",
            "--no-metadata",
        ];
        args.extend(["--raw-prompt", "--concepts", concepts, table]);
        let output = cones(dir, &args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{stderr}");
        (stderr, std::fs::read(dir.join("out.png")).unwrap())
    };
    for concepts in [
        "caf\u{e9}.idx,caf\u{e9} table.idx",
        "caf\u{e9} table.idx,caf\u{e9}.idx",
    ] {
        let (stderr, picture) = raw(concepts);
        assert!(picture == long.1, "{concepts}");
        assert!(stderr.contains("is a part of"), "{stderr}");
    }
    assert!(raw("caf\u{e9}.idx").1 != long.1);
}

#[test]
fn what_is_written_can_be_read() {
    let sha256 = |n: usize| format!("{n:064x}");
    let with = |change: &dyn Fn(&mut Provenance)| {
        let mut provenance = concept("dog", 1).provenance().clone();
        change(&mut provenance);
        NeuronIndex::new(provenance, []).and_then(|index| index.to_bytes())
    };
    let part = |n: usize| Source {
        subjects: vec![subject("sks", &format!("n{n}"))],
        method: "paper".to_owned(),
        shut: 1,
        total: 2,
        sha256: sha256(n),
    };
    // The most of everything.
    let most: [&dyn Fn(&mut Provenance); 7] = [
        &|p| p.pictures = (0..30_000).map(sha256).collect(),
        &|p| p.prompts = vec!["\"".repeat(1000); 256],
        &|p| {
            p.settings = (0..256)
                .map(|n| (n.to_string(), "\u{10ffff}".repeat(1000)))
                .collect()
        },
        &|p| {
            p.subjects = (0..64)
                .map(|n| subject("\"".repeat(200).as_str(), &format!("{n:0200}")))
                .collect()
        },
        &|p| p.merged_from = (0..64).map(part).collect(),
        &|p| p.model = "m".repeat(1000),
        &|p| p.method = "\u{e9}".repeat(1000),
    ];
    for (number, change) in most.iter().enumerate() {
        let bytes = with(change).unwrap();
        let read = NeuronIndex::try_from(bytes.as_slice());
        assert!(read.is_ok(), "{number}: {:?}", read.err());
    }
    let too_much: [&dyn Fn(&mut Provenance); 11] = [
        &|p| p.pictures = (0..30_001).map(sha256).collect(),
        &|p| p.pictures = (0..60_000).map(sha256).collect(),
        &|p| p.prompts = vec!["x".repeat(1001)],
        &|p| p.prompts = vec!["x".to_owned(); 257],
        &|p| p.settings = (0..257).map(|n| (n.to_string(), String::new())).collect(),
        &|p| p.subjects = (0..65).map(|n| subject("sks", &format!("n{n}"))).collect(),
        &|p| p.merged_from = (0..65).map(part).collect(),
        &|p| p.subjects[0].noun = "x".repeat(201),
        &|p| p.subjects[0].token = "x".repeat(201),
        &|p| p.model = "x".repeat(1001),
        // Each within its bound, all of them more than a header holds.
        &|p| {
            p.pictures = (0..30_000).map(sha256).collect();
            p.prompts = vec!["\"".repeat(1000); 256];
            p.settings = (0..256)
                .map(|n| (format!("{n}{}", "\"".repeat(990)), "\"".repeat(1000)))
                .collect();
        },
    ];
    for (number, change) in too_much.iter().enumerate() {
        let error = with(change).unwrap_err().to_string();
        assert!(error.contains("at most"), "{number}: {error}");
    }
    // As eight merged files of 9,000 photos each.
    let photos = |noun: &str, from: usize| {
        let few = concept(noun, 1);
        let pictures = (from..from + 9000).map(sha256).collect();
        let provenance = Provenance {
            pictures,
            ..few.provenance().clone()
        };
        let sites = few.sites().map(|(site, set)| (site.clone(), set.clone()));
        NeuronIndex::new(provenance, sites).unwrap()
    };
    let all: Vec<NeuronIndex> = (0..8).map(|n| photos(&format!("n{n}"), n * 9000)).collect();
    let union = |n: usize| NeuronIndex::union(&all[..n].iter().collect::<Vec<_>>());
    let three = union(3).unwrap();
    assert_eq!(
        NeuronIndex::try_from(three.to_bytes().unwrap().as_slice()).unwrap(),
        three
    );
    assert!(union(8).unwrap_err().to_string().contains("at most 30000"));
}

#[test]
fn no_text_of_an_index_steers_a_terminal() {
    type Place = fn(&mut Provenance) -> &mut String;
    let places: [Place; 8] = [
        |p| &mut p.model,
        |p| &mut p.method,
        |p| &mut p.prompts[0],
        |p| p.settings.values_mut().next().unwrap(),
        |p| p.architecture.as_mut().unwrap(),
        |p| &mut p.subjects[0].noun,
        |p| &mut p.subjects[0].token,
        |p| p.prediction_type.insert("epsilon".to_owned()),
    ];
    for (number, place) in places.into_iter().enumerate() {
        for evil in [
            "\u{1b}]0;x\u{7}",
            "a\nb",
            "a\rb",
            "\u{9b}2J",
            "\u{202e}x",
            "a\u{2028}b",
            "\0",
            "\u{2067}",
        ] {
            let mut provenance = concept("dog", 1).provenance().clone();
            place(&mut provenance).push_str(evil);
            let error = NeuronIndex::new(provenance, []).unwrap_err().to_string();
            assert!(
                error.contains("without control characters"),
                "{number} {evil:?}: {error}"
            );
            assert!(!error.contains(evil), "{number} {evil:?}");
        }
    }
    let mut provenance = concept("dog", 1).provenance().clone();
    provenance
        .settings
        .insert("a\u{1b}".to_owned(), String::new());
    NeuronIndex::new(provenance, []).unwrap_err();
}

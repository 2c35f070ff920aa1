use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::*;
use crate::find::Shard;
use crate::index::{Scope, Subject};

const SITE: &str = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight";

fn parse(name: &str, dtype: Dtype, shape: &[usize]) -> Result<Scores> {
    let count: usize = shape.iter().product();
    let data = vec![0; count * if dtype == Dtype::F32 { 4 } else { 2 }];
    let view = TensorView::new(dtype, shape.to_vec(), &data).unwrap();
    Scores::from_bytes(&safetensors::serialize([(name, view)], None).unwrap())
}

fn plan(steps: &str) -> Provenance {
    let setting = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    Provenance {
        model: "m".to_owned(),
        fingerprint: "a".repeat(64),
        subjects: vec![Subject {
            noun: "dog".to_owned(),
            token: "sks".to_owned(),
        }],
        method: "paper".to_owned(),
        scope: Scope::Words,
        settings: [setting("steps", steps), setting("density", "0.5")].into(),
        seed: Some(3),
        ..Provenance::default()
    }
}

fn site() -> Site {
    SITE.parse().unwrap()
}

#[test]
fn what_is_written_is_read() {
    let values = [(site(), vec![0.5, -1.0, 0.25, 2.0, 0.0, 1.0])].into();
    let shapes = [(site(), [2, 3])].into();
    let file = Scores::to_bytes(&values, &shapes, &plan("4")).unwrap();
    let scores = Scores::from_bytes(&file).unwrap();
    assert_eq!((&scores.shapes, &scores.values), (&shapes, &values));
    assert_eq!(scores.provenance().unwrap(), &plan("4"));
    assert!(Scores::to_bytes(&values, &BTreeMap::new(), &plan("4")).is_err());
    assert!(Part::from_bytes(&file).is_err());

    // Another choice is told in the index's settings, in place of the run's.
    let found = scores
        .clone()
        .choose(Selection::Threshold(0.25), None)
        .unwrap();
    let set = found.index.site(&site()).unwrap().indices().to_vec();
    assert_eq!(set, [0, 2, 3, 5]);
    let settings = &found.index.provenance().settings;
    assert_eq!(
        (settings.get("density"), settings["threshold"].as_str()),
        (None, "0.25")
    );
    let again = scores
        .choose(Selection::try_from(&plan("4")).unwrap(), None)
        .unwrap();
    assert_eq!(again.scores_file().unwrap(), file);
}

/// Every byte counts: of the header, of what it says, of the numbers.
#[test]
fn changed_files_are_refused() {
    let values = [(site(), vec![0.5, -1.0])].into();
    let file = Scores::to_bytes(&values, &[(site(), [2, 1])].into(), &plan("4")).unwrap();
    for length in 0..file.len() {
        assert!(Scores::from_bytes(&file[..length]).is_err(), "{length}");
    }
    for at in file.len() - 8..file.len() {
        let mut file = file.clone();
        file[at] ^= 1;
        let error = Scores::from_bytes(&file).unwrap_err().to_string();
        assert!(error.contains("SHA-256"), "{error}");
    }
    let header = String::from_utf8_lossy(&file[8..file.len() - 8]).into_owned();
    for (from, to) in [
        ("cones.scores", "cones.scored"),
        (r#"\"version\":1"#, r#"\"version\":2"#),
        (r#"\"plan\""#, r#"\"plane\""#),
        ("sks", "s\\\\u001b"),
        (r#"\"steps\""#, r#"\"part\""#), // twice
    ] {
        assert!(header.contains(from), "{from}: {header}");
        let mut changed = header.replace(from, to).trim_end().to_owned();
        changed += &" ".repeat(changed.len().next_multiple_of(8) - changed.len());
        let length = (changed.len() as u64).to_le_bytes();
        let bytes = [&length, changed.as_bytes(), &file[file.len() - 8..]].concat();
        let read = Scores::from_bytes(&bytes);
        assert!(read.is_err() || from.contains("steps"), "{to}");
    }
}

#[test]
fn only_scores_are_read() {
    assert_eq!(parse(SITE, Dtype::F32, &[2, 3]).unwrap().shapes.len(), 1);
    assert!(
        parse(SITE, Dtype::F32, &[2, 3])
            .unwrap()
            .provenance()
            .is_err()
    );
    for (name, dtype, shape) in [
        ("weight", Dtype::F32, &[2, 3][..]),
        (SITE, Dtype::F16, &[2, 3]),
        (SITE, Dtype::F32, &[6]),
    ] {
        assert!(
            parse(name, dtype, shape).is_err(),
            "{name} {dtype:?} {shape:?}"
        );
    }
    assert!(Scores::from_bytes(b"no safetensors").is_err());
    let empty: [(&str, TensorView); 0] = [];
    assert!(Scores::from_bytes(&safetensors::serialize(empty, None).unwrap()).is_err());
}

fn part(of: &str, plan: &Provenance, shape: &[usize]) -> Vec<u8> {
    let values = (1..=shape.iter().product()).map(|i| i as f32).collect();
    let array = Array {
        shape: shape.to_vec(),
        values,
    };
    file::to_bytes(plan, Some(of.to_owned()), &[(site(), array)].into()).unwrap()
}

#[test]
fn parts_are_of_their_steps() {
    let whole = part("2/2", &plan("5"), &[3, 1, 2]);
    let read = Part::from_bytes(&whole).unwrap();
    assert_eq!(
        (read.shard, read.to_bytes().unwrap()),
        (Shard::new(2, 2).unwrap(), whole.clone())
    );
    assert!(Scores::from_bytes(&whole).is_err());
    for (of, steps, shape) in [
        ("1/2", "5", &[3, 1, 2][..]),
        ("2/2", "5", &[3, 2]),
        ("2/2", "x", &[3, 1, 2]),
        ("3/2", "5", &[3, 1, 2]),
        ("1/9", "5", &[0, 1, 2]),
        ("2/2", "99999999999999999999", &[3, 1, 2]),
    ] {
        let error = Part::from_bytes(&part(of, &plan(steps), shape));
        assert!(error.is_err() || of == "1/9", "{of} {steps} {shape:?}");
    }
}

/// What is missing, double or of another run is named; in whatever order, the sum is that of the blocks.
#[test]
fn parts_are_all_and_of_one_run() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let write = |name: &str, bytes: Vec<u8>| {
        std::fs::write(at(name), bytes).unwrap();
        at(name)
    };
    let plan = plan("5");
    let [a, b] = [
        write("a", part("1/2", &plan, &[2, 1, 2])),
        write("b", part("2/2", &plan, &[3, 1, 2])),
    ];
    let other = Provenance {
        seed: Some(4),
        ..plan.clone()
    };
    let foreign = write("foreign", part("2/2", &other, &[3, 1, 2]));
    let third = write("third", part("2/3", &plan, &[2, 1, 2]));
    let twice = write("twice", part("1/2", &plan, &[2, 1, 2]));
    let junk = write("junk", b"junk".to_vec());
    for (files, words) in [
        (vec![&a], "no 2/2"),
        (vec![&a, &b, &twice], "twice"),
        (
            vec![&a, &foreign],
            "foreign: expected a part of the run that",
        ),
        (vec![&a, &foreign], "another seed"),
        (vec![&a, &third], "part 2/3 instead of one of 2"),
        (vec![&a, &junk], "junk"),
        (vec![], "at least one"),
    ] {
        let files: Vec<_> = files.into_iter().cloned().collect();
        let error = Parts::open(&files).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let selection = Selection::Density(0.5);
    let sums: Vec<Scores> = [[&a, &b], [&b, &a]]
        .map(|files| Parts::open(&files.map(Clone::clone)).unwrap().unwrap())
        .map(|parts| parts.add_up(selection).unwrap().0)
        .into();
    assert_eq!(sums[0], sums[1]);
    // Blocks of a step: (1 + 3 + 1 + 3 + 5)/5, (2 + 4 + 2 + 4 + 6)/5
    let means = &sums[0].values[&site()];
    assert!(
        (means[0] - 2.6).abs() < 1e-6 && (means[1] - 3.6).abs() < 1e-6,
        "{means:?}"
    );
    // Of other sites than the first: known when it is read.
    let wide = write("wide", part("2/2", &plan, &[3, 2, 2]));
    let error = Parts::open(&[a, wide])
        .unwrap()
        .unwrap()
        .add_up(selection)
        .unwrap_err();
    assert!(error.to_string().contains("wide"), "{error}");
}

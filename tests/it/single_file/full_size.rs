//! What the program knows of models of full size: their configurations and their vocabulary.

use super::*;

/// A file of full size, in which no number is written: its configuration is told from its shapes, its words are CLIP's.
fn full_size(path: &Path, family: &str, notes: Value, more: &[&str]) {
    let mut header = serde_json::Map::new();
    let mut end = 0usize;
    let mut add = |header: &mut serde_json::Map<String, Value>, name: &str, shape: &[usize]| {
        let from = end;
        end += 2 * shape.iter().product::<usize>();
        header.insert(
            name.to_owned(),
            json!({"dtype": "F16", "shape": shape, "data_offsets": [from, end]}),
        );
    };
    for [stored, shape, ..] in rows(family) {
        if !header.contains_key(&stored) {
            let shape: Vec<usize> = shape.split('x').map(|n| n.parse().unwrap()).collect();
            add(&mut header, &stored, &shape);
        }
    }
    for name in more {
        add(&mut header, name, &[0]);
    }
    header.insert("__metadata__".to_owned(), notes);
    let mut text = serde_json::to_vec(&header).unwrap();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut file = File::create(path).unwrap();
    file.write_all(&(text.len() as u64).to_le_bytes()).unwrap();
    file.write_all(&text).unwrap();
    file.set_len((8 + text.len() + end) as u64).unwrap();
}

/// A family, notes, tensors besides and options; what the model then predicts, and the side of its pictures.
type FullSize<'a> = (
    &'a str,
    Value,
    &'a [&'a str],
    &'a OpenOptions,
    &'a str,
    usize,
);

#[test]
fn files_of_full_size_need_no_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("v1-5.safetensors");
    let velocity = OpenOptions {
        prediction: Some(Prediction::Velocity),
        ..OpenOptions::default()
    };
    let spec = |value: &str| json!({"modelspec.prediction_type": value});
    #[rustfmt::skip]
    let rows: [FullSize; 7] = [
        ("sd1", json!({}), &[], &OpenOptions::default(), "epsilon", 512),
        ("sd1", json!({}), &["v_pred", "ztsnr"], &OpenOptions::default(), "v", 512),
        ("sd1", spec("v"), &[], &OpenOptions::default(), "v", 512),
        ("sd1", json!({}), &[], &velocity, "v", 512),
        ("sd2", json!({}), &["cond_stage_model.model.transformer.resblocks.23.ln_1.bias"], &OpenOptions::default(),
         "epsilon", 512),
        ("sd2", json!({"modelspec.architecture": "stable-diffusion-v2-768-v"}), &[], &OpenOptions::default(), "v", 768),
        ("sd2", spec("epsilon"), &["v_pred"], &velocity, "v", 768),
    ];
    for (family, notes, more, options, prediction, side) in rows {
        full_size(&path, family, notes, more);
        // The embeddings of words are copied, as f32, and nothing else of size.
        let (pipeline, peak) = peak_of(|| load(&path, options));
        assert!(peak < 320 << 20, "{family}: {} MB", peak >> 20);
        let found = pipeline.prediction.to_string();
        assert_eq!(found, prediction, "{family} {more:?}");
        assert_eq!(
            (pipeline.name.as_str(), pipeline.size),
            ("v1-5", square(side)),
            "{family}"
        );
    }
    full_size(&path, "sd1", spec("epsilon"), &["v_pred"]);
    let error = Source::open(path.to_str().unwrap()).unwrap_err();
    assert!(error.to_string().contains("said twice"), "{error}");
    assert!(error.hint().unwrap().contains("velocity"), "{error}");
}

/// The ids of 3,000 prompts in CLIP's own vocabulary, as transformers' `CLIPTokenizer` gives them.
#[test]
fn the_vocabulary_in_the_program_gives_the_ids_of_transformers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.safetensors");
    full_size(&path, "sd1", json!({}), &[]);
    let pipeline = load(&path, &OpenOptions::default());
    let prompts = fs::read_to_string(golden("published/prompts.txt")).unwrap();
    let prompts: Vec<String> = prompts
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let want = unpacked("ids.txt.gz");
    let want: Vec<Vec<u32>> = want
        .lines()
        .map(|line| line.split(' ').map(|id| id.parse().unwrap()).collect())
        .collect();
    assert_eq!((prompts.len(), want.len()), (3000, 3000));
    for (prompt, want) in prompts.iter().zip(want) {
        let mut ids = pipeline.token_ids(prompt).unwrap();
        let padding = ids[want.len()..].iter().all(|id| *id == 49407);
        ids.truncate(want.len());
        assert!(ids == want && padding, "{prompt:?}: {ids:?}, {want:?}");
    }
}

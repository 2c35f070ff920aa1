//! Files that are no tokenizer.

use super::*;

#[test]
fn other_files_that_are_not_a_tokenizers_are_refused_by_name() {
    let missing = || Value::Null;
    let cases: [(&[(&str, Value)], &str); 15] = [
        (&[("vocab.json", missing())], "vocab.json"),
        (&[("merges.txt", missing())], "merges.txt"),
        (&[("vocab.json", json!("[1]"))], "vocab.json"),
        (&[("vocab.json", json!("{\"a\": 0"))], "vocab.json"),
        (&[("vocab.json", json!({"a": 0.5}))], "vocab.json"),
        (
            &[("merges.txt", json!("#version: 0.2\na b\nnospace\n"))],
            "merge",
        ),
        (&[("merges.txt", json!("a b c\n"))], "merge 1"),
        (&[("merges.txt", json!("zzz yyy\n"))], "\"zzz\""),
        (
            &[(JSON, json!("version https://git-lfs.github.com/spec/v1\n"))],
            JSON,
        ),
        (&[(JSON, json!({"model": null}))], JSON),
        (
            &[("tokenizer_config.json", json!({"init_inputs": [{"a": 1}]}))],
            "init_inputs",
        ),
        (
            &[(
                "tokenizer_config.json",
                json!({"fast_tokenizer_files": ["tokenizer.4.0.json", JSON]}),
            )],
            "fast_tokenizer_files",
        ),
        (
            &[("tokenizer_config.json", json!({"image_token": "<image>"}))],
            "image_token",
        ),
        (
            &[("tokenizer_config.json", json!({"model_max_length": 1}))],
            "model_max_length",
        ),
        (&[("added_tokens.json", json!({"<sks>": "700"}))], "<sks>"),
    ];
    for (files, part) in cases {
        let files = files
            .iter()
            .map(|(file, value)| (file.to_string(), value.clone()));
        let error = load(folder(&files.clone().collect()).path(), 77).err();
        let files: BTreeMap<String, Value> = files.collect();
        let error = error
            .unwrap_or_else(|| panic!("{files:?} is taken"))
            .to_string();
        assert!(error.contains(part), "{files:?}: {error}");
    }
}

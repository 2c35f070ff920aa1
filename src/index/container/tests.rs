use super::*;

fn sample() -> (BTreeMap<String, String>, Tensors<Vec<u8>>) {
    let metadata = [("z", "\"quoted\" \u{1f415}"), ("a", "1")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
    let tensors = [
        (
            "b",
            Tensor {
                dtype: Dtype::U8,
                bytes: vec![1, 2, 3],
            },
        ),
        (
            "c",
            Tensor {
                dtype: Dtype::F16,
                bytes: vec![4, 5],
            },
        ),
        (
            "a",
            Tensor {
                dtype: Dtype::U8,
                bytes: vec![],
            },
        ),
    ];
    (
        metadata.into(),
        tensors
            .map(|(name, tensor)| (name.to_owned(), tensor))
            .into(),
    )
}

/// A file of this header and these bytes.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [
        &(header.len() as u64).to_le_bytes(),
        header.as_bytes(),
        data,
    ]
    .concat()
}

#[test]
fn the_safetensors_crate_reads_it() {
    let (metadata, tensors) = sample();
    let bytes = serialize(&metadata, &tensors).unwrap();
    let (header_length, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header_length % 8, 0);
    let found: BTreeMap<_, _> = header.metadata().clone().unwrap().into_iter().collect();
    assert_eq!(found, metadata);
    let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(read.len(), 3);
    for (name, tensor) in &tensors {
        let view = read.tensor(name).unwrap();
        assert_eq!(
            (view.data(), view.shape()),
            (tensor.bytes.as_slice(), &[tensor.len()][..])
        );
        assert_eq!(view.dtype().to_string(), tensor.dtype.name());
    }
    let (metadata_again, tensors_again) = parse(&bytes).unwrap();
    assert_eq!(metadata_again, metadata);
    assert_eq!(serialize(&metadata_again, &tensors_again).unwrap(), bytes);
    assert_eq!(tensors_sha256(&tensors_again), tensors_sha256(&tensors));
}

#[test]
fn nothing_and_no_metadata_can_be_written() {
    for (metadata, tensors) in [
        (BTreeMap::new(), Tensors::new()),
        (sample().0, Tensors::new()),
        (BTreeMap::new(), sample().1),
    ] {
        let bytes = serialize(&metadata, &tensors).unwrap();
        safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(parse(&bytes).unwrap().0, metadata);
    }
}

#[test]
fn lies_are_refused() {
    let refuse = |bytes: &[u8], wants: &str| {
        let error = parse(bytes).unwrap_err().to_string();
        assert!(error.contains(wants), "{error}");
    };
    let one = |entry: &str, data: &[u8]| file(&format!("{{\"a\":{{{entry}}}}}"), data);
    refuse(b"", "found 0 bytes");
    refuse(&[0xff; 8], "header bytes in a file of 8");
    refuse(&(1_u64 << 23).to_le_bytes(), "header bytes");
    refuse(&[0; 8], "cannot be read");
    refuse(&file("[]", b""), "cannot be read");
    refuse(&file(&"[".repeat(100_000), b""), "cannot be read");
    refuse(
        &file(r#"{"__metadata__":{"a":"1","a":"1"}}"#, b""),
        "metadata `a` twice",
    );
    refuse(
        &file(r#"{"__metadata__":{},"__metadata__":{}}"#, b""),
        "metadata twice",
    );
    refuse(&file(r#"{"__metadata__":{"a":1}}"#, b""), "cannot be read");
    let entry = r#"{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"#;
    refuse(
        &file(&format!(r#"{{"a":{entry},"a":{entry}}}"#), b""),
        "tensor `a` twice",
    );
    refuse(
        &one(r#""dtype":"U8","shape":[1,1],"data_offsets":[0,1]"#, b"x"),
        "cannot be read",
    );
    refuse(
        &one(r#""dtype":"F32","shape":[1],"data_offsets":[0,4]"#, b"abcd"),
        "found `F32`",
    );
    refuse(
        &one(r#""dtype":"U8","shape":[2],"data_offsets":[0,1]"#, b"x"),
        "2 elements of 1 bytes, found 1 bytes",
    );
    refuse(
        &one(
            r#""dtype":"F16","shape":[9223372036854775808],"data_offsets":[0,0]"#,
            b"",
        ),
        "found 0 bytes",
    );
    refuse(
        &one(r#""dtype":"U8","shape":[1],"data_offsets":[1,0]"#, b"x"),
        "1 to 0",
    );
    refuse(
        &one(
            r#""dtype":"U8","shape":[1],"data_offsets":[0,18446744073709551615]"#,
            b"x",
        ),
        "a place in 1 bytes",
    );
    refuse(
        &one(r#""dtype":"U8","shape":[1],"data_offsets":[1,2]"#, b"xy"),
        "from byte 0, found from byte 1",
    );
    refuse(
        &one(r#""dtype":"U8","shape":[1],"data_offsets":[0,1]"#, b"xy"),
        "1 bytes of tensor data, found 2",
    );
    let twice = r#"{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#;
    refuse(
        &file(&format!(r#"{{"a":{twice},"b":{twice}}}"#), b"x"),
        "from byte 1, found from byte 0",
    );
}

#[test]
fn text_from_a_file_cannot_reach_the_terminal_raw() {
    assert_eq!(shown("a\u{1b}[31m\n"), "`a\\u{1b}[31m\\n`");
    assert_eq!(shown(&"x".repeat(999)), format!("`{}…`", "x".repeat(80)));
    assert_eq!(shown("it's"), "`it's`");
}

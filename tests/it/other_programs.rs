//! What `examples/` has for other programs.

use std::fs;

use super::cli::repository;

/// A user copies one file, so that each has the reader of an index in it: the same one.
#[test]
fn the_readers_of_an_index_are_one_text() {
    let reader = |file: &str| {
        let text = fs::read_to_string(repository().join("examples").join(file)).unwrap();
        let start = text.find("def indices(").unwrap();
        let end = text.find("- end of that text\n").unwrap();
        text[start..end].to_owned()
    };
    let one = reader("diffusers/cones_diffusers.py");
    assert!(one.contains("class Index:"), "{one}");
    assert_eq!(one, reader("comfyui/cones_comfyui.py"));
}

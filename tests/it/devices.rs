//! Devices that a build or a machine does not have.

use super::cli::fails;

#[test]
fn devices_that_are_not_there_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |options: &[&str], named: &str| {
        let args = [&["generate"], options, &["a dog"]].concat();
        let message = fails(dir.path(), &args, 2);
        assert!(message.contains(named), "{message}");
    };
    refused(&["--device", "abacus"], "cpu");
    refused(&["--device", "cuda:x"], "cuda");
    refused(&["--dtype", "f16"], "--device");
    if !cfg!(feature = "cuda") {
        refused(&["--device", "cuda"], "--features cuda");
        refused(&["--device", "cuda:1"], "--features cuda");
    }
    if !cfg!(feature = "metal") {
        refused(&["--device", "metal"], "--features metal");
    }
}

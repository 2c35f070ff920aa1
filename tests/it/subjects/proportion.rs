//! Memory is that of what is read.

use super::*;

/// The neurons of a matrix of 4,096 by 4,096 from one on: 2 MB.
fn dense(noun: &str, first: u32) -> NeuronIndex {
    let provenance = concept(noun, 1).provenance().clone();
    let set = NeuronSet::new([4096, 4096], (first..1 << 24).collect()).unwrap();
    NeuronIndex::new(provenance, [(site("mid_block", "to_k"), set)]).unwrap()
}

#[test]
fn memory_is_that_of_the_file() {
    let (one, other) = (dense("dog", 0), dense("cat", 5));
    let bytes = one.to_bytes().unwrap();
    assert!((2 << 20..3 << 20).contains(&bytes.len()));
    let (read, peak) = peak_of(|| NeuronIndex::try_from(bytes.as_slice()).unwrap());
    assert!(peak < 3 << 20, "{peak}");
    assert_eq!(read, one);
    let (union, peak) = peak_of(|| NeuronIndex::union(&[&one, &other]).unwrap());
    assert!(peak < 12 << 20, "{peak}");
    assert_eq!(union.extent().shut, 1 << 24);
    let (_, peak) = peak_of(|| union.to_bytes().unwrap());
    assert!(peak < 5 << 20, "{peak}");
}

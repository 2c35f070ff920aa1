//! Memory and time are those of what is read.

use super::*;

/// The neurons of a matrix of 4,096 by 4,096 from one on: 2 MB.
fn dense(noun: &str, first: u32) -> NeuronIndex {
    let mut index = NeuronIndex::new(concept(noun, 1).provenance().clone()).unwrap();
    let set = NeuronSet::new([4096, 4096], (first..1 << 24).collect()).unwrap();
    index.insert(site("mid_block", "to_k"), set).unwrap();
    index
}

#[test]
fn memory_is_that_of_the_file() {
    let (one, other) = (dense("dog", 0), dense("cat", 5));
    let bytes = one.to_bytes().unwrap();
    assert!((2 << 20..3 << 20).contains(&bytes.len()));
    let (read, peak) = peak_of(|| NeuronIndex::from_bytes(&bytes).unwrap());
    assert!(peak < 3 << 20, "{peak}");
    assert_eq!(read, one);
    let (union, peak) = peak_of(|| NeuronIndex::union(&[&one, &other]).unwrap());
    assert!(peak < 12 << 20, "{peak}");
    assert_eq!(union.shut(), 1 << 24);
    let (_, peak) = peak_of(|| union.to_bytes().unwrap());
    assert!(peak < 5 << 20, "{peak}");
}

#[test]
fn long_prompts_and_many_subjects_take_time_in_proportion() {
    let start = Instant::now();
    let nouns: Vec<String> = (0..64).map(|n| format!("noun{n}")).collect();
    let subjects: Vec<(&str, &str)> = nouns.iter().map(|noun| (noun.as_str(), "sks")).collect();
    let all = place_subjects("a photo in a park", &subjects);
    assert_eq!(occurrences(&all, "sks").len(), 64);
    for text in [
        "a noun1 ".repeat(20_000),
        "a, a. ".repeat(20_000),
        "noun1 ".repeat(20_000),
        "-".repeat(100_000),
    ] {
        let placed = place_subjects(&text, &subjects);
        assert_eq!(place_subjects(&placed, &subjects), placed);
    }
    let pattern = "a ".repeat(5000) + "b";
    assert!(occurrences(&"a ".repeat(50_000), &pattern).is_empty());
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
}

//! Tests of placing subjects.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

#[test]
fn prompts_know_where_words_are_marked() {
    let marks = Marks::new(vec!["sks dog".to_owned()], Vec::new());
    let spans = marks.prompt("a sks dog and a sks dog").spans();
    assert_eq!(spans, [[2..9, 16..23]]);
    assert!(PromptSpec::from("a sks dog").spans().is_empty());
    let dog = marks.prompt("a dog");
    assert_eq!(dog.missing().collect::<Vec<_>>(), ["sks dog"]);
    assert_eq!(marks.prompt("a sks dog").missing().count(), 0);
}

#[test]
fn articles_phrases_and_words() {
    assert_eq!((article("owl"), article("dog")), ("an", "a"));
    let places = words::phrases_in(
        "a sks dog house and a sks dog",
        &["sks dog", "sks dog house"],
    );
    assert_eq!(places.concat(), [22..29, 2..15]);
    let words = words::words_of("a dog's dog-house, A dog");
    assert_eq!(words, ["a", "dog", "s", "dog-house"]);
}

#[test]
fn subjects_are_placed_where_a_reader_expects_them() {
    let dog = ("dog", "sks");
    let cat = ("cat", "sks");
    let zwx = ("dog", "zwx");
    let three = [dog, ("cat", "zwx"), ("hat", "qev")];
    for (prompt, subjects, expected) in [
        // The noun is there.
        (
            "a photo of a dog in a park",
            &[dog][..],
            "a photo of a sks dog in a park",
        ),
        ("A dog and a Cat.", &[dog, cat], "A sks dog and a sks Cat."),
        ("an apple", &[("apple", "sks")], "a sks apple"),
        ("An apple", &[("apple", "sks")], "A sks apple"),
        ("a cat", &[("cat", "abc")], "an abc cat"),
        ("A cat", &[("cat", "abc")], "An abc cat"),
        ("a red dog", &[dog], "a red sks dog"),
        ("a dog's bowl", &[dog], "a sks dog's bowl"),
        ("a 'dog' (dog)", &[dog], "a 'sks dog' (sks dog)"),
        ("a photo of a sks dog", &[dog], "a photo of a sks dog"),
        ("a SKS  Dog", &[dog], "a SKS  Dog"),
        ("a dog beside a dog", &[dog], "a sks dog beside a sks dog"),
        ("a Sks Dog's bowl", &[dog], "a Sks Dog's bowl"),
        ("a sks\ndog, sharp", &[dog], "a sks\ndog, sharp"),
        ("a sks\u{3000}dog", &[dog], "a sks\u{3000}dog"),
        (
            "an e\u{301}te\u{301}",
            &[("\u{e9}t\u{e9}", "sks")],
            "a sks e\u{301}te\u{301}",
        ),
        (
            "an \u{c9}t\u{c9}",
            &[("e\u{301}te\u{301}", "sks")],
            "a sks \u{c9}t\u{c9}",
        ),
        ("a dog\u{301} x", &[dog], "a dog\u{301} x, a sks dog"),
        ("x\u{302}dog y", &[dog], "x\u{302}dog y, a sks dog"),
        ("\u{2764}\u{fe0f}dog", &[dog], "\u{2764}\u{fe0f}sks dog"),
        ("a \u{212a}", &[("k", "sks")], "a sks \u{212a}"),
        (
            "\u{1112}\u{1161}\u{11ab}",
            &[("\u{d55c}", "sks")],
            "sks \u{1112}\u{1161}\u{11ab}",
        ),
        (
            "a dog house",
            &[dog, ("dog house", "sks")],
            "a sks dog house and a sks dog",
        ),
        (
            "a sks dog house",
            &[dog, ("dog house", "sks")],
            "a sks dog house and a sks dog",
        ),
        (
            "a sks dog beside a dog",
            &[dog],
            "a sks dog beside a sks dog",
        ),
        (
            "a photo of a St. Bernard",
            &[("St. Bernard", "sks")],
            "a photo of a sks St. Bernard",
        ),
        (
            "a teddy, bear",
            &[("teddy bear", "sks")],
            "a teddy, a sks teddy bear, bear",
        ),
        // Several subjects with one noun.
        (
            "a dog beside a dog",
            &[dog, zwx],
            "a sks dog beside a zwx dog",
        ),
        (
            "a zwx dog and a dog",
            &[dog, zwx],
            "a zwx dog and a sks dog",
        ),
        (
            "a dog, a dog, a dog",
            &[dog, zwx],
            "a sks dog, a zwx dog, a dog",
        ),
        ("a dog", &[dog, zwx], "a sks dog and a zwx dog"),
        ("a dog", &[dog, dog], "a sks dog and a sks dog"),
        (
            "a photo of a dog in a park",
            &[dog, zwx],
            "a photo of a sks dog and a zwx dog in a park",
        ),
        // Longer nouns first.
        (
            "a teddy bear and a bear",
            &[("bear", "zwx"), ("teddy bear", "sks")],
            "a sks teddy bear and a zwx bear",
        ),
        (
            "a photo of a man in black",
            &[("man in black", "sks"), dog],
            "a photo of a sks man in black and a sks dog",
        ),
        // The noun is not there.
        (
            "a photo in a park",
            &[dog, cat],
            "a photo of a sks dog and a sks cat in a park",
        ),
        (
            "a photo",
            &three,
            "a photo of a sks dog, a zwx cat and a qev hat",
        ),
        (
            "a photo, 4k, sharp",
            &[dog],
            "a photo of a sks dog, 4k, sharp",
        ),
        (
            "a photo with flowers",
            &[dog],
            "a photo of a sks dog with flowers",
        ),
        (
            "a photo in front of a house",
            &[dog],
            "a photo of a sks dog in front of a house",
        ),
        (
            "a photo of a table in a park",
            &[dog],
            "a photo of a table and a sks dog in a park",
        ),
        (
            "a photo of a table in a park",
            &three[..2],
            "a photo of a table, a sks dog and a zwx cat in a park",
        ),
        (
            "a photo of a table, oil on canvas",
            &[dog],
            "a photo of a table and a sks dog, oil on canvas",
        ),
        (
            "a photo of a table.",
            &[dog],
            "a photo of a table and a sks dog.",
        ),
        (
            "a photo of a table with a cloth in a park",
            &[dog],
            "a photo of a table with a cloth and a sks dog in a park",
        ),
        (
            "a photo of a man sitting next to a house",
            &[dog],
            "a photo of a man and a sks dog sitting next to a house",
        ),
        (
            "a table in a park",
            &[dog],
            "a table and a sks dog in a park",
        ),
        ("two dogs", &[dog], "two dogs, a sks dog"),
        (
            "a hotdog stand, a dog-house",
            &[dog],
            "a hotdog stand, a sks dog, a dog-house",
        ),
        ("sunny beach", &[dog], "sunny beach, a sks dog"),
        ("in a park", &[dog], "a sks dog in a park"),
        ("a photo of", &[dog], "a photo of a sks dog"),
        (
            "a photo of in a park",
            &[dog],
            "a photo of a sks dog in a park",
        ),
        ("", &[dog], "a sks dog"),
        ("  ", &[dog], "a sks dog"),
        ("", &[], ""),
        (" untouched ", &[], " untouched "),
    ] {
        let placed = place_subjects(prompt, subjects);
        assert_eq!(placed, expected, "{prompt:?} {subjects:?}");
        assert_eq!(
            place_subjects(&placed, subjects),
            expected,
            "again: {prompt:?}"
        );
    }
}

proptest! {
    #[test]
    fn every_subject_is_there_and_stays(
        prompt in "\\PC{0,30}|[ a-zA-Z,.üé'\\-\n]{0,40}|\
                   (a |dog|cat |dog |in |photo |of |sks |zwx |teddy bear|bear|, |-){0,10}",
        picks in proptest::collection::vec(
            (
                proptest::sample::select(vec![
                    "dog", "cat", "bear", "teddy bear", "St. Bernard", "man in black", "été",
                ]),
                proptest::sample::select(vec!["sks", "zwx", "abc"]),
            ),
            0..5,
        ),
    ) {
        let placed = place_subjects(&prompt, &picks);
        for &subject in &picks {
            let equal = picks.iter().filter(|&&other| fold(&phrase(other)) == fold(&phrase(subject))).count();
            let occurrences = find(&placed, &[subject]).iter().filter(|o| o.named.is_some()).count();
            prop_assert!(occurrences >= equal, "{:?}: {:?} in {:?}", prompt, subject, placed);
        }
        prop_assert_eq!(place_subjects(&placed, &picks), placed.clone());
    }

    #[test]
    fn any_text_is_taken(
        prompt in "(?s).{0,60}",
        subjects in proptest::collection::vec(("(?s).{0,8}", "(?s).{0,6}"), 0..4),
    ) {
        let subjects: Vec<(&str, &str)> = subjects.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
        place_subjects(&prompt, &subjects);
    }

    #[test]
    fn any_text_of_few_letters_is_taken(
        prompt in "[aAİ -.é\u{301}]{0,12}",
        subjects in proptest::collection::vec(("[aİ -.]{0,3}", "[ai -]{0,2}"), 0..4),
    ) {
        let subjects: Vec<(&str, &str)> = subjects.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
        place_subjects(&prompt, &subjects);
    }
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

/// A token has its noun's weight, what is put in has 1, and articles are fitted inside and outside of brackets.
#[test]
fn subjects_are_placed_among_weights() {
    let both = [("dog", "sks"), ("owl", "abc")];
    for (prompt, subjects, expected) in [
        (
            "a photo of a (dog:1.3)",
            &both[..1],
            "a photo of a (sks dog:1.3)",
        ),
        ("(an [dog])", &both[..1], "(a :1.1)sks dog"),
        (
            "a photo (in a park:1.2)",
            &both[..1],
            "a photo of a sks dog (in a park:1.2)",
        ),
        (r"a \(dog\)", &both[..1], r"a \(sks dog\)"),
        (
            "a (dog:1.3) in a park",
            &both,
            "a (sks dog:1.3) and an abc owl in a park",
        ),
        ("a (owl:1.3) asleep", &both[1..], "an (abc owl:1.3) asleep"),
        ("(a sks dog:0.5)", &both[..1], "(a sks dog:0.5)"),
    ] {
        let marked: WeightedText = prompt.parse().unwrap();
        let placed = place_weighted(&marked, subjects);
        assert_eq!(placed.to_string(), expected, "{prompt}");
        assert_eq!(placed.text(), place_subjects(marked.text(), subjects));
        assert_eq!(place_weighted(&placed, subjects), placed);
    }
}

#[test]
fn words_are_found_whole() {
    assert_eq!(
        occurrences("A dog, a hotdog and the Dog's hat", "dog"),
        [2..5, 24..27]
    );
    assert!(occurrences("a photo", " ").is_empty());
}

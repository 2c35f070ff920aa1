use super::*;

fn subjects(phrases: &[(&str, &str)]) -> Vec<Subject> {
    let subject = |&(token, noun): &(&str, &str)| Subject {
        noun: noun.to_owned(),
        token: token.to_owned(),
    };
    phrases.iter().map(subject).collect()
}

#[test]
fn a_name_means_one_subject_or_none() {
    let dog = &[("sks", "dog")][..];
    let pair = &[("sks", "dog"), ("sks", "cat")][..];
    let dogs = &[("sks", "dog"), ("zwx", "dog"), ("sks", "cat")][..];
    let bears = &[("sks", "bear"), ("sks", "teddy bear")][..];
    let tangled = &[("sks", "dog"), ("zwx", "sks dog"), ("zwx", "cat")][..];
    let summer = &[("sks", "e\u{301}te\u{301}"), ("zwx", "Kelvin")][..];
    for (all, name, means) in [
        (dog, "dog", Ok(0)),
        (dog, "sks dog", Ok(0)),
        (dog, " SKS\u{a0} Dog\n", Ok(0)),
        (pair, "CAT", Ok(1)),
        (dogs, "zwx dog", Ok(1)),
        (dogs, "cat", Ok(2)),
        (bears, "bear", Ok(0)),
        (bears, "teddy  bear", Ok(1)),
        // A whole phrase comes before a noun that reads the same.
        (tangled, "sks dog", Ok(0)),
        (tangled, "zwx sks dog", Ok(1)),
        (summer, "\u{c9}t\u{e9}", Ok(0)),
        (summer, "\u{212a}ELVIN", Ok(1)),
        (dog, "cat", Err("expected sks dog, found `cat`")),
        (dog, "dogs", Err("expected sks dog, found `dogs`")),
        (dog, "", Err("expected sks dog, found ``")),
        (
            pair,
            "sks",
            Err("expected one of sks dog, sks cat, found `sks`"),
        ),
        (
            pair,
            "zwx dog",
            Err("expected one of sks dog, sks cat, found `zwx dog`"),
        ),
        (
            dogs,
            "Dog",
            Err(
                "expected one of sks dog, zwx dog, sks cat, found `Dog`, which is the noun of several",
            ),
        ),
        (
            tangled,
            "x\u{1b}",
            Err("one of sks dog, zwx sks dog, zwx cat, found `x\\u{1b}`"),
        ),
    ] {
        let all = subjects(all);
        let found = Subject::named(&all, name).map_err(|error| error.to_string());
        match means {
            Ok(_) => assert_eq!(
                found.as_ref().ok(),
                means.as_ref().ok(),
                "{name}: {found:?}"
            ),
            Err(wants) => assert!(
                found.as_ref().unwrap_err().contains(wants),
                "{name}: {found:?}"
            ),
        }
        // What messages offer is taken.
        for (number, name) in Subject::short_names(&all).iter().enumerate() {
            for name in [name, &all[number].to_string()] {
                assert_eq!(Subject::named(&all, name).unwrap(), number, "{name}");
            }
        }
    }
}

#[test]
fn names_for_all_are_each_used_once() {
    let all = subjects(&[("sks", "dog"), ("zwx", "dog"), ("sks", "cat")]);
    let each = |names: &[&str]| Subject::each_named(&all, names).map_err(|e| e.to_string());
    let named = [("sks dog", None), ("zwx dog", Some(1)), ("cat", Some(0))];
    let named = named.map(|(name, number)| (name.to_owned(), number));
    assert_eq!(each(&["cat", "zwx dog"]), Ok(named.into()));
    for (names, wants) in [
        (
            &["cat", "Sks  Cat"][..],
            "expected `sks cat` once, found `cat` and `Sks  Cat`",
        ),
        (&["cat", "cat"], "expected `sks cat` once"),
        (&["zwx dog", "zwx\tDOG"], "expected `zwx dog` once"),
        (&["dog"], "the noun of several"),
        (&["cat", "owl"], "found `owl`"),
        (&["cat", "sks dog", "zwx dog", "hat"], "found `hat`"),
    ] {
        let error = each(names).unwrap_err();
        assert!(error.contains(wants), "{names:?}: {error}");
    }
}

#[test]
fn a_prompt_can_tell_subjects_apart() {
    for pair in [
        [("sks", "dog"), ("sks", "dog")],
        [("sks", "dog"), ("SKS", "Dog")],
        [("sks", "my dog"), ("sks", "my \u{2009} dog")],
        [("sks", "ete\u{301}"), ("sks", "et\u{c9}")],
        [("a", "b c"), ("a b", "c")],
        [("sks", "\u{212a}"), ("sks", "k")],
        [("sks", "\u{212b}s"), ("sks", "a\u{30a}s")],
        [("sks", "\u{1100}\u{1161}"), ("sks", "\u{ac00}")],
        [
            ("sks", "\u{3a3}\u{391}\u{3a3}"),
            ("sks", "\u{3c3}\u{3b1}\u{3c3}"),
        ],
        [(" sks", "dog "), ("sks", "dog")],
        // One ends as the other begins.
        [("sks", "dog"), ("dog", "house")],
        [("dog", "house"), ("sks", "DOG")],
        [("zwx", "big dog"), ("big dog", "house")],
        [("sks", "dog"), ("dog", "sks")],
    ] {
        let both = subjects(&pair);
        let error = check_distinct(&[(&both[0], "a.idx"), (&both[1], "b.idx")]).unwrap_err();
        let text = error.to_string();
        for part in [
            format!("`{}` of `a.idx`", both[0]),
            format!("`{}` of `b.idx`", both[1]),
        ] {
            assert!(text.contains(&part), "{pair:?}: {text}");
        }
        assert!(error.hint().unwrap().contains("another token"), "{pair:?}");
    }
    for (pair, risks) in [
        ([("sks", "dog"), ("zwx", "dog")], 0),
        ([("sks", "dog"), ("sks", "cat")], 0),
        ([("sks", "bear"), ("sks", "teddy bear")], 0),
        ([("sks", "hotdog"), ("sks", "dog")], 0),
        ([("sks", "dog1"), ("sks", "dog 1")], 0),
        ([("sks", "dog-house"), ("sks", "dog")], 0),
        ([("sks", "dog"), ("sks", "dog house")], 1),
        ([("zwx", "sks dog"), ("sks", "Dog")], 1),
        ([("the", "dog"), ("sks", "cat")], 1),
        ([("In", "dog"), ("photo", "cat")], 2),
    ] {
        let both = subjects(&pair);
        check_distinct(&[(&both[0], ""), (&both[1], "")]).unwrap();
        let found = Subject::risks(&both.iter().collect::<Vec<_>>());
        assert_eq!(found.len(), risks, "{pair:?}: {found:?}");
    }
    let many: Vec<Subject> = (0..=MAX_SUBJECTS)
        .map(|n| Subject {
            noun: format!("n{n}"),
            token: "sks".to_owned(),
        })
        .collect();
    let many: Vec<(&Subject, &str)> = many.iter().map(|subject| (subject, "")).collect();
    check_distinct(&many[1..]).unwrap();
    assert!(
        check_distinct(&many)
            .unwrap_err()
            .to_string()
            .contains("at most 64, found 65")
    );
}

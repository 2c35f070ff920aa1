use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::concept::tests::{concept, site};
use super::super::scope::Scope;
use super::*;

/// What a union is on: the sets alone.
fn sets(index: &NeuronIndex) -> Vec<(&Site, &NeuronSet)> {
    index.sites().collect()
}

fn nouns(index: &NeuronIndex) -> Vec<&str> {
    index
        .provenance()
        .subjects
        .iter()
        .map(|subject| subject.noun.as_str())
        .collect()
}

#[test]
fn all_subjects_and_parts_are_kept() {
    let dog = concept(
        "dog",
        &[(site(0), [4, 5], &[0, 1]), (site(1), [2, 5], &[3])],
    );
    let cat = concept("cat", &[(site(0), [4, 5], &[1, 9]), (site(2), [2, 2], &[])]);
    let cup = concept("cup", &[(site(1), [2, 5], &[4])]);
    let two = NeuronIndex::union(&[&dog, &cat]).unwrap();
    let three = NeuronIndex::union(&[&two, &cup]).unwrap();
    assert_eq!(nouns(&three), ["dog", "cat", "cup"]);
    assert_eq!(
        Subject::phrases(&three.provenance().subjects),
        "sks dog, sks cat, sks cup"
    );
    assert_eq!(three.site(&site(0)).unwrap().indices(), [0, 1, 9]);
    assert_eq!(three.site(&site(1)).unwrap().indices(), [3, 4]);
    let extent = three.extent();
    assert_eq!((extent.shut, extent.total), (5, 34));
    assert_eq!(three, NeuronIndex::union(&[&dog, &cat, &cup]).unwrap());
    let parts = &three.provenance().merged_from;
    assert_eq!(
        parts
            .iter()
            .map(|part| (part.shut, part.total))
            .collect::<Vec<_>>(),
        [(3, 30), (2, 24), (1, 10)]
    );
    assert_eq!(parts[1].sha256, cat.sha256());
    assert_eq!(
        (three.provenance().method.as_str(), three.provenance().seed),
        ("union", None)
    );
    assert_eq!(three.provenance().pictures.len(), 1);
    assert_eq!(
        NeuronIndex::try_from(three.to_bytes().unwrap().as_slice()).unwrap(),
        three
    );
}

fn bound(noun: &str, sites: &[(Site, [u32; 2], &[u32])]) -> NeuronIndex {
    let everywhere = concept(noun, sites);
    let provenance = Provenance {
        scope: Scope::Words,
        ..everywhere.provenance.clone()
    };
    NeuronIndex::new(provenance, everywhere.sites).unwrap()
}

#[test]
fn neurons_bound_to_words_keep_their_subjects() {
    let dog = bound(
        "dog",
        &[(site(0), [4, 5], &[0, 1]), (site(1), [2, 5], &[3])],
    );
    let cat = bound("cat", &[(site(0), [4, 5], &[1, 9])]);
    let cup = bound("cup", &[(site(1), [2, 5], &[])]);
    let two = NeuronIndex::union(&[&dog, &cat]).unwrap();
    assert_eq!(two.site(&site(0)).unwrap().indices(), [0, 1, 9]);
    let of = |index: &NeuronIndex, n: u16| index.site(&site(n)).unwrap().owners().to_vec();
    assert_eq!(of(&two, 0), [vec![0, 1], vec![1, 2]]);
    assert_eq!(of(&two, 1), [vec![0], vec![]]);
    let three = NeuronIndex::union(&[&two, &cup]).unwrap();
    assert_eq!(three, NeuronIndex::union(&[&dog, &cat, &cup]).unwrap());
    assert_eq!(of(&three, 0), [vec![0, 1], vec![1, 2], vec![]]);
    let bytes = three.to_bytes().unwrap();
    assert_eq!(NeuronIndex::try_from(bytes.as_slice()).unwrap(), three);
    // Two of one name are not to be told apart.
    let other = bound("dog", &[(site(0), [4, 5], &[7])]);
    let error = NeuronIndex::union(&[&dog, &other]).unwrap_err();
    assert!(error.to_string().contains("`sks dog`"), "{error}");

    let everywhere = concept("cat", &[]);
    let error = NeuronIndex::union(&[&dog, &everywhere]).unwrap_err();
    assert!(error.to_string().contains("found `prompt`"), "{error}");
    assert!(error.hint().unwrap().contains("both"));
}

#[test]
fn one_index_or_one_twice_is_itself() {
    let dog = concept("dog", &[(site(0), [4, 5], &[0, 1])]);
    assert_eq!(NeuronIndex::union(&[&dog]).unwrap(), dog);
    assert_eq!(NeuronIndex::union(&[&dog, &dog.clone()]).unwrap(), dog);
    NeuronIndex::union(&[]).unwrap_err();
}

#[test]
fn other_models_and_shapes_are_refused() {
    let dog = concept("dog", &[(site(0), [4, 5], &[0])]);
    let cat = concept("cat", &[(site(0), [5, 4], &[0])]);
    let error = NeuronIndex::union(&[&dog, &cat]).unwrap_err();
    assert!(
        error.to_string().ends_with("expected [4, 5], found [5, 4]"),
        "{error}"
    );
    assert!(error.hint().is_some());

    let other = Provenance {
        fingerprint: "f".repeat(64),
        model: "big".to_owned(),
        ..concept("cat", &[]).provenance().clone()
    };
    let other = NeuronIndex::new(other, []).unwrap();
    let error = NeuronIndex::union(&[&dog, &other]).unwrap_err();
    assert!(
        error.to_string().contains("(model `pocket`), found ffff"),
        "{error}"
    );
    assert!(error.to_string().ends_with("(model `big`)"), "{error}");
    assert!(error.hint().is_some());
}

#[test]
fn tuned_values_are_kept_where_nothing_contradicts_them() {
    let tuned = |noun, indices: &[u32], values: &[u16]| {
        let mut index = concept(noun, &[]);
        let set = NeuronSet::new([4, 5], indices.to_vec())
            .unwrap()
            .with_values(values.to_vec())
            .unwrap();
        index.insert(site(0), set).unwrap();
        index
    };
    let dog = tuned("dog", &[1, 3], &[10, 30]);
    let cat = tuned("cat", &[2, 3], &[20, 30]);
    let both = NeuronIndex::union(&[&dog, &cat]).unwrap();
    assert_eq!(
        both.site(&site(0)).unwrap().values(),
        Some(&[10, 20, 30][..])
    );
    let shut = concept("cup", &[(site(0), [4, 5], &[0, 4])]);
    let both = NeuronIndex::union(&[&dog, &shut]).unwrap();
    assert_eq!(
        both.site(&site(0)).unwrap().values(),
        Some(&[0, 10, 30, 0][..])
    );

    for other in [
        tuned("cat", &[3], &[31]),
        concept("cat", &[(site(0), [4, 5], &[3])]),
    ] {
        let error = NeuronIndex::union(&[&dog, &other]).unwrap_err();
        assert!(
            error.to_string().contains("one value at index 3"),
            "{error}"
        );
        assert!(error.hint().unwrap().contains("untuned"));
    }
}

/// Any concept of up to three sites.
fn concepts(noun: &'static str) -> impl Strategy<Value = NeuronIndex> {
    let sets = prop::collection::btree_map(
        0_u16..3,
        prop::collection::btree_set(0_u32..100, 0..60),
        0..3,
    );
    sets.prop_map(move |sets| {
        let mut index = concept(noun, &[]);
        for (block, set) in sets {
            let set = NeuronSet::new([10, 10], set.into_iter().collect()).unwrap();
            index.insert(site(block), set).unwrap();
        }
        index
    })
}

proptest! {
    #[test]
    fn unions_are_those_of_sets(a in concepts("a"), b in concepts("b")) {
        let union = NeuronIndex::union(&[&a, &b]).unwrap();
        for block in 0..3 {
            let of = |index: &NeuronIndex| -> BTreeSet<u32> {
                index.site(&site(block)).map_or(BTreeSet::new(), |set| set.iter().collect())
            };
            prop_assert_eq!(of(&union), &of(&a) | &of(&b));
        }
    }

    #[test]
    fn unions_are_commutative(a in concepts("a"), b in concepts("b")) {
        let (one, other) = (NeuronIndex::union(&[&a, &b]).unwrap(), NeuronIndex::union(&[&b, &a]).unwrap());
        prop_assert_eq!(sets(&one), sets(&other));
        prop_assert_eq!(one.sha256(), other.sha256());
    }

    #[test]
    fn unions_are_associative(a in concepts("a"), b in concepts("b"), c in concepts("c")) {
        let left = NeuronIndex::union(&[&NeuronIndex::union(&[&a, &b]).unwrap(), &c]).unwrap();
        let right = NeuronIndex::union(&[&a, &NeuronIndex::union(&[&b, &c]).unwrap()]).unwrap();
        prop_assert_eq!(sets(&left), sets(&right));
        prop_assert_eq!(&left.provenance().subjects, &right.provenance().subjects);
        let all = NeuronIndex::union(&[&a, &b, &c]).unwrap();
        prop_assert_eq!(sets(&left), sets(&all));
    }

    #[test]
    fn unions_are_idempotent(a in concepts("a"), b in concepts("b")) {
        let once = NeuronIndex::union(&[&a, &b]).unwrap();
        let again = NeuronIndex::union(&[&once, &a, &once, &b]).unwrap();
        prop_assert_eq!(sets(&again), sets(&once));
    }

    #[test]
    fn files_come_back(a in concepts("a")) {
        let bytes = a.to_bytes().unwrap();
        let read = NeuronIndex::try_from(bytes.as_slice()).unwrap();
        prop_assert_eq!(read.to_bytes().unwrap(), bytes);
        prop_assert_eq!(read, a);
    }
}

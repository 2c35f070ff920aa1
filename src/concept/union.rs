//! Several concepts as one: the union of their sets.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::Hash;

use super::index::{NeuronIndex, wrong};
use super::indices::SiteIndices;
use super::provenance::{Provenance, Source, Subject};
use super::site::Site;
use crate::Result;

impl NeuronIndex {
    /// The neurons that are shut in any of the indices, with all their subjects.
    ///
    /// On the sets it is a set union: the order and repetitions of the indices do not matter. A single index, or
    /// repetitions of one, come back as they are; else the provenance is that of a merge, in the order given.
    ///
    /// # Errors
    /// [`Error::Index`](crate::Error::Index) if there are none, if they are of different models or shapes, or if two of
    /// them hold different values at one neuron.
    pub fn union(indices: &[&Self]) -> Result<Self> {
        let mut distinct: Vec<&Self> = Vec::new();
        for &index in indices {
            if !distinct.contains(&index) {
                distinct.push(index);
            }
        }
        let [first, others @ ..] = distinct.as_slice() else {
            return Err(wrong("indices to merge", "at least one", "none", ""));
        };
        if others.is_empty() {
            return Ok((*first).clone());
        }
        let mut union = Self {
            provenance: merged(&distinct)?,
            sites: BTreeMap::new(),
        };
        for other in &distinct {
            for (site, theirs) in &other.sites {
                match union.sites.entry(site.clone()) {
                    Entry::Vacant(place) => {
                        place.insert(theirs.clone());
                    }
                    Entry::Occupied(mut place) => {
                        let sum = unite(site, place.get(), theirs)?;
                        place.insert(sum);
                    }
                }
            }
        }
        if union.provenance.owners() > 0 {
            for (site, set) in &mut union.sites {
                let owners = owners(site, set, &union.provenance.subjects, &distinct);
                *set = set.clone().with_owners(owners)?;
            }
        }
        Ok(union)
    }
}

/// For each subject the places in `union` of the neurons that are its own in some of the parts.
fn owners(
    site: &Site,
    union: &SiteIndices,
    subjects: &[Subject],
    parts: &[&NeuronIndex],
) -> Vec<Vec<u32>> {
    let of_part = |part: &NeuronIndex, subject: &Subject| -> BTreeSet<u32> {
        let number = part.provenance.subjects.iter().position(|s| s == subject);
        let Some((number, set)) = number.zip(part.sites.get(site)) else {
            return BTreeSet::new();
        };
        let places = set.places_of(number).into_iter();
        places.map(|place| set.indices()[place as usize]).collect()
    };
    let of_subject =
        |subject| -> BTreeSet<u32> { parts.iter().flat_map(|p| of_part(p, subject)).collect() };
    let places = |own: BTreeSet<u32>| {
        (0u32..)
            .zip(union.indices())
            .filter_map(|(place, index)| own.contains(index).then_some(place))
            .collect()
    };
    subjects.iter().map(|s| places(of_subject(s))).collect()
}

/// The union of two sets of one site.
fn unite(site: &Site, ours: &SiteIndices, theirs: &SiteIndices) -> Result<SiteIndices> {
    if ours.shape() != theirs.shape() {
        let hint = "the indices are of models of different sizes; merge indices of one model";
        return Err(wrong(
            format!("shape of site `{site}`"),
            format!("{:?}", ours.shape()),
            format!("{:?}", theirs.shape()),
            hint,
        ));
    }
    ours.union(theirs).map_err(|index| {
        let hint = "a tuned merge fits only itself; merge the untuned indices, and tune that merge";
        wrong(
            format!("site `{site}`"),
            format!("one value at index {index}"),
            "two different ones",
            hint,
        )
    })
}

/// The provenance of a merge of several concepts of one model.
fn merged(indices: &[&NeuronIndex]) -> Result<Provenance> {
    let mut all = Provenance {
        method: "union".to_owned(),
        ..Provenance::default()
    };
    for (at, index) in indices.iter().enumerate() {
        let own = &index.provenance;
        if at == 0 {
            all.model.clone_from(&own.model);
            all.fingerprint.clone_from(&own.fingerprint);
            all.architecture.clone_from(&own.architecture);
            all.prediction_type.clone_from(&own.prediction_type);
            all.scope = own.scope;
        } else if own.fingerprint != all.fingerprint {
            return Err(wrong(
                "fingerprint of the model",
                format!("{} (model `{}`)", all.fingerprint, all.model),
                format!("{} (model `{}`)", own.fingerprint, own.model),
                "indices of different models cannot be merged; run `cones find` for all subjects on one model",
            ));
        }
        if own.scope != all.scope {
            return Err(wrong(
                "scope of the indices",
                format!("`{}`, that of the first", all.scope),
                format!("`{}`", own.scope),
                "what is shut at the subject's words and what is shut in the whole prompt make no one index; give both files to `generate --concepts A,B`",
            ));
        }
        all.subjects.extend_from_slice(&own.subjects);
        all.prompts.extend_from_slice(&own.prompts);
        all.pictures.extend_from_slice(&own.pictures);
        // A plain merge is nothing but its parts; a tuned one is a thing of its own.
        if own.merged_from.is_empty() || index.is_tuned() {
            let source = Source {
                subjects: own.subjects.clone(),
                method: own.method.clone(),
                shut: index.shut(),
                total: index.total(),
                sha256: index.sha256()?,
            };
            all.merged_from.push(source);
        } else {
            all.merged_from.extend_from_slice(&own.merged_from);
        }
    }
    keep_first(&mut all.subjects);
    keep_first(&mut all.prompts);
    keep_first(&mut all.pictures);
    keep_first(&mut all.merged_from);
    Ok(all)
}

/// Drops what was there before, and keeps the order of the rest.
fn keep_first<T: Clone + Eq + Hash>(all: &mut Vec<T>) {
    let mut seen = HashSet::with_capacity(all.len());
    all.retain(|one| seen.insert(one.clone()));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::index::tests::{concept, site};
    use super::super::scope::Scope;
    use super::*;

    /// What a union is on: the sets alone.
    fn sets(index: &NeuronIndex) -> Vec<(&Site, &SiteIndices)> {
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
            three.provenance().trigger_phrase(),
            "sks dog, sks cat, sks cup"
        );
        assert_eq!(three.site(&site(0)).unwrap().indices(), [0, 1, 9]);
        assert_eq!(three.site(&site(1)).unwrap().indices(), [3, 4]);
        assert_eq!((three.shut(), three.total()), (5, 34));
        assert_eq!(three, NeuronIndex::union(&[&dog, &cat, &cup]).unwrap());
        let parts = &three.provenance().merged_from;
        assert_eq!(
            parts
                .iter()
                .map(|part| (part.shut, part.total))
                .collect::<Vec<_>>(),
            [(3, 30), (2, 24), (1, 10)]
        );
        assert_eq!(parts[1].sha256, cat.sha256().unwrap());
        assert_eq!(
            (three.provenance().method.as_str(), three.provenance().seed),
            ("union", None)
        );
        assert_eq!(three.provenance().pictures.len(), 1);
        assert_eq!(
            NeuronIndex::from_bytes(&three.to_bytes().unwrap()).unwrap(),
            three
        );
    }

    fn bound(noun: &str, sites: &[(Site, [u32; 2], &[u32])]) -> NeuronIndex {
        let everywhere = concept(noun, sites);
        let mut index = NeuronIndex::new(Provenance {
            scope: Scope::Words,
            ..everywhere.provenance.clone()
        })
        .unwrap();
        for (site, set) in everywhere.sites {
            index.insert(site, set).unwrap();
        }
        index
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
        assert_eq!(NeuronIndex::from_bytes(&bytes).unwrap(), three);
        // Two of one name are one subject.
        let other = bound("dog", &[(site(0), [4, 5], &[7])]);
        let same = NeuronIndex::union(&[&dog, &other]).unwrap();
        assert!(of(&same, 0).is_empty());

        let everywhere = concept("cat", &[]);
        let error = NeuronIndex::union(&[&dog, &everywhere]).unwrap_err();
        assert!(error.to_string().contains("found `prompt`"), "{error}");
        assert!(error.hint().unwrap().contains("--concepts"));
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

        let mut other = concept("cat", &[]);
        let model = Provenance {
            fingerprint: "f".repeat(64),
            model: "big".to_owned(),
            ..other.provenance().clone()
        };
        other.set_provenance(model).unwrap();
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
            let set = SiteIndices::new([4, 5], indices.to_vec())
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
    fn concepts() -> impl Strategy<Value = NeuronIndex> {
        let sets = prop::collection::btree_map(
            0_u16..3,
            prop::collection::btree_set(0_u32..100, 0..60),
            0..3,
        );
        ("[a-c]", sets).prop_map(|(noun, sets)| {
            let mut index = concept(&noun, &[]);
            for (block, set) in sets {
                let set = SiteIndices::new([10, 10], set.into_iter().collect()).unwrap();
                index.insert(site(block), set).unwrap();
            }
            index
        })
    }

    proptest! {
        #[test]
        fn unions_are_those_of_sets(a in concepts(), b in concepts()) {
            let union = NeuronIndex::union(&[&a, &b]).unwrap();
            for block in 0..3 {
                let of = |index: &NeuronIndex| -> BTreeSet<u32> {
                    index.site(&site(block)).map_or(BTreeSet::new(), |set| set.indices().iter().copied().collect())
                };
                prop_assert_eq!(of(&union), &of(&a) | &of(&b));
            }
        }

        #[test]
        fn unions_are_commutative(a in concepts(), b in concepts()) {
            let (one, other) = (NeuronIndex::union(&[&a, &b]).unwrap(), NeuronIndex::union(&[&b, &a]).unwrap());
            prop_assert_eq!(sets(&one), sets(&other));
            prop_assert_eq!(one.sha256().unwrap(), other.sha256().unwrap());
        }

        #[test]
        fn unions_are_associative(a in concepts(), b in concepts(), c in concepts()) {
            let left = NeuronIndex::union(&[&NeuronIndex::union(&[&a, &b]).unwrap(), &c]).unwrap();
            let right = NeuronIndex::union(&[&a, &NeuronIndex::union(&[&b, &c]).unwrap()]).unwrap();
            prop_assert_eq!(sets(&left), sets(&right));
            prop_assert_eq!(&left.provenance().subjects, &right.provenance().subjects);
            let all = NeuronIndex::union(&[&a, &b, &c]).unwrap();
            prop_assert_eq!(sets(&left), sets(&all));
        }

        #[test]
        fn unions_are_idempotent(a in concepts(), b in concepts()) {
            let once = NeuronIndex::union(&[&a, &b]).unwrap();
            let again = NeuronIndex::union(&[&once, &a, &once, &b]).unwrap();
            prop_assert_eq!(sets(&again), sets(&once));
        }

        #[test]
        fn files_come_back(a in concepts()) {
            let bytes = a.to_bytes().unwrap();
            let read = NeuronIndex::from_bytes(&bytes).unwrap();
            prop_assert_eq!(read.to_bytes().unwrap(), bytes);
            prop_assert_eq!(read, a);
        }
    }
}

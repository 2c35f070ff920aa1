//! Several concepts as one: the union of their sets.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;

use super::codec::Coded;
use super::concept::{Extent, NeuronIndex};
use super::provenance::{Provenance, Source};
use super::set::NeuronSet;
use super::site::Site;
use super::subject::{Subject, check_distinct};
use crate::{IndexError, Result};

/// Which of several indices to use together: each the first time that it is there. Each comes with a name for messages,
/// such as its file's.
///
/// Two indices may hold one subject only if it came into both from one index, as into a merge and its parts.
///
/// # Errors
/// [`Error::Index`](crate::Error::Index) if a prompt cannot tell two of their subjects apart, naming both, or there are
/// too many.
pub fn distinct(indices: &[(&str, &NeuronIndex)]) -> Result<Distinct> {
    let kept = kept(indices)?;
    let first = |number: usize| {
        kept.iter()
            .copied()
            .find(|&k| indices[k].1 == indices[number].1)
    };
    let twins = (0..indices.len()).filter_map(|number| Some((number, first(number)?)));
    let subjects: Vec<&Subject> = kept
        .iter()
        .flat_map(|&k| &indices[k].1.provenance.subjects)
        .collect();
    Ok(Distinct {
        twins: twins.filter(|(number, first)| first < number).collect(),
        risks: Subject::risks(&subjects),
        kept,
    })
}

/// Indices to use together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distinct {
    /// The numbers of those that are used.
    pub kept: Vec<usize>,
    /// The numbers of those that are left out, each with that of the one that is the same.
    pub twins: Vec<(usize, usize)>,
    /// What may go wrong in prompts of their subjects, a sentence for each: all of it is allowed.
    pub risks: Vec<String>,
}

/// The numbers of the indices that are used, whose subjects a prompt can tell apart.
fn kept(indices: &[(&str, &NeuronIndex)]) -> Result<Vec<usize>> {
    let mut kept: Vec<usize> = Vec::new();
    let mut subjects: Vec<(&Subject, &str)> = Vec::new();
    let mut origins = HashSet::new();
    for (number, &(name, index)) in indices.iter().enumerate() {
        if kept.iter().any(|&k| indices[k].1 == index) {
            continue;
        }
        kept.push(number);
        let own = index.sha256();
        for subject in &index.provenance.subjects {
            if origins.insert((subject.key(), origin(index, subject, &own).to_owned())) {
                subjects.push((subject, name));
            }
        }
    }
    check_distinct(&subjects)?;
    Ok(kept)
}

/// The SHA-256 of the index that a subject came from into this one, whose own is `own`.
fn origin<'a>(index: &'a NeuronIndex, subject: &Subject, own: &'a str) -> &'a str {
    if index.extent().tuned {
        return own;
    }
    let has = |part: &&Source| part.subjects.iter().any(|s| s.key() == subject.key());
    let mut parts = index.provenance.merged_from.iter().filter(has);
    match (parts.next(), parts.next()) {
        (Some(part), None) => &part.sha256,
        _ => own,
    }
}

impl NeuronIndex {
    /// The neurons that are shut in any of the indices, with all their subjects.
    ///
    /// On the sets it is a set union: the order and repetitions of the indices do not matter. A single index, or
    /// repetitions of one, come back as they are; else the provenance is that of a merge, in the order given.
    ///
    /// # Errors
    /// [`Error::Index`](crate::Error::Index) if there are none, if they are of different models or shapes, if two of
    /// them hold different values at one neuron, or if a prompt cannot tell their subjects apart, see [`distinct`].
    pub fn union(indices: &[&Self]) -> Result<Self> {
        let named: Vec<(&str, &Self)> = indices.iter().map(|&index| ("", index)).collect();
        let distinct: Vec<&Self> = kept(&named)?.into_iter().map(|i| indices[i]).collect();
        let [first, others @ ..] = distinct.as_slice() else {
            return Err(IndexError::NothingToMerge.into());
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
                let owners = (union.provenance.subjects.iter())
                    .map(|subject| owned(site, set, subject, &distinct))
                    .collect::<Result<_>>()?;
                *set = set.clone().with_coded_owners(owners)?;
            }
        }
        union.provenance.check()?;
        Ok(union)
    }
}

/// The places in `union` of the neurons of a subject. All parts that hold it hold the same.
fn owned(
    site: &Site,
    union: &NeuronSet,
    subject: &Subject,
    parts: &[&NeuronIndex],
) -> Result<Coded> {
    let key = subject.key();
    let own = parts.iter().find_map(|part| {
        let subjects = &part.provenance.subjects;
        let number = subjects.iter().position(|s| s.key() == key);
        Some(part.sites.get(site)?.neurons_of(Some(number?)))
    });
    let mut own = own.into_iter().flatten().map(|(_, index)| index).peekable();
    let places = (0..).zip(union.iter()).filter_map(move |(place, index)| {
        let is_own = own.next_if_eq(&index).is_some();
        is_own.then_some(place)
    });
    Coded::new(places, union.count() as u64)
}

/// The union of two sets of one site.
fn unite(site: &Site, ours: &NeuronSet, theirs: &NeuronSet) -> Result<NeuronSet> {
    if ours.shape() != theirs.shape() {
        let differ = IndexError::DifferentShapes {
            site: site.to_string(),
            first: ours.shape(),
            second: theirs.shape(),
        };
        return Err(differ.into());
    }
    if let Some(index) = ours.conflict(theirs) {
        let site = site.to_string();
        return Err(IndexError::Conflict { site, index }.into());
    }
    ours.union(theirs)
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
            let different = IndexError::DifferentModels {
                first: (all.fingerprint, all.model),
                found: (own.fingerprint.clone(), own.model.clone()),
            };
            return Err(different.into());
        }
        if own.scope != all.scope {
            let different = IndexError::DifferentScopes {
                first: all.scope.to_string(),
                found: own.scope.to_string(),
            };
            return Err(different.into());
        }
        all.subjects.extend_from_slice(&own.subjects);
        all.prompts.extend_from_slice(&own.prompts);
        all.pictures.extend_from_slice(&own.pictures);
        // A plain merge is nothing but its parts; a tuned one is a thing of its own.
        if own.merged_from.is_empty() || index.extent().tuned {
            let Extent { shut, total, .. } = index.extent();
            let source = Source {
                subjects: own.subjects.clone(),
                method: own.method.clone(),
                shut,
                total,
                sha256: index.sha256(),
            };
            all.merged_from.push(source);
        } else {
            all.merged_from.extend_from_slice(&own.merged_from);
        }
    }
    keep_first(&mut all.subjects, Subject::key);
    keep_first(&mut all.prompts, String::clone);
    keep_first(&mut all.pictures, String::clone);
    keep_first(&mut all.merged_from, Source::clone);
    Ok(all)
}

/// Drops what was there before, and keeps the order of the rest.
fn keep_first<T, K: Eq + Hash>(all: &mut Vec<T>, key: impl Fn(&T) -> K) {
    let mut seen = HashSet::with_capacity(all.len());
    all.retain(|one| seen.insert(key(one)));
}

#[cfg(test)]
mod tests;

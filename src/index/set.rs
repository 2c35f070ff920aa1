//! The neurons of one site.

use super::codec::{Coded, Indices};
use super::owners::Held;
use crate::{IndexError, Result};

/// The shut neurons of one site.
///
/// The set is held as it is coded in a file, so that an index takes about as much memory as its file; what gives
/// positions decodes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeuronSet {
    shape: [u32; 2],
    indices: Coded,
    values: Option<Vec<u16>>,
    owners: Vec<Coded>,
    /// What the last owner shares with others.
    shared: Option<Coded>,
}

impl NeuronSet {
    /// A set of flat row-major positions in a matrix of `shape` = `[out, in]`.
    ///
    /// # Errors
    /// [`Error::Index`](crate::Error::Index) if the matrix has no weight or more than 2^32, or if the indices are
    /// not strictly increasing and in it.
    pub fn new(shape: [u32; 2], indices: Vec<u32>) -> Result<Self> {
        Self::of(shape, Coded::new(indices.into_iter(), weights(shape))?)
    }

    /// A set that is coded already.
    pub(super) fn of(shape: [u32; 2], indices: Coded) -> Result<Self> {
        match weights(shape) {
            0 => Err(IndexError::EmptySite { shape }.into()),
            _ => Ok(Self {
                shape,
                indices,
                values: None,
                owners: Vec::new(),
                shared: None,
            }),
        }
    }

    /// The same neurons, set to `values` (the bits of f16, one for each index) instead of to zero.
    ///
    /// # Errors
    /// [`Error::Index`](crate::Error::Index) if there is not one value for each index, or one is not finite.
    pub fn with_values(mut self, values: Vec<u16>) -> Result<Self> {
        const EXPONENT: u16 = 0x7c00; // all ones in infinities and NaNs
        if values.len() != self.count() {
            let wrong = IndexError::Values {
                expected: format!("one for each of {} indices", self.count()),
                found: values.len().to_string(),
            };
            return Err(wrong.into());
        }
        if let Some(value) = values.iter().find(|&&value| value & EXPONENT == EXPONENT) {
            let wrong = IndexError::Values {
                expected: "finite numbers".to_owned(),
                found: format!("f16 bits {value:#06x}"),
            };
            return Err(wrong.into());
        }
        self.values = Some(values);
        Ok(self)
    }

    /// The same neurons, each of one or more subjects: `owners` has for each subject the places in
    /// [`NeuronSet::indices`] of its neurons, ascending. Without owners, all neurons are every subject's.
    ///
    /// # Errors
    /// [`Error::Index`](crate::Error::Index) if the places of a subject are not strictly increasing or not of this set,
    /// or a neuron is no subject's.
    pub(crate) fn with_owners(self, owners: Vec<Vec<u32>>) -> Result<Self> {
        let count = self.count() as u64;
        let coded = |places: Vec<u32>| Coded::new(places.into_iter(), count);
        let owners = owners.into_iter().map(coded).collect::<Result<_>>()?;
        self.with_coded_owners(owners)
    }

    /// [`NeuronSet::with_owners`] of places that are coded already.
    pub(super) fn with_coded_owners(mut self, owners: Vec<Coded>) -> Result<Self> {
        let Some((last, others)) = owners.split_last() else {
            return Ok(self);
        };
        let owned = Held::by(&owners, self.count());
        if let Some((_, index)) = (0..).zip(self.iter()).find(|(place, _)| !owned.has(*place)) {
            return Err(IndexError::Ownerless { index }.into());
        }
        self.shared = Some(Held::by(others, self.count()).shared(last)?);
        self.owners = owners;
        Ok(self)
    }

    /// The same neurons, of subjects of which a file says this, see [`NeuronSet::told_of_owners`]: `held` by all but
    /// the last of them.
    ///
    /// # Errors
    /// None, if the places are of this set.
    pub(super) fn with_told_owners(
        mut self,
        others: Vec<Coded>,
        held: &Held,
        shared: Coded,
    ) -> Result<Self> {
        self.owners = others;
        self.owners.push(held.last(&shared)?);
        self.shared = Some(shared);
        Ok(self)
    }

    /// For each subject the places in [`NeuronSet::indices`] of its neurons; empty where all neurons are every
    /// subject's.
    pub(crate) fn owners(&self) -> Vec<Vec<u32>> {
        self.owners.iter().map(Coded::to_vec).collect()
    }

    /// What a file says of each subject: its places, and of the last one what it shares.
    pub(super) fn told_of_owners(&self) -> impl Iterator<Item = &Coded> {
        let others = self.owners.len().saturating_sub(1);
        self.owners[..others].iter().chain(&self.shared)
    }

    /// The neurons of a subject, or all, ascending: the place of each in [`NeuronSet::indices`], and its position.
    pub(crate) fn neurons_of(
        &self,
        subject: Option<usize>,
    ) -> impl Iterator<Item = (u32, u32)> + Clone + '_ {
        let owned = subject.and_then(|subject| self.owners.get(subject));
        let mut places = owned.map(|own| own.iter().peekable());
        (0..)
            .zip(self.iter())
            .filter(move |(place, _)| match &mut places {
                Some(places) => places.next_if_eq(place).is_some(),
                None => true,
            })
    }

    /// `[out, in]`
    pub fn shape(&self) -> [u32; 2] {
        self.shape
    }

    /// The number of shut neurons.
    pub fn count(&self) -> usize {
        self.indices.len()
    }

    /// The sorted flat positions of the shut neurons.
    pub fn indices(&self) -> Vec<u32> {
        self.indices.to_vec()
    }

    /// The same, one by one.
    pub(super) fn iter(&self) -> Indices<'_> {
        self.indices.iter()
    }

    /// The same, as they are coded.
    pub(super) fn coded(&self) -> &Coded {
        &self.indices
    }

    /// The tuned values at the indices, as bits of f16, if they are not all zero.
    pub fn values(&self) -> Option<&[u16]> {
        self.values.as_deref()
    }

    /// The number of weights of the site.
    pub(crate) fn weight_count(&self) -> u64 {
        weights(self.shape)
    }

    /// Index and value of each neuron; a shut one's value is zero.
    fn neurons(&self) -> impl Iterator<Item = (u32, u16)> + Clone + '_ {
        let values = self.values.iter().flatten().copied();
        self.iter().zip(values.chain(std::iter::repeat(0)))
    }

    /// The first index at which they hold different values.
    pub(super) fn conflict(&self, other: &Self) -> Option<u32> {
        if self.values.is_none() && other.values.is_none() {
            return None;
        }
        // Equal neurons come once, so that an index comes twice with two values only.
        let mut last = None;
        merged(self.neurons(), other.neurons())
            .map(|(index, _)| index)
            .find(|&index| last.replace(index) == Some(index))
    }

    /// All neurons of both, of all subjects; they must not [conflict](Self::conflict).
    pub(super) fn union(&self, other: &Self) -> Result<Self> {
        let indices = merged(self.iter(), other.iter());
        let union = Self::of(self.shape, Coded::new(indices, self.weight_count())?)?;
        if self.values.is_none() && other.values.is_none() {
            return Ok(union);
        }
        let neurons = merged(self.neurons(), other.neurons());
        union.with_values(neurons.map(|(_, value)| value).collect())
    }
}

/// What is in either of two ascending lists, ascending; what is in both, once.
fn merged<T: Ord + Copy>(
    left: impl Iterator<Item = T> + Clone,
    right: impl Iterator<Item = T> + Clone,
) -> impl Iterator<Item = T> + Clone {
    let (mut left, mut right) = (left.peekable(), right.peekable());
    std::iter::from_fn(move || {
        let next = match (left.peek(), right.peek()) {
            (Some(a), Some(b)) => *a.min(b),
            (Some(one), None) | (None, Some(one)) => *one,
            (None, None) => return None,
        };
        left.next_if_eq(&next);
        right.next_if_eq(&next);
        Some(next)
    })
}

/// The number of weights of a matrix.
fn weights(shape: [u32; 2]) -> u64 {
    u64::from(shape[0]) * u64::from(shape[1])
}

//! The neurons of one site.

use super::codec;
use super::index::wrong;
use crate::Result;

/// The shut neurons of one site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteIndices {
    shape: [u32; 2],
    indices: Vec<u32>,
    values: Option<Vec<u16>>,
    owners: Vec<Vec<u32>>,
}

impl SiteIndices {
    /// A set of flat row-major positions in a matrix of `shape` = `[out, in]`.
    ///
    /// # Errors
    /// [`Error::Index`](crate::Error::Index) if the matrix has no weight or more than 2^32, or if the indices are
    /// not strictly increasing and in it.
    pub fn new(shape: [u32; 2], indices: Vec<u32>) -> Result<Self> {
        let site = Self {
            shape,
            indices,
            values: None,
            owners: Vec::new(),
        };
        if site.universe() == 0 {
            return Err(wrong(
                "shape",
                "at least one weight",
                format!("{shape:?}"),
                "",
            ));
        }
        codec::check(&site.indices, site.universe())?;
        Ok(site)
    }

    /// The same neurons, set to `values` (the bits of f16, one for each index) instead of to zero.
    ///
    /// # Errors
    /// [`Error::Index`](crate::Error::Index) if there is not one value for each index, or one is not finite.
    pub fn with_values(mut self, values: Vec<u16>) -> Result<Self> {
        const EXPONENT: u16 = 0x7c00; // all ones in infinities and NaNs
        if values.len() != self.indices.len() {
            return Err(wrong(
                "values",
                format!("one for each of {} indices", self.indices.len()),
                values.len(),
                "",
            ));
        }
        if let Some(value) = values.iter().find(|&&value| value & EXPONENT == EXPONENT) {
            return Err(wrong(
                "values",
                "finite numbers",
                format!("f16 bits {value:#06x}"),
                "",
            ));
        }
        self.values = Some(values);
        Ok(self)
    }

    /// The same neurons, each of one or more subjects: `owners` has for each subject the places in
    /// [`SiteIndices::indices`] of its neurons, ascending. Without owners, all neurons are every subject's.
    ///
    /// # Errors
    /// [`Error::Index`](crate::Error::Index) if the places of a subject are not strictly increasing or not of this set, or
    /// a neuron is no subject's.
    pub fn with_owners(mut self, owners: Vec<Vec<u32>>) -> Result<Self> {
        if owners.is_empty() {
            return Ok(self);
        }
        let mut owned = vec![false; self.indices.len()];
        for places in &owners {
            codec::check(places, self.indices.len() as u64)?;
            for &place in places {
                owned[place as usize] = true; // `check` has seen that it is within the set
            }
        }
        if let Some(place) = owned.iter().position(|owned| !owned) {
            let found = format!("none at index {}", self.indices[place]);
            return Err(wrong("neuron", "a subject that it belongs to", found, ""));
        }
        self.owners = owners;
        Ok(self)
    }

    /// For each subject the places in [`SiteIndices::indices`] of its neurons; empty where all neurons are every
    /// subject's.
    pub fn owners(&self) -> &[Vec<u32>] {
        &self.owners
    }

    /// The places in [`SiteIndices::indices`] of a subject's neurons.
    pub(super) fn places_of(&self, subject: usize) -> Vec<u32> {
        match self.owners.get(subject) {
            Some(places) => places.clone(),
            None => (0..self.indices.len() as u32).collect(),
        }
    }

    /// `[out, in]`
    pub fn shape(&self) -> [u32; 2] {
        self.shape
    }

    /// The sorted flat positions of the shut neurons.
    pub fn indices(&self) -> &[u32] {
        &self.indices
    }

    /// The tuned values at the indices, as bits of f16, if they are not all zero.
    pub fn values(&self) -> Option<&[u16]> {
        self.values.as_deref()
    }

    /// The number of weights of the site.
    pub fn universe(&self) -> u64 {
        u64::from(self.shape[0]) * u64::from(self.shape[1])
    }

    /// Index and value of each neuron; a shut one's value is zero.
    fn neurons(&self) -> impl Iterator<Item = (u32, u16)> {
        let value = |at: usize| {
            self.values
                .as_ref()
                .and_then(|values| values.get(at))
                .copied()
                .unwrap_or(0)
        };
        self.indices
            .iter()
            .enumerate()
            .map(move |(at, &index)| (index, value(at)))
    }

    /// All neurons of both, of all subjects; `Err` is the first index at which they hold different values.
    pub(super) fn union(&self, other: &Self) -> Result<Self, u32> {
        let tuned = self.values.is_some() || other.values.is_some();
        let (mut left, mut right) = (self.neurons().peekable(), other.neurons().peekable());
        let (mut indices, mut values) = (
            Vec::with_capacity(self.indices.len().max(other.indices.len())),
            Vec::new(),
        );
        loop {
            let (index, value) = match (left.peek().copied(), right.peek().copied()) {
                (Some(a), Some(b)) if a.0 == b.0 && a.1 != b.1 => return Err(a.0),
                (Some(a), Some(b)) => a.min(b),
                (Some(one), None) | (None, Some(one)) => one,
                (None, None) => break,
            };
            left.next_if(|one| one.0 == index);
            right.next_if(|one| one.0 == index);
            indices.push(index);
            if tuned {
                values.push(value);
            }
        }
        Ok(Self {
            shape: self.shape,
            indices,
            values: tuned.then_some(values),
            owners: Vec::new(),
        })
    }
}

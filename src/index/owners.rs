//! Whose the neurons of a site are, where several subjects share it.
//!
//! A file has for each subject but the last one the places of its neurons among those of the site. A neuron that none
//! of these has is the last one's, so that of the last only what it shares has to be said: which of the neurons that
//! a subject before it has are its own, too.

use super::codec::Coded;
use crate::Result;

/// The name of the tensor with what is said of a subject in a site, of so many subjects.
pub(super) fn tensor(site: &str, subject: usize, subjects: usize) -> String {
    match subject + 1 == subjects {
        true => format!("{site}.shared"),
        false => format!("{site}.subject.{subject}"),
    }
}

/// Which neurons of a site some subjects have.
pub(super) struct Held {
    /// A bit for each neuron.
    bits: Vec<u8>,
    neurons: u32,
}

impl Held {
    /// By subjects with these places among so many neurons.
    pub(super) fn by(subjects: &[Coded], neurons: usize) -> Self {
        let mut bits = vec![0; neurons.div_ceil(8)];
        for place in subjects.iter().flat_map(Coded::iter) {
            bits[place as usize / 8] |= 1 << (place % 8); // places are coded as below the number of neurons
        }
        Self {
            bits,
            neurons: u32::try_from(neurons).unwrap_or(u32::MAX),
        }
    }

    pub(super) fn has(&self, place: u32) -> bool {
        self.bits[place as usize / 8] & 1 << (place % 8) != 0
    }

    /// How many neurons.
    pub(super) fn len(&self) -> u64 {
        self.bits
            .iter()
            .map(|byte| u64::from(byte.count_ones()))
            .sum()
    }

    /// Which of these neurons are those of the last subject too, of which all places are given: numbers among them.
    ///
    /// # Errors
    /// None, if the places are of the same site.
    pub(super) fn shared(&self, last: &Coded) -> Result<Coded> {
        let mut last = last.iter().peekable();
        let held = (0..self.neurons).filter(|&place| self.has(place));
        let shared = (0..).zip(held).filter_map(move |(number, place)| {
            while last.next_if(|&own| own < place).is_some() {}
            last.next_if_eq(&place).map(|_| number)
        });
        Coded::new(shared, self.len())
    }

    /// All places of the last subject, of which is given what it shares.
    ///
    /// # Errors
    /// None, if the numbers are below [`Held::len`].
    pub(super) fn last(&self, shared: &Coded) -> Result<Coded> {
        let (mut shared, mut number) = (shared.iter().peekable(), 0);
        let places = (0..self.neurons).filter(move |&place| {
            if !self.has(place) {
                return true;
            }
            number += 1;
            shared.next_if_eq(&(number - 1)).is_some()
        });
        Coded::new(places, u64::from(self.neurons))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn coded(places: &[u32], neurons: usize) -> Coded {
        Coded::new(places.iter().copied(), neurons as u64).unwrap()
    }

    #[test]
    fn what_nobody_else_has_goes_without_saying() {
        let held = Held::by(&[coded(&[0, 3], 6), coded(&[3, 4], 6)], 6);
        assert_eq!(held.len(), 3);
        for (last, shared) in [
            (&[1, 2, 5][..], &[][..]),
            (&[0, 1, 2, 5], &[0]),
            (&[1, 2, 3, 4, 5], &[1, 2]),
        ] {
            assert_eq!(held.shared(&coded(last, 6)).unwrap(), coded(shared, 3));
            assert_eq!(held.last(&coded(shared, 3)).unwrap(), coded(last, 6));
        }
        let none = Held::by(&[], 0);
        assert_eq!(none.last(&coded(&[], 0)).unwrap(), coded(&[], 0));
    }

    proptest! {
        #[test]
        fn it_comes_back(owned in prop::collection::vec(1_u8..8, 0..200)) {
            let of = |subject: u8| -> Vec<u32> {
                (0..).zip(&owned).filter(|(_, by)| **by & subject != 0).map(|(place, _)| place).collect()
            };
            let neurons = owned.len();
            let held = Held::by(&[coded(&of(1), neurons), coded(&of(2), neurons)], neurons);
            let last = coded(&of(4), neurons);
            prop_assert_eq!(held.last(&held.shared(&last).unwrap()).unwrap(), last);
        }
    }
}

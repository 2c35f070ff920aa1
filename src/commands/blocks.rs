//! Where in a model an index's neurons are: by block, attention and projection.

use std::collections::BTreeMap;

use cones::index::{NeuronIndex, NeuronSet, Projection};

/// Shut and total neurons of one block's K or V sites, and how many rows of the matrices have any.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Count {
    pub(crate) shut: u64,
    pub(crate) total: u64,
    pub(crate) rows: u64,
    pub(crate) touched: u64,
    /// The neurons of each row, those of all sites added up.
    pub(crate) by_row: Vec<u64>,
}

impl Count {
    fn add(&mut self, neurons: &NeuronSet) {
        let [rows, columns] = neurons.shape();
        let mut by_row = vec![0; rows as usize];
        for index in neurons.indices() {
            by_row[(index / columns) as usize] += 1;
        }
        self.shut += neurons.count() as u64;
        self.total += neurons.weight_count();
        self.rows += u64::from(rows);
        self.touched += by_row.iter().filter(|count| **count > 0).count() as u64;
        let length = self.by_row.len().max(by_row.len());
        self.by_row.resize(length, 0);
        for (sum, count) in self.by_row.iter_mut().zip(by_row) {
            *sum += count;
        }
    }

    /// Shut neurons / all neurons; 0 of none.
    pub(crate) fn share(&self) -> f64 {
        self.shut as f64 / self.total.max(1) as f64
    }
}

/// For each block and kind of attention the counts of K and of V.
pub(crate) fn by_block(index: &NeuronIndex) -> BTreeMap<(String, &'static str), [Count; 2]> {
    let mut rows: BTreeMap<(String, &'static str), [Count; 2]> = BTreeMap::new();
    for (site, neurons) in index.sites() {
        let kind = if site.is_cross() { "cross" } else { "self" };
        let column = match site.projection() {
            Projection::Key => 0,
            Projection::Value => 1,
        };
        rows.entry((site.block(), kind)).or_default()[column].add(neurons);
    }
    rows
}

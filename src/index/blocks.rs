//! Where in a model a concept's neurons are: by block, attention and projection.

use std::collections::BTreeMap;

use super::concept::NeuronIndex;
use super::set::NeuronSet;
use super::site::Projection;

/// Shut and total neurons of one block's K or V sites, and how many rows of the matrices have any.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct BlockCount {
    /// Shut neurons.
    pub shut: u64,
    /// All neurons.
    pub total: u64,
    /// Shut neurons / all neurons; 0 of none.
    pub share: f64,
    /// Rows of the matrices.
    pub rows: u64,
    /// Rows with a shut neuron.
    pub touched: u64,
    /// The shut neurons of each row, those of all sites added up.
    pub by_row: Vec<u64>,
}

impl BlockCount {
    fn add(&mut self, neurons: &NeuronSet) {
        let [rows, columns] = neurons.shape();
        let mut by_row = vec![0; rows as usize];
        for index in neurons.iter() {
            by_row[(index / columns) as usize] += 1;
        }
        self.shut += neurons.count() as u64;
        self.total += neurons.weight_count();
        self.share = self.shut as f64 / self.total.max(1) as f64;
        self.rows += u64::from(rows);
        self.touched += by_row.iter().filter(|count| **count > 0).count() as u64;
        let length = self.by_row.len().max(by_row.len());
        self.by_row.resize(length, 0);
        for (sum, count) in self.by_row.iter_mut().zip(by_row) {
            *sum += count;
        }
    }
}

impl NeuronIndex {
    /// For each block (`down_blocks.0`, `mid_block`) and kind of attention (`cross`, `self`) the counts of K and of V.
    pub fn by_block(&self) -> BTreeMap<(String, &'static str), [BlockCount; 2]> {
        let mut rows: BTreeMap<(String, &'static str), [BlockCount; 2]> = BTreeMap::new();
        for (site, neurons) in self.sites() {
            let kind = if site.is_cross() { "cross" } else { "self" };
            let column = match site.projection() {
                Projection::Key => 0,
                Projection::Value => 1,
            };
            rows.entry((site.block(), kind)).or_default()[column].add(neurons);
        }
        rows
    }
}

//! From what is learned to a set of neurons: binary least squares, row by row.
//!
//! A cross-attention's K and V see nothing but text embeddings x. Shutting the set b ∈ {0, 1} of a row w changes its
//! output by −(w∘b)·x. Two things may have been learned:
//!
//! - by how much the outputs at the T words should change, δ_t, and how much the loss minds that they do not, h_t
//!   (`outputs`). The set minimises E(b) = Σ_t h_t · mean over x of ((w∘b)·x + δ_t)², with the
//!   embeddings x that word t has in prompts;
//! - a soft mask z, of which the row's output is (w∘(1 − z))·x ([`learned`](super::learned)). The set minimises
//!   E(b) = mean over x of ((w∘(b − z))·x)².
//!
//! Either is a quadratic form of u = w∘b with [`Gram`] matrices of the embeddings. Embeddings of prompts fill few
//! dimensions well, so that a row has many more neurons than constraints: rounding loses little, where a threshold
//! would lose much.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::gram::{Gram, Seen};
use super::outputs::Wanted;
use crate::index::Site;
use crate::{Error, Result};

/// What was learned of one site.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// z in [0, 1], `[out, in]`.
    Mask(Vec<f32>),
    /// δ and h.
    Outputs(Wanted),
}

/// One site: its weight θ, `[out, in]`, and what was learned of it.
#[derive(Debug, Clone)]
pub(crate) struct Soft {
    pub(crate) weight: Vec<f32>,
    pub(crate) target: Target,
}

/// What came of a rounding.
#[derive(Debug, Clone, PartialEq)]
pub struct Rounded {
    /// For each site the shut neurons, ascending.
    pub neurons: BTreeMap<Site, Vec<u32>>,
    /// E(b) as a share of E(0), of what the soft mask changes in the outputs: 0 is a perfect rounding.
    pub error: f64,
}

/// Chooses the neurons of all sites, shutting at most the share `density` of all.
///
/// Where the best sets are larger, each shut neuron is charged, the more the lower the limit: an equal price everywhere
/// for outputs, whose errors count as the loss counts them; for masks, a price in proportion to the site's weights.
///
/// # Errors
/// If a site's rows are not as long as the embeddings: it sees something else than text; or there are not T outputs.
pub(crate) fn round(sites: &BTreeMap<Site, Soft>, seen: &Seen, density: f64) -> Result<Rounded> {
    let total: usize = sites.values().map(|s| s.weight.len()).sum();
    let width = seen.width();
    for (site, soft) in sites {
        let rows = soft.weight.len() / width;
        let fits = match &soft.target {
            Target::Mask(mask) => mask.len() == soft.weight.len() && seen.words().len() == 1,
            Target::Outputs(wanted) => [&wanted.changes, &wanted.importance]
                .iter()
                .all(|values| values.len() == rows * seen.words().len()),
        };
        if !site.is_cross() || !soft.weight.len().is_multiple_of(width) || !fits {
            return Err(Error::value(
                format!("site `{site}`"),
                format!(
                    "a cross-attention with rows of {width} weights, and what was learned of each"
                ),
                "another",
            ));
        }
    }
    let units = units(sites, seen);
    let most = (total as f64 * density).floor() as usize;
    let count = |r: &Rounded| r.neurons.values().map(Vec::len).sum::<usize>();
    let free = at_price(sites, seen, &units, 0.0);
    if count(&free) <= most {
        return Ok(free);
    }
    // The number of shut neurons falls as the price rises; find the lowest price that meets the limit.
    let (mut low, mut high) = (0.0, 1.0);
    let mut best = at_price(sites, seen, &units, high);
    while count(&best) > most {
        low = high;
        high *= 4.0;
        best = at_price(sites, seen, &units, high);
    }
    const HALVINGS: usize = 12;
    for _ in 0..HALVINGS {
        let price = 0.5 * (low + high);
        let rounded = at_price(sites, seen, &units, price);
        if count(&rounded) <= most {
            (high, best) = (price, rounded);
        } else {
            low = price;
        }
    }
    Ok(best)
}

/// The unit of the price of a neuron, for each site: the mean of w²·Σ_t h_t·G_t over it, or over all sites.
fn units(sites: &BTreeMap<Site, Soft>, seen: &Seen) -> Vec<f64> {
    let energy = |soft: &Soft| -> f64 {
        let rows = soft.weight.par_chunks(seen.width()).enumerate();
        rows.map(|(r, w)| {
            let terms = soft.terms(r, seen);
            let energy = |(j, w): (usize, &f32)| f64::from(*w).powi(2) * diagonal(&terms, j);
            w.iter().enumerate().map(energy).sum::<f64>()
        })
        .collect::<Vec<_>>()
        .iter()
        .sum()
    };
    let of_each: Vec<(f64, usize)> = sites
        .values()
        .map(|s| (energy(s), s.weight.len()))
        .collect();
    let mean = |several: &[(f64, usize)]| {
        let (energy, count) = several
            .iter()
            .fold((0.0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        energy / count.max(1) as f64
    };
    let every = mean(&of_each);
    let unit = |(soft, one): (&Soft, &(f64, usize))| match soft.target {
        Target::Mask(_) => mean(&[*one]),
        Target::Outputs(_) => every,
    };
    sites.values().zip(&of_each).map(unit).collect()
}

/// Rounds all sites where a shut neuron costs `price` units.
fn at_price(sites: &BTreeMap<Site, Soft>, seen: &Seen, units: &[f64], price: f64) -> Rounded {
    let n = seen.width();
    let (mut error, mut whole) = (0.0, 0.0);
    let mut neurons = BTreeMap::new();
    for ((site, soft), unit) in sites.iter().zip(units) {
        let rows = soft.weight.par_chunks(n).enumerate().map(|(r, w)| {
            let row = Row::solve(w, soft, r, seen, price * unit);
            (row.shut(r * n), row.error(), row.whole)
        });
        let rows: Vec<(Vec<u32>, f64, f64)> = rows.collect();
        error += rows.iter().map(|r| r.1).sum::<f64>();
        whole += rows.iter().map(|r| r.2).sum::<f64>();
        neurons.insert(site.clone(), rows.into_iter().flat_map(|r| r.0).collect());
    }
    Rounded {
        neurons,
        error: if whole > 0.0 { error / whole } else { 0.0 },
    }
}

/// The quadratic form of a row, Σ_t h_t·G_t.
type Terms<'a> = Vec<(f64, &'a Gram)>;

/// Element (j, j) of it.
fn diagonal(terms: &Terms, j: usize) -> f64 {
    terms.iter().map(|(h, gram)| h * gram.row(j)[j]).sum()
}

impl Soft {
    fn terms<'a>(&self, row: usize, seen: &'a Seen) -> Terms<'a> {
        let words = seen.words();
        let importance = |t: usize| match &self.target {
            Target::Mask(_) => 1.0,
            Target::Outputs(wanted) => f64::from(wanted.importance[row * words.len() + t]),
        };
        words
            .iter()
            .enumerate()
            .map(|(t, word)| (importance(t), word.gram()))
            .collect()
    }
}

/// One row on its way to a minimum of E(b) + price·|b|, with E(b) = uᵀQu − 2ℓ·u + E(0), u = w∘b and Q its terms' sum.
struct Row<'a> {
    w: Vec<f64>,
    b: Vec<bool>,
    terms: Terms<'a>,
    /// Q's diagonal.
    diagonal: Vec<f64>,
    /// ℓ
    linear: Vec<f64>,
    /// Q·u − ℓ
    pull: Vec<f64>,
    /// E(0)
    whole: f64,
}

impl<'a> Row<'a> {
    /// Starts at the nearest whole numbers of a mask, or at the empty set, and flips the bit that gains most until none
    /// gains.
    fn solve(w: &[f32], soft: &Soft, row: usize, seen: &'a Seen, price: f64) -> Self {
        let n = w.len();
        let terms = soft.terms(row, seen);
        let w: Vec<f64> = w.iter().map(|&v| f64::from(v)).collect();
        let (mut linear, mut whole, mut b) = (vec![0f64; n], 0.0, vec![false; n]);
        match &soft.target {
            Target::Mask(mask) => {
                let z = &mask[row * n..][..n];
                let soft: Vec<f64> = w.iter().zip(z).map(|(w, &z)| w * f64::from(z)).collect();
                for (j, &value) in soft.iter().enumerate().filter(|(_, v)| **v != 0.0) {
                    add(&mut linear, terms[0].1.row(j), value);
                }
                whole = soft.iter().zip(&linear).map(|(v, l)| v * l).sum();
                // Shutting a weight that is zero would do nothing.
                b = z
                    .iter()
                    .zip(&w)
                    .map(|(&z, &w)| z > 0.5 && w != 0.0)
                    .collect();
            }
            Target::Outputs(wanted) => {
                let count = terms.len();
                for ((word, (h, _)), &change) in seen
                    .words()
                    .iter()
                    .zip(&terms)
                    .zip(&wanted.changes[row * count..])
                {
                    let change = f64::from(change);
                    add(&mut linear, word.mean(), -h * change);
                    whole += h * change * change;
                }
            }
        }
        let diagonal = (0..n).map(|j| diagonal(&terms, j)).collect();
        let pull = linear.iter().map(|l| -l).collect();
        let mut row = Self {
            w,
            b: vec![false; n],
            terms,
            diagonal,
            linear,
            pull,
            whole,
        };
        for (j, _) in b.iter().enumerate().filter(|(_, b)| **b) {
            row.flip(j);
        }
        // Each flip lowers the objective, so that none comes back; the limit only bounds what rounding errors could do.
        for _ in 0..4 * n {
            let gains = (0..n).map(|j| (j, row.cost_of_flip(j, price)));
            match gains.min_by(|a, b| a.1.total_cmp(&b.1)) {
                Some((j, cost)) if cost < -1e-12 * (row.w[j] * row.w[j] * row.diagonal[j]) => {
                    row.flip(j)
                }
                _ => break,
            }
        }
        row
    }

    /// By how much the objective rises when bit `j` flips: 2·s·w·(Q·u − ℓ) + w²·Q + s·price, s = ±1 the flip's
    /// direction.
    fn cost_of_flip(&self, j: usize, price: f64) -> f64 {
        let s = if self.b[j] { -1.0 } else { 1.0 };
        let w = self.w[j];
        2.0 * s * w * self.pull[j] + w * w * self.diagonal[j] + s * price
    }

    fn flip(&mut self, j: usize) {
        let by = if self.b[j] { -self.w[j] } else { self.w[j] };
        self.b[j] = !self.b[j];
        for (h, gram) in &self.terms {
            add(&mut self.pull, gram.row(j), h * by);
        }
    }

    /// E(b)
    fn error(&self) -> f64 {
        let shut = (self.b.iter().zip(&self.w)).zip(self.pull.iter().zip(&self.linear));
        let gained = shut
            .filter(|((b, _), _)| **b)
            .map(|((_, w), (pull, linear))| w * (pull - linear));
        (self.whole + gained.sum::<f64>()).max(0.0)
    }

    /// The shut neurons, counted from `first`.
    fn shut(&self, first: usize) -> Vec<u32> {
        let shut = self.b.iter().enumerate().filter(|(_, b)| **b);
        shut.map(|(j, _)| (first + j) as u32).collect()
    }
}

/// a += by·b
fn add(a: &mut [f64], b: &[f64], by: f64) {
    for (a, b) in a.iter_mut().zip(b) {
        *a += by * b;
    }
}

#[cfg(test)]
mod tests;

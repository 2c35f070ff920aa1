//! From a soft mask to a set of neurons: binary least squares, row by row.
//!
//! A cross-attention's K and V see nothing but text embeddings x. A soft mask z gives row w of such a weight the output
//! (w∘(1 − z))·x; the set b ∈ {0, 1} that comes closest to it minimises
//!
//! E(b) = mean over x of ((w∘(b − z))·x)² = (w∘(b − z))ᵀ·G·(w∘(b − z)),
//!
//! with the [`Gram`] matrix G of the embeddings. Embeddings of prompts fill few dimensions well, so that a row has many
//! more neurons than constraints: rounding loses next to nothing, where a threshold would lose much.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::gram::Gram;
use crate::index::Site;
use crate::{Error, Result};

/// The weights and the soft mask of one site, both in row-major order of `[out, in]`.
#[derive(Debug, Clone)]
pub struct Soft {
    /// θ
    pub weight: Vec<f32>,
    /// z, in [0, 1]
    pub mask: Vec<f32>,
}

/// What came of a rounding.
#[derive(Debug, Clone, PartialEq)]
pub struct Rounded {
    /// For each site the shut neurons, ascending.
    pub neurons: BTreeMap<Site, Vec<u32>>,
    /// E(b) as a share of E(0), of what the soft mask changes in the outputs: 0 is a perfect rounding.
    pub error: f64,
}

/// Rounds soft masks, shutting at most the share `density` of all neurons.
///
/// Where the best sets are larger, each shut neuron is charged, the more the lower the limit.
///
/// # Errors
/// If a site's rows are not as long as the embeddings: it sees something else than text.
pub(crate) fn round(sites: &BTreeMap<Site, Soft>, gram: &Gram, density: f64) -> Result<Rounded> {
    let total: usize = sites.values().map(|s| s.weight.len()).sum();
    for (site, soft) in sites {
        if !site.is_cross() || !soft.weight.len().is_multiple_of(gram.width()) {
            return Err(Error::value(
                format!("site `{site}`"),
                format!("a cross-attention with rows of {} weights", gram.width()),
                "another",
            ));
        }
    }
    let most = (total as f64 * density).floor() as usize;
    let count = |r: &Rounded| r.neurons.values().map(Vec::len).sum::<usize>();
    let free = at_price(sites, gram, 0.0);
    if count(&free) <= most {
        return Ok(free);
    }
    // The number of shut neurons falls as the price rises; find the lowest price that meets the limit.
    let (mut low, mut high) = (0.0, 1.0);
    let mut best = at_price(sites, gram, high);
    while count(&best) > most {
        low = high;
        high *= 4.0;
        best = at_price(sites, gram, high);
    }
    const HALVINGS: usize = 12;
    for _ in 0..HALVINGS {
        let price = 0.5 * (low + high);
        let rounded = at_price(sites, gram, price);
        if count(&rounded) <= most {
            (high, best) = (price, rounded);
        } else {
            low = price;
        }
    }
    Ok(best)
}

/// Rounds all sites where a shut neuron costs `price` times the mean of w²·G over its site.
fn at_price(sites: &BTreeMap<Site, Soft>, gram: &Gram, price: f64) -> Rounded {
    let n = gram.width();
    let (mut error, mut whole) = (0.0, 0.0);
    let neurons = sites
        .iter()
        .map(|(site, soft)| {
            let diagonal = |j: usize| gram.row(j)[j];
            let energy: f64 = (soft.weight.iter().enumerate())
                .map(|(i, &w)| f64::from(w).powi(2) * diagonal(i % n))
                .sum();
            let price = price * energy / soft.weight.len().max(1) as f64;
            let rows: Vec<(Vec<u32>, f64, f64)> = soft
                .weight
                .par_chunks(n)
                .zip(soft.mask.par_chunks(n))
                .enumerate()
                .map(|(r, (w, z))| {
                    let row = Row::solve(w, z, gram, price);
                    let shut = row.shut(r * n);
                    (shut, row.error(), row.whole(z, gram))
                })
                .collect();
            error += rows.iter().map(|r| r.1).sum::<f64>();
            whole += rows.iter().map(|r| r.2).sum::<f64>();
            (site.clone(), rows.into_iter().flat_map(|r| r.0).collect())
        })
        .collect();
    Rounded {
        neurons,
        error: if whole > 0.0 { error / whole } else { 0.0 },
    }
}

/// One row on its way to a minimum of E(b) + price·|b|.
struct Row {
    w: Vec<f64>,
    b: Vec<bool>,
    /// w∘(b − z)
    change: Vec<f64>,
    /// G·change
    pull: Vec<f64>,
}

impl Row {
    /// Starts at the nearest whole numbers and flips the bit that gains most until none gains.
    fn solve(w: &[f32], z: &[f32], gram: &Gram, price: f64) -> Self {
        let n = w.len();
        let w: Vec<f64> = w.iter().map(|&v| f64::from(v)).collect();
        // Shutting a weight that is zero would do nothing.
        let b: Vec<bool> = z
            .iter()
            .zip(&w)
            .map(|(&z, &w)| z > 0.5 && w != 0.0)
            .collect();
        let change: Vec<f64> = (0..n)
            .map(|j| w[j] * (f64::from(u8::from(b[j])) - f64::from(z[j])))
            .collect();
        let mut pull = vec![0f64; n];
        for (j, &c) in change.iter().enumerate().filter(|(_, c)| **c != 0.0) {
            add(&mut pull, gram.row(j), c);
        }
        let mut row = Self { w, b, change, pull };
        // Each flip lowers the objective, so that none comes back; the limit only bounds what rounding errors could do.
        for _ in 0..4 * n {
            let gains = (0..n).map(|j| (j, row.cost_of_flip(j, gram, price)));
            match gains.min_by(|a, b| a.1.total_cmp(&b.1)) {
                Some((j, cost)) if cost < -1e-12 * (row.w[j] * row.w[j] * gram.row(j)[j]) => {
                    row.flip(j, gram);
                }
                _ => break,
            }
        }
        row
    }

    /// By how much the objective rises when bit `j` flips: 2·s·w·(G·change) + w²·G + s·price, s = ±1 the flip's
    /// direction.
    fn cost_of_flip(&self, j: usize, gram: &Gram, price: f64) -> f64 {
        let s = if self.b[j] { -1.0 } else { 1.0 };
        let w = self.w[j];
        2.0 * s * w * self.pull[j] + w * w * gram.row(j)[j] + s * price
    }

    fn flip(&mut self, j: usize, gram: &Gram) {
        let by = if self.b[j] { -self.w[j] } else { self.w[j] };
        self.b[j] = !self.b[j];
        self.change[j] += by;
        add(&mut self.pull, gram.row(j), by);
    }

    /// E(b)
    fn error(&self) -> f64 {
        let dot: f64 = self.change.iter().zip(&self.pull).map(|(c, p)| c * p).sum();
        dot.max(0.0)
    }

    /// E(0)
    fn whole(&self, z: &[f32], gram: &Gram) -> f64 {
        let soft: Vec<f64> = (self.w.iter().zip(z))
            .map(|(w, &z)| w * f64::from(z))
            .collect();
        gram.square(&soft)
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
mod tests {
    use super::*;
    use crate::sampling::Generator;

    const WIDTH: usize = 24;

    fn gram(rank: usize) -> Gram {
        let mut generator = Generator::new(5);
        let basis = generator.randn(rank * WIDTH);
        let mixed: Vec<f32> = (0..200)
            .flat_map(|_| {
                let shares = generator.randn(rank);
                (0..WIDTH)
                    .map(|j| (0..rank).map(|i| shares[i] * basis[i * WIDTH + j]).sum())
                    .collect::<Vec<f32>>()
            })
            .collect();
        Gram::new(&mixed, WIDTH).unwrap()
    }

    fn site() -> Site {
        "mid_block.attentions.0.transformer_blocks.0.attn2.to_v.weight"
            .parse()
            .unwrap()
    }

    fn soft(rows: usize) -> BTreeMap<Site, Soft> {
        let mut generator = Generator::new(9);
        let weight = generator.randn(rows * WIDTH);
        let mask = generator
            .randn(rows * WIDTH)
            .iter()
            .map(|v| v.clamp(0.0, 1.0))
            .collect();
        [(site(), Soft { weight, mask })].into()
    }

    /// E of a set, from its definition.
    fn error(soft: &Soft, shut: &[u32], gram: &Gram) -> f64 {
        let rows = soft.weight.len() / WIDTH;
        let b = |i: usize| f64::from(u8::from(shut.contains(&(i as u32))));
        (0..rows)
            .map(|r| {
                let change: Vec<f64> = (r * WIDTH..(r + 1) * WIDTH)
                    .map(|i| f64::from(soft.weight[i]) * (b(i) - f64::from(soft.mask[i])))
                    .collect();
                gram.square(&change)
            })
            .sum()
    }

    #[test]
    fn rounding_loses_less_than_a_threshold_and_says_what() {
        let (sites, gram) = (soft(16), gram(5));
        let soft = &sites[&site()];
        let rounded = round(&sites, &gram, 1.0).unwrap();
        let whole = error(
            &Soft {
                weight: soft.weight.clone(),
                mask: soft.mask.clone(),
            },
            &[],
            &gram,
        );
        let ours = error(soft, &rounded.neurons[&site()], &gram) / whole;
        let nearest: Vec<u32> = (0u32..)
            .zip(&soft.mask)
            .filter(|(_, z)| **z > 0.5)
            .map(|(i, _)| i)
            .collect();
        let threshold = error(soft, &nearest, &gram) / whole;
        assert!(
            (ours - rounded.error).abs() < 1e-9,
            "{ours} {}",
            rounded.error
        );
        assert!(ours < 0.2 * threshold, "{ours} {threshold}");
    }

    #[test]
    fn no_single_flip_is_better() {
        let (sites, gram) = (soft(4), gram(5));
        let soft = &sites[&site()];
        let shut = round(&sites, &gram, 1.0)
            .unwrap()
            .neurons
            .remove(&site())
            .unwrap();
        let best = error(soft, &shut, &gram);
        for i in 0..soft.weight.len() as u32 {
            let mut other = shut.clone();
            match other.iter().position(|&s| s == i) {
                Some(at) => drop(other.remove(at)),
                None => other.push(i),
            }
            assert!(error(soft, &other, &gram) >= best - 1e-9, "flip {i}");
        }
    }

    #[test]
    fn the_limit_on_density_holds() {
        let (sites, gram) = (soft(16), gram(5));
        for density in [0.0, 0.01, 0.1, 0.2] {
            let rounded = round(&sites, &gram, density).unwrap();
            let most = (density * (16 * WIDTH) as f64) as usize;
            assert!(rounded.neurons[&site()].len() <= most, "{density}");
            // A limit that binds is used.
            assert!(rounded.neurons[&site()].len() * 2 >= most, "{density}");
        }
    }

    #[test]
    fn an_empty_mask_shuts_nothing() {
        let mut sites = soft(3);
        sites.get_mut(&site()).unwrap().mask.fill(0.0);
        let rounded = round(&sites, &gram(5), 1.0).unwrap();
        assert!(rounded.neurons[&site()].is_empty());
        assert_eq!(rounded.error, 0.0);
    }

    #[test]
    fn sites_that_see_no_text_are_refused() {
        let own: Site = "mid_block.attentions.0.transformer_blocks.0.attn1.to_v.weight"
            .parse()
            .unwrap();
        let soft = soft(2).remove(&site()).unwrap();
        assert!(round(&[(own, soft)].into(), &gram(5), 1.0).is_err());
    }
}

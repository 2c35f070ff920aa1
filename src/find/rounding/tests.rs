//! Rounding, held against its definition.

use super::*;
use crate::find::gram::Word;
use crate::sampling::Generator;

const WIDTH: usize = 24;

/// What `count` words look like, each in 200 prompts.
fn seen(rank: usize, count: usize, spread: f32) -> Seen {
    let mut generator = Generator::new(5);
    let word = |_| {
        let basis = generator.randn(rank * WIDTH);
        let mut mixed = Vec::new();
        for _ in 0..200 {
            let shares = generator.randn(rank);
            let sum = |j| {
                (0..rank)
                    .map(|i| spread * shares[i] * basis[i * WIDTH + j])
                    .sum::<f32>()
                    + basis[j]
            };
            mixed.extend((0..WIDTH).map(sum));
        }
        Word::new(&mixed, WIDTH).unwrap()
    };
    Seen::new((0..count).map(word).collect()).unwrap()
}

fn site() -> Site {
    "mid_block.attentions.0.transformer_blocks.0.attn2.to_v.weight"
        .parse()
        .unwrap()
}

fn soft(rows: usize) -> BTreeMap<Site, Soft> {
    let mut generator = Generator::new(9);
    let weight = generator.randn(rows * WIDTH);
    let mask = generator.randn(rows * WIDTH);
    let target = Target::Mask(mask.iter().map(|v| v.clamp(0.0, 1.0)).collect());
    [(site(), Soft { weight, target })].into()
}

fn outputs(rows: usize, words: usize) -> BTreeMap<Site, Soft> {
    let mut generator = Generator::new(9);
    let weight = generator.randn(rows * WIDTH);
    let changes = generator
        .randn(rows * words)
        .iter()
        .map(|v| 3.0 * v)
        .collect();
    let importance = generator
        .randn(rows * words)
        .iter()
        .map(|v| v * v)
        .collect();
    let target = Target::Outputs(Wanted {
        changes,
        importance,
    });
    [(site(), Soft { weight, target })].into()
}

/// E of a set, from its definition.
fn error(soft: &Soft, shut: &[u32], seen: &Seen) -> f64 {
    let b = |i: usize| f64::from(u8::from(shut.contains(&(i as u32))));
    let rows = soft.weight.len() / WIDTH;
    let square = |u: &[f64], gram: &Gram| -> f64 {
        let product = |i: usize| gram.row(i).iter().zip(u).map(|(g, u)| g * u).sum::<f64>();
        (0..WIDTH).map(|i| u[i] * product(i)).sum()
    };
    let of_row = |r: usize| -> f64 {
        let places = r * WIDTH..(r + 1) * WIDTH;
        match &soft.target {
            Target::Mask(z) => {
                let change = |i: usize| f64::from(soft.weight[i]) * (b(i) - f64::from(z[i]));
                square(
                    &places.map(change).collect::<Vec<_>>(),
                    seen.words()[0].gram(),
                )
            }
            Target::Outputs(wanted) => {
                let u: Vec<f64> = places.map(|i| f64::from(soft.weight[i]) * b(i)).collect();
                let words = seen.words().iter().enumerate();
                words
                    .map(|(t, word)| {
                        let at = r * seen.words().len() + t;
                        let change = f64::from(wanted.changes[at]);
                        let dot: f64 = word.mean().iter().zip(&u).map(|(m, u)| m * u).sum();
                        let missed = square(&u, word.gram()) + 2.0 * change * dot + change * change;
                        f64::from(wanted.importance[at]) * missed
                    })
                    .sum()
            }
        }
    };
    (0..rows).map(of_row).sum()
}

/// Sites with what their weights see: a mask on all text, and outputs at two words.
fn cases(rows: usize) -> [(BTreeMap<Site, Soft>, Seen); 2] {
    [
        (soft(rows), seen(5, 1, 1.0)),
        (outputs(rows, 2), seen(2, 2, 0.1)),
    ]
}

#[test]
fn rounding_loses_less_than_a_threshold_and_says_what() {
    for (sites, seen) in cases(16) {
        let soft = &sites[&site()];
        let rounded = round(&sites, &seen, 1.0).unwrap();
        let whole = error(soft, &[], &seen);
        let ours = error(soft, &rounded.neurons[&site()], &seen) / whole;
        assert!(
            (ours - rounded.error).abs() < 1e-9,
            "{ours} {}",
            rounded.error
        );
        let Target::Mask(mask) = &soft.target else {
            assert!(ours < 0.25, "{ours}");
            continue;
        };
        let nearest = (0u32..)
            .zip(mask)
            .filter(|(_, z)| **z > 0.5)
            .map(|(i, _)| i);
        let threshold = error(soft, &nearest.collect::<Vec<_>>(), &seen) / whole;
        assert!(ours < 0.2 * threshold, "{ours} {threshold}");
    }
}

#[test]
fn no_single_flip_is_better() {
    for (sites, seen) in cases(4) {
        let soft = &sites[&site()];
        let shut = round(&sites, &seen, 1.0)
            .unwrap()
            .neurons
            .remove(&site())
            .unwrap();
        let best = error(soft, &shut, &seen);
        for i in 0..soft.weight.len() as u32 {
            let mut other = shut.clone();
            match other.iter().position(|&s| s == i) {
                Some(at) => drop(other.remove(at)),
                None => other.push(i),
            }
            assert!(error(soft, &other, &seen) >= best - 1e-9, "flip {i}");
        }
    }
}

/// Where the loss minds nothing, nothing is shut.
#[test]
fn rows_that_do_not_matter_stay_open() {
    let (mut sites, seen) = (outputs(8, 2), seen(2, 2, 0.1));
    let soft = sites.get_mut(&site()).unwrap();
    let Target::Outputs(wanted) = &mut soft.target else {
        unreachable!("outputs")
    };
    wanted.importance[..8].fill(0.0);
    let shut = round(&sites, &seen, 0.5)
        .unwrap()
        .neurons
        .remove(&site())
        .unwrap();
    assert!(
        !shut.is_empty() && shut.iter().all(|&i| i as usize >= 4 * WIDTH),
        "{shut:?}"
    );
}

#[test]
fn the_limit_on_density_holds() {
    for (sites, seen) in cases(16) {
        for density in [0.0, 0.01, 0.1, 0.2] {
            let rounded = round(&sites, &seen, density).unwrap();
            let most = (density * (16 * WIDTH) as f64) as usize;
            assert!(rounded.neurons[&site()].len() <= most, "{density}");
            // A limit that binds is used.
            assert!(rounded.neurons[&site()].len() * 2 >= most, "{density}");
        }
    }
}

#[test]
fn nothing_wanted_shuts_nothing() {
    for (mut sites, seen) in cases(3) {
        match &mut sites.get_mut(&site()).unwrap().target {
            Target::Mask(mask) => mask.fill(0.0),
            Target::Outputs(wanted) => wanted.changes.fill(0.0),
        }
        let rounded = round(&sites, &seen, 1.0).unwrap();
        assert!(rounded.neurons[&site()].is_empty());
        assert_eq!(rounded.error, 0.0);
    }
}

#[test]
fn sites_that_see_no_text_are_refused() {
    let own: Site = "mid_block.attentions.0.transformer_blocks.0.attn1.to_v.weight"
        .parse()
        .unwrap();
    let of_self = soft(2).remove(&site()).unwrap();
    assert!(round(&[(own, of_self)].into(), &seen(5, 1, 1.0), 1.0).is_err());
    assert!(round(&outputs(2, 2), &seen(5, 1, 1.0), 1.0).is_err());
}

//! A control for a concept: an index with as many neurons in every site, but random ones.
//!
//!     cargo run --release --example random_control -- dog.idx random.idx [SEED]
//!
//! What a concept does and its control does not, the concept does by *which* neurons it shuts.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use cones::concept::{NeuronIndex, Provenance, SiteIndices};
use cones::sampling::Generator;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, output, rest @ ..] = arguments.as_slice() else {
        anyhow::bail!("usage: random_control INDEX OUTPUT [SEED]");
    };
    let seed = rest
        .first()
        .map_or(Ok(0), |s| s.parse())
        .context("SEED is a whole number")?;
    let concept =
        NeuronIndex::read(Path::new(input)).with_context(|| format!("failed to read `{input}`"))?;

    let mut control = NeuronIndex::new(Provenance {
        method: "random".to_owned(),
        seed: Some(seed),
        settings: Default::default(),
        ..concept.provenance().clone()
    })?;
    let mut generator = Generator::new(seed);
    for (site, neurons) in concept.sites() {
        // Random places until there are enough different ones: quick, as a concept is sparse.
        let mut chosen = BTreeSet::new();
        while chosen.len() < neurons.indices().len() {
            let missing = neurons.indices().len() - chosen.len();
            let drawn = generator.randint(0, neurons.universe() as i64, missing)?;
            chosen.extend(drawn.into_iter().map(|index| index as u32));
        }
        control.insert(
            site.clone(),
            SiteIndices::new(neurons.shape(), chosen.into_iter().collect())?,
        )?;
    }
    control.write(Path::new(output))?;
    eprintln!("{output}: {} random neurons", control.shut());
    Ok(())
}

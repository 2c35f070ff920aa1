//! A control for a concept: an index with as many neurons in every site, but random ones.
//!
//!     cargo run --release --example random_control -- dog.idx random.idx [SEED]
//!
//! What a concept does and its control does not, the concept does by *which* neurons it shuts.

use std::path::Path;

use anyhow::{Context, Result};
use cones::index::NeuronIndex;
use cones::index::random_control;

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

    let control = random_control(&concept, seed)?;
    control.write(Path::new(output))?;
    eprintln!("{output}: {} random neurons", control.extent().shut);
    Ok(())
}

//! Shutting neurons: the weights of a model's sites, with a concept's neurons set to zero.

use std::collections::BTreeMap;

use candle_core::Tensor;
use half::f16;

use crate::index::{NeuronIndex, Scope, Site, Subject};
use crate::nn::Weight;
use crate::prompt::Marks;
use crate::{IndexError, Result};

/// The weights of the sites of `index`, with its neurons at zero, or at the value stored for each.
///
/// `weights` are a model's, each `[out, in]`; they are left as they are.
///
/// # Errors
/// If the model has no such site, or one of another shape.
pub(crate) fn shut(
    weights: &BTreeMap<Site, Weight>,
    index: &NeuronIndex,
) -> Result<BTreeMap<Site, Tensor>> {
    masked(weights, index, None)
}

/// [`shut`] for the neurons of one of the subjects of an index that is bound to words, by its number.
///
/// # Errors
/// As [`shut`].
pub(crate) fn shut_of(
    weights: &BTreeMap<Site, Weight>,
    index: &NeuronIndex,
    subject: usize,
) -> Result<BTreeMap<Site, Tensor>> {
    masked(weights, index, Some(subject))
}

/// Whose words prompts mark when these concepts are shut: those of the subjects that are shut at their own words, in
/// the order of the concepts. The phrases of the others keep their words from them.
pub(crate) fn marks_of(concepts: &[&NeuronIndex]) -> Marks {
    let phrases = |scope| {
        let has = concepts
            .iter()
            .filter(move |index| index.provenance().scope == scope);
        let subjects = has.flat_map(|index| &index.provenance().subjects);
        subjects.map(Subject::phrase).collect()
    };
    Marks::new(phrases(Scope::Words), phrases(Scope::Prompt))
}

fn masked(
    weights: &BTreeMap<Site, Weight>,
    index: &NeuronIndex,
    subject: Option<usize>,
) -> Result<BTreeMap<Site, Tensor>> {
    let mut masked = BTreeMap::new();
    for (site, neurons) in index.sites() {
        let mismatch = |found: String| IndexError::NotInModel {
            site: site.to_string(),
            expected: format!("shape {:?}", neurons.shape()),
            found,
        };
        let weight = weights
            .get(site)
            .ok_or_else(|| mismatch("no such site in this model".to_owned()))?;
        let (rows, columns) = weight.shape();
        if [rows, columns] != neurons.shape().map(|side| side as usize) {
            return Err(mismatch(format!("shape [{rows}, {columns}] in this model")).into());
        }
        let mut own = neurons.neurons_of(subject).peekable();
        if own.peek().is_none() {
            continue;
        }
        let weight = weight.tensor()?;
        let mut values = weight.flatten_all()?.to_vec1::<f32>()?;
        for (place, index) in own {
            // `NeuronSet` holds only indices within the shape, a value for each or none, and places among them.
            values[index as usize] = neurons
                .values()
                .map_or(0.0, |v| f16::from_bits(v[place as usize]).to_f32());
        }
        masked.insert(
            site.clone(),
            Tensor::from_vec(values, weight.shape(), weight.device())?,
        );
    }
    Ok(masked)
}

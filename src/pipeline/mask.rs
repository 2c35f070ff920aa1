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
    shut_partly(weights, &BTreeMap::new(), (index, None), 1.0)
}

/// Whose words prompts mark when these concepts are shut: those of the subjects that are shut at their own words, in
/// the order of the concepts. The phrases of the others keep their words from them.
pub(crate) fn marks_of(concepts: &[&NeuronIndex]) -> Marks {
    let phrases = |scope| {
        let has = concepts
            .iter()
            .filter(move |index| index.provenance().scope == scope);
        let subjects = has.flat_map(|index| &index.provenance().subjects);
        subjects.map(Subject::to_string).collect()
    };
    Marks::new(phrases(Scope::Words), phrases(Scope::Prompt))
}

/// The weights of the sites of an index, with its neurons, or those of one of its subjects, `strength` of the way from
/// their values, those in `originals` where a site is there, to zero, or the value stored for each.
///
/// # Errors
/// As [`shut`].
pub(super) fn shut_partly(
    weights: &BTreeMap<Site, Weight>,
    originals: &BTreeMap<Site, Weight>,
    (index, subject): (&NeuronIndex, Option<usize>),
    strength: f32,
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
        let original = match originals.get(site) {
            Some(own) => Some(own.tensor()?.flatten_all()?.to_vec1::<f32>()?),
            None => None,
        };
        for (place, index) in own {
            // `NeuronSet` holds only indices within the shape, a value for each or none, and places among them.
            let target = neurons
                .values()
                .map_or(0.0, |v| f16::from_bits(v[place as usize]).to_f32());
            let from = original.as_ref().unwrap_or(&values)[index as usize];
            values[index as usize] = (1.0 - strength) * from + strength * target;
        }
        masked.insert(
            site.clone(),
            Tensor::from_vec(values, weight.shape(), weight.device())?,
        );
    }
    Ok(masked)
}

//! Random neurons, as many as a concept's in every site: what a concept does and these do not, it does by *which*
//! neurons it shuts.

use super::concept::NeuronIndex;
use super::provenance::Provenance;
use super::set::NeuronSet;
use crate::Result;
use crate::sampling::Generator;

/// An index with as many neurons in every site as `concept`, drawn at random from a generator of this seed, and shut at
/// the same tokens; of several subjects, each has as many as its own.
///
/// # Errors
/// As of a [`NeuronIndex`].
pub fn random_control(concept: &NeuronIndex, seed: u64) -> Result<NeuronIndex> {
    let provenance = Provenance {
        method: "random".to_owned(),
        seed: Some(seed),
        settings: Default::default(),
        ..concept.provenance().clone()
    };
    let mut sites = Vec::with_capacity(concept.sites().len());
    let mut generator = Generator::new(seed);
    for (site, neurons) in concept.sites() {
        let (count, weight_count) = (neurons.count(), neurons.weight_count());
        // Of a set of more than half, what is left out is drawn.
        let inverted = count as u64 > weight_count / 2;
        let drawn = if inverted {
            weight_count as usize - count
        } else {
            count
        };
        let mut chosen = vec![false; weight_count as usize];
        let mut missing = drawn;
        while missing > 0 {
            // Random places until there are enough different ones: at least half of them are free.
            for place in generator.randint(0, weight_count as i64, missing)? {
                if !std::mem::replace(&mut chosen[place as usize], true) {
                    missing -= 1;
                }
            }
        }
        let indices = (0u32..)
            .zip(&chosen)
            .filter_map(|(i, &chosen)| (chosen != inverted).then_some(i))
            .collect();
        let random = NeuronSet::new(neurons.shape(), indices)?;
        sites.push((site.clone(), random.with_owners(neurons.owners())?));
    }
    NeuronIndex::new(provenance, sites)
}

#[cfg(test)]
mod tests {
    use super::super::scope::Scope;
    use super::super::subject::Subject;
    use super::*;

    fn concept(counts: &[u32]) -> NeuronIndex {
        let provenance = Provenance {
            model: "m".to_owned(),
            fingerprint: "0".repeat(64),
            architecture: None,
            prediction_type: None,
            subjects: vec![Subject {
                noun: "dog".to_owned(),
                token: "sks".to_owned(),
            }],
            prompts: Vec::new(),
            method: "paper".to_owned(),
            scope: Scope::Prompt,
            settings: Default::default(),
            seed: Some(0),
            pictures: Vec::new(),
            merged_from: Vec::new(),
        };
        let set = |(i, &count): (usize, &u32)| {
            let site =
                format!("down_blocks.{i}.attentions.0.transformer_blocks.0.attn2.to_k.weight");
            let indices = NeuronSet::new([10, 20], (0..count).collect()).unwrap();
            (site.parse().unwrap(), indices)
        };
        NeuronIndex::new(provenance, counts.iter().enumerate().map(set)).unwrap()
    }

    #[test]
    fn a_control_has_as_many_neurons_in_every_site() {
        let concept = concept(&[0, 1, 30, 150, 200]);
        let control = random_control(&concept, 7).unwrap();
        let counts = |index: &NeuronIndex| {
            let count = |(_, s): (_, &NeuronSet)| s.count();
            index.sites().map(count).collect::<Vec<_>>()
        };
        assert_eq!(counts(&control), [0, 1, 30, 150, 200]);
        assert_ne!(control.to_string(), concept.to_string());
        assert_eq!(
            random_control(&concept, 7).unwrap().to_string(),
            control.to_string()
        );
        assert_ne!(
            random_control(&concept, 8).unwrap().to_string(),
            control.to_string()
        );
    }
}

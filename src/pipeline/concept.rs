//! Concepts in use: named, put into a prompt, shut together.

use std::collections::HashSet;

use super::{Pipeline, SampleOptions};
use crate::index::{LayerSelection, NeuronIndex, Scope, Subject};
use crate::prompt::{Marks, WeightedText, fold, occurrences, place_subjects, place_weighted};
use crate::{Result, Size};

/// A concept with a name, such as that of its file.
#[derive(Debug, Clone)]
pub struct Concept {
    /// What people call it.
    pub name: String,
    /// Its neurons.
    pub index: NeuronIndex,
    /// [`NeuronIndex::sha256`]
    pub sha256: String,
}

impl Concept {
    /// A concept under a name.
    pub fn new(name: impl Into<String>, index: NeuronIndex) -> Self {
        Self {
            name: name.into(),
            sha256: index.sha256(),
            index,
        }
    }

    /// The subjects of concepts, each once.
    pub(crate) fn subjects(concepts: &[Self]) -> Vec<&Subject> {
        let mut seen = HashSet::new();
        let all = concepts.iter().flat_map(|c| &c.index.provenance().subjects);
        all.filter(|subject| seen.insert(fold(&subject.phrase())))
            .collect()
    }

    /// A prompt with every subject of the concepts in it, by the rule of [`prompt`](crate::prompt).
    pub fn place(prompt: &str, concepts: &[Self]) -> String {
        place_subjects(prompt, &Self::words(concepts))
    }

    /// [`Concept::place`] in a prompt with weights.
    pub fn place_weighted(prompt: &WeightedText, concepts: &[Self]) -> WeightedText {
        place_weighted(prompt, &Self::words(concepts))
    }

    /// Noun and token of each subject.
    fn words(concepts: &[Self]) -> Vec<(&str, &str)> {
        let each = Self::subjects(concepts).into_iter();
        each.map(|Subject { noun, token }| (noun.as_str(), token.as_str()))
            .collect()
    }

    /// What a prompt calls each subject of the concepts: its token and noun, or its noun alone. The error is the first
    /// subject that it does not name.
    ///
    /// # Errors
    /// That subject.
    pub fn names_in<'a>(
        prompt: &str,
        concepts: &'a [Self],
    ) -> std::result::Result<Vec<String>, &'a Subject> {
        let name = |subject: &'a Subject| {
            let names = [subject.phrase(), subject.noun.clone()].into_iter();
            let mut there = names.filter(|name| !occurrences(prompt, name).is_empty());
            there.next().ok_or(subject)
        };
        Self::subjects(concepts).into_iter().map(name).collect()
    }
}

/// How concepts are shut together.
#[derive(Debug, Clone, Copy)]
pub struct ShutOptions<'a> {
    /// In which layers; `None` is in all of them.
    pub layers: Option<&'a LayerSelection>,
    /// Whether concepts may hold different values at one neuron; the last one's is taken then.
    pub conflicts: bool,
    /// How far, from 0, which changes nothing, to 1.
    pub strength: f64,
}

impl Default for ShutOptions<'_> {
    fn default() -> Self {
        Self {
            layers: None,
            conflicts: false,
            strength: 1.0,
        }
    }
}

impl Pipeline {
    /// How the model draws the subjects of concepts best: its own settings, or those of Stable Diffusion.
    pub fn sample_options(&self, concepts: &[Concept]) -> SampleOptions {
        let (own, general) = (self.defaults, SampleOptions::default());
        let several = Concept::subjects(concepts).len() > 1;
        let of_several = own.guidance_of_several.filter(|_| several);
        SampleOptions {
            steps: own.steps.unwrap_or(general.steps),
            guidance: of_several.or(own.guidance).unwrap_or(general.guidance),
            ..general
        }
    }

    /// Shuts the neurons of concepts together, as [`Pipeline::shut`] does, in some layers or in all. Returns the
    /// marks that prompts need for that, and the numbers of the concepts that have no neuron in these layers, and so
    /// change nothing.
    ///
    /// # Errors
    /// If a pattern of the layers fits no site, or the concepts hold different values; as [`Pipeline::shut`].
    pub fn shut_together(
        &mut self,
        concepts: &[&NeuronIndex],
        options: ShutOptions,
    ) -> Result<(Marks, Vec<usize>)> {
        let ShutOptions {
            layers,
            conflicts,
            strength,
        } = options;
        let restricted = layers.map(|layers| layers.restrict(concepts)).transpose()?;
        let used: Vec<&NeuronIndex> = match &restricted {
            Some(restricted) => restricted.iter().collect(),
            None => concepts.to_vec(),
        };
        let emptied = |&n: &usize| used[n].shut() == 0 && concepts[n].shut() > 0;
        let idle = (0..used.len()).filter(emptied).collect();
        let (whole, bound): (Vec<&NeuronIndex>, Vec<&NeuronIndex>) =
            (used.iter()).partition(|index| index.provenance().scope == Scope::Prompt);
        let marks = if conflicts || whole.is_empty() {
            self.shut_by(&[whole, bound].concat(), strength)?
        } else {
            // The union also refuses concepts that hold different values at one neuron.
            let union = NeuronIndex::union(&whole)?;
            self.shut_by(&[vec![&union], bound].concat(), strength)?
        };
        Ok((marks, idle))
    }

    /// Whether a size is far from the model's own: there it draws its subjects many times over, or cut off.
    pub fn is_far_from_trained(&self, size: Size) -> bool {
        /// How many times larger or smaller still is no surprise: 768 pixels of a model of 512.
        const FAR: f64 = 1.5;
        let own = self.size();
        let far = |side: usize, own: usize| {
            let times = side as f64 / own as f64;
            !(1.0 / FAR..=FAR).contains(&times)
        };
        far(size.width, own.width) || far(size.height, own.height)
    }
}

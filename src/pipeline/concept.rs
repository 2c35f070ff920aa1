//! Concepts in use: named, and put into a prompt.

use std::collections::HashSet;

use super::{Pipeline, SampleOptions};
use crate::index::{NeuronIndex, Subject};
use crate::prompt::{Marks, PromptSpec, WeightedText, fold, occurrences, place_weighted};

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
        all.filter(|subject| seen.insert(fold(&subject.to_string())))
            .collect()
    }

    /// A prompt with every subject of the concepts in it, by the rule of [`prompt`](crate::prompt), and the marks that
    /// [`Pipeline::shut`] gave.
    pub fn place(prompt: impl Into<WeightedText>, concepts: &[Self], marks: &Marks) -> PromptSpec {
        let each = Self::subjects(concepts).into_iter();
        let words: Vec<(&str, &str)> = each
            .map(|Subject { noun, token }| (noun.as_str(), token.as_str()))
            .collect();
        marks.prompt(place_weighted(&prompt.into(), &words))
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
            let names = [subject.to_string(), subject.noun.clone()].into_iter();
            let mut there = names.filter(|name| !occurrences(prompt, name).is_empty());
            there.next().ok_or(subject)
        };
        Self::subjects(concepts).into_iter().map(name).collect()
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
}

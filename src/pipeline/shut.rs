//! Shutting concepts in a model, and opening it again.

use std::collections::BTreeMap;

use super::Pipeline;
use super::mask::{marks_of, shut, shut_partly};
use crate::index::{LayerSelection, NeuronIndex, Scope, SiteSelection};
use crate::prompt::Marks;
use crate::{Error, Result};

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

/// What is shut.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ShutConcepts {
    /// Whose words prompts have to mark.
    pub marks: Marks,
    /// The numbers of the concepts that have no neuron in the layers asked for, and so change nothing.
    pub idle: Vec<usize>,
}

impl Pipeline {
    /// Shuts the neurons of these concepts and opens all others: each at the tokens that its [`Scope`] says, those of
    /// the whole prompt first, at a subject's own words also its own.
    ///
    /// # Errors
    /// If a pattern of the layers fits no site, the concepts hold different values, or the model has no such sites; it
    /// is then left with nothing shut.
    pub fn shut(
        &mut self,
        concepts: &[&NeuronIndex],
        options: ShutOptions,
    ) -> Result<ShutConcepts> {
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
        let emptied = |&n: &usize| used[n].extent().shut == 0 && concepts[n].extent().shut > 0;
        let idle = (0..used.len()).filter(emptied).collect();
        let (whole, bound): (Vec<&NeuronIndex>, Vec<&NeuronIndex>) =
            (used.iter()).partition(|index| index.provenance().scope == Scope::Prompt);
        let marks = if conflicts || whole.len() < 2 {
            self.shut_by(&[whole, bound].concat(), strength)?
        } else {
            // The union also refuses concepts that hold different values at one neuron.
            let union = NeuronIndex::union(&whole)?;
            self.shut_by(&[vec![&union], bound].concat(), strength)?
        };
        Ok(ShutConcepts { marks, idle })
    }

    /// [`Pipeline::shut`] by a share, from 0, which changes nothing, to 1: a neuron is that far on the way from its own
    /// value to the one that it is shut to.
    fn shut_by(&mut self, concepts: &[&NeuronIndex], strength: f64) -> Result<Marks> {
        if !(0.0..=1.0).contains(&strength) {
            return Err(Error::value("strength", "a share from 0 to 1", strength));
        }
        self.fingerprint()?; // kept, before the weights change
        self.open()?;
        let result = self.shut_in_turn(concepts, strength as f32);
        if result.is_err() {
            self.open()?;
        }
        result.map(|()| marks_of(concepts))
    }

    /// That the neurons of a concept can be shut here.
    ///
    /// # Errors
    /// If the model has no such site, or one of another shape.
    pub fn check_sites(&self, index: &NeuronIndex) -> Result<()> {
        shut(&self.unet.site_weights(SiteSelection::All), index).map(drop)
    }

    /// Opens all neurons: the weights are as they were loaded.
    ///
    /// # Errors
    /// None that a loaded model allows.
    pub(crate) fn open(&mut self) -> Result<()> {
        self.unet.set_word_weights(Vec::new())?;
        self.unet
            .set_site_weights(std::mem::take(&mut self.originals))
    }

    fn shut_in_turn(&mut self, concepts: &[&NeuronIndex], strength: f32) -> Result<()> {
        let of = |scope| {
            let has = move |index: &&&NeuronIndex| index.provenance().scope == scope;
            concepts.iter().filter(has)
        };
        for index in of(Scope::Prompt) {
            let mut weights = self.unet.site_weights(SiteSelection::All);
            // What several concepts shut is shut once.
            let masked = shut_partly(&weights, &self.originals, (index, None), strength)?;
            for site in masked.keys() {
                if let Some(weight) = weights.remove(site) {
                    self.originals.entry(site.clone()).or_insert(weight);
                }
            }
            self.unet.set_site_weights(masked)?;
        }
        let weights = self.unet.site_weights(SiteSelection::All);
        let mut own = Vec::new();
        for index in of(Scope::Words) {
            for number in 0..index.provenance().subjects.len() {
                let part = (*index, Some(number));
                own.push(shut_partly(&weights, &BTreeMap::new(), part, strength)?);
            }
        }
        self.unet.set_word_weights(own)
    }
}

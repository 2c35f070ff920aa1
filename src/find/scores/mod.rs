//! The scores that `find --scores` wrote, and the concepts that another choice among them gives.

mod file;
mod part;

pub use part::{Part, Parts, find_part};

use std::collections::BTreeMap;
use std::path::Path;

use self::file::{About, Array, Arrays, wrong};
use super::Found;
use super::prompts::seen;
use super::selection::{Selection, Stability, select};
use super::{assemble, choose, marks, shape};
use crate::index::{NeuronIndex, Provenance, Scope, Site, SiteSelection};
use crate::{Error, Pipeline, Result};

/// The score of every neuron of some sites, or its share in a soft mask.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    shapes: BTreeMap<Site, [u32; 2]>,
    values: BTreeMap<Site, Vec<f32>>,
    /// Of another program's nothing is known.
    provenance: Option<Provenance>,
}

impl Scores {
    /// A file of scores `[out, in]`, and of what run they are.
    ///
    /// # Errors
    /// If there are not as many scores as the shape of a site says.
    pub(crate) fn to_bytes(
        values: &BTreeMap<Site, Vec<f32>>,
        shapes: &BTreeMap<Site, [u32; 2]>,
        provenance: &Provenance,
    ) -> Result<Vec<u8>> {
        let array = |(site, values): (&Site, &Vec<f32>)| {
            let sides = shapes.get(site).copied().unwrap_or_default();
            let (shape, values) = (sides.map(|side| side as usize).to_vec(), values.clone());
            (site.clone(), Array { shape, values })
        };
        file::to_bytes(provenance, None, &values.iter().map(array).collect())
    }

    /// Reads a safetensors file with one f32 tensor `[out, in]` for each site.
    ///
    /// # Errors
    /// If the file cannot be read, or holds anything else.
    pub fn read(path: &Path) -> Result<Self> {
        Self::of(file::read(path)?).map_err(|error| file::named(path, error))
    }

    /// [`Scores::read`] of a file's bytes, which are not trusted.
    ///
    /// # Errors
    /// If they are anything else.
    #[cfg(test)]
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::of(file::parse(bytes)?)
    }

    fn of((about, arrays): (Option<About>, Arrays)) -> Result<Self> {
        if let Some(part) = about.as_ref().and_then(|about| about.part.as_ref()) {
            let hint = "add all parts up first";
            return Err(Error::file(
                "scores",
                "those of all steps",
                format!("part {part}"),
                hint,
            ));
        }
        let (mut shapes, mut values) = (BTreeMap::new(), BTreeMap::new());
        for (site, array) in arrays {
            let side = |side: usize| u32::try_from(side).ok();
            let shape = match array.shape[..] {
                [out, input] => side(out).zip(side(input)),
                _ => None,
            };
            let Some((out, input)) = shape else {
                let thing = format!("scores of `{site}`");
                return Err(wrong(
                    thing,
                    "shape [out, in]",
                    format!("{:?}", array.shape),
                ));
            };
            shapes.insert(site.clone(), [out, input]);
            values.insert(site, array.values);
        }
        Ok(Self {
            shapes,
            values,
            provenance: about.map(|about| about.plan),
        })
    }

    /// Of what run they are.
    ///
    /// # Errors
    /// If they do not say.
    pub fn provenance(&self) -> Result<&Provenance> {
        let missing = || {
            wrong(
                "scores",
                "what their run was: model, subject, settings",
                "nothing of it",
            )
        };
        self.provenance.as_ref().ok_or_else(missing)
    }

    /// The concept with the highest scores, as many as this share of all neurons; see [`Selection::Density`].
    ///
    /// # Errors
    /// If a score is not a number, or the scores are not of neurons: what is learned at words is of rows.
    pub(crate) fn concept(&self, density: f64, provenance: &Provenance) -> Result<NeuronIndex> {
        if let Some(plan) = &self.provenance
            && plan.method == "learned"
            && plan.scope == Scope::Words
        {
            return Err(wrong(
                "scores",
                "one for each neuron",
                "what outputs at words should be",
            ));
        }
        let neurons = select(&self.values, Selection::Density(density))?;
        let provenance = Provenance {
            settings: [("density".to_owned(), density.to_string())].into(),
            ..provenance.clone()
        };
        self.assemble(provenance, neurons)
    }

    /// What the run of these scores would have found by this choice. Of a learned concept the model gives the weights
    /// and what it makes of prompts.
    ///
    /// # Errors
    /// If they are not numbers, or not of this model.
    pub fn choose(self, selection: Selection, model: Option<&Pipeline>) -> Result<Found> {
        match (self.provenance()?.method.as_str(), selection, model) {
            ("learned", Selection::Density(density), Some(model)) => self.round(model, density),
            _ => self.select(selection, None),
        }
    }

    /// The choice among scores of Algorithm 1, of which the two halves agree so far.
    ///
    /// # Errors
    /// If they are none of Algorithm 1, or not numbers.
    fn select(self, selection: Selection, stability: Option<Stability>) -> Result<Found> {
        let plan = self.provenance()?;
        if plan.method != "paper" {
            return Err(wrong(
                "scores",
                "those of Algorithm 1",
                format!("method `{}`", plan.method),
            ));
        }
        let provenance = chosen(plan, selection);
        let neurons = select(&self.values, selection)?;
        let index = self.assemble(provenance, neurons)?;
        Ok(Found {
            index,
            scores: self.values,
            steps: Vec::new(),
            stability,
            rounding_error: None,
            familiarity: None,
        })
    }

    /// The whole neurons that come closest to what was learned.
    ///
    /// # Errors
    /// If nothing was learned, or on another model.
    fn round(self, pipeline: &Pipeline, density: f64) -> Result<Found> {
        let plan = self.provenance()?;
        let (Some(subject), "learned") = (plan.subjects.first(), plan.method.as_str()) else {
            return Err(wrong(
                "scores",
                "those of a learned concept",
                format!("method `{}`", plan.method),
            ));
        };
        plan.check_fingerprint(&pipeline.fingerprint()?)?;
        let sites: SiteSelection = match plan.settings.get("sites") {
            Some(sites) => sites.parse()?,
            None => return Err(wrong("scores", "which sites were searched", "none")),
        };
        let marks = marks(plan.scope, subject);
        let seen = seen(pipeline, (subject, &marks), plan.scope)?;
        let weights = pipeline.unet().site_weights(sites);
        let expected = |(out, input): (usize, usize)| match plan.scope {
            Scope::Prompt => [out as u64, input as u64],
            Scope::Words => [out as u64, 2 * seen.words().len() as u64],
        };
        let same = weights.len() == self.shapes.len()
            && weights.iter().all(|(site, weight)| {
                let found = self.shapes.get(site);
                found.is_some_and(|found| found.map(u64::from) == expected(weight.shape()))
            });
        if !same {
            return Err(wrong(
                "scores",
                "those of the model's sites, as many as it has rows and the subject has words",
                "others",
            ));
        }
        let provenance = chosen(plan, Selection::Density(density));
        let rounded = choose(pipeline, sites, plan.scope, &seen, &self.values, density)?;
        let index = assemble(provenance, rounded.neurons, |site| {
            let (out, input) = weights[site].shape();
            shape(out, input)
        })?;
        Ok(Found {
            index,
            scores: self.values,
            steps: Vec::new(),
            stability: None,
            rounding_error: Some(rounded.error),
            familiarity: None,
        })
    }

    fn assemble(
        &self,
        provenance: Provenance,
        neurons: BTreeMap<Site, Vec<u32>>,
    ) -> Result<NeuronIndex> {
        assemble(provenance, neurons, |site| Ok(self.shapes[site]))
    }
}

/// The plan with another choice.
fn chosen(plan: &Provenance, selection: Selection) -> Provenance {
    let mut plan = plan.clone();
    plan.settings
        .retain(|key, _| key != "density" && key != "threshold");
    let (key, value) = selection.setting();
    plan.settings.insert(key.to_owned(), value);
    plan
}

#[cfg(test)]
mod tests;

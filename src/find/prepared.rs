//! What a run will make and what it needs, said before it starts.

use super::class_images::ClassImages;
use super::plan::{FindPlan, Method};
use super::prompts::risks;
use super::record::{ModelIs, Record, of_find, of_provenance, of_tuning, record_by};
use super::shard::BLOCKS;
use super::tune::TunePlan;
use super::{learned, outputs, tuning};
use crate::index::{NeuronIndex, NeuronSet, Provenance, Scope, SiteSelection};
use crate::pipeline::shut;
use crate::{MemoryEstimate, Photos, Pipeline, Result};

/// What a run will make and what it needs. The model is ready for its steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// What the index will say of where it came from. How many steps were taken may be open.
    pub provenance: Provenance,
    /// The most steps that it takes.
    pub steps: usize,
    /// Pictures that a step computes with.
    pub rows: usize,
    /// What the steps need, with the reading of the photos.
    pub memory: MemoryEstimate,
    /// About the least bytes of the index, or of a part's scores.
    pub output_bytes: u64,
    /// Bytes of the scores, where they are written.
    pub scores_bytes: u64,
    /// The most bytes of its unfinished state.
    pub state_bytes: u64,
    /// What may bind badly in this model, a sentence for each: all of it is allowed.
    pub risks: Vec<String>,
    /// What is done.
    work: &'static str,
    /// What the result depends on beside what the index says.
    beside: Vec<(&'static str, String)>,
}

impl Prepared {
    /// Everything that the result depends on.
    ///
    /// # Errors
    /// If a prompt cannot be split into tokens.
    pub fn record(&self, pipeline: &Pipeline) -> Result<Record> {
        let provenance = &self.provenance;
        let prompts: Vec<&str> = provenance.prompts.iter().map(String::as_str).collect();
        let more = of_provenance(provenance)
            .into_iter()
            .chain(self.beside.clone());
        let more = more.map(|(key, value)| (key.to_owned(), value));
        record_by(self.work, pipeline, ModelIs::Alike(&prompts), more)
    }
}

impl Method {
    /// Makes the model ready for its steps, within `budget` bytes if that is possible, and says what they need.
    pub fn plan_memory(&self, pipeline: &mut Pipeline, budget: u64) -> MemoryEstimate {
        let arrays = match self {
            Self::Paper(options) => options.arrays(),
            Self::Learned { mask, .. } => arrays(mask.scope),
        };
        let numbers = arrays * searched(pipeline, self.sites());
        pipeline.plan_steps(self.rows(), numbers, budget)
    }
}

impl FindPlan {
    /// Makes the model ready for the steps, within `budget` bytes if that is possible, and says what they need.
    ///
    /// # Errors
    /// If no file could say where the index came from: a noun, a token or a prompt that is too long, more photos than a
    /// file may name.
    pub fn prepare(
        &self,
        pipeline: &mut Pipeline,
        photos: &Photos,
        budget: u64,
    ) -> Result<Prepared> {
        let provenance = self.provenance(pipeline, photos)?;
        let searched = searched(pipeline, self.method.sites());
        let class = match &self.class {
            ClassImages::Given(class) => Some(class),
            ClassImages::Needless | ClassImages::Drawn(_) => None,
        };
        let reading = Photos::memory([photos].into_iter().chain(class), pipeline.size.height);
        let steps = self.method.steps();
        let shard = match &self.method {
            Method::Paper(options) => options.shard,
            Method::Learned { .. } => None,
        };
        Ok(Prepared {
            provenance,
            steps,
            rows: self.method.rows(),
            memory: (self.method.plan_memory(pipeline, budget)).reading(reading),
            // An index of 3 % of the neurons has this size, a part an array for each of its blocks.
            output_bytes: match shard {
                Some(part) => 4 * searched * BLOCKS.min(steps).div_ceil(part.of()) as u64,
                None => searched / 40,
            },
            scores_bytes: 4 * searched,
            state_bytes: state_bytes(searched, steps),
            risks: risks(pipeline, &self.subject)?,
            work: "find",
            beside: of_find(self, photos),
        })
    }
}

impl TunePlan {
    /// Makes the model ready for the steps, within `budget` bytes if that is possible, and says what they need.
    ///
    /// # Errors
    /// If there are more photos than a file may name, or the index does not fit the model.
    pub fn prepare(
        &self,
        pipeline: &mut Pipeline,
        union: &NeuronIndex,
        photos: &[Photos],
        budget: u64,
    ) -> Result<Prepared> {
        let provenance = self.provenance(union, photos)?;
        let values = self.values(pipeline, union)?;
        let numbers: u64 = union.sites().map(|(_, set)| set.weight_count()).sum();
        let named = &union.provenance().subjects;
        let mut told = Vec::new();
        for subject in named {
            told.extend(risks(pipeline, subject)?);
        }
        let subjects = named.len();
        let kinds = match self.options.scope {
            Scope::Prompt => 2,
            Scope::Words => 1,
        };
        let rows = subjects * kinds * self.options.batch_size;
        let needs = pipeline.plan_steps(rows, numbers * tuning::arrays(subjects), budget);
        let steps = self.options.steps;
        Ok(Prepared {
            provenance,
            steps,
            rows,
            memory: needs.reading(Photos::memory(photos, pipeline.size.height)),
            output_bytes: 2 * values,
            scores_bytes: 0,
            state_bytes: state_bytes(values, steps),
            risks: told,
            work: "merge --tune",
            beside: of_tuning(self, union, photos)?,
        })
    }

    /// The most values that the index may have: as many as are trained.
    ///
    /// # Errors
    /// If the index does not fit the model.
    fn values(&self, pipeline: &Pipeline, union: &NeuronIndex) -> Result<u64> {
        let weights = pipeline.unet().site_weights(SiteSelection::All);
        shut(&weights, union)?;
        let of = |set: &NeuronSet| match self.dense {
            true => set.weight_count(),
            false => set.count() as u64,
        };
        Ok(union.sites().map(|(_, set)| of(set)).sum())
    }
}

/// Arrays as large as all sites searched that are alive at once while something is learned.
fn arrays(scope: Scope) -> u64 {
    match scope {
        Scope::Prompt => learned::ARRAYS,
        Scope::Words => outputs::ARRAYS,
    }
}

/// The number of weights of some sites.
fn searched(pipeline: &Pipeline, sites: SiteSelection) -> u64 {
    let weights = pipeline.unet().site_weights(sites).into_values();
    weights
        .map(|weight| (weight.shape().0 * weight.shape().1) as u64)
        .sum()
}

/// Of an optimiser of so many weights: up to five numbers for each, two for each step, and names.
fn state_bytes(weights: u64, steps: usize) -> u64 {
    const NAMES: u64 = 16 << 20;
    NAMES + 5 * 4 * weights + 2 * 8 * steps as u64
}

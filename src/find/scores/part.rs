//! A part of a find's steps, and all parts added up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

use super::Scores;
use super::file;
use super::file::{About, Array, Arrays, wrong};
use crate::find::observer::{Event, Observer};
use crate::find::selection::{Selection, Stability};
use crate::find::shard::{Shard, blocks, steps_of_block, steps_of_blocks};
use crate::find::sums::Half;
use crate::find::trainer::Moment;
use crate::find::{FindPlan, Found, Method, encode, marks, paper, shape, side};
use crate::index::{Provenance, Site};
use crate::{Error, Photos, Pipeline, Result};

/// What a part of the steps of Algorithm 1 found: the sum of the scores over each of its blocks.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Of what run it is.
    pub plan: Provenance,
    /// Which part of its steps.
    pub shard: Shard,
    /// `[blocks, out, in]`
    arrays: Arrays,
}

/// Takes the steps of the part that a plan names: [`paper::Options::shard`].
///
/// # Errors
/// As [`find`](crate::find::find()); if the steps of the plan cannot be taken apart, or are fewer than the parts.
pub fn find_part(
    pipeline: &mut Pipeline,
    plan: FindPlan,
    photos: Photos,
    observer: &mut dyn Observer,
) -> Result<Part> {
    let (options, shard) = separable(&plan.method)?;
    let provenance = plan.provenance(pipeline, &photos)?;
    let marks = marks(options.scope, &plan.subject);
    let data = encode(
        pipeline,
        (&plan.subject, &marks),
        &photos,
        &plan.class,
        observer,
    )?;
    drop((photos, plan)); // what they keep of pixels is memory for the steps
    let (from, total) = (observer.resume()?, options.range().len());
    let after_step = |moment: &Moment| {
        observer.between_steps(moment)?;
        let step = moment.step;
        observer.event(Event::Step { step, total })
    };
    let (unet, schedule) = pipeline.unet_mut();
    let sums = paper::algorithm1_part(unet, schedule, &data, &options, from.as_ref(), after_step)?;
    pipeline.check_unchanged()?;
    let mut arrays = Arrays::new();
    for (site, weight) in pipeline.unet().site_weights(options.sites) {
        let (out, input) = weight.shape();
        let of_site = |sum: &BTreeMap<Site, Vec<f32>>| sum.get(&site).cloned().unwrap_or_default();
        let (shape, values) = (
            vec![sums.len(), out, input],
            sums.iter().flat_map(of_site).collect(),
        );
        arrays.insert(site, Array { shape, values });
    }
    Ok(Part {
        plan: provenance,
        shard,
        arrays,
    })
}

/// The options of a method whose steps can be taken apart, and the part to take.
///
/// # Errors
/// If they cannot; if there are fewer steps than parts.
fn separable(method: &Method) -> Result<(paper::Options, Shard)> {
    let apart = match method {
        Method::Paper(options) => options.shard.map(|shard| (*options, shard)),
        Method::Learned { .. } => None,
    };
    let Some((options, shard)) = apart else {
        let found = format!("those of method `{method}`, each of which needs the one before");
        return Err(Error::value(
            "steps",
            "those of Algorithm 1, of which a part is named",
            found,
        ));
    };
    if options.batch_sampling == paper::BatchSampling::Importance || options.until_stable.is_some()
    {
        let found = "steps that depend on those before";
        return Err(Error::value(
            "steps",
            "as many as planned, each by itself",
            found,
        ));
    }
    let most = options.steps.div_ceil(steps_of_block(options.steps));
    match shard.of() <= most {
        true => Ok((options, shard)),
        false => Err(Error::value(
            "shard",
            format!("at most {most} parts of {} steps", options.steps),
            shard,
        )),
    }
}

impl Part {
    /// The file of it.
    ///
    /// # Errors
    /// None that a part as [`find_part`] makes it has.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        file::to_bytes(&self.plan, Some(self.shard.to_string()), &self.arrays)
    }

    /// Reads a part.
    ///
    /// # Errors
    /// If the file cannot be read, or holds anything else.
    pub fn read(path: &Path) -> Result<Self> {
        Self::of(file::read(path)?).map_err(|error| file::named(path, error))
    }

    /// [`Part::read`] of a file's bytes, which are not trusted.
    ///
    /// # Errors
    /// If they are anything else.
    #[cfg(test)]
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::of(file::parse(bytes)?)
    }

    /// The file of a part of ones; for tests/fuzz.
    #[cfg(test)]
    pub(crate) fn of_ones(plan: &Provenance, part: &str, site: Site, shape: [usize; 3]) -> Vec<u8> {
        let values = vec![1.0; shape.iter().product()];
        let shape = shape.to_vec();
        let arrays = [(site, Array { shape, values })].into();
        file::to_bytes(plan, Some(part.to_owned()), &arrays).unwrap_or_default()
    }

    fn of((about, arrays): (Option<About>, Arrays)) -> Result<Self> {
        let (plan, shard) = header(about)?;
        let steps = steps(&plan)?;
        let count = blocks(steps, shard).len();
        for (site, array) in &arrays {
            let thing = || format!("scores of `{site}`");
            let fits = match array.shape[..] {
                [found, out, input] => found == count && side(out).is_ok() && side(input).is_ok(),
                _ => false,
            };
            if !fits {
                let expected = format!(
                    "shape [{count}, out, in]: the blocks of part {shard} of {steps} steps"
                );
                return Err(wrong(thing(), &expected, format!("{:?}", array.shape)));
            }
            if array.values.iter().any(|value| !value.is_finite()) {
                return Err(wrong(thing(), "finite numbers", "infinity or not a number"));
            }
        }
        Ok(Self {
            plan,
            shard,
            arrays,
        })
    }
}

/// The plan and the part that a file says it is of.
fn header(about: Option<About>) -> Result<(Provenance, Shard)> {
    let missing = |found: &str| wrong("scores", "a part of a run's steps", found);
    let about = about.ok_or_else(|| missing("a file that does not say of what run it is"))?;
    let part = about.part.ok_or_else(|| missing("those of all steps"))?;
    let shard = part
        .parse()
        .map_err(|_| missing(&crate::shown::shown(&part)))?;
    Ok((about.plan, shard))
}

/// How many steps the whole run has.
fn steps(plan: &Provenance) -> Result<usize> {
    let steps = plan
        .settings
        .get("steps")
        .and_then(|steps| steps.parse().ok());
    steps.ok_or_else(|| wrong("scores", "the number of steps of their run", "none"))
}

/// All parts of a run: their files, of which one at a time is read.
#[derive(Debug)]
pub struct Parts {
    /// Of what run they are.
    pub plan: Provenance,
    /// In order.
    files: Vec<PathBuf>,
}

impl Parts {
    /// Looks at the parts, which may come in any order; nothing if there is one file, and it is none of a part.
    ///
    /// # Errors
    /// If a file cannot be read, or is none of scores; if one is missing, is there twice, is of another run or no part
    /// at all; the error names it.
    pub fn open(paths: &[PathBuf]) -> Result<Option<Self>> {
        if let [one] = paths
            && file::read_about(one)?.is_none_or(|about| about.part.is_none())
        {
            return Ok(None);
        }
        let mut found = BTreeMap::<Shard, &PathBuf>::new();
        let mut first: Option<(Provenance, Shard, &PathBuf)> = None;
        for path in paths {
            let read = header(file::read_about(path)?);
            let (plan, shard) = read.map_err(|error| file::named(path, error))?;
            if let Some((known, one, other)) = &first {
                let mut others = plan.differences(known);
                if plan != *known && others.is_empty() {
                    others.push("another model's name".to_owned());
                }
                if shard.of() != one.of() {
                    others.push(format!("part {shard} instead of one of {}", one.of()));
                }
                if !others.is_empty() {
                    return Err(Error::file(
                        path.display().to_string(),
                        format!("a part of the run that `{}` is of", other.display()),
                        others.join(", "),
                        "leave it out, or make it again by the same command as the other parts",
                    ));
                }
            } else {
                first = Some((plan, shard, path));
            }
            if let Some(other) = found.insert(shard, path) {
                let expected = format!("another part than `{}`", other.display());
                let hint = "give each part once";
                return Err(Error::file(
                    path.display().to_string(),
                    expected,
                    format!("part {shard} again"),
                    hint,
                ));
            }
        }
        let Some((plan, one, _)) = first else {
            return Err(wrong("parts", "at least one", "none"));
        };
        let missing: Vec<String> = one
            .all()
            .filter(|shard| !found.contains_key(shard))
            .map(|shard| shard.to_string())
            .collect();
        if !missing.is_empty() {
            let expected = format!("all of 1/{0} to {0}/{0}", one.of());
            let hint = "make the missing parts by the same command as the others";
            return Err(Error::file(
                "parts",
                expected,
                format!("no {}", missing.join(", no ")),
                hint,
            ));
        }
        Ok(Some(Self {
            plan,
            files: found.into_values().cloned().collect(),
        }))
    }

    /// What the whole run would have found by this choice: [`Scores::choose`] among the sum of its parts.
    ///
    /// # Errors
    /// If a part cannot be read, or is none of a model like the others'.
    pub fn choose(&self, selection: Selection) -> Result<Found> {
        let (scores, stability) = self.add_up(selection)?;
        scores.select(selection, stability)
    }

    /// Adds them up to the scores of the whole run, bit for bit; and how far two halves of the steps agree in a choice.
    ///
    /// # Errors
    /// If a part cannot be read, or is none of a model like the others'.
    pub(crate) fn add_up(&self, selection: Selection) -> Result<(Scores, Option<Stability>)> {
        let steps = steps(&self.plan)?;
        let mut halves: [Half; 2] = Default::default();
        let mut shapes: Option<BTreeMap<Site, [u32; 2]>> = None;
        for path in &self.files {
            let part = Part::read(path)?;
            let of_matrix = |(site, array): (&Site, &Array)| {
                Ok((site.clone(), shape(array.shape[1], array.shape[2])?))
            };
            let found = part.arrays.iter().map(of_matrix).collect::<Result<_>>()?;
            if part.plan != self.plan
                || *shapes.get_or_insert_with(|| BTreeMap::clone(&found)) != found
            {
                let expected = "sites of the shapes that the other parts have";
                return Err(file::named(path, wrong("scores", expected, "others")));
            }
            let first = blocks(steps, part.shard).start;
            for (i, count) in steps_of_blocks(steps, part.shard).enumerate() {
                let mut sums = BTreeMap::new();
                for (site, array) in &part.arrays {
                    let (sides, length) = (&array.shape[1..], array.values.len() / array.shape[0]);
                    let values = &array.values[i * length..][..length];
                    sums.insert(
                        site.clone(),
                        Tensor::from_slice(values, sides, &Device::Cpu)?,
                    );
                }
                let half = &mut halves[(first + i) % 2];
                *half = std::mem::take(half).plus(Half::of_steps(count, sums))?;
            }
        }
        let paper::Scores { scores, stability } = paper::means(halves, selection)?;
        let scores = Scores {
            shapes: shapes.unwrap_or_default(),
            values: scores,
            provenance: Some(self.plan.clone()),
        };
        Ok((scores, stability))
    }
}

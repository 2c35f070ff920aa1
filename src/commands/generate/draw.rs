//! The drawing of `cones generate`: each picture is written as soon as it is done.

use std::cell::RefCell;
use std::path::Path;
use std::time::Instant;

use cones::find::{Record, record_of};
use cones::pipeline::{Concept, Drawn, Stage};
use cones::prompt::PromptSpec;
use cones::{AttentionOptions, Error, Existing, Picture, Pipeline, Progress, SampleOptions, Size};

use super::super::outputs::Saved;
use super::super::with_suffix;
use super::attention;
use super::hashes::Hashes;
use super::pictures::{Drawing, PREVIEW};
use super::series::Series;
use crate::cli::GenerateArgs;
use crate::report::ui::Ui;

/// What pictures are drawn with.
pub(super) struct Job<'a> {
    pub(super) args: &'a GenerateArgs,
    pub(super) model: &'a str,
    pub(super) pipeline: &'a Pipeline,
    pub(super) prompts: &'a [PromptSpec],
    /// What of each prompt is looked at or excited.
    pub(super) attention: &'a [AttentionOptions],
    pub(super) options: &'a SampleOptions,
    pub(super) concepts: &'a [Concept],
    /// The SHA-256 of the picture to begin with.
    pub(super) init: Option<&'a str>,
    pub(super) size: Size,
}

/// What came of drawing.
pub(super) struct Drawings {
    pub(super) saved: Saved,
    /// The pictures for the grid.
    pub(super) cells: Vec<Picture>,
    pub(super) done: cones::Result<()>,
    pub(super) seconds_per_step: f64,
}

impl Job<'_> {
    /// What is said of a picture of prompt `number`.
    fn drawn<'a>(
        &'a self,
        number: usize,
        seed: u64,
        hashes: &'a [(&'static str, String)],
    ) -> Drawn<'a> {
        Drawn {
            pipeline: self.pipeline,
            prompt: &self.prompts[number],
            options: self.options,
            seed,
            concepts: self.concepts,
            strength: self.args.strength,
            layers: self.args.layers.as_ref(),
            excited: &self.attention[number].excite,
            init: self.init,
            zoom: self.args.zoom,
            hashes,
        }
    }

    /// What the pictures of a series depend on: all that the first one's metadata say, and what is written beside it.
    pub(super) fn record(&self, pictures: &[Drawing], seed: u64) -> anyhow::Result<Record> {
        let (size, options, args) = (self.size, self.options, self.args);
        let first = self.drawn(0, pictures[0].seed, &[]);
        let (width, height) = (size.width as u32, size.height as u32);
        let blank = Picture::new(width, height, vec![0; 3 * size.width * size.height])?;
        let concepts = self.concepts.iter().map(|concept| concept.sha256.as_str());
        let more = [
            (
                "prompts",
                self.prompts
                    .iter()
                    .map(|prompt| prompt.weighted.text())
                    .collect::<Vec<_>>()
                    .join("\n"),
            ),
            ("negative prompt", format!("{:?}", options.negative)),
            ("sampler", options.sampler.to_string()),
            ("steps", options.steps.to_string()),
            ("guidance", options.guidance.to_string()),
            ("size", size.to_string()),
            ("seed", seed.to_string()),
            ("best of", args.best_of.unwrap_or(1).to_string()),
            ("count", pictures.len().to_string()),
            ("concepts", concepts.collect::<Vec<_>>().join(",")),
            ("heatmap", args.heatmap.join(",")),
            ("no metadata", args.no_metadata.to_string()),
            ("settings", first.metadata(&blank)?.cones),
        ];
        let more = more.map(|(key, value)| (key.to_owned(), value));
        Ok(record_of("generate", self.pipeline, more)?)
    }

    /// Draws the pictures that the series lacks.
    pub(super) fn draw(&self, pictures: &mut [Drawing], series: &mut Series, ui: &Ui) -> Drawings {
        let Self { args, prompts, .. } = self;
        let mut hashes = Hashes::begin(self.model, !args.no_metadata);
        let mut meter = ui.meter("drawing");
        let (start, mut passes) = (Instant::now(), 0);
        let saved = RefCell::new(Saved::default());
        let (mut done, mut cells) = (Ok(()), Vec::new());
        for (number, (spec, attention)) in prompts.iter().zip(self.attention).enumerate() {
            let all = number * args.count..(number + 1) * args.count;
            // A grid shows every picture, so that they are all drawn for it.
            let left: Vec<usize> = all.filter(|at| args.grid || series.lacks(*at)).collect();
            let seeds: Vec<u64> = left.iter().map(|at| pictures[*at].seed).collect();
            let progress = |p: Progress| {
                passes = p.total * prompts.len();
                // After a picture that could not be written there is no use in drawing more.
                match saved.borrow().all_well() {
                    true => meter.set(number * p.total + p.done, passes, "passes"),
                    false => Err(Error::Interrupted),
                }
            };
            let mut next = left.iter();
            let each = |stage| {
                let drawing = match stage {
                    Stage::Preview { number, picture } => {
                        return self.preview(&pictures[left[number]].path, &picture);
                    }
                    Stage::Done(drawing) => drawing,
                };
                let Some(&at) = next.next() else {
                    return Ok(());
                };
                let Drawing {
                    path, seed, heat, ..
                } = &mut pictures[at];
                let said = self.drawn(number, *seed, hashes.get()?);
                let metadata = match args.no_metadata {
                    true => None,
                    false => Some(said.metadata(&drawing.picture)?),
                };
                let mut saved = saved.borrow_mut();
                let large = drawing.picture.enlarged(args.zoom)?;
                saved.write(path, &large.to_file(path, metadata.as_ref())?);
                if args.preview.is_some() {
                    let _ = std::fs::remove_file(with_suffix(path, PREVIEW));
                }
                if args.grid {
                    cells.push(drawing.picture.clone());
                }
                *heat = attention::write_heat(path, &attention.heat, &drawing, &mut saved)?;
                if saved.all_well() {
                    series.add(at, path, heat);
                }
                Ok(())
            };
            done = self.pipeline.draw_showing(
                spec,
                self.options,
                attention,
                &seeds,
                args.preview,
                progress,
                each,
            );
            if done.is_err() {
                break;
            }
        }
        meter.finish();
        Drawings {
            saved: saved.into_inner(),
            cells,
            done,
            seconds_per_step: start.elapsed().as_secs_f64() / passes.max(1) as f64,
        }
    }

    /// Writes what a picture is going to be. Nothing depends on it: where it cannot be written, drawing goes on.
    fn preview(&self, path: &Path, picture: &Picture) -> cones::Result<()> {
        let path = with_suffix(path, PREVIEW);
        let picture = picture.enlarged(self.args.zoom)?.to_file(&path, None)?;
        let _ = cones::atomic_write(&path, &picture, Existing::Replaced);
        Ok(())
    }
}

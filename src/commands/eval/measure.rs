//! The measuring of one index.

use std::path::PathBuf;

use cones::eval::{Attended, Bench, Dose, EvalPlan, Figures, Measured, Prompt, attended};
use cones::find::ClassImages;
use cones::index::{NeuronIndex, Subject};
use cones::model::Clip;
use cones::{LeftOut, Photo, Photos, Picture, Pipeline, SampleOptions};

use super::super::class_images;
use super::super::unfinished::Unfinished;
use super::cases::Case;
use super::kept::KeptFigures;
use crate::cli::{EvalArgs, Global};
use crate::report::meters::{ConditionMeters, Meters};
use crate::report::ui::Ui;

/// Columns of the sheet.
pub(super) const COLUMNS: usize = 8;

/// What all cases have in common.
pub(super) struct Setting<'a> {
    pub(super) global: &'a Global,
    pub(super) args: &'a EvalArgs,
    pub(super) clip: &'a Clip,
    pub(super) options: &'a SampleOptions,
    pub(super) ui: &'a Ui,
}

/// An index that was measured.
pub(super) struct Outcome {
    pub(super) path: PathBuf,
    pub(super) label: String,
    pub(super) index: NeuronIndex,
    pub(super) subject: Subject,
    pub(super) prompts: Vec<Prompt>,
    /// The SHA-256 of each photo.
    pub(super) photos: Vec<String>,
    pub(super) left_out: Vec<LeftOut>,
    pub(super) figures: Figures,
    /// The photos to show.
    pub(super) shown: Vec<Picture>,
    pub(super) attended: Vec<Attended>,
}

impl Outcome {
    /// The dose of an index as it is; none of a sweep.
    pub(super) fn lone(&self) -> Option<&Measured> {
        match self.figures.doses.as_slice() {
            [dose] if dose.dose.asked.is_none() => Some(dose),
            _ => None,
        }
    }

    /// What was shut: the index, or its part in the layers asked for.
    pub(super) fn used(&self) -> &NeuronIndex {
        self.lone().map_or(&self.index, |dose| &dose.dose.index)
    }

    /// The pictures of a sheet, row by row, each with its name: photos; plain; of each dose the concept; of a lone dose
    /// its random controls too; of each the first [`COLUMNS`].
    pub(super) fn rows(&self) -> Vec<(String, Vec<Picture>)> {
        let row = |name: &str, pictures: &[Picture]| {
            let first = pictures.iter().take(COLUMNS).cloned();
            (name.to_owned(), first.collect())
        };
        let plain = &self.figures.plain.pictures;
        let mut rows = vec![row("photos", &self.shown), row("plain", plain)];
        for Measured { dose, shut, .. } in &self.figures.doses {
            let name = match dose.asked {
                None => "concept".to_owned(),
                Some(_) => format!("{:.2} %", 100.0 * dose.index.extent().density),
            };
            rows.push(row(&name, &shut.pictures));
        }
        if let Some(lone) = self.lone() {
            rows.extend(lone.controls.iter().map(|c| row("random", &c.pictures)));
        }
        rows
    }
}

impl Setting<'_> {
    /// Measures a case; also what was kept of it, to be removed once the result is written.
    pub(super) fn measure<'u>(
        &'u self,
        case: Case,
        doses: Vec<Dose>,
        pipeline: &mut Pipeline,
    ) -> anyhow::Result<(Outcome, Unfinished<'u>)> {
        let Self {
            global,
            args,
            clip,
            options,
            ui,
        } = *self;
        let Case {
            path,
            label,
            index,
            subject,
            prompts,
            photos,
            class,
            left_out,
        } = case;
        let plan = EvalPlan {
            clip,
            subject: &subject,
            index: &index,
            doses,
            prompts: &prompts,
            options,
            seed: global.seed,
            count: args.count,
            shown: if args.shows_pictures() { COLUMNS } else { 0 },
            controls: args.controls,
            loss_draws: args.loss_draws,
        };
        if args.loss_draws > 0 {
            class_images::check(&class, pipeline, ui)?;
        }
        let mut meters = Meters::new(ui, "");
        let bench = Bench::new(plan, pipeline, (&photos, &class), &mut meters)?;
        meters.finish();
        let shown = match args.shows_pictures() {
            true => shown_photos(&photos, pipeline)?,
            false => Vec::new(),
        };
        let hash = |photo: &Photo| photo.sha256.to_owned();
        let hashes: Vec<String> = photos.iter().map(hash).collect();
        let given = match &class {
            ClassImages::Given(class) => class.iter().map(hash).collect(),
            ClassImages::Needless | ClassImages::Drawn(_) => Vec::new(),
        };
        drop((photos, class)); // what they keep of pixels is memory for the drawing
        let pictures = [&hashes[..], &[String::new()], &given].concat();
        let (mut kept, state) = KeptFigures::open(ui, (&path, args), &bench, pipeline, &pictures)?;
        let mut meters = ConditionMeters::new(ui);
        let figures = bench.measure(pipeline, state, |now, state| {
            let shown = meters.set(now);
            kept.progress(state, shown)
        });
        meters.finish();
        let (figures, unfinished) = kept.end(figures)?;
        let looked_at = figures.doses.last().filter(|_| args.report.is_some());
        let attended = looked_at.map(|dose| {
            let of = (&subject, &dose.dose.index);
            let seeds = (global.seed, args.count);
            let mut meter = ui.meter("attention");
            let all = attended(pipeline, of, &prompts, options, seeds, |p| {
                meter.set(p.done, p.total, "passes")
            })?;
            meter.finish();
            Ok::<_, cones::Error>(all)
        });
        let outcome = Outcome {
            attended: attended.transpose()?.unwrap_or_default(),
            path,
            label,
            index,
            subject,
            prompts,
            photos: hashes,
            left_out,
            figures,
            shown,
        };
        Ok((outcome, unfinished))
    }
}

/// The photos on the sheet, read before anything is drawn.
fn shown_photos(photos: &Photos, pipeline: &Pipeline) -> cones::Result<Vec<Picture>> {
    let first = photos.iter().take(COLUMNS);
    first.map(|photo| photo.picture(pipeline.size)).collect()
}

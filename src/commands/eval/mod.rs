//! `cones eval`: what shutting a concept does, against the plain model and random neurons.

mod inputs;
mod json;
mod kept;
mod report;
mod tables;

use anyhow::Context;
use cones::eval::{Bench, Dose, EvalShape, HeldOut, Study, prior_loss_weight, sheet};
use cones::find::ClassImages;
use cones::{Photo, Photos, Picture, Pipeline};

use self::inputs::{encoder, prompts, read_scores, subject};
use self::kept::{KeptFigures, Plan};
use super::class_images;
use super::outputs::{Outputs, Saved};
use super::{load, read_index};
use crate::cli::{EvalArgs, Global};
use crate::report::meters::{ConditionMeters, Meters};
use crate::report::photos;
use crate::report::ui::Ui;

/// Columns of the sheet.
const COLUMNS: usize = 8;

/// Whether the answer is yes.
pub(crate) fn run(global: &Global, args: &EvalArgs) -> anyhow::Result<bool> {
    let ui = Ui::new(global);
    let index = read_index(&args.index)?;
    let subject = subject(&index, args.subject.as_deref())?;
    let prompts = prompts(args.prompts.as_deref(), &subject)?;
    let photos = photos::list(&args.images, &ui)?;
    let class_given = args.class_images.iter();
    let class_given = class_given.map(|folder| photos::list(std::slice::from_ref(folder), &ui));
    let class_given = class_given.collect::<anyhow::Result<Vec<_>>>()?.pop();
    let inputs = [
        Some(&args.index),
        args.prompts.as_ref(),
        args.scores.as_ref(),
    ];
    if let Some(path) = &args.sheet {
        let outputs = Outputs::beside(photos.files.iter().chain(inputs.into_iter().flatten()));
        let outputs = outputs.file("--sheet", path);
        outputs.check()?;
        outputs.spare_indices()?;
    }
    let photos = photos::read(photos, photos::keep(None), &ui)?;
    let mut left_out = photos.left_out.clone();
    let class = match class_given {
        Some(list) => {
            let class = photos::read(list, photos::keep(None), &ui)?;
            left_out.extend_from_slice(&class.left_out);
            ClassImages::Given(class)
        }
        None => class_images::drawn(&subject, None, &args.index),
    };
    let scores = args.scores.as_deref().map(read_scores).transpose()?;
    let doses = Dose::all(scores.as_ref(), &args.sweep, index.clone())?;
    let mut pipeline = load(global, &ui)?;
    let fingerprint = pipeline.fingerprint()?;
    let scores_fit = scores.map_or(Ok(()), |s| s.check_fingerprint(&fingerprint));
    for (what, checked) in [
        ("index", index.check_fingerprint(&fingerprint)),
        ("scores", scores_fit),
    ] {
        match checked {
            Err(error) if args.force => {
                ui.warn(&format!("{what}: {error}; used all the same (--force)"));
            }
            checked => checked.with_context(|| {
                format!("{what} of another model, which is measured with --force alone")
            })?,
        }
    }
    // What does not fit the model is to be known before anything is drawn.
    for dose in &doses {
        pipeline.check_sites(&dose.index)?;
    }
    let clip = encoder(global, args, &ui)?;
    for prompt in &prompts {
        let cut =
            pipeline.tokenizer().truncated(&prompt.used)? + clip.truncated(&prompt.described)?;
        if cut > 0 {
            ui.warn(&format!(
                "the end of \"{}\" does not fit into the text length of the model or the encoder and is cut",
                prompt.used
            ));
        }
    }
    let options = args.sampling.options(pipeline.sample_options(&[]));
    let whole = photos.iter().map(Photo::whole);
    let shown_count = args.sheet.as_ref().map_or(0, |_| COLUMNS);
    let pictures = (global.seed, args.count, shown_count);
    let study = Study::new(&clip, &prompts, &options, pictures, whole)?;
    let held_out = match args.loss_draws {
        0 => None,
        draws => {
            class_images::check(&class, &pipeline, &ui)?;
            let mut meters = Meters::new(&ui, "");
            let held_out = HeldOut::new(
                &pipeline,
                (&subject, &index),
                (&photos, &class),
                (global.seed, draws),
                &mut meters,
            )?;
            meters.finish();
            Some(held_out)
        }
    };
    let shown = match &args.sheet {
        Some(_) => shown_photos(&photos, &pipeline)?,
        None => Vec::new(),
    };
    let hash = |photo: &Photo| photo.sha256.to_owned();
    let photo_hashes: Vec<String> = photos.iter().map(hash).collect();
    let given = match &class {
        ClassImages::Given(class) => class.iter().map(hash).collect(),
        ClassImages::Needless | ClassImages::Drawn(_) => Vec::new(),
    };
    drop((photos, class)); // what they keep of pixels is memory for the drawing
    let weight = prior_loss_weight(&index);
    let mut meters = ConditionMeters::new(&ui);
    let shape = EvalShape {
        conditions: 1 + doses.len() * (1 + args.controls),
        count: args.count,
        shown: shown_count.min(args.count),
        size: options.size.unwrap_or_else(|| pipeline.size()),
        width: study.width(),
        draws: args.loss_draws,
    };
    let plan = Plan {
        global,
        args,
        subject: &subject,
        prompts: &prompts,
        doses: &doses,
        clip: &clip,
        pictures: &[&photo_hashes[..], &[String::new()], &given].concat(),
        options: format!("{options:?}"),
    };
    let (mut kept, state) = KeptFigures::open(&ui, &plan, &pipeline, shape)?;
    let mut bench = Bench::new(&mut pipeline, study, held_out, weight);
    let controls = (args.controls, global.seed);
    let measured = bench.measure(doses, controls, state, |now, state| {
        let shown = meters.set(now);
        kept.progress(state, shown)
    });
    drop(bench);
    meters.finish();
    let ((plain, doses), unfinished) = kept.end(measured)?;
    pipeline.check_unchanged()?;
    clip.check_unchanged()?;
    let mut saved = Saved::default();
    if let Some(path) = &args.sheet {
        let sheet = sheet(shown, &plain, &doses, COLUMNS)?;
        saved.write(path, &sheet.to_png(path, None)?);
    }
    let report = report::Report {
        global,
        args,
        subject: &subject,
        prompts: &prompts,
        options: &options,
        photos: &photo_hashes,
        left_out: &left_out,
        clip: &clip,
        prior_loss_weight: weight,
        plain: &plain.values,
        doses: &doses,
    };
    report.print(&ui)?;
    unfinished.finish_unless(saved.is_lost());
    saved.finish()?;
    Ok(report.brings_out_subject()?.unwrap_or(true))
}

/// The photos on the sheet, read before anything is drawn.
fn shown_photos(photos: &Photos, pipeline: &Pipeline) -> cones::Result<Vec<Picture>> {
    let first = photos.iter().take(COLUMNS);
    first.map(|photo| photo.at_size(pipeline.size())).collect()
}

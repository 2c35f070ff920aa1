//! `cones eval`: what shutting a concept does, against the plain model and random neurons.

mod report;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use candle_core::Tensor;
use cones::checkpoint::Source;
use cones::checkpoint::hub::Layout;
use cones::eval::{
    Condition, DEFAULT_PROMPTS, HeldOut, Prompt, Study, Values, differences, mean_of,
};
use cones::find::Scores;
use cones::index::random_control;
use cones::index::{NeuronIndex, SiteSelection, Subject};
use cones::model::Clip;
use cones::picture::sheet;
use cones::pipeline::{marks_of, shut};
use cones::prompt::Marks;
use cones::{Error, Picture, Pipeline, SampleOptions, list_images};

use super::download::ensure;
use super::lesson::{ClassImages, class_count, hashes, prepare};
use super::outputs::Outputs;
use super::outputs::Saved;
use super::{device, load, name, read_index};
use crate::cli::{EvalArgs, Global};
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
    let photo_paths = list_images(&args.images)?.files;
    let inputs = [
        Some(&args.index),
        args.prompts.as_ref(),
        args.scores.as_ref(),
    ];
    if let Some(path) = &args.sheet {
        let outputs = Outputs::beside(photo_paths.iter().chain(inputs.into_iter().flatten()));
        let outputs = outputs.file("--sheet", path);
        outputs.check()?;
        outputs.spare_indices()?;
    }
    let (photos, _) = photos::read(&args.images, &ui)?;
    let (class_read, _) = photos::read_class(args.class_images.as_ref(), &ui)?;
    let left_out = [photos.left_out, class_read.left_out].concat();
    let class = match &args.class_images {
        _ if args.loss_draws == 0 => ClassImages::Needless,
        Some(folder) => ClassImages::Given(folder),
        None => ClassImages::Drawn(class_count(None), &args.index),
    };
    let photo_hashes = hashes(&photo_paths, &ClassImages::Needless, &ui)?;
    let scores = args.scores.as_deref().map(read_scores).transpose()?;
    let doses = doses(scores.as_ref(), &args.sweep, index.clone())?;
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
    let weights = pipeline.unet().site_weights(SiteSelection::All);
    // What does not fit the model is to be known before anything is drawn.
    for dose in &doses {
        shut(&weights, &dose.index)?;
    }
    // The prompts of the losses are embedded once, for all conditions.
    let marks = marks_of(&[&index]);
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
    let own = super::generate::defaults(&pipeline);
    let options = SampleOptions {
        sampler: args.sampler,
        steps: args.steps.unwrap_or(own.steps),
        guidance: args.guidance.unwrap_or(own.guidance),
        ..own
    };
    let photos = photo_paths.iter().map(|path| Picture::read_whole(path));
    let study = Study::new(&clip, &prompts, &options, (global.seed, args.count), photos)?;
    let held_out = match args.loss_draws {
        0 => None,
        _ => Some(held_out(
            global,
            args,
            &pipeline,
            (&subject, &marks),
            (&photo_paths, &class),
            &ui,
        )?),
    };
    let shown = match &args.sheet {
        Some(_) => shown_photos(&photo_paths, &pipeline)?,
        None => Vec::new(),
    };
    let mut bench = Bench {
        pipeline: &mut pipeline,
        study,
        held_out,
        plain_predictions: Vec::new(),
        prior_weight: prior_weight(&index),
        ui: &ui,
    };
    let plain = bench.measure("plain", None)?;
    let doses = doses
        .into_iter()
        .map(|dose| bench.dose(dose, args.controls, global.seed, &plain))
        .collect::<anyhow::Result<Vec<_>>>()?;
    drop(bench);
    pipeline.check_unchanged()?;
    clip.check_unchanged()?;
    let mut saved = Saved::default();
    if let Some(path) = &args.sheet {
        let sheet = sheet(&rows(shown, &plain, &doses))?;
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
        prior_weight: prior_weight(&index),
        plain: &plain.values,
        doses: &doses,
    };
    report.print(&ui)?;
    saved.finish()?;
    Ok(report.brings_out_subject()?.unwrap_or(true))
}

/// The concept at one density.
struct Dose {
    /// What --sweep asked for; the index as it is has none.
    asked: Option<f64>,
    index: NeuronIndex,
}

/// A dose measured.
struct Measured {
    dose: Dose,
    shut: Condition,
    controls: Vec<Condition>,
    /// The mean over all controls.
    control: Values,
    /// Shut less plain, and shut less control.
    against_plain: Values,
    against_control: Values,
}

/// The model, and what it is measured by.
struct Bench<'a> {
    pipeline: &'a mut Pipeline,
    study: Study<'a>,
    held_out: Option<HeldOut>,
    plain_predictions: Vec<Tensor>,
    prior_weight: f64,
    ui: &'a Ui,
}

impl Bench<'_> {
    /// Measures the model with the neurons of an index shut, or with none; the plain model comes first.
    fn measure(&mut self, label: &str, shut: Option<&NeuronIndex>) -> anyhow::Result<Condition> {
        let marks = match shut {
            Some(index) => self.pipeline.shut(&[index])?,
            None => Marks::default(),
        };
        let mut meter = self.ui.meter(label);
        let mut condition = self.study.draw(self.pipeline, &marks, |p| {
            meter.set(p.done, p.total, "passes")
        })?;
        meter.finish();
        if let Some(held_out) = &self.held_out {
            let mut meter = self.ui.meter(label);
            let predictions = held_out.predict(self.pipeline.unet(), |done, total| {
                meter.set(done, total, "losses")
            })?;
            meter.finish();
            if shut.is_none() {
                self.plain_predictions.clone_from(&predictions);
            }
            let losses = held_out.losses(&predictions, &self.plain_predictions)?;
            condition.add_losses(losses, self.prior_weight);
        }
        self.pipeline.open()?;
        Ok(condition)
    }

    /// Measures the concept at one density, and random neurons beside it.
    fn dose(
        &mut self,
        dose: Dose,
        controls: usize,
        seed: u64,
        plain: &Condition,
    ) -> anyhow::Result<Measured> {
        let percent = 100.0 * dose.index.density();
        let shut = self.measure(&format!("shut {percent:.2} %"), Some(&dose.index))?;
        let controls = (0..controls as u64)
            .map(|i| {
                let random = random_control(&dose.index, seed.wrapping_add(i))?;
                self.measure(&format!("random {percent:.2} %"), Some(&random))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let control = mean_of(&controls.iter().map(|c| &c.values).collect::<Vec<_>>());
        Ok(Measured {
            against_plain: differences(&shut.values, &plain.values),
            against_control: differences(&shut.values, &control),
            dose,
            shut,
            controls,
            control,
        })
    }
}

fn read_scores(path: &Path) -> anyhow::Result<Scores> {
    Scores::read(path).with_context(|| format!("failed to read scores `{}`", name(path)))
}

/// The index as it is, or with scores the concepts of other densities.
fn doses(scores: Option<&Scores>, sweep: &[f64], index: NeuronIndex) -> anyhow::Result<Vec<Dose>> {
    let Some(scores) = scores else {
        return Ok(vec![Dose { asked: None, index }]);
    };
    let dose = |&density: &f64| {
        let index = scores.concept(density, index.provenance())?;
        let asked = Some(density);
        Ok(Dose { asked, index })
    };
    sweep.iter().map(dose).collect()
}

/// The subject that the photos show.
fn subject(index: &NeuronIndex, name: Option<&str>) -> anyhow::Result<Subject> {
    let subjects = &index.provenance().subjects;
    match (name, subjects.as_slice()) {
        (Some(name), _) => {
            Ok(subjects[Subject::named(subjects, name).context("--subject")?].clone())
        }
        (None, [one]) => Ok(one.clone()),
        (None, _) => bail!(
            "the index holds several subjects, {}: say with --subject NOUN which one the photos show, or give its own index",
            Subject::phrases(subjects)
        ),
    }
}

fn prompts(file: Option<&Path>, subject: &Subject) -> anyhow::Result<Vec<Prompt>> {
    let Some(path) = file else {
        return Ok(Prompt::list(
            &DEFAULT_PROMPTS.join("\n"),
            &subject.noun,
            &subject.token,
        ));
    };
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("failed to read prompts `{}`", path.display()))?;
    let prompts = Prompt::list(&text, &subject.noun, &subject.token);
    if prompts.is_empty() {
        bail!(
            "prompts `{}`: expected one on each line, found none",
            path.display()
        );
    }
    Ok(prompts)
}

/// The encoder that the user named, or that the model brings along.
fn encoder(global: &Global, args: &EvalArgs, ui: &Ui) -> anyhow::Result<Clip> {
    let device = device(global)?;
    if let Some(encoder) = &args.encoder {
        ensure(encoder, Layout::Encoder, global, ui)?;
        return Source::encoder(encoder)
            .and_then(|source| Clip::load(&source, &device))
            .with_context(|| format!("failed to load encoder `{encoder}`"));
    }
    let own = Clip::of_model(&Source::open(&global.model)?, &device)
        .with_context(|| format!("failed to load the encoder of model `{}`", global.model))?;
    Ok(own.ok_or_else(|| Error::Model {
        model: global.model.clone(),
        problem: "no encoder to measure pictures with: there is no folder `clip` in it".to_owned(),
        hint: "give one with `--encoder DIR`: a CLIP model in the transformers layout, such as \
               `--encoder openai/clip-vit-base-patch32 --download`"
            .to_owned(),
    })?)
}

fn held_out(
    global: &Global,
    args: &EvalArgs,
    pipeline: &Pipeline,
    subject: (&Subject, &Marks),
    (photos, class): (&[PathBuf], &ClassImages),
    ui: &Ui,
) -> anyhow::Result<HeldOut> {
    let lesson = prepare(pipeline, subject, photos, class, ui)?;
    Ok(HeldOut::new(
        pipeline.schedule(),
        &lesson,
        args.loss_draws,
        global.seed,
    )?)
}

/// The weight of the class in the loss that the concept was found with.
fn prior_weight(index: &NeuronIndex) -> f64 {
    let stored = index.provenance().settings.get("prior_weight");
    let number = stored.and_then(|text| text.parse().ok());
    number.filter(|w: &f64| w.is_finite()).unwrap_or(1.0)
}

/// The photos on the sheet, read before anything is drawn.
fn shown_photos(photos: &[PathBuf], pipeline: &Pipeline) -> cones::Result<Vec<Picture>> {
    let first = photos.iter().take(COLUMNS);
    first
        .map(|path| Picture::read(path, pipeline.size()))
        .collect()
}

/// Photos; plain; of each dose the concept; of a lone dose its random controls too.
fn rows(photos: Vec<Picture>, plain: &Condition, doses: &[Measured]) -> Vec<Vec<Picture>> {
    let first = |condition: &Condition| -> Vec<Picture> {
        condition.pictures.iter().take(COLUMNS).cloned().collect()
    };
    let mut rows = vec![photos, first(plain)];
    rows.extend(doses.iter().map(|d| first(&d.shut)));
    if let [Measured { dose, controls, .. }] = doses
        && dose.asked.is_none()
    {
        rows.extend(controls.iter().map(first));
    }
    rows
}

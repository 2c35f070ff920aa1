//! What is kept of a measuring, so that one that was stopped or killed goes on.

use std::path::{Path, PathBuf};

use anyhow::Context;
use cones::Pipeline;
use cones::eval::{Bench, EvalPlan, EvalShape, EvalState};
use cones::find::{Record, record_of};
use sha2::{Digest, Sha256};

use super::super::unfinished::Unfinished;
use crate::cli::EvalArgs;
use crate::report::ui::Ui;

/// The figures and pictures of a run so far, in a file beside the index.
pub(super) struct KeptFigures<'a> {
    unfinished: Unfinished<'a>,
    shape: EvalShape,
    /// Pictures in what was kept last.
    drawn: usize,
}

/// What the figures depend on, beside the SHA-256 of photos and pictures of the class.
fn record(plan: &EvalPlan, pipeline: &Pipeline, pictures: &[String]) -> anyhow::Result<Record> {
    let doses = plan.doses.iter().map(|dose| {
        let bytes = dose.index.to_bytes()?;
        Ok(format!("{:?} {}", dose.asked, hex(&bytes)))
    });
    let doses = doses.collect::<cones::Result<Vec<_>>>()?.join(",");
    let prompts = plan.prompts.iter();
    let prompts: Vec<String> = prompts
        .map(|p| format!("{}\n{}", p.used, p.described))
        .collect();
    let more = [
        ("subject", plan.subject.to_string()),
        ("prompts", prompts.join("\n")),
        ("indices", doses),
        ("pictures", pictures.join(",")),
        ("encoder", plan.clip.sha256.clone()),
        ("preprocessing", plan.clip.preprocessing.to_string()),
        ("options", format!("{:?}", plan.options)),
        ("seed", plan.seed.to_string()),
        ("count", plan.count.to_string()),
        ("controls", plan.controls.to_string()),
        ("loss draws", plan.loss_draws.to_string()),
        ("sheet", (plan.shown > 0).to_string()),
    ];
    let more = more.map(|(key, value)| (key.to_owned(), value));
    Ok(record_of("eval", pipeline, more)?)
}

fn hex(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl<'a> KeptFigures<'a> {
    /// Takes up what was measured of this very plan: each has a file of its own, `INDEX.eval-HASH.part`.
    ///
    /// # Errors
    /// As [`Unfinished::open`].
    pub(super) fn open(
        ui: &'a Ui,
        (index, args): (&Path, &EvalArgs),
        bench: &Bench,
        pipeline: &Pipeline,
        pictures: &[String],
    ) -> anyhow::Result<(Self, EvalState)> {
        let (shape, record) = (bench.shape, record(&bench.plan, pipeline, pictures)?);
        let hash = hex(format!("{record:?}").as_bytes());
        let mut file = index.to_owned().into_os_string();
        file.push(format!(".eval-{}", &hash[..8]));
        let file = PathBuf::from(file);
        let (restart, most) = (args.restart, bench.state_bytes);
        let (unfinished, kept) = Unfinished::open(ui, &file, record, restart, most)?;
        let state = match kept {
            None => EvalState::default(),
            Some(kept) => {
                ui.note(&format!("going on at {}", kept.done));
                EvalState::from_bytes(&kept.contents, &shape)
                    .context("begin again with `--restart`")?
            }
        };
        let kept = Self {
            unfinished,
            shape,
            drawn: state.drawn(shape.count),
        };
        Ok((kept, state))
    }

    /// Keeps what there is where there is more than before; `shown` is whether the user wants an end.
    pub(super) fn progress(
        &mut self,
        state: &EvalState,
        shown: cones::Result<()>,
    ) -> cones::Result<()> {
        let (drawn, ending) = (state.drawn(self.shape.count), shown.is_err());
        if drawn > self.drawn && (ending || !self.unfinished.is_busy()) {
            self.drawn = drawn;
            let contents = state.to_bytes()?;
            let done = format!(
                "picture {drawn} of {}",
                self.shape.conditions * self.shape.count
            );
            self.unfinished
                .keep(done, ending, move |out| out.write_all(&contents));
        }
        shown
    }

    /// Ends the measuring; of an interrupt it says how to go on.
    pub(super) fn end<T>(
        mut self,
        result: cones::Result<T>,
    ) -> anyhow::Result<(T, Unfinished<'a>)> {
        let result = self.unfinished.tell(result)?;
        Ok((result, self.unfinished))
    }
}

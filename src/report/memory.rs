//! What a run needs of memory: chosen, said before it starts, or said instead of starting.

use cones::find::FAMILIARITY_STEPS;
use cones::{LeftOut, MemoryEstimate, Pipeline};
use serde_json::json;

use super::duration;
use super::ui::Ui;
use crate::cli::{DeviceName, Global};

/// The share of the free memory that is taken without being told to.
const SHARE: f64 = 0.9;

/// How much there is.
pub(crate) struct Budget {
    /// What the user allows.
    told: Option<u64>,
    /// What is free.
    free: u64,
    /// All that the processor could ever have, with what is swapped to the disk.
    all: u64,
}

impl Budget {
    /// What the user allows, or what is free.
    pub(crate) fn new(global: &Global, memory: Option<u64>) -> Self {
        let mut system = sysinfo::System::new();
        system.refresh_memory();
        // What a control group calls free is less than what it can give: it counts the page cache as used.
        let (free, all) = match system.cgroup_limits() {
            Some(limits) => (
                (limits.total_memory.saturating_sub(limits.rss)).min(system.available_memory()),
                limits.total_memory.min(system.total_memory()),
            ),
            None => (system.available_memory(), system.total_memory()),
        };
        Self {
            told: memory,
            free,
            all: match global.device {
                DeviceName::Cpu => all.saturating_add(system.total_swap()),
                DeviceName::Cuda(_) | DeviceName::Metal => u64::MAX, // theirs is not known here
            },
        }
    }

    /// Bytes to stay within.
    pub(crate) fn bytes(&self) -> u64 {
        self.told.unwrap_or((self.free as f64 * SHARE) as u64)
    }

    /// Seconds of a find step of so many photos that needs this: nothing where it does not fit, as that is not tried.
    pub(crate) fn time_find_step(
        &self,
        needs: &MemoryEstimate,
        pipeline: &Pipeline,
        rows: usize,
    ) -> anyhow::Result<Option<f64>> {
        if needs.total() > self.bytes() {
            return Ok(None);
        }
        Ok(Some(pipeline.time_finding(rows)? * rows as f64))
    }

    /// Refuses what is more than the user allows, or than there is at all, and warns of what is more than is free.
    pub(crate) fn check(&self, needs: &MemoryEstimate, ui: &Ui) -> anyhow::Result<()> {
        if let Some(told) = self.told {
            needs.within(told)?;
        }
        // Weights are mapped: their pages come and go. All else has to be there at once.
        MemoryEstimate {
            weights: 0,
            ..*needs
        }
        .within(self.all)?;
        if needs.total() > self.free {
            ui.warn(&format!(
                "this needs about {}, and {} are free: it may be slow, or be ended by the system",
                human(needs.total()),
                human(self.free)
            ));
        }
        Ok(())
    }
}

/// What a find takes, in seconds.
pub(crate) struct FindTime {
    pub(crate) steps: usize,
    /// One of them.
    pub(crate) step: f64,
    /// All of them, and the look at whether the model knows the photos.
    pub(crate) whole: f64,
}

impl FindTime {
    /// From what a step takes, and one of sampling a picture.
    pub(crate) fn new(steps: usize, step: f64, sampling: f64) -> Self {
        Self {
            steps,
            step,
            whole: steps as f64 * step + FAMILIARITY_STEPS as f64 * sampling,
        }
    }
}

/// One line on what a run needs.
pub(crate) fn line(needs: &MemoryEstimate) -> String {
    let mut parts = vec![
        format!("weights {}", human(needs.weights)),
        format!("layers {}", human(needs.layers)),
    ];
    if needs.photos > needs.weights + needs.layers + needs.method {
        parts.push(format!(
            "but reading the largest photo {}",
            human(needs.photos)
        ));
    }
    if needs.method > 0 {
        parts.push(format!("method {}", human(needs.method)));
    }
    let mut line = format!(
        "needs about {} of memory: {}",
        human(needs.total()),
        parts.join(", ")
    );
    if needs.recomputed > 0 {
        line += &format!(
            "; to fit, {} computed twice",
            match needs.recomputed {
                1 => "1 layer is".to_owned(),
                n => format!("{n} layers are"),
            }
        );
    }
    line
}

/// What `--dry-run` says instead of doing `what`; of a find, what it takes.
pub(crate) fn dry_run(
    global: &Global,
    ui: &Ui,
    what: &str,
    needs: &MemoryEstimate,
    time: Option<FindTime>,
    left_out: &[LeftOut],
) -> anyhow::Result<()> {
    if global.json {
        return ui.json(&json!({
                "dry_run": true,
                "task": what,
                "memory_bytes": needs.total(),
                "weights_bytes": needs.weights,
                "layers_bytes": needs.layers,
                "method_bytes": needs.method,
                "recomputed_layers": needs.recomputed,
                "photos_bytes": needs.photos,
                "steps": time.as_ref().map(|time| time.steps),
                "seconds_per_step": time.as_ref().map(|time| time.step),
                "seconds": time.map(|time| time.whole),
                "left_out": super::photos::left_out(left_out),
        }));
    }
    let taken = time.map_or_else(String::new, |time| {
        let (step, whole) = (duration(time.step), duration(time.whole));
        format!("; a step takes {step} here, the whole find about {whole}")
    });
    ui.result(&format!("{what}; {}{taken}", line(needs)))
}

/// `4.9 GB` or `83 MB`.
pub(crate) fn human(bytes: u64) -> String {
    match bytes as f64 {
        large if large >= 1e9 => format!("{:.1} GB", large / 1e9),
        small => format!("{:.0} MB", (small / 1e6).ceil()),
    }
}

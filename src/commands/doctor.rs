//! `cones doctor`: what there is to compute with, and how long a find takes with it.

use anyhow::Context;
use cones::checkpoint::hub::Hub;
use cones::escaped;
use cones::find::Method;
use serde_json::json;

use super::{load, name};
use crate::cli::{DeviceName, Global};
use crate::report::duration;
use crate::report::memory::{Budget, FindTime, human};
use crate::report::ui::Ui;

pub(crate) fn run(global: &Global) -> anyhow::Result<()> {
    let ui = Ui::new(global);
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    let (total, free) = (system.total_memory(), system.available_memory());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = rayon::current_num_threads();
    let device = match global.device {
        DeviceName::Cpu => "cpu".to_owned(),
        DeviceName::Cuda(number) => format!("cuda:{number}"),
        DeviceName::Metal => "metal".to_owned(),
    };
    let hub = Hub::from_environment().context("the hub's cache")?;
    let cache = name(&hub.cache);
    let mut pipeline = load(global, &ui)?;
    let options = pipeline.sample_options(&[]);
    let sampling = pipeline.time_sampling()?;
    let picture = sampling * options.steps as f64;
    let default = Method::default();
    let (rows, steps) = (default.rows(), default.steps());
    let budget = Budget::new(global, None);
    let needs = default.plan_memory(&mut pipeline, budget.bytes());
    let step = budget.time_find_step(&needs, &pipeline, rows)?;
    let needs = needs.total();
    let find = step.map(|step| FindTime::new(steps, step, sampling).whole);
    if global.json {
        return ui.json(&json!({
            "version": env!("CARGO_PKG_VERSION"),
            "device": device,
            "cores": cores,
            "threads": threads,
            "memory_bytes": total,
            "free_memory_bytes": free,
            "cache": cache,
            "cache_exists": hub.cache.is_dir(),
            "offline": hub.offline,
            "model": pipeline.name,
            "size": pipeline.size.to_string(),
            "prediction": pipeline.prediction.to_string(),
            "fingerprint": pipeline.fingerprint()?,
            "seconds_per_sampling_step": sampling,
            "find_memory_bytes": needs,
            "seconds_per_find_step": step,
            "seconds_per_picture": picture,
            "seconds_per_find": find,
        }));
    }
    let there = if hub.cache.is_dir() {
        ""
    } else {
        ", which is not there yet"
    };
    let rows = [
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        (
            "device",
            format!("{device}: {cores} cores, {threads} threads"),
        ),
        (
            "memory",
            format!("{}, of which {} are free", human(total), human(free)),
        ),
        ("cache", format!("{cache}{there}")),
        (
            "hub",
            if hub.offline {
                "offline: nothing is asked"
            } else {
                "may be asked"
            }
            .to_owned(),
        ),
        (
            "model",
            format!(
                "{}: {} pixels, predicts {}",
                pipeline.name, pipeline.size, pipeline.prediction
            ),
        ),
        (
            "sampling",
            format!(
                "{} a step, {} for a picture of {} steps",
                duration(sampling),
                duration(picture),
                options.steps
            ),
        ),
        (
            "find",
            match step.zip(find) {
                Some((step, find)) => format!(
                    "{} a step of {rows} photos, about {} for the default of {steps} steps, {} of memory",
                    duration(step),
                    duration(find),
                    human(needs)
                ),
                None => format!("needs {} of memory, which are not free", human(needs)),
            },
        ),
    ];
    let lines: Vec<String> = rows
        .iter()
        .map(|(what, said)| format!("{what:<10} {}", escaped(said)))
        .collect();
    ui.result(&lines.join("\n"))
}

//! `cones doctor`: what there is to compute with, and how long a find takes with it.

use anyhow::Context;
use cones::checkpoint::hub::Hub;
use cones::escaped;
use cones::find::learned::Settings;
use cones::index::Scope;
use serde_json::json;

use super::{load, name};
use crate::cli::{DeviceName, Global};
use crate::report::memory::human;
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
    let pipeline = load(global, &ui)?;
    let steps = pipeline.time_steps()?;
    let options = pipeline.sample_options(&[]);
    let picture = steps.sampling * options.steps as f64;
    let default = Settings::of(Scope::Words);
    let find = steps.finding * (default.steps * default.batch_size) as f64;
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
            "seconds_per_sampling_step": steps.sampling,
            "seconds_per_find_step": steps.finding * default.batch_size as f64,
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
                time(steps.sampling),
                time(picture),
                options.steps
            ),
        ),
        (
            "find",
            format!(
                "{} a step of {} photos, about {} for the default of {} steps",
                time(steps.finding * default.batch_size as f64),
                default.batch_size,
                time(find),
                default.steps
            ),
        ),
    ];
    let lines: Vec<String> = rows
        .iter()
        .map(|(what, said)| format!("{what:<10} {}", escaped(said)))
        .collect();
    ui.result(&lines.join("\n"))
}

/// `0.12 s`, `3 min`, `7.6 h`
fn time(seconds: f64) -> String {
    match seconds {
        s if s < 0.1 => format!("{:.0} ms", 1000.0 * s),
        s if s < 10.0 => format!("{s:.2} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_in_their_own_units() {
        for (seconds, said) in [
            (0.0312, "31 ms"),
            (0.5, "0.50 s"),
            (61.0, "61 s"),
            (300.0, "5 min"),
            (27_360.0, "7.6 h"),
        ] {
            assert_eq!(time(seconds), said);
        }
    }
}

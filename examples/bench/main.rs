//! Times one part of a model, in a process of its own, so that the peak of its memory is that part's.
//!
//!     cargo run --release --example bench -- MODEL PART [REPEATS [cpu|cuda|metal [f32|f16|bf16 [BATCH]]]]
//!
//! PART is `load`, `forward`, `step`, `words` or `decode`. Prints one JSON object: `load_seconds`, the best `seconds`
//! of REPEATS (3), and `peak_memory_bytes`, of the memory that is not the device's. `load` is all that comes before the
//! first step, with the prompt's embedding and its keys and values. The forward pass and the find steps, `step` to the
//! weights and `words` to the values at a subject's words, have BATCH (2) pictures at the model's size; `compare.py`
//! runs PyTorch beside it.

#![expect(clippy::print_stdout, reason = "its result is what it prints")]

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use cones::Pipeline;
use cones::bench::{Pass, Passes};
use cones::checkpoint::Source;

fn main() -> Result<()> {
    cones::keep_freed_memory();
    // As the program has them.
    let threads = rayon::ThreadPoolBuilder::new().use_current_thread();
    threads.build_global()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, part, rest @ ..] = arguments.as_slice() else {
        bail!(
            "usage: bench MODEL load|forward|step|words|decode [REPEATS [DEVICE [DTYPE [BATCH]]]]"
        );
    };
    let repeats: usize = rest
        .first()
        .map_or(Ok(3), |text| text.parse())
        .context("REPEATS is a whole number")?;
    let device = match rest.get(1).map_or("cpu", String::as_str) {
        "cpu" => Device::Cpu,
        "cuda" => Device::new_cuda(0)?,
        "metal" => Device::new_metal(0)?,
        other => bail!("expected cpu, cuda or metal, found `{other}`"),
    };
    let dtype = match rest.get(2).map_or("f32", String::as_str) {
        "f32" => DType::F32,
        "f16" => DType::F16,
        "bf16" => DType::BF16,
        other => bail!("expected f32, f16 or bf16, found `{other}`"),
    };
    let batch: usize = rest
        .get(3)
        .map_or(Ok(2), |text| text.parse())
        .context("BATCH is a whole number")?;
    let start = Instant::now();
    let source = Source::open(Path::new(model).to_str().context("MODEL is no text")?)?;
    let pipeline = Pipeline::load(&source, &device, dtype)?;
    let load_seconds = start.elapsed().as_secs_f64();
    let prompts = ["a photo of a dog in the snow", ""];
    let prompts: Vec<&str> = prompts.into_iter().cycle().take(batch).collect();
    let passes = Passes::new(&pipeline, &prompts)?;
    let seconds = match part.as_str() {
        "load" => {
            device.synchronize()?;
            start.elapsed().as_secs_f64()
        }
        "forward" => best(repeats, &device, || passes.run(Pass::Forward))?,
        "step" => best(repeats, &device, || passes.run(Pass::Step))?,
        "words" => best(repeats, &device, || passes.run(Pass::Words))?,
        "decode" => best(repeats, &device, || passes.run(Pass::Decode))?,
        other => bail!("expected load, forward, step, words or decode, found `{other}`"),
    };
    println!(
        "{}",
        serde_json::json!({
            "load_seconds": load_seconds,
            "seconds": seconds,
            "peak_memory_bytes": peak_memory()?,
        })
    );
    Ok(())
}

fn best(repeats: usize, device: &Device, run: impl Fn() -> cones::Result<Tensor>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..repeats.max(1) {
        let start = Instant::now();
        std::hint::black_box(run()?);
        device.synchronize()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// The most memory that the process has had.
fn peak_memory() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("this needs Linux")?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|line| line.split_whitespace().next())
        .context("no VmHWM in /proc/self/status")?;
    Ok(kib.parse::<u64>()? * 1024)
}

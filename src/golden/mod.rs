//! Everything that the library computes, beside what PyTorch, diffusers and transformers compute: the values are in
//! `tests/golden/`, whose README says what is allowed.

mod attend;
mod clip;
mod devices;
mod held_out;
mod models;
mod no_middle;
mod prompts;
mod training;
#[cfg(target_os = "linux")]
mod turns;
mod xl;

use std::path::{Path, PathBuf};

use candle_core::Device;

use crate::checkpoint::Source;
use crate::{Pipeline, Result};

/// The folder of the golden files.
fn golden_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Where models compute whose results are held against PyTorch's: the CPU, or what CONES_TEST_DEVICE says, `cuda` or
/// `metal`. `examples/gpu/` runs these tests so.
fn device() -> Device {
    match std::env::var("CONES_TEST_DEVICE").as_deref() {
        Err(_) | Ok("cpu") => Device::Cpu,
        Ok("cuda") => Device::new_cuda(0).unwrap(),
        Ok("metal") => Device::new_metal(0).unwrap(),
        Ok(other) => panic!("CONES_TEST_DEVICE: expected cpu, cuda or metal, found `{other}`"),
    }
}

/// A copy of a folder.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let name = entry.unwrap().file_name();
        let (from, to) = (from.join(&name), to.join(&name));
        match from.is_dir() {
            true => copy(&from, &to),
            false => drop(std::fs::copy(&from, &to).unwrap()),
        }
    }
}

/// A model on that device.
fn load(folder: &Path) -> Result<Pipeline> {
    Pipeline::load(&Source::open(folder.to_str().unwrap())?, &device(), None)
}

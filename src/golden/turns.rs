//! The memory of weights that are read in their file.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

use super::{copy, golden_dir};
use crate::Pipeline;
use crate::checkpoint::Source;
use crate::index::SiteSelection;
use crate::prompt::PromptSpec;

/// How much of a file this process has in memory, in bytes, as Linux tells.
fn resident(file: &Path) -> u64 {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut sum, mut here) = (0, false);
    for line in maps.lines() {
        if let Some(kib) = line.strip_prefix("Rss:").filter(|_| here) {
            sum += 1024
                * kib
                    .trim()
                    .strip_suffix(" kB")
                    .unwrap()
                    .parse::<u64>()
                    .unwrap();
        } else if line
            .split(' ')
            .next()
            .is_some_and(|word| word.contains('-'))
        {
            // A mapping begins: a range of addresses, and what is mapped, if that has a name.
            here = line.ends_with(file.to_str().unwrap());
        }
    }
    sum
}

/// A model in a folder of its own, so that no other test reads its files.
fn copied(dir: &Path) -> PathBuf {
    let folder = dir.join("model");
    copy(&golden_dir().join("models/sd1-f32"), &folder);
    folder
}

fn load(folder: &Path) -> Pipeline {
    let source = Source::open(folder.to_str().unwrap()).unwrap();
    Pipeline::load(&source, &Device::Cpu, None).unwrap()
}

#[test]
fn layers_give_the_memory_of_their_weights_back() {
    let dir = tempfile::tempdir().unwrap();
    let folder = copied(dir.path());
    let file = folder.join("unet/diffusion_pytorch_model.safetensors");
    let size = std::fs::metadata(&file).unwrap().len();
    let model = load(&folder);
    let unet = model.unet();
    let layer = unet.weights_in_turn(0).unwrap();
    assert!((size / 50..size / 2).contains(&layer), "{layer} of {size}");
    let context = model.embed(&[PromptSpec::from("a dog")]).unwrap();
    let (channels, side) = (unet.channels(), unet.sample_size());
    let x = Tensor::ones((1, channels, side, side), DType::F32, &Device::Cpu).unwrap();
    // What has been read and not given back is seen.
    unet.precompute_kv(&context).unwrap();
    assert!(resident(&file) > 0);
    let (output, saved) = unet.forward_saving(&x, &[500.0], &context).unwrap();
    assert!(resident(&file) < size / 4, "{} of {size}", resident(&file));
    unet.backward(saved, &output, SiteSelection::Cross).unwrap();
    assert!(resident(&file) < size / 4, "{} of {size}", resident(&file));
}

#[test]
fn weights_that_cannot_be_read_in_place_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let folder = copied(dir.path());
    let file = folder.join("unet/diffusion_pytorch_model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    let needs = || load(&folder).unet().weights_in_turn(0).unwrap();
    let size = bytes.len() as u64;
    assert!(needs() < size / 2);
    // A header that is a byte longer: no number is where a processor reads one.
    let (len, rest) = bytes.split_at(8);
    let len = u64::from_le_bytes(len.try_into().unwrap());
    let (header, data) = rest.split_at(len as usize);
    let moved = [&(len + 1).to_le_bytes(), header, b" ", data].concat();
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, moved).unwrap();
    assert!((size..2 * size).contains(&needs()), "{} of {size}", needs());
}

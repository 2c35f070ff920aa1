//! What GPUs run: every layer by candle's operations, in f32 and in half precision, held against PyTorch on the CPU.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, helpers and all, and tells how near it came"
)]

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use cones::index::{Site, SiteSelection};
use cones::model::Conditioning;
use cones::nn::by_candle;

use super::attend;
use super::cli::fails;
use super::golden;
use super::golden::{Golden, MODELS};

#[test]
fn layers_by_candles_operations_are_equal() {
    by_candle(golden::text_embeddings_are_equal);
    by_candle(golden::unet_outputs_are_equal);
    by_candle(golden::projected_contexts_give_the_same_output);
    by_candle(golden::the_autoencoder_is_equal_both_ways);
    by_candle(golden::gradients_of_every_site_are_equal);
    by_candle(golden::scores_of_algorithm_1_are_equal);
    by_candle(golden::whole_pictures_are_equal);
    by_candle(attend::maps_losses_gradients_and_updates_are_equal);
}

/// ‖got − want‖ / ‖want‖.
fn difference(got: &Tensor, want: &Tensor) -> f64 {
    let norm = |x: &Tensor| {
        let sum = x.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>();
        f64::from(sum.unwrap()).sqrt()
    };
    norm(&(got - want).unwrap()) / norm(want)
}

/// Weights, activations and gradients of 11 bits: rounding at every layer, and nothing else. candle has no matrix
/// product of bf16 on the CPU, so that its 8 bits go untested.
#[test]
fn half_precision_is_near() {
    for name in MODELS {
        let mut golden = Golden::open(name);
        let [x, context, target] =
            ["grad.x", "grad.context", "grad.target"].map(|part| golden.tensor(part).clone());
        let timesteps = golden.timesteps();
        let context = Conditioning::from(context);
        let (unet, _) = golden.pipeline.unet_mut();
        let mut pass = |dtype| -> (Tensor, BTreeMap<Site, Tensor>) {
            unet.compute_in(dtype);
            let (output, saved) = unet.forward_saving(&x, &timesteps, &context).unwrap();
            assert_eq!(output.dtype(), DType::F32);
            // A loss so small that f16 has no numbers for its gradients as they are.
            let scale = 1e-6 / output.elem_count() as f64;
            let grad = ((&output - &target).unwrap() * scale).unwrap();
            let gradients = unet.backward(saved, &grad, SiteSelection::All).unwrap();
            (output, gradients)
        };
        let (want, gradients) = pass(DType::F32);
        let (output, half) = pass(DType::F16);
        let error = difference(&output, &want);
        println!("{name}: output in f16: {error:.1e}");
        // Measured 1.3e-3 to 1.9e-3.
        assert!((1e-5..5e-3).contains(&error), "{name}: output {error:.1e}");
        let mut worst = 0f64;
        for (site, gradient) in gradients {
            assert_eq!(half[&site].dtype(), DType::F32);
            let error = difference(&half[&site], &gradient);
            worst = worst.max(error);
            // Measured 9e-3.
            assert!(error < 2e-2, "{name}: {site}: {error:.1e}");
        }
        println!("{name}: gradients in f16: worst {worst:.1e}");
    }
}

#[test]
fn devices_that_are_not_there_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |options: &[&str], named: &str| {
        let args = [&["generate"], options, &["a dog"]].concat();
        let message = fails(dir.path(), &args, 2);
        assert!(message.contains(named), "{message}");
    };
    refused(&["--device", "abacus"], "cpu");
    refused(&["--device", "cuda:x"], "cuda");
    refused(&["--dtype", "f16"], "--device");
    if !cfg!(feature = "cuda") {
        refused(&["--device", "cuda"], "--features cuda");
        refused(&["--device", "cuda:1"], "--features cuda");
    }
    if !cfg!(feature = "metal") {
        refused(&["--device", "metal"], "--features metal");
    }
}

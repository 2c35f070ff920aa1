//! What GPUs run: every layer by candle's operations, in f32 and in half precision, held against PyTorch on the CPU.
#![expect(clippy::print_stdout, reason = "a comparison tells how near it came")]

use std::collections::BTreeMap;

use crate::index::{Site, SiteSelection};
use crate::model::Conditioning;
use crate::nn::by_candle;
use crate::nn::testing::difference;
use candle_core::{DType, Tensor};

use super::models::{Golden, MODELS};
use super::{attend, device, models, xl};

#[test]
fn layers_by_candles_operations_are_equal() {
    by_candle(models::text_embeddings_are_equal);
    by_candle(models::unet_outputs_are_equal);
    by_candle(models::projected_contexts_give_the_same_output);
    by_candle(models::the_autoencoder_is_equal_both_ways);
    by_candle(models::gradients_of_every_site_are_equal);
    by_candle(models::scores_of_algorithm_1_are_equal);
    by_candle(attend::maps_losses_gradients_and_updates_are_equal);
    by_candle(xl::texts_are_equal);
    by_candle(xl::networks_are_equal);
    by_candle(xl::gradients_of_every_site_are_equal);
    by_candle(xl::scores_of_algorithm_1_are_equal);
}

/// Beside the layers, and at the same time: it takes as long as all of them.
#[test]
fn whole_pictures_by_candles_operations_are_equal() {
    by_candle(models::whole_pictures_are_equal);
    by_candle(xl::whole_pictures_are_equal);
}

/// Weights, activations and gradients of 11 bits: rounding at every layer, and nothing else.
#[test]
fn half_precision_is_near() {
    // Measured 1.3e-3 to 1.9e-3 of the output and 9e-3 of the gradients; 6.5e-3 of the output on an H100.
    near_in(DType::F16, 1e-2, 2e-2);
}

/// The same of 8 bits, on a GPU, or of products alone on a CPU.
#[test]
fn bf16_is_near() {
    let (output_within, gradient_within) = match device().is_cpu() {
        true => (4e-2, 16e-2),
        false => (8e-2, 16e-2), // measured 1.6e-2 and 6.8e-2 on an H100
    };
    near_in(DType::BF16, output_within, gradient_within);
}

/// Holds outputs and gradients in a type, as relative norms, to those in f32.
fn near_in(dtype: DType, output_within: f64, gradient_within: f64) {
    for name in MODELS {
        let mut golden = Golden::open(name);
        let [x, context, target] =
            ["grad.x", "grad.context", "grad.target"].map(|part| golden.tensor(part).clone());
        let timesteps = golden.timesteps();
        let context = Conditioning::from(context);
        let (unet, _) = golden.pipeline.unet_mut();
        let mut pass = |dtype| -> (Tensor, BTreeMap<Site, Tensor>) {
            unet.compute_in(dtype, &device());
            let (output, saved) = unet.forward_saving(&x, &timesteps, &context).unwrap();
            assert_eq!(output.dtype(), DType::F32);
            // A loss so small that f16 has no numbers for its gradients as they are.
            let scale = 1e-6 / output.elem_count() as f64;
            let grad = ((&output - &target).unwrap() * scale).unwrap();
            let gradients = unet.backward(saved, &grad, SiteSelection::All).unwrap();
            (output, gradients)
        };
        let (want, gradients) = pass(DType::F32);
        let (output, half) = pass(dtype);
        let error = difference(&output, &want);
        println!("{name}: output in {dtype:?}: {error:.1e}");
        let near = (1e-5..output_within).contains(&error);
        assert!(near, "{name}: output {error:.1e}");
        let mut worst = 0f64;
        for (site, gradient) in gradients {
            assert_eq!(half[&site].dtype(), DType::F32);
            let error = difference(&half[&site], &gradient);
            worst = worst.max(error);
            assert!(error < gradient_within, "{name}: {site}: {error:.1e}");
        }
        println!("{name}: gradients in {dtype:?}: worst {worst:.1e}");
    }
}

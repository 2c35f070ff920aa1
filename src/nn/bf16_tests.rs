//! Layers with products in bf16: of numbers that bf16 has, they are those of f32; of others, near.

use candle_core::{DType, Tensor};

use super::dispatch::ProductsIn;
use super::testing::{difference, random};
use super::{Addends, Conv2d, Linear, attention};

/// Unit normals that bf16 has.
fn short(shape: &[usize], seed: u64) -> Tensor {
    let x = random(shape, seed).to_dtype(DType::BF16).unwrap();
    x.to_dtype(DType::F32).unwrap()
}

/// How far what `run` gives in bf16 is from f32.
fn error(run: impl Fn() -> Tensor) -> f64 {
    let want = run();
    let _products = ProductsIn::bf16(true);
    difference(&run(), &want)
}

#[test]
fn linear_layers_are_equal_and_near() {
    for (b, h, w, from, to) in [(2, 3, 7, 5, 9), (3, 20, 31, 33, 70), (1, 1, 2, 600, 1030)] {
        let (x, grad) = (short(&[b, h * w, from], 1), short(&[b, h * w, to], 2));
        let (map, sum) = (short(&[b, from, h, w], 3), random(&[b, to, h, w], 4));
        let grads = short(&[b, to, h, w], 8);
        let layer = Linear::new(short(&[to, from], 5), Some(random(&[to], 6)));
        for error in [
            error(|| layer.forward(&x).unwrap()),
            error(|| layer.forward_from_channels(&map).unwrap()),
            error(|| layer.forward_to_channels(&x, &sum).unwrap()),
            error(|| layer.backward(&grad).unwrap()),
            error(|| layer.backward_from_channels(&grads).unwrap()),
        ] {
            assert!(error < 2e-6, "{from} to {to}: {error:e}");
        }
        let layer = Linear::new(random(&[to, from], 5), None);
        let error = error(|| layer.forward(&random(&[b, h * w, from], 7)).unwrap());
        assert!((1e-4..4e-3).contains(&error), "{from} to {to}: {error:e}");
    }
}

#[test]
fn gated_layers_are_equal_and_near() {
    for (b, rows, from, inner) in [(1, 1, 3, 1), (2, 67, 5, 9), (1, 700, 33, 300)] {
        let gate = Linear::new(short(&[2 * inner, from], 1), Some(random(&[2 * inner], 2)));
        let (x, grad) = (short(&[b, rows, from], 3), random(&[b, rows, inner], 4));
        let forward = error(|| gate.forward_geglu(&x).unwrap());
        assert!(forward < 5e-6, "{from} to {inner}: {forward:e}");
        // The gradients of both halves are rounded before they are multiplied.
        let backward = error(|| gate.backward_geglu(&x, &grad).unwrap());
        assert!(backward < 4e-3, "{from} to {inner}: {backward:e}");
    }
}

#[test]
fn convolutions_are_equal_and_near() {
    for (k, stride, padding) in [(1, 1, 0), (3, 1, 1), (3, 2, 1), (3, 2, 0), (5, 1, 2)] {
        for (b, c_in, c_out, h, w) in [(2, 3, 4, 5, 7), (1, 40, 33, 8, 8), (2, 5, 70, 33, 20)] {
            let weight = |seed| short(&[c_out, c_in * k * k], seed);
            let conv = Conv2d::new(weight(1), k, random(&[c_out], 2), stride, padding);
            let x = short(&[b, c_in, h, w], 3);
            let y = conv.forward(&x).unwrap();
            let (shift, residual) = (random(&[b, c_out], 4), random(y.dims(), 5));
            let addends = Addends {
                shift: Some(&shift),
                residual: Some(&residual),
            };
            let grad = short(y.dims(), 6);
            let mut errors = vec![
                error(|| conv.forward_adding(&x, addends).unwrap()),
                error(|| conv.backward(&grad).unwrap()),
            ];
            if (k, stride) == (3, 1) {
                errors.push(error(|| conv.forward_upsampled(&x, 2 * h, 2 * w).unwrap()));
                let grad = short(&[b, c_out, 2 * h, 2 * w], 7);
                errors.push(error(|| conv.backward_upsampled(&grad).unwrap()));
            }
            for error in errors {
                assert!(error < 4e-6, "{k} {stride}, {c_in} to {c_out}: {error:e}");
            }
            let (x, grad) = (random(&[b, c_in, h, w], 8), random(y.dims(), 9));
            for error in [
                error(|| conv.forward(&x).unwrap()),
                error(|| conv.backward(&grad).unwrap()),
            ] {
                assert!(
                    (1e-5..4e-3).contains(&error),
                    "{k} {stride}, {c_in} to {c_out}: {error:e}"
                );
            }
        }
    }
}

/// Probabilities are rounded, whatever the inputs are.
#[test]
fn attention_is_near() {
    for (b, n, t, heads, d) in [
        (2, 70, 33, 2, 40),
        (1, 1, 1, 1, 3),
        (1, 300, 300, 3, 64),
        (2, 65, 129, 1, 160),
    ] {
        let [q, k, v] =
            [(n, 1), (t, 2), (t, 3)].map(|(rows, seed)| short(&[b, rows, heads * d], seed));
        let error = error(|| attention(&q, &k, &v, heads).unwrap());
        assert!(error < 6e-3, "{n} x {t}, {d}: {error:e}");
    }
}

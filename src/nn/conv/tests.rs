use std::sync::Arc;

use candle_core::DType;

use super::super::dispatch::by_candle;
use super::super::testing::{random, worst};
use super::*;

fn conv(c_out: usize, c_in: usize, k: usize, stride: usize, padding: usize) -> Conv2d {
    let scale = 1.0 / ((c_in * k * k) as f64).sqrt();
    let weight = (random(&[c_out, c_in * k * k], 2) * scale).unwrap();
    Conv2d::new(weight, k, random(&[c_out], 9), stride, padding)
}

/// Kernels, strides and paddings, each at sizes that no block or tile divides.
const KINDS: [(usize, usize, usize); 6] = [
    (1, 1, 0),
    (3, 1, 1),
    (3, 2, 1),
    (3, 2, 0),
    (3, 1, 0),
    (5, 1, 2),
];

#[test]
fn kernels_equal_the_generic_path() {
    for (k, stride, padding) in KINDS {
        for (b, c_in, c_out, h, w) in [(2, 3, 4, 5, 7), (1, 4, 3, 8, 8), (3, 5, 1, 6, 5)] {
            let (conv, x) = (
                conv(c_out, c_in, k, stride, padding),
                random(&[b, c_in, h, w], 1),
            );
            let y = conv.forward(&x).unwrap();
            let (shift, residual) = (random(&[b, c_out], 3), random(y.dims(), 4));
            let all = Addends {
                shift: Some(&shift),
                residual: Some(&residual),
            };
            for addends in [Addends::default(), all] {
                let run = || conv.forward_adding(&x, addends).unwrap();
                assert!(worst(&run(), &by_candle(run)) < 1e-5);
            }
            let g = random(y.dims(), 5);
            let run = || conv.backward(&g).unwrap();
            assert!(worst(&run(), &by_candle(run)) < 1e-5);
        }
    }
}

/// Pictures as narrow as a pixel, of which some taps see nothing.
#[test]
fn narrow_pictures_equal_the_generic_path() {
    for (k, stride, padding) in [(3, 1, 1), (3, 2, 1), (5, 1, 2), (5, 2, 2), (7, 1, 3)] {
        for (h, w) in [(1, 1), (1, 6), (6, 1), (2, 1), (2, 3)] {
            let (conv, x) = (conv(4, 3, k, stride, padding), random(&[2, 3, h, w], 1));
            let run = || conv.forward(&x).unwrap();
            let y = run();
            assert!(worst(&y, &by_candle(run)) < 1e-5, "{k} {stride}: {h} x {w}");
            let g = random(y.dims(), 5);
            let run = || conv.backward(&g).unwrap();
            assert!(
                worst(&run(), &by_candle(run)) < 1e-5,
                "{k} {stride}: {h} x {w}"
            );
        }
    }
}

/// Wide enough for Winograd's method: several bands and blocks of channels, sides that tiles do not divide, pictures
/// that share a register of tiles.
#[test]
fn wide_kernels_equal_the_generic_path() {
    for (b, c_in, c_out, h, w) in [
        (1, 35, 70, 16, 17),
        (2, 64, 33, 31, 20),
        (3, 33, 40, 16, 16),
        (2, 520, 32, 64, 48),
    ] {
        let (conv, x) = (conv(c_out, c_in, 3, 1, 1), random(&[b, c_in, h, w], 1));
        let (shift, residual) = (random(&[b, c_out], 3), random(&[b, c_out, h, w], 4));
        let addends = Addends {
            shift: Some(&shift),
            residual: Some(&residual),
        };
        let run = || conv.forward_adding(&x, addends).unwrap();
        let error = worst(&run(), &by_candle(run));
        assert!(error < 5e-5, "{error}");
        let run = || conv.backward(&residual).unwrap();
        let error = worst(&run(), &by_candle(run));
        assert!(error < 5e-5, "{error}");
    }
}

#[test]
fn upsampling_inside_equals_upsampling_before() {
    for (c, h, w) in [(3, 5, 4), (3, 1, 1), (40, 10, 9)] {
        let x = random(&[2, c, h, w], 1);
        for size in [
            (2 * h, 2 * w),
            (2 * h - 1, 2 * w),
            (2 * h, 2 * w - 1),
            (2 * h - 1, 2 * w - 1),
        ] {
            let conv = conv(c, c, 3, 1, 1);
            let run = || conv.forward_upsampled(&x, size.0, size.1).unwrap();
            let got = run();
            assert!(worst(&got, &by_candle(run)) < 5e-5);
            let g = random(got.dims(), 2);
            let run = || conv.backward_upsampled(&g).unwrap();
            assert!(worst(&run(), &by_candle(run)) < 5e-5);
        }
        let conv = conv(c, c, 3, 1, 1);
        assert!(conv.forward_upsampled(&x, 2 * h + 1, 2 * w).is_err());
    }
}

/// Weights of each type of file, by both methods: as if they had been converted before.
#[test]
fn weights_of_a_file_are_converted_where_used() {
    for (dtype, c, side) in [
        (DType::F32, 5, 6),
        (DType::F16, 5, 6),
        (DType::BF16, 5, 6),
        (DType::F16, 36, 17),
        (DType::BF16, 36, 17),
    ] {
        let plain = conv(c, c, 3, 1, 1);
        let rounded = plain.0.weight.tensor().unwrap().to_dtype(dtype).unwrap();
        let tensors = std::collections::HashMap::from([("w", rounded.clone())]);
        let file = safetensors::serialize(&tensors, None).unwrap();
        let range = file.len() - c * c * 9 * dtype.size_in_bytes()..file.len();
        let weight = Weight::of_file(Arc::new(file), range, dtype, (c, 9 * c)).unwrap();
        let converted = rounded.to_dtype(DType::F32).unwrap();
        let [of_file, converted] = [weight, converted.into()]
            .map(|weight: Weight| Conv2d::new(weight, 3, plain.0.bias.clone(), 1, 1));
        let x = random(&[2, c, side, side], 1);
        let [a, b] = [&of_file, &converted].map(|conv| conv.forward(&x).unwrap());
        assert_eq!(worst(&a, &b), 0.0);
        let [a, b] = [&of_file, &converted].map(|conv| conv.backward(&x).unwrap());
        assert_eq!(worst(&a, &b), 0.0);
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let (same, x) = (conv(4, 3, 3, 1, 1), random(&[1, 3, 4, 4], 1));
    for shape in [&[1, 2, 4, 4][..], &[1, 4, 4, 3], &[3, 4, 4], &[]] {
        assert!(same.forward(&random(shape, 1)).is_err(), "{shape:?}");
        let g = random(shape, 1);
        assert!(
            shape.get(1) == Some(&4) || same.backward(&g).is_err(),
            "{shape:?}"
        );
    }
    assert!(same.backward(&x).is_err());
    for shape in [&[1, 3, 4, 4][..], &[2, 4, 4, 4], &[1, 4, 4, 5], &[1, 4, 16]] {
        let residual = random(shape, 1);
        let addends = Addends {
            residual: Some(&residual),
            ..Addends::default()
        };
        assert!(same.forward_adding(&x, addends).is_err(), "{shape:?}");
    }
    for shape in [&[1, 3, 4, 4][..], &[2, 4], &[1, 3], &[4]] {
        let shift = random(shape, 1);
        let addends = Addends {
            shift: Some(&shift),
            ..Addends::default()
        };
        assert!(same.forward_adding(&x, addends).is_err(), "{shape:?}");
    }
    for (k, padding, height, width) in [(3, 0, 2, 5), (3, 0, 5, 2), (5, 1, 2, 2), (3, 1, 0, 4)] {
        let conv = conv(4, 3, k, 1, padding);
        let small = random(&[1, 3, height, width], 1);
        assert!(
            conv.forward(&small).is_err(),
            "{k} {padding}: {height} x {width}"
        );
        assert!(by_candle(|| conv.forward(&small)).is_err());
    }
}

use std::sync::Arc;

use candle_core::{DType, Device};

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
                let got = conv.forward_adding(&x, addends).unwrap();
                let want = conv.apply_generic(&x, (h, w), addends).unwrap();
                assert!(worst(&got, &want) < 1e-5);
            }
            let g = random(y.dims(), 5);
            let (got, want) = (
                conv.backward(&g).unwrap(),
                conv.backward_generic(&g).unwrap(),
            );
            assert!(worst(&got, &want) < 1e-5);
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
        let window = conv.window((h, w), (h, w));
        assert_eq!(conv.method(&window, c_in.min(c_out)), Method::Winograd);
        let (shift, residual) = (random(&[b, c_out], 3), random(&[b, c_out, h, w], 4));
        let addends = Addends {
            shift: Some(&shift),
            residual: Some(&residual),
        };
        let got = conv.forward_adding(&x, addends).unwrap();
        let want = conv.apply_generic(&x, (h, w), addends).unwrap();
        assert!(worst(&got, &want) < 5e-5, "{}", worst(&got, &want));
        let (got, want) = (
            conv.backward(&residual).unwrap(),
            conv.backward_generic(&residual).unwrap(),
        );
        assert!(worst(&got, &want) < 5e-5, "{}", worst(&got, &want));
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
            let got = conv.forward_upsampled(&x, size.0, size.1).unwrap();
            let want = conv.apply_generic(&x, size, Addends::default()).unwrap();
            assert!(worst(&got, &want) < 5e-5);
            let g = random(got.dims(), 2);
            let got = conv.backward_upsampled(&g).unwrap();
            let want = upsample2x_backward(&conv.backward_generic(&g).unwrap()).unwrap();
            assert!(worst(&got, &want) < 5e-5);
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
        let rounded = plain.weight.tensor().unwrap().to_dtype(dtype).unwrap();
        let tensors = std::collections::HashMap::from([("w", rounded.clone())]);
        let file = safetensors::serialize(&tensors, None).unwrap();
        let range = file.len() - c * c * 9 * dtype.size_in_bytes()..file.len();
        let weight = Weight::of_file(Arc::new(file), range, dtype, (c, 9 * c)).unwrap();
        let converted = rounded.to_dtype(DType::F32).unwrap();
        let [of_file, converted] = [weight, converted.into()]
            .map(|weight: Weight| Conv2d::new(weight, 3, plain.bias.clone(), 1, 1));
        let x = random(&[2, c, side, side], 1);
        let [a, b] = [&of_file, &converted].map(|conv| conv.forward(&x).unwrap());
        assert_eq!(worst(&a, &b), 0.0);
        let [a, b] = [&of_file, &converted].map(|conv| conv.backward(&x).unwrap());
        assert_eq!(worst(&a, &b), 0.0);
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let (conv, x) = (conv(4, 3, 3, 1, 1), random(&[1, 3, 4, 4], 1));
    assert!(conv.forward(&random(&[1, 2, 4, 4], 1)).is_err());
    assert!(conv.backward(&x).is_err());
    let residual = Addends {
        residual: Some(&x),
        ..Addends::default()
    };
    assert!(conv.forward_adding(&x, residual).is_err());
    let shift = Addends {
        shift: Some(&x),
        ..Addends::default()
    };
    assert!(conv.forward_adding(&x, shift).is_err());
}

/// Of unit normals, as far as the module documentation of `winograd` says; the other method's beside it.
#[test]
fn errors_against_f64_are_as_stated() {
    let (c, side) = (320, 18);
    let (conv, x) = (conv(8, c, 3, 1, 1), random(&[1, c, side, side], 1));
    let f64_of = |t: &Tensor| t.to_dtype(candle_core::DType::F64).unwrap();
    let exact = f64_of(&x)
        .conv2d(&f64_of(&conv.kernels(DType::F32).unwrap()), 1, 1, 1, 1)
        .unwrap();
    let size = |t: &Tensor| {
        t.sqr()
            .unwrap()
            .mean_all()
            .unwrap()
            .to_scalar::<f64>()
            .unwrap()
    };
    let window = conv.window((side, side), (side, side));
    let weight = conv.weight.tensor().unwrap();
    let weight = values_of(&weight).unwrap();
    let x = values_of(&x).unwrap();
    let error = |method| {
        let (start, mut out) = (Start::zeros(8), vec![0f32; 8 * side * side]);
        if method == Method::Winograd {
            let input = winograd::Input {
                x: &x,
                pictures: 1,
                window: &window,
            };
            let kernel = winograd::Kernel::new(&weight, c, 8);
            winograd::convolve(input, kernel, &start, 1, &mut out);
        } else {
            unfold::convolve(&x, (c, 8), &window, &weight, &start, &mut out);
        }
        let got = Tensor::from_vec(out, (1, 8, side, side), &Device::Cpu).unwrap();
        (size(&(f64_of(&got) - &exact).unwrap()) / size(&exact)).sqrt()
    };
    let (winograd, unfolded) = (error(Method::Winograd), error(Method::Unfold));
    eprintln!("Winograd {winograd:.2e}, unfolding {unfolded:.2e}");
    assert!(winograd < 2e-6, "{winograd:e}");
    assert!(unfolded < 1e-6, "{unfolded:e}");
}

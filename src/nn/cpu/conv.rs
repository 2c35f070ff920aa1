//! Convolutions: wide 3 × 3 ones by Winograd's minimal filtering, all others by unfolding.

use candle_core::Tensor;

use super::bf16::Instructions;
use super::epilogue::Epilogue;
use super::unfold;
use super::unfold::Window;
use super::weight::with_f32;
use super::winograd;
use super::winograd::{Kernel, Pictures};
use super::zeros::zeros;
use crate::Result;
use crate::nn::dispatch::in_bf16;
use crate::nn::layout::Plane;
use crate::nn::parameters::{Addends, Channels, Filter};
use crate::nn::tensor::numbers_of;

/// How a convolution is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Unfold,
    Winograd,
}

/// Where Winograd's method starts to pay: channels on the narrower side, and pixels of a picture.
const NARROWEST: usize = 32;
const FEWEST_PIXELS: usize = 256;

impl Method {
    /// The method that measures faster.
    fn of(window: &Window, channels: Channels) -> Self {
        let same = (window.k, window.stride, window.padding) == (3, 1, 1);
        let narrowest = channels.input.min(channels.output);
        let slower = in_bf16() && Instructions::new().outrun_winograd();
        if same && !slower && narrowest >= NARROWEST && window.seen.pixels() >= FEWEST_PIXELS {
            Self::Winograd
        } else {
            Self::Unfold
        }
    }
}

pub(super) fn forward(
    filter: &Filter,
    x: &Tensor,
    seen: Plane,
    addends: Addends,
) -> Result<Tensor> {
    let (b, channels) = (x.dim(0)?, filter.channels());
    let window = Window::new(filter, Plane::of(x)?, seen);
    let output = window.output();
    let x = x.contiguous()?;
    let numbers = numbers_of(&x)?;
    let bias = numbers_of(&filter.bias)?;
    let residual = addends.residual.map(Tensor::contiguous).transpose()?;
    let residual = residual.as_ref().map(numbers_of).transpose()?;
    let of_channels = match addends.shift {
        None => bias.repeat(b),
        Some(shift) => {
            let shift = shift.broadcast_add(&filter.bias)?;
            let shift = shift.broadcast_as((b, channels.output))?;
            shift.flatten_all()?.to_vec1()?
        }
    };
    let epilogue = Epilogue {
        channels: of_channels,
        residual: residual.as_deref(),
    };
    let mut out = zeros(b * channels.output * output.pixels());
    with_f32(&filter.weight, |weight| {
        match Method::of(&window, channels) {
            Method::Unfold => {
                unfold::convolve(&numbers, channels, &window, weight, &epilogue, &mut out);
            }
            Method::Winograd => {
                let input = Pictures {
                    x: &numbers,
                    pictures: b,
                    window: &window,
                };
                let kernel = Kernel::new(weight, channels);
                winograd::convolve(input, kernel, &epilogue, 1, &mut out);
            }
        }
    })?;
    let shape = (b, channels.output, output.height, output.width);
    Ok(Tensor::from_vec(out, shape, x.device())?)
}

pub(super) fn backward(
    filter: &Filter,
    grad: &Tensor,
    stored: Plane,
    seen: Plane,
) -> Result<Tensor> {
    let (b, channels) = (grad.dim(0)?, filter.channels());
    let window = Window::new(filter, stored, seen);
    let grad = grad.contiguous()?;
    let numbers = numbers_of(&grad)?;
    let mut out = zeros(b * channels.input * stored.pixels());
    let zoom = window.zoom();
    let whole = (seen.height, seen.width) == (zoom * stored.height, zoom * stored.width);
    with_f32(&filter.weight, |weight| {
        match Method::of(&window, channels) {
            Method::Winograd if whole => {
                let same = Window::new(filter, seen, seen);
                let input = Pictures {
                    x: &numbers,
                    pictures: b,
                    window: &same,
                };
                let kernel = Kernel::new(weight, channels).transposed();
                let epilogue = Epilogue::zeros(b * channels.input);
                winograd::convolve(input, kernel, &epilogue, zoom, &mut out);
            }
            _ => unfold::convolve_backward(&numbers, channels, &window, weight, &mut out),
        }
    })?;
    let shape = (b, channels.input, stored.height, stored.width);
    Ok(Tensor::from_vec(out, shape, grad.device())?)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::nn::testing::random;
    use crate::nn::weight::Weight;

    #[test]
    fn the_method_is_chosen_by_size() {
        for (k, stride, padding, input, output, side, want) in [
            (3, 1, 1, 32, 32, 16, Method::Winograd),
            (3, 1, 1, 70, 35, 17, Method::Winograd),
            (3, 1, 1, 31, 320, 64, Method::Unfold),
            (3, 1, 1, 320, 31, 64, Method::Unfold),
            (3, 1, 1, 320, 320, 15, Method::Unfold),
            (3, 2, 1, 320, 320, 64, Method::Unfold),
            (3, 1, 0, 320, 320, 64, Method::Unfold),
            (1, 1, 0, 320, 320, 64, Method::Unfold),
        ] {
            let plane = Plane {
                height: side,
                width: side,
            };
            let window = Window {
                k,
                stride,
                padding,
                stored: plane,
                seen: plane,
            };
            let method = Method::of(&window, Channels { input, output });
            assert_eq!(method, want, "{k} {stride} {padding}: {input} to {output}");
        }
    }

    /// Of unit normals, as far as the module documentation of `winograd` says; the other method's beside it.
    #[test]
    fn errors_against_f64_are_as_stated() {
        let (c, c_out, side) = (320, 8, 18);
        let scale = 1.0 / ((c * 9) as f64).sqrt();
        let weight = (random(&[c_out, 9 * c], 2) * scale).unwrap();
        let filter = Filter {
            weight: Weight::from(weight.clone()),
            k: 3,
            bias: random(&[c_out], 9),
            stride: 1,
            padding: 1,
        };
        let x = random(&[1, c, side, side], 1);
        let f64_of = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
        let kernels = filter.kernels(DType::F64).unwrap();
        let exact = f64_of(&x).conv2d(&kernels, 1, 1, 1, 1).unwrap();
        let size = |t: &Tensor| {
            let mean = t.sqr().unwrap().mean_all().unwrap();
            mean.to_scalar::<f64>().unwrap()
        };
        let plane = Plane::of(&x).unwrap();
        let (window, channels) = (Window::new(&filter, plane, plane), filter.channels());
        let (weight, x) = (numbers_of(&weight).unwrap(), numbers_of(&x).unwrap());
        let error = |method| {
            let mut out = vec![0f32; c_out * side * side];
            let epilogue = Epilogue::zeros(c_out);
            if method == Method::Winograd {
                let input = Pictures {
                    x: &x,
                    pictures: 1,
                    window: &window,
                };
                let kernel = Kernel::new(&weight, channels);
                winograd::convolve(input, kernel, &epilogue, 1, &mut out);
            } else {
                unfold::convolve(&x, channels, &window, &weight, &epilogue, &mut out);
            }
            let got = Tensor::from_vec(out, (1, c_out, side, side), &Device::Cpu).unwrap();
            (size(&(f64_of(&got) - &exact).unwrap()) / size(&exact)).sqrt()
        };
        let (winograd, unfolded) = (error(Method::Winograd), error(Method::Unfold));
        eprintln!("Winograd {winograd:.2e}, unfolding {unfolded:.2e}");
        assert!(winograd < 2e-6, "{winograd:e}");
        assert!(unfolded < 1e-6, "{unfolded:e}");
    }
}

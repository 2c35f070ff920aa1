//! What a sample becomes does not depend on the samples beside it, to the last bit: the same seed gives the same
//! picture whatever `--count` is.

use crate::Result;
use crate::nn::{Activation, Conv2d, GroupNorm, LayerNorm, Linear, attention};
use crate::sampling::Generator;
use candle_core::{Device, Tensor};

const SAMPLES: usize = 5;

fn random(shape: &[usize], seed: u64) -> Tensor {
    let values = Generator::new(seed).randn(shape.iter().product());
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn rows_are_their_own(name: &str, x: &Tensor, f: impl Fn(&Tensor) -> Result<Tensor>) {
    let values = |x: Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let all = f(x).unwrap();
    for n in 1..x.dim(0).unwrap() {
        let first = f(&x.narrow(0, 0, n).unwrap()).unwrap();
        let expected = all.narrow(0, 0, n).unwrap();
        assert!(values(first) == values(expected), "{name} of {n}: {x:?}");
    }
}

#[test]
fn samples_do_not_touch_each_other() {
    for (c, side) in [(4, 16), (32, 8), (36, 17), (96, 1), (64, 4), (640, 8)] {
        let (square, bias) = (random(&[c, c], 2), random(&[c], 3));
        let x = random(&[SAMPLES, c, side, side], 1);
        let taps = random(&[c, 9 * c], 4);
        for stride in [1, 2] {
            let conv = Conv2d::new(taps.clone(), 3, bias.clone(), stride, 1);
            rows_are_their_own("convolution", &x, |x| conv.forward(x));
        }
        let conv = Conv2d::new(taps, 3, bias.clone(), 1, 1);
        rows_are_their_own("upsampling", &x, |x| {
            conv.forward_upsampled(x, 2 * side, 2 * side)
        });
        let norm = GroupNorm::new(bias.clone(), bias.clone(), 4, 1e-5, Activation::Silu);
        rows_are_their_own("group norm", &x, |x| norm.forward(x));

        let linear = Linear::new(square, Some(bias.clone()));
        let tokens = random(&[SAMPLES, side * side, c], 1);
        rows_are_their_own("linear", &tokens, |x| linear.forward(x));
        rows_are_their_own("linear from channels", &x, |x| {
            linear.forward_from_channels(x)
        });
        rows_are_their_own("linear to channels", &tokens, |tokens| {
            let onto = x.narrow(0, 0, tokens.dim(0)?)?;
            linear.forward_to_channels(tokens, &onto)
        });
        let vectors = random(&[SAMPLES, c], 1);
        rows_are_their_own("linear of vectors", &vectors, |x| linear.forward(x));
        let gate = Linear::new(random(&[8 * c, c], 2), None);
        rows_are_their_own("GEGLU", &tokens, |x| gate.forward_geglu(x));
        let norm = LayerNorm::new(bias.clone(), bias, 1e-5);
        rows_are_their_own("layer norm", &tokens, |x| norm.forward(x));
        rows_are_their_own("attention", &tokens, |x| attention(x, x, x, 4));
    }
}

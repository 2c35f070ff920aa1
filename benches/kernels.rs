//! The kernels at the sizes of Stable Diffusion 1.x, and one forward pass and one find step of the pocket model.
//!
//!     cargo bench --bench kernels [-- FILTER]

#![expect(missing_docs, reason = "criterion makes a function without a comment")]

use std::hint::black_box;

use candle_core::{Device, Tensor};
use cones::Pipeline;
use cones::autograd::{
    Activation, AttentionGrad, Conv2d, GroupNorm, LayerNorm, Linear, attention, attention_backward,
};
use cones::concept::SiteSelection;
use cones::sampling::Generator;
use cones::source::Source;
use criterion::{Criterion, criterion_group, criterion_main};

/// Widths and sides of the UNet's levels at 512 × 512, for a batch of two.
const LEVELS: [(usize, usize); 3] = [(320, 64), (640, 32), (1280, 16)];
const BATCH: usize = 2;

fn random(shape: &[usize]) -> Tensor {
    let values = Generator::new(1).randn(shape.iter().product());
    Tensor::from_vec(values, shape, &Device::Cpu).expect("as many values as the shape has")
}

fn run<T>(criterion: &mut Criterion, name: &str, f: impl Fn() -> cones::Result<T>) {
    criterion.bench_function(name, |bencher| {
        bencher.iter(|| black_box(f().expect("the shapes fit")));
    });
}

fn convolutions(criterion: &mut Criterion) {
    for (c, side) in LEVELS {
        let x = random(&[BATCH, c, side, side]);
        let layer = Conv2d::new(random(&[c, 9 * c]), 3, random(&[c]), 1, 1);
        run(criterion, &format!("conv3x3 {c}@{side}"), || {
            layer.forward(&x)
        });
        let name = format!("conv3x3 {c}@{side} backward");
        run(criterion, &name, || layer.backward(&x));
    }
}

fn norms(criterion: &mut Criterion) {
    for (c, side) in LEVELS {
        let x = random(&[BATCH, c, side, side]);
        let group = GroupNorm::new(random(&[c]), random(&[c]), 32, 1e-5, Activation::Silu);
        run(criterion, &format!("group norm + SiLU {c}@{side}"), || {
            group.forward(&x)
        });
        let name = format!("group norm + SiLU {c}@{side} backward");
        run(criterion, &name, || group.backward(&x, &x));
        let tokens = random(&[BATCH, side * side, c]);
        let layer = LayerNorm::new(random(&[c]), random(&[c]), 1e-5);
        run(criterion, &format!("layer norm {c}@{side}"), || {
            layer.forward(&tokens)
        });
    }
}

fn transformers(criterion: &mut Criterion) {
    const HEADS: usize = 8;
    for (c, side) in LEVELS {
        let x = random(&[BATCH, side * side, c]);
        let linear = Linear::new(random(&[c, c]), None);
        run(criterion, &format!("linear {c}@{side}"), || {
            linear.forward(&x)
        });
        let gate = Linear::new(random(&[8 * c, c]), Some(random(&[8 * c])));
        run(criterion, &format!("GEGLU {c}@{side}"), || {
            gate.forward_geglu(&x)
        });
        let name = format!("self-attention {c}@{side}");
        run(criterion, &name, || attention(&x, &x, &x, HEADS));
        let name = format!("self-attention {c}@{side} backward");
        run(criterion, &name, || {
            let (output, map) = (Some(&x), None);
            attention_backward(&x, &x, &x, HEADS, AttentionGrad { output, map })
        });
    }
}

fn pocket(criterion: &mut Criterion) {
    let source = Source::open("pocket").expect("the model is in the program");
    let pipeline = Pipeline::load(&source, &Device::Cpu).expect("and whole");
    let unet = pipeline.unet();
    let x = random(&[16, unet.channels(), 16, 16]);
    let prompt = pipeline
        .embed(&["a photo of a dog"; 16])
        .expect("a prompt of known words");
    run(criterion, "pocket forward, 16 rows", || {
        unet.forward(&x, &[500.0; 16], &prompt)
    });
    run(criterion, "pocket find step, 16 rows", || {
        let (output, saved) = unet.forward_saving(&x, &[500.0; 16], &prompt)?;
        unet.backward(saved, &output, SiteSelection::Cross)
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = convolutions, norms, transformers, pocket
}
criterion_main!(benches);

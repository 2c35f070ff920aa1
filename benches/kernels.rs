//! The kernels at the sizes of Stable Diffusion 1.x, and one forward pass and one find step of the pocket model, and
//! of the model in the folder `CONES_BENCH_MODEL` where that is set: each beside the same by candle's operations.
//! With the feature `candle-transformers`, that crate's UNet beside them, on the same weights.
//!
//!     cargo bench --bench kernels [--features candle-transformers] [-- FILTER]

#![expect(missing_docs, reason = "criterion makes a function without a comment")]

use std::hint::black_box;

use candle_core::{Device, Tensor};
use cones::Pipeline;
use cones::checkpoint::Source;
use cones::index::SiteSelection;
use cones::nn::{
    Activation, AttentionGrad, Conv2d, GroupNorm, LayerNorm, Linear, attention, attention_backward,
    by_candle,
};
use cones::sampling::Generator;
use criterion::{Criterion, criterion_group, criterion_main};

/// Widths and sides of the UNet's levels at 512 × 512, for a batch of two.
const LEVELS: [(usize, usize); 3] = [(320, 64), (640, 32), (1280, 16)];
const BATCH: usize = 2;

fn random(shape: &[usize]) -> Tensor {
    let values = Generator::new(1).randn(shape.iter().product());
    Tensor::from_vec(values, shape, &Device::Cpu).expect("as many values as the shape has")
}

/// Times `f` with the kernels of this crate, and then with candle's operations.
fn run<T>(criterion: &mut Criterion, name: &str, f: impl Fn() -> cones::Result<T>) {
    let once = || black_box(f().expect("the shapes fit"));
    criterion.bench_function(name, |bencher| bencher.iter(once));
    let name = format!("{name}, by candle");
    criterion.bench_function(&name, |bencher| by_candle(|| bencher.iter(once)));
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
        let name = format!("layer norm {c}@{side} backward");
        run(criterion, &name, || layer.backward(&tokens, &tokens));
    }
    // The largest of the autoencoder's decoder.
    let x = random(&[1, 128, 512, 512]);
    let group = GroupNorm::new(random(&[128]), random(&[128]), 32, 1e-6, Activation::Silu);
    run(criterion, "group norm + SiLU 128@512", || group.forward(&x));
}

fn transformers(criterion: &mut Criterion) {
    const HEADS: usize = 8;
    for (c, side) in LEVELS {
        let x = random(&[BATCH, side * side, c]);
        let linear = Linear::new(random(&[c, c]), None);
        run(criterion, &format!("linear {c}@{side}"), || {
            linear.forward(&x)
        });
        let name = format!("linear {c}@{side} backward");
        run(criterion, &name, || linear.backward(&x));
        let gate = Linear::new(random(&[8 * c, c]), Some(random(&[8 * c])));
        run(criterion, &format!("GEGLU {c}@{side}"), || {
            gate.forward_geglu(&x)
        });
        let name = format!("GEGLU {c}@{side} backward");
        let grad = random(&[BATCH, side * side, 4 * c]);
        run(criterion, &name, || gate.backward_geglu(&x, &grad));
        let name = format!("self-attention {c}@{side}");
        run(criterion, &name, || attention(&x, &x, &x, HEADS));
        let name = format!("self-attention {c}@{side} backward");
        run(criterion, &name, || {
            let (output, map) = (Some(&x), None);
            attention_backward(&x, &x, &x, HEADS, AttentionGrad { output, map })
        });
    }
}

fn models(criterion: &mut Criterion) {
    model(criterion, "pocket", 16);
    if let Ok(folder) = std::env::var("CONES_BENCH_MODEL") {
        model(criterion, &folder, BATCH);
    }
}

fn model(criterion: &mut Criterion, name: &str, rows: usize) {
    let source = Source::open(name).expect("a model of this name");
    let pipeline = Pipeline::load(&source, &Device::Cpu).expect("a whole model");
    let (unet, name) = (pipeline.unet(), source.name());
    let side = unet.sample_size();
    let x = random(&[rows, unet.channels(), side, side]);
    let timesteps = vec![500.0; rows];
    let prompt = pipeline
        .embed(&vec!["a photo of a dog".into(); rows])
        .expect("a prompt of known words");
    let forward = || unet.forward(&x, &timesteps, &prompt);
    let step = || {
        let (output, saved) = unet.forward_saving(&x, &timesteps, &prompt)?;
        unet.backward(saved, &output, SiteSelection::Cross)
    };
    run(criterion, &format!("{name} forward, {rows} rows"), forward);
    #[cfg(feature = "candle-transformers")]
    {
        let ours = forward().expect("the shapes fit");
        theirs::forward(criterion, name, &x, prompt.embedding(), &ours);
    }
    run(criterion, &format!("{name} find step, {rows} rows"), step);
}

/// The UNet of candle-transformers.
#[cfg(feature = "candle-transformers")]
mod theirs {
    use std::hint::black_box;
    use std::path::Path;

    use candle_core::{DType, Device, Tensor};
    use candle_nn::VarBuilder;
    use candle_transformers::models::stable_diffusion::unet_2d::{
        BlockConfig, UNet2DConditionModel, UNet2DConditionModelConfig,
    };
    use criterion::Criterion;
    use serde_json::Value;

    /// Times a forward pass at timestep 500, after a look at whether it gives what ours gave.
    pub(super) fn forward(
        criterion: &mut Criterion,
        model: &str,
        x: &Tensor,
        prompt: &Tensor,
        ours: &Tensor,
    ) {
        let folder = match model {
            "pocket" => Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/pocket/model"),
            folder => folder.into(),
        };
        let unet = load(&folder.join("unet"));
        let run = || unet.forward(x, 500.0, prompt).expect("the shapes fit");
        let error = (run() - ours).and_then(|error| error.abs()?.max_all()?.to_scalar::<f32>());
        let error = error.expect("outputs of one shape");
        assert!(
            error < 1e-3,
            "{model}: candle-transformers' UNet differs by {error}"
        );
        let name = format!(
            "{model} forward, {} rows, by candle-transformers",
            x.dims()[0]
        );
        criterion.bench_function(&name, |bencher| bencher.iter(|| black_box(run())));
    }

    fn load(folder: &Path) -> UNet2DConditionModel {
        let read = |name: &str| std::fs::read(folder.join(name)).expect("a file of the UNet");
        let config: Value = serde_json::from_slice(&read("config.json")).expect("JSON");
        let weights = read("diffusion_pytorch_model.safetensors");
        let weights = VarBuilder::from_buffered_safetensors(weights, DType::F32, &Device::Cpu);
        let weights = weights.expect("safetensors");
        let channels = |key: &str| size(&config[key]);
        let (input, output) = (channels("in_channels"), channels("out_channels"));
        let config = config_of(&config);
        UNet2DConditionModel::new(weights, input, output, false, config).expect("a UNet")
    }

    /// The keys that it knows; the others are left at what Stable Diffusion 1.x has.
    fn config_of(config: &Value) -> UNet2DConditionModelConfig {
        let widths = config["block_out_channels"].as_array().expect("a list");
        let block = |(i, width): (usize, &Value)| {
            let kind = config["down_block_types"][i].as_str().expect("a name");
            let heads = &config["attention_head_dim"];
            BlockConfig {
                out_channels: size(width),
                use_cross_attn: (kind == "CrossAttnDownBlock2D").then_some(1),
                attention_head_dim: size(heads.get(i).unwrap_or(heads)),
            }
        };
        UNet2DConditionModelConfig {
            blocks: widths.iter().enumerate().map(block).collect(),
            layers_per_block: size(&config["layers_per_block"]),
            norm_num_groups: size(&config["norm_num_groups"]),
            cross_attention_dim: size(&config["cross_attention_dim"]),
            use_linear_projection: config["use_linear_projection"] == true,
            ..UNet2DConditionModelConfig::default()
        }
    }

    fn size(value: &Value) -> usize {
        let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
        size.unwrap_or_else(|| panic!("a size, not {value}"))
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = convolutions, norms, transformers, models
}
criterion_main!(benches);

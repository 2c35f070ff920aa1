//! The kernels at the sizes of Stable Diffusion 1.x, and one forward pass and one find step of the pocket model, and
//! of the model in the folder `CONES_BENCH_MODEL` where that is set: each beside the same by candle's operations.
//! With the feature `candle-transformers`, that crate's UNet beside them, on the same weights.
//!
//!     cargo bench --bench kernels [--features candle-transformers] [-- FILTER]

#![expect(missing_docs, reason = "criterion makes a function without a comment")]

use candle_core::Device;
use cones::bench::{Passes, kernels};
use cones::checkpoint::Source;
use cones::{Pipeline, Result};
use criterion::{Criterion, criterion_group, criterion_main};

fn run(criterion: &mut Criterion, name: &str, once: &dyn Fn() -> Result<()>) {
    let once = || once().expect("the shapes fit");
    criterion.bench_function(name, |bencher| bencher.iter(once));
}

fn layers(criterion: &mut Criterion) {
    kernels(&mut |name, once| run(criterion, name, once)).expect("memory for them");
}

fn models(criterion: &mut Criterion) {
    model(criterion, "pocket", 16);
    if let Ok(folder) = std::env::var("CONES_BENCH_MODEL") {
        model(criterion, &folder, 2);
    }
}

fn model(criterion: &mut Criterion, name: &str, rows: usize) {
    let source = Source::open(name).expect("a model of this name");
    let pipeline = Pipeline::load(&source, &Device::Cpu, None).expect("a whole model");
    let prompts = vec!["a photo of a dog"; rows];
    let passes = Passes::new(&pipeline, &prompts).expect("a prompt of known words");
    passes.time(&mut |name, once| run(criterion, name, once));
    #[cfg(feature = "candle-transformers")]
    {
        let ours = passes
            .run(cones::bench::Pass::Forward)
            .expect("the shapes fit");
        theirs::forward(
            criterion,
            &pipeline.name,
            &passes.latents,
            &passes.embeddings,
            &ours,
        );
    }
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
    targets = layers, models
}
criterion_main!(benches);

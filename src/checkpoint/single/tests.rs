//! The table of names against diffusers' converters, and the facts of the families; see `tests/golden/make_single.py`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use flate2::read::GzDecoder;
use safetensors::Dtype;
use serde_json::{Value, json};

use super::config::{self, Clip};
use super::family::Family;
use super::names::{Layout, Role, View};
use super::*;

/// A tensor that diffusers makes of a file.
struct Row {
    stored: String,
    shape: Vec<usize>,
    network: String,
    name: String,
    view: View,
}

/// The tensors of a model of full size.
fn rows(family: &str) -> Vec<Row> {
    let packed = include_bytes!("../../../tests/golden/single/names.tsv.gz").as_slice();
    let mut text = String::new();
    GzDecoder::new(packed).read_to_string(&mut text).unwrap();
    let of = |line: &str| {
        let cells: Vec<&str> = line.split('\t').collect();
        let &[kind, stored, shape, network, name, part] = &cells[..] else {
            panic!("{line}")
        };
        let shape: Vec<usize> = shape.split('x').map(|n| n.parse().unwrap()).collect();
        let view = match part {
            "t" => View::Transposed,
            "-" if stored.contains(".attn_1.") => View::Squeezed,
            "-" => View::Whole,
            part => View::Third(part.parse().unwrap()),
        };
        let (stored, network, name) = (stored.to_owned(), network.to_owned(), name.to_owned());
        (kind == family).then_some(Row {
            stored,
            shape,
            network,
            name,
            view,
        })
    };
    text.lines().filter_map(of).collect()
}

#[test]
fn names_are_those_that_diffusers_converters_give() {
    for (family, count) in [("sd1", 1130), ("sd2", 1306), ("xl", 2641)] {
        let rows = rows(family);
        assert_eq!(rows.len(), count);
        let stored: BTreeSet<&str> = rows.iter().map(|row| row.stored.as_str()).collect();
        let layout = Layout::of(|name| stored.contains(name));
        let mut found = BTreeSet::new();
        for name in &stored {
            let Role::Weights(network, targets) = layout.role(name) else {
                panic!("{family}: {name} is no weight");
            };
            for (target, view) in targets {
                found.insert((
                    name.to_string(),
                    network.to_owned(),
                    target,
                    format!("{view:?}"),
                ));
            }
        }
        let want: BTreeSet<_> = rows
            .iter()
            .map(|row| {
                let view = format!("{:?}", row.view);
                (
                    row.stored.clone(),
                    row.network.clone(),
                    row.name.clone(),
                    view,
                )
            })
            .collect();
        assert_eq!(found.len(), want.len(), "{family}");
        for (found, want) in found.iter().zip(&want) {
            assert_eq!(found, want, "{family}");
        }
    }
}

#[test]
fn other_names_of_the_same_and_what_is_left_out() {
    let layout = Layout::of(|name| {
        ["0", "1"]
            .iter()
            .any(|n| name == format!("first_stage_model.decoder.up.{n}.block.0.norm1.weight"))
    });
    #[rustfmt::skip]
    let weights = [
        ("cond_stage_model.transformer.encoder.layers.0.mlp.fc1.bias", "text_encoder",
         "text_model.encoder.layers.0.mlp.fc1.bias", View::Whole),
        ("cond_stage_model.transformer.text_model.final_layer_norm.bias", "text_encoder",
         "text_model.final_layer_norm.bias", View::Whole),
        ("conditioner.embedders.1.model.text_projection.weight", "text_encoder_2", "text_projection.weight",
         View::Whole),
        ("first_stage_model.decoder.mid.attn_1.to_out.0.bias", "vae", "decoder.mid_block.attentions.0.to_out.0.bias",
         View::Squeezed),
        ("first_stage_model.encoder.mid.attn_1.proj_attn.weight", "vae",
         "encoder.mid_block.attentions.0.to_out.0.weight", View::Squeezed),
        ("first_stage_model.encoder.mid.attn_1.query.weight", "vae", "encoder.mid_block.attentions.0.to_q.weight",
         View::Squeezed),
        ("vae.decoder.up.1.upsample.conv.bias", "vae", "decoder.up_blocks.0.upsamplers.0.conv.bias", View::Whole),
    ];
    for (name, network, target, view) in weights {
        let want = Role::Weights(network, vec![(target.to_owned(), view)]);
        assert_eq!(layout.role(name), want, "{name}");
    }
    #[rustfmt::skip]
    let unused = [
        "model_ema.decay", "model_ema.diffusion_modelinput_blocks00weight", "betas", "logvar",
        "first_stage_model.loss.logvar", "cond_stage_model.transformer.text_model.embeddings.position_ids",
        "cond_stage_model.logit_scale", "conditioner.embedders.1.model.logit_scale", "v_pred", "ztsnr",
        "denoiser.sigmas", "cond_stage_model.model.transformer.resblocks.23.ln_1.weight",
        "cond_stage_model.model.text_projection", "cond_stage_model.transformer.text_projection.weight",
    ];
    for name in unused {
        assert_eq!(layout.role(name), Role::Unused, "{name}");
    }
    #[rustfmt::skip]
    let unknown = [
        "x", "model.diffusion_model.input_blocks.999.0.in_layers.0.weight", "model.diffusion_model.x",
        "model.diffusion_model.output_blocks.0.0.in_layers.0.weight", "model.diffusion_model.middle_block.3.x",
        "first_stage_model.decoder.up.2.block.0.norm1.weight", "first_stage_model.encoder.mid.attn_1.x.weight",
        "first_stage_model.decoder.up.99999999999999999999.block.0.norm1.weight", "cond_stage_model.x",
        "cond_stage_model.model.transformer.resblocks.0.x", "model.diffusion_model.input_blocks.-1.0.x",
    ];
    for name in unknown {
        assert_eq!(layout.role(name), Role::Unknown, "{name}");
    }
}

/// The networks of a model of full size, by shape alone.
fn networks(family: &str) -> BTreeMap<String, TensorFile> {
    let mut all: BTreeMap<String, BTreeMap<String, Stored>> = BTreeMap::new();
    for row in rows(family) {
        let mut shape = row.shape;
        match row.view {
            View::Third(_) => shape[0] /= 3,
            View::Squeezed if shape.len() == 4 => shape.truncate(2),
            _ => {}
        }
        let stored = Stored::new(&row.stored, shape, Dtype::F16, 0..0);
        all.entry(row.network).or_default().insert(row.name, stored);
    }
    let bytes = Arc::new(Bytes::Embedded(&[]));
    let of = |(network, tensors)| (network, TensorFile::of(bytes.clone(), "x", tensors));
    all.into_iter().map(of).collect()
}

/// The keys of the configurations that the families' repositories have, where no tensor shows them or all of them do.
#[test]
fn configurations_are_those_of_the_families() {
    let down = |n: usize, first: bool| {
        let mut types = vec!["CrossAttnDownBlock2D"; n];
        types[if first { 0 } else { n - 1 }] = "DownBlock2D";
        types
    };
    let mut sd1 = networks("sd1");
    let text = config::text(&sd1["text_encoder"], Clip::Base).unwrap();
    let unet = config::unet(&sd1["unet"], Family::Sd1, Prediction::Epsilon, 0).unwrap();
    let vae = config::vae(&sd1.remove("vae").unwrap(), Family::Sd1).unwrap();
    let sd2 = networks("sd2");
    let text2 = config::text(&sd2["text_encoder"], Clip::Large).unwrap();
    let unet2 = config::unet(&sd2["unet"], Family::Sd2, Prediction::Velocity, 0).unwrap();
    let base2 = config::unet(&sd2["unet"], Family::Sd2, Prediction::Epsilon, 0).unwrap();
    let xl = networks("xl");
    let big = config::text(&xl["text_encoder_2"], Clip::Projected).unwrap();
    let unet_xl = config::unet(&xl["unet"], Family::Xl, Prediction::Epsilon, 1280).unwrap();
    let vae_xl = config::vae(&xl["vae"], Family::Xl).unwrap();
    #[rustfmt::skip]
    let rows: [(&Value, Value); 8] = [
        (&unet, json!({"attention_head_dim": 8, "block_out_channels": [320, 640, 1280, 1280],
            "cross_attention_dim": 768, "down_block_types": down(4, false), "in_channels": 4, "out_channels": 4,
            "layers_per_block": [2, 2, 2, 2], "norm_num_groups": 32, "sample_size": 64,
            "transformer_layers_per_block": [1, 1, 1, 1], "use_linear_projection": false})),
        (&unet2, json!({"attention_head_dim": [5, 10, 20, 20], "cross_attention_dim": 1024, "sample_size": 96,
            "use_linear_projection": true})),
        (&base2, json!({"sample_size": 64})),
        (&unet_xl, json!({"attention_head_dim": [5, 10, 20], "block_out_channels": [320, 640, 1280],
            "cross_attention_dim": 2048, "down_block_types": down(3, true), "layers_per_block": [2, 2, 2],
            "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"], "sample_size": 128,
            "transformer_layers_per_block": [1, 2, 10], "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816})),
        (&vae, json!({"block_out_channels": [128, 256, 512, 512], "latent_channels": 4, "layers_per_block": 2,
            "scaling_factor": 0.18215, "force_upcast": false})),
        (&vae_xl, json!({"scaling_factor": 0.13025, "force_upcast": true, "sample_size": 1024})),
        (&text, json!({"hidden_act": "quick_gelu", "hidden_size": 768, "intermediate_size": 3072,
            "num_attention_heads": 12, "num_hidden_layers": 12, "max_position_embeddings": 77,
            "vocab_size": 49408})),
        (&text2, json!({"hidden_act": "gelu", "hidden_size": 1024, "intermediate_size": 4096,
            "num_attention_heads": 16, "num_hidden_layers": 23})),
    ];
    for (config, want) in rows {
        for (key, value) in want.as_object().unwrap() {
            assert_eq!(&config[key], value, "{key}");
        }
    }
    assert_eq!(
        (&big["num_attention_heads"], &big["num_hidden_layers"]),
        (&json!(20), &json!(32))
    );
    assert_eq!(
        (&big["projection_dim"], &big["hidden_act"]),
        (&json!(1280), &json!("gelu"))
    );
    let first = config::text(&xl["text_encoder"], Clip::Base).unwrap();
    assert_eq!(first, text);
}

//! Files that are no model, and files that lie: each gets one line that says what it is, and a hint; none panics, and
//! none takes memory.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, helpers and all"
)]

mod folders;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use cones::Pipeline;
use cones::checkpoint::OpenOptions;
use serde_json::{Value, json};

use super::alloc::peak_of;
use super::published;
use super::single_file::{NETWORKS, single, write};

/// What refusing may take.
const MEMORY: usize = 100 << 20;

/// The error of loading a model, and its hint; `what` names the case.
fn refused(model: &Path, options: &OpenOptions, what: &str) -> (String, String) {
    let (result, peak) = peak_of(|| {
        let source = options.open(model.to_str().unwrap())?;
        Pipeline::load(&source, &Device::Cpu, None).map(drop)
    });
    let error = result.err().unwrap_or_else(|| panic!("{what}: it loads"));
    let (text, hint) = (
        error.to_string(),
        error.hint().unwrap_or_default().to_owned(),
    );
    assert!(peak < MEMORY, "{what}: {} MB", peak >> 20);
    assert!(
        !text.contains('\n') && !hint.contains('\n'),
        "{what}: {text} / {hint}"
    );
    assert!(!hint.is_empty(), "{what}: {text}: no hint");
    (text, hint)
}

/// A safetensors file of this header and so many bytes of data.
fn raw(header: &[u8], data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, &vec![0; data]].concat()
}

/// A file of tensors by name and shape, of f16.
fn tensors(list: &[(&str, &[usize])]) -> Vec<u8> {
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (name, shape) in list {
        let from = end;
        end += 2 * shape.iter().product::<usize>();
        header.insert(
            (*name).to_owned(),
            json!({"dtype": "F16", "shape": shape, "data_offsets": [from, end]}),
        );
    }
    raw(&serde_json::to_vec(&header).unwrap(), end)
}

/// The parts that make a file look like a whole checkpoint, with `more`.
fn checkpoint(channels: usize, more: &[&str]) -> Vec<u8> {
    let shape = [1, channels, 1, 1];
    let mut list: Vec<(&str, &[usize])> = vec![
        ("model.diffusion_model.input_blocks.0.0.weight", &shape),
        ("first_stage_model.decoder.conv_in.weight", &[1]),
        (
            "cond_stage_model.transformer.text_model.final_layer_norm.weight",
            &[8],
        ),
    ];
    list.extend(more.iter().map(|name| (*name, &[1usize][..])));
    tensors(&list)
}

/// A file's contents, what the error says of it, and a part of the hint.
type Row<'a> = (Vec<u8>, &'a str, &'a str);

#[test]
fn files_of_other_kinds() {
    let empty = |names: &[&str]| {
        tensors(
            &names
                .iter()
                .map(|name| (*name, &[0usize][..]))
                .collect::<Vec<_>>(),
        )
    };
    let unet = "model.diffusion_model.input_blocks.0.0.bias";
    #[rustfmt::skip]
    let rows: Vec<Row> = vec![
        (empty(&["lora_unet_x.lora_down.weight", "lora_unet_x.lora_up.weight"]), "this is a LoRA", "fuse_lora"),
        (empty(&["unet.up_blocks.0.attn2.to_k.lora_A.weight"]), "this is a LoRA", "fuse_lora"),
        (empty(&["lora_te_x.hada_w1_a"]), "this is a LoRA", "fuse_lora"),
        (empty(&["lycoris_x.lokr_w1"]), "this is a LoRA", "fuse_lora"),
        (empty(&["emb_params"]), "this is an embedding", "whole model"),
        (empty(&["clip_l", "clip_g"]), "this is an embedding", "whole model"),
        (empty(&["string_to_param.*"]), "this is an embedding", "whole model"),
        (empty(&["control_model.input_blocks.0.0.weight"]), "this is a ControlNet", "whole model"),
        (empty(&["image_proj.latents", "ip_adapter.1.to_k_ip.weight"]), "this is an IP-Adapter", "whole model"),
        (empty(&["down_blocks.0.motion_modules.0.x"]), "this is a motion module", "whole model"),
        (empty(&["model.diffusion_model.joint_blocks.0.x"]), "this is a Stable Diffusion 3 model", "1.x, 2.x or XL"),
        (empty(&["double_blocks.0.img_attn.qkv.weight"]), "this is a Flux model", "1.x, 2.x or XL"),
        (empty(&["transformer_blocks.0.attn.to_k.weight"]), "this is a transformer", "1.x, 2.x or XL"),
        (empty(&[unet]), "this is a UNet alone", "whole model"),
        (empty(&["down_blocks.0.attn2.to_k.weight"]), "this is a UNet alone", "whole model"),
        (empty(&["encoder.conv_in.weight", "decoder.conv_in.weight"]), "this is an autoencoder (VAE)", "whole model"),
        (empty(&["encoder.layers.0.weight"]), "this is a tiny autoencoder", "whole model"),
        (empty(&["text_model.x", "vision_model.x"]), "this is a CLIP model", "whole model"),
        (empty(&["text_model.x"]), "this is a text encoder alone", "whole model"),
        (empty(&["conditioner.embedders.0.model.ln_final.bias", unet, "first_stage_model.x"]),
         "this is a Stable Diffusion XL refiner", "1.x, 2.x or XL"),
        (checkpoint(4, &["edm_mean", "edm_std"]), "this is a Playground 2.5 model", "1.x, 2.x or XL"),
        (checkpoint(4, &["edm_vpred.sigma_max"]), "this is a CosXL model", "1.x, 2.x or XL"),
        (checkpoint(4, &["model.diffusion_model.time_embed.cond_proj.weight"]), "this is a latent consistency model",
         "1.x, 2.x or XL"),
        (checkpoint(9, &[]), "this is an inpainting model", "1.x, 2.x or XL"),
        (checkpoint(8, &[]), "this is an InstructPix2Pix model", "1.x, 2.x or XL"),
        (checkpoint(7, &[]), "this is an upscaler", "1.x, 2.x or XL"),
        (checkpoint(5, &[]), "this is a depth-to-picture model", "1.x, 2.x or XL"),
        (checkpoint(4, &["noise_augmentor.x"]), "this is an unCLIP model", "1.x, 2.x or XL"),
        (empty(&["model.embed_tokens.weight"]), "no model of Stable Diffusion", "whole model"),
        (b"GGUF\x03\0\0\0\0\0\0\0\0".to_vec(), "a GGUF file", "in its place"),
        (b"\x80\x02}q\0.".to_vec(), "pickled data", "from_single_file"),
        (b"version https://git-lfs.github.com/spec/v1\n".to_vec(), "a Git LFS pointer", "git lfs pull"),
        (b"<!DOCTYPE html><html></html>".to_vec(), "a web page", "hf download"),
        (b"some bytes that are nothing".to_vec(), "this is a file of an unknown kind", ".safetensors"),
    ];
    check(&rows, &OpenOptions::default());
}

fn check(rows: &[Row], options: &OpenOptions) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    for (bytes, what, hint) in rows {
        fs::write(&path, bytes).unwrap();
        let (error, found) = refused(&path, options, what);
        assert!(error.contains(what), "{what}: {error}");
        assert!(found.contains(hint), "{what}: {error}: {found}");
        assert!(error.contains("model.safetensors"), "{what}: {error}");
    }
}

#[test]
fn headers_that_lie() {
    let one =
        |entry: Value, data: usize| raw(&serde_json::to_vec(&json!({"a": entry})).unwrap(), data);
    let f32 = |shape: Value, offsets: Value| json!({"dtype": "F32", "shape": shape, "data_offsets": offsets});
    let two = |a: Value, b: Value| {
        let header = json!({"a": f32(json!([1]), a), "b": f32(json!([1]), b)});
        raw(&serde_json::to_vec(&header).unwrap(), 8)
    };
    let entry = r#"{"dtype":"F32","shape":[0],"data_offsets":[0,0]}"#;
    let many: Vec<String> = (0..70_000).map(|i| format!("\"{i}\":{entry}")).collect();
    let long = format!(
        "{{\"__metadata__\":{{\"a\":\"{}\"}}}}",
        "x".repeat(17 << 20)
    );
    let mut huge = raw(b"{}", 0);
    huge[..8].copy_from_slice(&(1u64 << 38).to_le_bytes());
    let deep = format!("{{\"a\":{}", "[".repeat(100_000));
    let whole = checkpoint(4, &[]);
    let (short, longer) = (
        whole[..whole.len() - 3].to_vec(),
        [&whole[..], &[0; 5]].concat(),
    );
    #[rustfmt::skip]
    let rows: Vec<Row> = vec![
        (huge, "a header of 274877906944 bytes", "fetch it again"),
        (raw(long.as_bytes(), 0), "bytes, which is longer than any model's", "fetch it again"),
        (raw(format!("{{{}}}", many.join(",")).as_bytes(), 0), "70000 tensors, more than any model", "fetch it again"),
        (raw(deep.as_bytes(), 0), "a safetensors file", "fetch it again"),
        (raw(b"{\"a\":", 0), "a safetensors file", "fetch it again"),
        (raw(b"{\"a\": 3}", 0), "a safetensors file", "fetch it again"),
        (short, "3 are missing at its end", "fetch it again"),
        (longer, "5 bytes behind its last tensor", "fetch it again"),
        (two(json!([0, 4]), json!([2, 6])), "a safetensors file", "fetch it again"),
        (two(json!([0, 4]), json!([0, 4])), "a safetensors file", "fetch it again"),
        (two(json!([0, 2]), json!([4, 8])), "a safetensors file", "fetch it again"),
        (one(f32(json!([1]), json!([4, 0])), 0), "a safetensors file", "fetch it again"),
        (one(f32(json!([1]), json!([0, 1u64 << 60])), 4), "are missing at its end", "fetch it again"),
        (one(f32(json!([2]), json!([0, 4])), 4), "a safetensors file", "fetch it again"),
        (one(f32(json!([1u64 << 40, 1u64 << 40]), json!([0, 4])), 4), "a safetensors file", "fetch it again"),
        (one(json!({"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}), 4), "a safetensors file", "fetch it again"),
        (one(json!({"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}), 4), "a safetensors file",
         "fetch it again"),
    ];
    check(&rows, &OpenOptions::default());
}

/// Changes the tensors of a whole checkpoint.
type Change = fn(&mut BTreeMap<String, Tensor>);

#[test]
fn checkpoints_that_are_not_whole() {
    const TOKENS: &str =
        "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight";
    const CONV: &str = "model.diffusion_model.input_blocks.1.0.in_layers.2.weight";
    fn flat(tensors: &mut BTreeMap<String, Tensor>, name: &str) {
        let tensor = tensors[name].flatten_all().unwrap();
        tensors.insert(name.to_owned(), tensor);
    }
    fn drop_all(tensors: &mut BTreeMap<String, Tensor>, root: &str) {
        tensors.retain(|name, _| !name.starts_with(root));
    }
    #[rustfmt::skip]
    let rows: [(Change, &str, bool); 11] = [
        (|t| drop(t.insert("model.diffusion_model.x".to_owned(), t[CONV].clone())), "of none of their networks", false),
        (|t| drop(t.insert("filler".to_owned(), t[CONV].clone())), "tensor `filler`", false),
        (|t| drop(t.insert(CONV.to_owned(), t[CONV].to_dtype(DType::I64).unwrap())), "of I64",
         false),
        (|t| drop(t.insert(CONV.to_owned(), t[CONV].to_dtype(DType::F8E4M3).unwrap())), "of F8_E4M3", false),
        (|t| drop_all(t, "first_stage_model."), "no autoencoder (VAE) in it", false),
        (|t| drop_all(t, "cond_stage_model.transformer.text_model.final"), "final_layer_norm.weight", false),
        (|t| drop(t.remove(CONV)), "down_blocks.0.resnets.0.conv1.weight", true),
        (|t| flat(t, CONV), "found shape [", true),
        (|_| (), "CLIP's 49408 tokens, found 606", false),
        (|t| drop(t.remove(TOKENS)), "token_embedding.weight", false),
        (|t| {
            let q = t["first_stage_model.encoder.mid.attn_1.q.weight"].clone();
            t.insert("first_stage_model.encoder.mid.attn_1.to_q.weight".to_owned(), q);
        }, "twice (`first_stage_model.encoder.mid.attn_1.q.weight`)", false),
    ];
    let whole = published::assemble("sd15", &published::cases()["sd15"]);
    let tensors = single(whole.path(), "sd1");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    for (change, what, configured) in rows {
        let mut changed = tensors.clone();
        change(&mut changed);
        write(&path, &changed, DType::F32, &[]);
        let options = OpenOptions {
            config: configured.then(|| whole.path().display().to_string()),
            ..OpenOptions::default()
        };
        let (error, _) = refused(&path, &options, what);
        assert!(
            error.contains(what) && error.contains("model.safetensors"),
            "{what}: {error}"
        );
    }
    // OpenCLIP's three in one that are not three, and a transposed thing that is no matrix.
    let whole = published::assemble("sd21", &published::cases()["sd21"]);
    let mut tensors = single(whole.path(), "sd2");
    let name = "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight";
    tensors.insert(name.to_owned(), tensors[name].narrow(0, 0, 32).unwrap());
    write(&path, &tensors, DType::F32, &[]);
    let (error, _) = refused(&path, &OpenOptions::default(), name);
    assert!(
        error.contains(&format!("by rows, found tensor `{name}` of shape [32, 32]")),
        "{error}"
    );
}

//! Numbers that are not finite end the work with an error that names the network, the tensor and the file.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use half::f16;
use safetensors::{Dtype, SafeTensors};

use crate::cli::{fails, find, golden, ok};

/// Sets the first number of a tensor, or all of its numbers, in a safetensors file.
fn set(file: &Path, tensor: &str, value: f32, all: bool) {
    let mut bytes = std::fs::read(file).unwrap();
    let (header, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let info = metadata.info(tensor).unwrap();
    let (from, to) = info.data_offsets;
    let number = match info.dtype {
        Dtype::F32 => value.to_le_bytes().to_vec(),
        _ => f16::from_f32(value).to_le_bytes().to_vec(),
    };
    let numbers = match all {
        true => number.repeat((to - from) / number.len()),
        false => number,
    };
    bytes[8 + header + from..][..numbers.len()].copy_from_slice(&numbers);
    std::fs::write(file, bytes).unwrap();
}

/// A copy of a folder of the tests, or of a folder in it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// A folder with models and encoders to break, an index, and pictures.
struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        find(
            dir.path(),
            "dog",
            "1",
            &["--density", "20%", "--scores", "dog.scores"],
        );
        Self { dir }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Another copy of `from`, with a number set.
    fn broken(&self, from: &str, file: &str, tensor: &str, value: f32) {
        let copied = self.path().join("broken");
        let _ = std::fs::remove_dir_all(&copied);
        copy(Path::new(&golden(from)), &copied);
        set(&copied.join(file), tensor, value, false);
    }

    /// That a command on what is broken fails, with all of these words, and leaves nothing behind.
    fn refused(&self, args: &[&str], words: &[&str]) {
        let error = fails(self.path(), args, 1);
        for word in words {
            assert!(error.contains(word), "{args:?}: no `{word}` in {error}");
        }
        for output in [
            "out.png",
            "out-heat-dog.png",
            "out.idx",
            "out.scores",
            "sheet.png",
        ] {
            assert!(
                !self.path().join(output).exists(),
                "{args:?} wrote {output}"
            );
        }
        for entry in self.path().read_dir().unwrap() {
            let entry = entry.unwrap();
            if entry
                .file_name()
                .to_string_lossy()
                .starts_with("class-images")
            {
                assert_eq!(entry.path().read_dir().unwrap().count(), 0, "{args:?}");
            }
        }
    }
}

const MODEL: [&str; 2] = ["--model", "broken"];
const VALUES: [(f32, &str); 4] = [
    (f32::NAN, "NaN"),
    (f32::INFINITY, "infinity"),
    (f32::NEG_INFINITY, "-infinity"),
    (3e38, "3e38"),
];

/// The words of a command.
fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// Each network, each value, each command that the network works for.
#[test]
fn networks_that_give_no_numbers_are_named() {
    let bench = Bench::new();
    let (photos, class) = (golden("photos/subject"), golden("photos/class"));
    let clip = golden("clip/new");
    let class = ["--class-images", &class];
    let draw = words("generate dog --steps 2 -o out.png");
    let heat = [&draw[..], &["--heatmap", "dog"]].concat();
    let excite = [&draw[..], &["--attend-excite=dog"]].concat();
    let with = [&draw[..], &["--concepts", "dog.idx", "--force"]].concat();
    let find = words("find --subject dog --steps 2 -o out.idx --scores out.scores");
    let find = [&find[..], &[&photos]].concat();
    let learned = [&find[..], &["--batch", "1"]].concat();
    let drawn = [&find[..], &words("--method paper --class-count 1")].concat();
    let paper = [&find[..], &["--method", "paper"], &class].concat();
    let fast = [&paper[..], &["--accelerated"]].concat();
    let images = format!("dog={photos}");
    let tune = words("merge dog.idx -o out.idx --tune 1 --batch 1 --class-count 1 --images");
    let tune = [&tune[..], &[&images]].concat();
    let eval = words("eval dog.idx --force --count 1 --steps 1 --controls 0 --sheet sheet.png");
    let eval = [&eval[..], &["--images", &photos, "--encoder", &clip]].concat();
    let pictures = [&eval[..], &["--loss-draws", "0"]].concat();
    let losses = [&eval[..], &["--loss-draws", "1"], &class].concat();
    let json = [&pictures[..], &["--json"]].concat();
    let unet = "unet/diffusion_pytorch_model.safetensors";
    let vae = "vae/diffusion_pytorch_model.safetensors";
    let text = "text_encoder/model.safetensors";
    let site = "mid_block.attentions.0.transformer_blocks.0.attn2.to_v.weight";
    let all = [
        &draw[..],
        &heat,
        &excite,
        &learned,
        &paper,
        &drawn,
        &pictures,
        &losses,
    ];
    for (file, tensor, network, commands) in [
        (
            text,
            "text_model.final_layer_norm.bias",
            "text encoder",
            &all[..],
        ),
        (
            unet,
            "conv_out.bias",
            "UNet",
            &[
                &draw, &heat, &with, &learned, &paper, &fast, &drawn, &tune, &json,
            ],
        ),
        (unet, site, "UNet", &[&excite, &learned, &losses]),
        (
            vae,
            "decoder.conv_out.bias",
            "autoencoder",
            &[&draw, &heat, &drawn, &pictures, &json],
        ),
        (
            vae,
            "quant_conv.bias",
            "autoencoder",
            &[&learned, &paper, &tune, &losses],
        ),
    ] {
        for (i, (value, shown)) in VALUES.into_iter().enumerate() {
            bench.broken("models/sd1-f32", file, tensor, value);
            let holds = format!("tensor `{tensor}` of `{file}` holds {shown}");
            for (j, command) in commands.iter().enumerate() {
                // Every command meets NaN and one of the others.
                // What is large at a site may be made small again by the norms behind it.
                let lost = tensor == site && value > 1e30 && value.is_finite();
                if !lost && (i == 0 || j % 3 == i - 1) {
                    bench.refused(&[command, &MODEL[..]].concat(), &[network, &holds]);
                }
            }
        }
    }
}

/// Every part of the encoder that measures.
#[test]
fn encoders_that_give_no_numbers_are_named() {
    let bench = Bench::new();
    let photos = golden("photos/subject");
    let model = golden("models/sd1-f32");
    let eval =
        words("eval dog.idx --encoder broken --count 1 --steps 1 --loss-draws 0 --controls 0");
    let eval = [&eval[..], &["--model", &model, "--images", &photos]].concat();
    for tensor in [
        "visual_projection.weight",
        "text_projection.weight",
        "vision_model.post_layernorm.bias",
        "text_model.final_layer_norm.weight",
        "vision_model.post_layernorm.weight",
    ] {
        for (value, shown) in VALUES {
            // The file is in half precision, which has no number that large.
            let shown = if shown == "3e38" { "infinity" } else { shown };
            bench.broken("clip/new", "model.safetensors", tensor, value);
            let holds = format!("tensor `{tensor}` of `model.safetensors` holds {shown}");
            bench.refused(&eval, &["embedding", "encoder", &holds]);
        }
    }
}

/// Files in half precision, where a number that is too large has become infinite.
#[test]
fn infinities_of_half_precision_are_named() {
    let bench = Bench::new();
    let draw = words("generate dog --steps 1 -o out.png --model broken");
    for (file, tensor) in [
        (
            "unet/diffusion_pytorch_model.fp16.safetensors",
            "conv_in.weight",
        ),
        (
            "unet/diffusion_pytorch_model.fp16.safetensors",
            "time_embedding.linear_2.bias",
        ),
        (
            "vae/diffusion_pytorch_model.fp16.safetensors",
            "decoder.conv_in.bias",
        ),
        (
            "text_encoder/model.fp16.safetensors",
            "final_layer_norm.weight",
        ),
    ] {
        for value in [1e6, f32::NAN] {
            bench.broken("models/sd1-f16", file, tensor, value);
            let shown = if value.is_nan() { "NaN" } else { "infinity" };
            bench.refused(
                &draw,
                &[&format!("tensor `{tensor}` of `{file}` holds {shown}")],
            );
        }
    }
}

/// Where no weight is at fault the error says that, and what may be.
#[test]
fn overflow_without_a_bad_weight_is_said() {
    let bench = Bench::new();
    let model = golden("models/sd1-f32");
    let draw = words("generate dog --steps 2 -o out.png --model");
    let draw = [&draw[..], &[&model]].concat();
    for guidance in ["1e30", "1e38", "1e300"] {
        let args = [&draw[..], &["--guidance", guidance]].concat();
        bench.refused(
            &args,
            &[
                "UNet",
                "every weight of `unet/",
                "is in order",
                "lower guidance",
            ],
        );
    }
}

/// Scores and indices that hold such numbers are refused where they are read.
#[test]
fn files_of_numbers_that_are_not_finite_are_refused() {
    let bench = Bench::new();
    let dir = bench.path();
    let (photos, model, clip) = (
        golden("photos/subject"),
        golden("models/sd1-f32"),
        golden("clip/new"),
    );
    let scores = dir.join("dog.scores");
    // As another program writes them: ours have a SHA-256, behind which no number is looked at.
    let ours = std::fs::read(&scores).unwrap();
    let tensors = SafeTensors::deserialize(&ours).unwrap();
    let whole = safetensors::serialize(tensors.tensors(), None).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&whole).unwrap();
    let site = metadata.offset_keys()[0].clone();
    let eval = words("eval dog.idx --count 1 --scores dog.scores --sweep 5%");
    let given = ["--model", &model, "--images", &photos, "--encoder", &clip];
    let eval = [&eval[..], &given].concat();
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        std::fs::write(&scores, &whole).unwrap();
        set(&scores, &site, value, false);
        bench.refused(&eval, &["scores", "finite"]);
    }
    // Tuned values: f16, in the index.
    let images = format!("dog={photos}");
    let tune = words("merge dog.idx -o tuned.idx --tune 1 --batch 1 --class-count 1 --images");
    ok(dir, &[&tune[..], &[&images, "--model", &model]].concat());
    let tuned = std::fs::read(dir.join("tuned.idx")).unwrap();
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let file = dir.join("bad.idx");
        std::fs::write(&file, &tuned).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&tuned).unwrap();
        let values = metadata
            .offset_keys()
            .into_iter()
            .find(|key| key.ends_with(".values"));
        set(&file, &values.unwrap(), value, false);
        assert!(fails(dir, &["inspect", "bad.idx"], 1).contains("bad.idx"));
    }
}

/// The whole of a tensor, in the way of the cases that are known: pocket, as a folder.
#[test]
fn pocket_with_a_whole_tensor_of_nan_draws_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("m");
    copy(
        &crate::cli::repository().join("examples/pocket/model"),
        &model,
    );
    let file = model.join("unet/diffusion_pytorch_model.safetensors");
    set(&file, "conv_in.weight", f32::NAN, true);
    let args = [
        "generate", "a dog", "--model", "m", "--steps", "3", "-o", "nan.png", "--json",
    ];
    let error = fails(dir.path(), &args, 1);
    assert!(error.contains("output at step 1 of 3"), "{error}");
    assert!(error.contains("tensor `conv_in.weight`"), "{error}");
    assert!(!dir.path().join("nan.png").exists());
}

//! Which files of a repository a run needs, told from their names: configurations, and the weights of one variant as
//! safetensors.

use std::collections::BTreeSet;

use super::weights::{Lacking, chosen, listed, weights};
use crate::checkpoint::within;

/// How a model's files are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// As diffusers does: a folder for each network.
    Pipeline,
    /// The same, of which the configurations and the tokenizers are wanted, and no weights.
    Configs,
    /// As transformers does: one network.
    Encoder,
}

impl Layout {
    /// The file that says what a model is.
    pub(super) fn first(self) -> &'static str {
        match self {
            Self::Pipeline | Self::Configs => "model_index.json",
            Self::Encoder => "config.json",
        }
    }
}

/// The files that a run needs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Needed<'a> {
    /// Small ones: configurations and vocabularies.
    pub(super) configs: Vec<&'a str>,
    /// The large ones.
    pub(super) weights: Vec<&'a str>,
}

/// A network's folder, what its weights are called, and what else is taken of its folder.
struct Network {
    dir: &'static str,
    stem: &'static str,
    /// Whether a model can be without it: it is needed where its configuration is there.
    optional: bool,
    configs: &'static [&'static [&'static str]],
}

/// What may be in a folder of a tokenizer.
const TOKENIZER: &[&str] = &[
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
];
const CONFIG: &[&str] = &["config.json"];
const PROCESSOR: &[&str] = &["preprocessor_config.json", "processor_config.json"];
/// What is taken of the folder of a network of a pipeline, and of a CLIP.
const PLAIN: &[&[&str]] = &[CONFIG];
const CLIP: &[&[&str]] = &[CONFIG, PROCESSOR, TOKENIZER];

const PIPELINE: [Network; 5] = [
    network("unet", "diffusion_pytorch_model", false, PLAIN),
    network("vae", "diffusion_pytorch_model", false, PLAIN),
    network("text_encoder", "model", false, PLAIN),
    network("text_encoder_2", "model", true, PLAIN),
    network("clip", "model", true, CLIP),
];
/// Those that single files have.
const NETWORKS_OF_FILES: &[Network] = PIPELINE.split_at(4).0;
const ENCODER: [Network; 1] = [network("", "model", false, CLIP)];

const fn network(
    dir: &'static str,
    stem: &'static str,
    optional: bool,
    configs: &'static [&'static [&'static str]],
) -> Network {
    Network {
        dir,
        stem,
        optional,
        configs,
    }
}

/// Chooses among the names of a repository's files. A network that has none of the variant that is asked for is taken
/// plain.
///
/// # Errors
/// What is lacking: a configuration, weights, a shard, or any network of the variant.
pub(super) fn needed_files<'a, S: AsRef<str>>(
    names: &'a [S],
    layout: Layout,
    variant: Option<&str>,
) -> Result<Needed<'a>, Lacking> {
    let names: BTreeSet<&str> = names.iter().map(AsRef::as_ref).collect();
    let lacks = |file: &str| {
        (
            format!("no `{file}`"),
            "the model is not complete: ask its owner".to_owned(),
        )
    };
    let mut needed = Needed {
        configs: Vec::new(),
        weights: Vec::new(),
    };
    let mut take = |dir: &str, files: &[&str]| {
        let all = files.iter().map(|file| within(dir, file));
        needed
            .configs
            .extend(all.filter_map(|file| names.get(file.as_str())));
    };
    if layout != Layout::Encoder {
        for file in ["model_index.json", "scheduler/scheduler_config.json"] {
            match names.contains(file) {
                true => take("", &[file]),
                false => return Err(lacks(file)),
            }
        }
        take("", &["cones.json"]);
        for dir in ["tokenizer", "tokenizer_2"] {
            take(dir, TOKENIZER);
        }
        let has = |file: &str| names.contains(file);
        let files_of_2022 = has("tokenizer/vocab.json") && has("tokenizer/merges.txt");
        if !files_of_2022 && !has("tokenizer/tokenizer.json") {
            return Err(lacks("tokenizer/vocab.json"));
        }
    }
    let networks: &[Network] = match layout {
        Layout::Pipeline => &PIPELINE,
        Layout::Configs => NETWORKS_OF_FILES,
        Layout::Encoder => &ENCODER,
    };
    let mut variants = BTreeSet::new();
    for Network {
        dir,
        stem,
        optional,
        configs,
    } in networks
    {
        let config = within(dir, "config.json");
        match (names.contains(config.as_str()), optional) {
            (true, _) => {}
            (false, true) => continue,
            (false, false) => return Err(lacks(&config)),
        }
        for files in *configs {
            take(dir, files);
        }
        if layout == Layout::Configs {
            continue;
        }
        let found = weights(&names, dir, stem);
        variants.extend(found.keys().filter(|variant| !variant.is_empty()).copied());
        needed
            .weights
            .extend(chosen(&names, &found, (dir, stem), variant)?);
    }
    match variant {
        Some(variant) if !variants.contains(variant) => {
            let hint = match variants.is_empty() {
                true => "it has no variants: ask for none".to_owned(),
                false => format!("it has {}", listed(variants)),
            };
            Err((
                format!(
                    "no network of it has a variant `{}`",
                    variant.escape_debug()
                ),
                hint,
            ))
        }
        _ => Ok(needed),
    }
}

/// What a repository without `model_index.json` is, by its names, and what to do.
pub(super) fn other_kind<S: AsRef<str>>(names: &[S]) -> Lacking {
    let at_root = |ends: &[&str]| {
        let mut names = names
            .iter()
            .map(AsRef::as_ref)
            .filter(|name| !name.contains('/'));
        names
            .find(|name| ends.iter().any(|end| name.ends_with(end)))
            .map(|name| name.escape_debug().to_string())
    };
    let whole = "pass the id of a model in the diffusers layout, with the folders `unet`, `vae` and `text_encoder`";
    let lora = [
        "pytorch_lora_weights.safetensors",
        "adapter_config.json",
        "adapter_model.safetensors",
    ];
    if at_root(&lora).is_some() {
        return (
            "a LoRA, which changes a model and is none".to_owned(),
            whole.to_owned(),
        );
    }
    if at_root(&["learned_embeds.safetensors", "learned_embeds.bin"]).is_some() {
        let what = "an embedding (textual inversion), which is one word for a model";
        return (what.to_owned(), whole.to_owned());
    }
    if at_root(&["config.json"]).is_some() {
        return (
            "one network, and no whole model".to_owned(),
            whole.to_owned(),
        );
    }
    match at_root(&[".safetensors"]) {
        Some(file) => (
            format!("single files (`{file}`), not in the diffusers layout"),
            "fetch the file with `hf download ID FILE`, and pass it".to_owned(),
        ),
        None => (
            "no model in the diffusers layout: no `model_index.json`".to_owned(),
            whole.to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIGS: [&str; 7] = [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "tokenizer/tokenizer.json",
        "unet/config.json",
        "vae/config.json",
        "text_encoder/config.json",
        "README.md",
    ];

    /// The weights that are chosen of a model with these of a UNet, and plain ones of its other networks.
    fn of_unet(unet: &[&str], variant: Option<&str>) -> Result<Vec<String>, String> {
        let mut names: Vec<String> = CONFIGS.map(str::to_owned).to_vec();
        names.extend(
            unet.iter()
                .map(|name| format!("unet/diffusion_pytorch_model{name}")),
        );
        names.push("vae/diffusion_pytorch_model.safetensors".to_owned());
        names.push("text_encoder/model.safetensors".to_owned());
        let needed = needed_files(&names, Layout::Pipeline, variant);
        let needed = needed.map_err(|(problem, hint)| format!("{problem}; {hint}"))?;
        assert_eq!(needed.configs.len(), 6, "all but README.md");
        let unet = needed
            .weights
            .iter()
            .filter_map(|name| name.strip_prefix("unet/diffusion_pytorch_model"));
        Ok(unet.map(str::to_owned).collect())
    }

    #[test]
    fn one_variant_is_chosen() {
        let (plain, half, brain) = (".safetensors", ".fp16.safetensors", ".bf16.safetensors");
        let shards = ["-00001-of-00002.safetensors", "-00002-of-00002.safetensors"];
        let half_shards = [
            ".fp16-00001-of-00002.safetensors",
            ".fp16-00002-of-00002.safetensors",
        ];
        let old_shards = [
            "-00001-of-00002.fp16.safetensors",
            "-00002-of-00002.fp16.safetensors",
        ];
        let (index, half_index) = (".safetensors.index.json", ".safetensors.index.fp16.json");
        let rows: &[(&[&str], Option<&str>, &[&str])] = &[
            (&[plain], None, &[plain]),
            (&[plain, half, brain], None, &[half]),
            (&[plain, brain], None, &[brain]),
            (
                &[".fp32.safetensors", ".non_ema.safetensors"],
                None,
                &[".fp32.safetensors"],
            ),
            (
                &[plain, half, ".non_ema.safetensors"],
                Some("non_ema"),
                &[".non_ema.safetensors"],
            ),
            (&[plain, ".non_ema.safetensors"], None, &[plain]),
            (&[".non_ema.safetensors"], None, &[".non_ema.safetensors"]),
            (&[plain, half, ".bin", ".fp16.bin"], Some("fp16"), &[half]),
            (
                &[index, shards[0], shards[1]],
                None,
                &[index, shards[0], shards[1]],
            ),
            (&[plain, index, shards[0], shards[1]], None, &[plain]),
            (
                &[plain, half_index, half_shards[0], half_shards[1]],
                None,
                &[half_index, half_shards[0], half_shards[1]],
            ),
            (
                &[plain, half_index, old_shards[0], old_shards[1]],
                Some("fp16"),
                &[half_index, old_shards[0], old_shards[1]],
            ),
        ];
        for (names, variant, expected) in rows {
            assert_eq!(of_unet(names, *variant).unwrap(), *expected, "{names:?}");
        }
    }

    #[test]
    fn what_lacks_is_named() {
        let index = ".safetensors.index.json";
        let rows: &[(&[&str], Option<&str>, &str)] = &[
            (
                &[],
                None,
                "no `unet/diffusion_pytorch_model.safetensors`; the model is not complete",
            ),
            (&[".bin"], None, "pickled weights"),
            (
                &[".a.safetensors", ".b.safetensors"],
                None,
                "say which variant to take: `a`, `b`",
            ),
            (
                &[index, "-00001-of-00002.safetensors"],
                None,
                "in 2 files, and not all",
            ),
            (&["-00001-of-00001.safetensors"], None, "not their index"),
            (
                &[".safetensors", ".fp16.safetensors"],
                Some("fp8"),
                "no network of it has a variant `fp8`; it has `fp16`",
            ),
            (&[".safetensors"], Some("fp16"), "it has no variants"),
        ];
        for (names, variant, expected) in rows {
            let error = of_unet(names, *variant).unwrap_err();
            assert!(error.contains(expected), "{names:?}: {error}");
        }
        let weights = [
            "unet/diffusion_pytorch_model",
            "vae/diffusion_pytorch_model",
            "text_encoder/model",
        ];
        for file in &CONFIGS[..6] {
            let mut names: Vec<String> = weights.map(|stem| format!("{stem}.safetensors")).to_vec();
            names.extend(
                CONFIGS
                    .iter()
                    .filter(|name| *name != file)
                    .map(|name| (*name).to_owned()),
            );
            let (problem, _) = needed_files(&names, Layout::Pipeline, None).unwrap_err();
            let folder = file.split('/').next().unwrap();
            assert!(problem.contains(folder), "{file}: {problem}");
        }
    }

    #[test]
    fn an_encoder_is_one_network() {
        let names = [
            "config.json",
            "model.safetensors",
            "vocab.json",
            "merges.txt",
            "tf_model.h5",
            "onnx/model.onnx",
        ];
        let needed = needed_files(&names, Layout::Encoder, None).unwrap();
        assert_eq!(needed.configs, ["config.json", "vocab.json", "merges.txt"]);
        assert_eq!(needed.weights, ["model.safetensors"]);
    }
}

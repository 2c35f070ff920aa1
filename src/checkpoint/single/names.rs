//! The names of a single file, which are those of CompVis's `ldm` and of OpenCLIP, and diffusers' names for the same
//! tensors: one table for each network, and what is no weight of any.
//!
//! It is what `convert_ldm_unet_checkpoint`, `convert_ldm_vae_checkpoint`, `convert_ldm_clip_checkpoint` and
//! `convert_open_clip_checkpoint` of diffusers' `loaders/single_file_utils.py` do. Those ask a configuration how many
//! blocks a level has; here the names say it: a level ends where it is made smaller or larger.

/// A network of a model, by the folder that diffusers has for it.
pub(super) const UNET: &str = "unet";
pub(super) const VAE: &str = "vae";
pub(super) const TEXT: &str = "text_encoder";
pub(super) const TEXT_2: &str = "text_encoder_2";

/// How a network's tensor lies in the file's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Whole,
    /// One of three equal parts, by rows: q, k and v, which OpenCLIP has in one.
    Third(usize),
    /// Rows and columns exchanged.
    Transposed,
    /// Without the two dimensions of 1 that a 1 × 1 convolution has.
    Squeezed,
}

/// What a tensor of a single file is.
#[derive(Debug, PartialEq)]
pub(super) enum Role {
    /// Weights of this network, under these names.
    Weights(&'static str, Vec<(String, View)>),
    /// Something that drawing does not need.
    Unused,
    Unknown,
}

/// Parts of a residual block of the UNet.
const RESNET: &[(&str, &str)] = &[
    ("in_layers.0.", "norm1."),
    ("in_layers.2.", "conv1."),
    ("emb_layers.1.", "time_emb_proj."),
    ("out_layers.0.", "norm2."),
    ("out_layers.3.", "conv2."),
    ("skip_connection.", "conv_shortcut."),
];

/// What of the UNet is in no block.
const UNET_ENDS: &[(&str, &str)] = &[
    ("time_embed.0.", "time_embedding.linear_1."),
    ("time_embed.2.", "time_embedding.linear_2."),
    ("label_emb.0.0.", "add_embedding.linear_1."),
    ("label_emb.0.2.", "add_embedding.linear_2."),
    ("input_blocks.0.0.", "conv_in."),
    ("out.0.", "conv_norm_out."),
    ("out.2.", "conv_out."),
];

/// What of the autoencoder is called alike, or is in no block.
const VAE_ENDS: &[(&str, &str)] = &[
    ("quant_conv.", "quant_conv."),
    ("post_quant_conv.", "post_quant_conv."),
    ("encoder.conv_in.", "encoder.conv_in."),
    ("encoder.conv_out.", "encoder.conv_out."),
    ("encoder.norm_out.", "encoder.conv_norm_out."),
    ("decoder.conv_in.", "decoder.conv_in."),
    ("decoder.conv_out.", "decoder.conv_out."),
    ("decoder.norm_out.", "decoder.conv_norm_out."),
];

/// Parts of the autoencoder's attention: the original names, those of diffusers before 2023, and today's.
const VAE_ATTENTION: &[(&str, &str)] = &[
    ("norm.", "group_norm."),
    ("q.", "to_q."),
    ("k.", "to_k."),
    ("v.", "to_v."),
    ("proj_out.", "to_out.0."),
    ("query.", "to_q."),
    ("key.", "to_k."),
    ("value.", "to_v."),
    ("proj_attn.", "to_out.0."),
    ("group_norm.", "group_norm."),
    ("to_q.", "to_q."),
    ("to_k.", "to_k."),
    ("to_v.", "to_v."),
    ("to_out.0.", "to_out.0."),
];

/// Parts of a layer of OpenCLIP.
const OPENCLIP_LAYER: &[(&str, &str)] = &[
    ("ln_1.", "layer_norm1."),
    ("ln_2.", "layer_norm2."),
    ("mlp.c_fc.", "mlp.fc1."),
    ("mlp.c_proj.", "mlp.fc2."),
    ("attn.out_proj.", "self_attn.out_proj."),
];

/// Tensors that are of training, of sampling, or markers.
const UNUSED: [&str; 21] = [
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
    "lvlb_weights",
    "logvar",
    "scale_factor",
    "denoiser.sigmas",
    "global_step",
    "iteration",
    "epoch",
    "v_pred",
    "ztsnr",
];

/// The same: averages of the weights, the loss that the autoencoder was trained with, words that were trained with the
/// model, what checks pictures.
const UNUSED_STARTS: [&str; 6] = [
    "model_ema.",
    "first_stage_model.loss.",
    "first_stage_model.model_ema.",
    "loss.",
    "embedding_manager.",
    "safety_checker.",
];

/// Counters, and the scale of a loss.
const UNUSED_ENDS: [&str; 2] = ["position_ids", "logit_scale"];

/// The last layer of OpenCLIP's ViT-H, which Stable Diffusion 2 was trained without.
const LAST_OF_H: &str = "23";

const UNET_ROOT: &str = "model.diffusion_model.";
pub(super) const VAE_ROOTS: [&str; 2] = ["first_stage_model.", "vae."];
const CLIP_ROOTS: [&str; 2] = [
    "cond_stage_model.transformer.",
    "conditioner.embedders.0.transformer.",
];
const OPENCLIP_ROOTS: [(&str, &str); 2] = [
    ("cond_stage_model.model.", TEXT),
    ("conditioner.embedders.1.model.", TEXT_2),
];

/// Where the levels of the networks end.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// Block of the way down, from 1 on, to level and place in it.
    down: Vec<(usize, usize)>,
    /// Block of the way up, from 0 on, to the same.
    up: Vec<(usize, usize)>,
    /// Levels of the autoencoder's decoder.
    decoder: usize,
}

/// No network has more blocks.
const MOST_BLOCKS: usize = 256;

impl Layout {
    /// The layout of the file whose tensors `has` says are there.
    pub(super) fn of(has: impl Fn(&str) -> bool) -> Self {
        let mut layout = Self::default();
        let (mut level, mut place) = (0, 0);
        for n in 1..MOST_BLOCKS {
            let block = format!("{UNET_ROOT}input_blocks.{n}.0");
            layout.down.push((level, place));
            match has(&format!("{block}.op.weight")) {
                true => (level, place) = (level + 1, 0),
                false if has(&format!("{block}.in_layers.0.weight")) => place += 1,
                false => break,
            }
        }
        (level, place) = (0, 0);
        for n in 0..MOST_BLOCKS {
            let block = format!("{UNET_ROOT}output_blocks.{n}");
            if !has(&format!("{block}.0.in_layers.0.weight")) {
                break;
            }
            layout.up.push((level, place));
            match [1, 2]
                .iter()
                .any(|i| has(&format!("{block}.{i}.conv.weight")))
            {
                true => (level, place) = (level + 1, 0),
                false => place += 1,
            }
        }
        let has_level = |n: &usize| {
            let block = |root: &str| has(&format!("{root}decoder.up.{n}.block.0.norm1.weight"));
            VAE_ROOTS.into_iter().chain([""]).any(block)
        };
        layout.decoder = (0..MOST_BLOCKS).take_while(has_level).count();
        layout
    }

    /// What a tensor is, by its name.
    pub(super) fn role(&self, name: &str) -> Role {
        let unused = UNUSED.contains(&name)
            || UNUSED_STARTS.iter().any(|start| name.starts_with(start))
            || UNUSED_ENDS.iter().any(|end| name.ends_with(end));
        if unused {
            return Role::Unused;
        }
        let one = |network, found: Option<String>| match found {
            Some(name) => Role::Weights(network, vec![(name, View::Whole)]),
            None => Role::Unknown,
        };
        if let Some(rest) = name.strip_prefix(UNET_ROOT) {
            return one(UNET, self.unet(rest));
        }
        if let Some(rest) = VAE_ROOTS.iter().find_map(|root| name.strip_prefix(root)) {
            return self.vae(rest);
        }
        if let Some(rest) = CLIP_ROOTS.iter().find_map(|root| name.strip_prefix(root)) {
            return match rest {
                // Neither is of a model that draws: these encoders are used without their projection.
                _ if rest.starts_with("text_projection") => Role::Unused,
                _ if rest.starts_with("text_model.") => one(TEXT, Some(rest.to_owned())),
                _ => one(TEXT, Some(format!("text_model.{rest}"))),
            };
        }
        let network = OPENCLIP_ROOTS
            .into_iter()
            .find_map(|(root, network)| Some((network, name.strip_prefix(root)?)));
        match network {
            Some((network, rest)) => openclip(network, rest),
            None => Role::Unknown,
        }
    }

    fn unet(&self, rest: &str) -> Option<String> {
        if let Some(name) = renamed(rest, UNET_ENDS) {
            return Some(name);
        }
        let (part, rest) = rest.split_once('.')?;
        let (block, rest) = rest.split_once('.')?;
        if part == "middle_block" {
            return Some(match block {
                "0" => format!("mid_block.resnets.0.{}", renamed(rest, RESNET)?),
                "1" => format!("mid_block.attentions.0.{rest}"),
                "2" => format!("mid_block.resnets.1.{}", renamed(rest, RESNET)?),
                _ => return None,
            });
        }
        let block: usize = block.parse().ok()?;
        let (blocks, (level, place)) = match part {
            "input_blocks" => ("down_blocks", self.down.get(block.checked_sub(1)?)?),
            "output_blocks" => ("up_blocks", self.up.get(block)?),
            _ => return None,
        };
        let at = format!("{blocks}.{level}");
        let (inner, rest) = rest.split_once('.')?;
        let sampler = match blocks {
            "down_blocks" => rest.strip_prefix("op.").map(|rest| ("downsamplers", rest)),
            _ => rest.strip_prefix("conv.").map(|rest| ("upsamplers", rest)),
        };
        Some(match (inner, sampler) {
            (_, Some((sampler, rest))) => format!("{at}.{sampler}.0.conv.{rest}"),
            ("0", None) => format!("{at}.resnets.{place}.{}", renamed(rest, RESNET)?),
            ("1", None) => format!("{at}.attentions.{place}.{rest}"),
            _ => return None,
        })
    }

    /// A tensor of the autoencoder, by its name without the root.
    pub(super) fn vae(&self, rest: &str) -> Role {
        let found = renamed(rest, VAE_ENDS).map(|name| (name, View::Whole));
        match found.or_else(|| self.vae_block(rest)) {
            Some(found) => Role::Weights(VAE, vec![found]),
            None => Role::Unknown,
        }
    }

    fn vae_block(&self, rest: &str) -> Option<(String, View)> {
        let (half, rest) = rest.split_once('.')?;
        let (part, rest) = rest.split_once('.')?;
        let shortcut = |rest: &str| rest.replacen("nin_shortcut.", "conv_shortcut.", 1);
        if part == "mid" {
            let (block, rest) = rest.split_once('.')?;
            let block = match block {
                "block_1" => format!("resnets.0.{}", shortcut(rest)),
                "block_2" => format!("resnets.1.{}", shortcut(rest)),
                "attn_1" => {
                    let name = renamed(rest, VAE_ATTENTION)?;
                    let name = format!("{half}.mid_block.attentions.0.{name}");
                    return Some((name, View::Squeezed));
                }
                _ => return None,
            };
            return Some((format!("{half}.mid_block.{block}"), View::Whole));
        }
        let (level, rest) = rest.split_once('.')?;
        let level: usize = level.parse().ok()?;
        let (blocks, level, sampler) = match (half, part) {
            ("encoder", "down") if level < MOST_BLOCKS => ("down_blocks", level, "downsample"),
            // The original counts from the largest on.
            ("decoder", "up") => (
                "up_blocks",
                self.decoder.checked_sub(level + 1)?,
                "upsample",
            ),
            _ => return None,
        };
        let at = format!("{half}.{blocks}.{level}");
        let name = match rest.strip_prefix("block.") {
            Some(rest) => format!("{at}.resnets.{}", shortcut(rest)),
            None => {
                let rest = rest.strip_prefix(sampler)?.strip_prefix(".conv.")?;
                format!("{at}.{sampler}rs.0.conv.{rest}")
            }
        };
        Some((name, View::Whole))
    }
}

/// A tensor of an OpenCLIP text encoder, by its name without the root.
fn openclip(network: &'static str, rest: &str) -> Role {
    let one = |name: String, view: View| Role::Weights(network, vec![(name, view)]);
    match rest {
        "token_embedding.weight" => {
            return one(
                "text_model.embeddings.token_embedding.weight".to_owned(),
                View::Whole,
            );
        }
        "positional_embedding" => {
            return one(
                "text_model.embeddings.position_embedding.weight".to_owned(),
                View::Whole,
            );
        }
        // Stable Diffusion 2 does not use it.
        "text_projection" | "text_projection.weight" if network == TEXT => return Role::Unused,
        "text_projection" => return one("text_projection.weight".to_owned(), View::Transposed),
        "text_projection.weight" => return one(rest.to_owned(), View::Whole),
        _ => {}
    }
    if let Some(rest) = rest.strip_prefix("ln_final.") {
        return one(format!("text_model.final_layer_norm.{rest}"), View::Whole);
    }
    let layer = rest
        .strip_prefix("transformer.resblocks.")
        .and_then(|rest| rest.split_once('.'));
    let Some((layer, rest)) = layer else {
        return Role::Unknown;
    };
    if layer == LAST_OF_H && network == TEXT {
        return Role::Unused;
    }
    let at = format!("text_model.encoder.layers.{layer}");
    if let Some(kind) = rest.strip_prefix("attn.in_proj_") {
        let parts = ["q", "k", "v"].into_iter().enumerate();
        let parts =
            parts.map(|(i, part)| (format!("{at}.self_attn.{part}_proj.{kind}"), View::Third(i)));
        return Role::Weights(network, parts.collect());
    }
    match renamed(rest, OPENCLIP_LAYER) {
        Some(name) => one(format!("{at}.{name}"), View::Whole),
        None => Role::Unknown,
    }
}

/// A name with the beginning that a table has another one for.
fn renamed(name: &str, table: &[(&str, &str)]) -> Option<String> {
    let row = table
        .iter()
        .find_map(|(old, new)| Some((name.strip_prefix(old)?, new)));
    row.map(|(rest, new)| format!("{new}{rest}"))
}

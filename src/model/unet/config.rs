//! The options of a UNet, read from diffusers' `unet/config.json`.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::checkpoint::kinds::described;
use crate::config::ConfigReader;
use crate::{Error, Result};

/// One level of the UNet on the way down, and its mirror on the way up.
#[derive(Debug, Clone)]
pub(crate) struct Level {
    pub(crate) width: usize,
    pub(crate) heads: usize,
    /// Transformer blocks in each transformer.
    pub(crate) depth: usize,
    /// Residual blocks on the way down; the way up has one more.
    pub(crate) layers: usize,
    pub(crate) attends_down: bool,
    pub(crate) attends_up: bool,
}

/// A UNet's options.
#[derive(Debug, Clone)]
pub(crate) struct UNetConfig {
    pub(crate) sample_size: usize,
    pub(crate) in_channels: usize,
    pub(crate) out_channels: usize,
    pub(crate) context: usize,
    pub(crate) groups: usize,
    pub(crate) epsilon: f64,
    pub(crate) flip_sin_to_cos: bool,
    pub(crate) freq_shift: f64,
    /// Width of the timestep embedding.
    pub(crate) time: usize,
    /// What it is told beside timestep and tokens.
    pub(crate) added: Option<Added>,
    /// Whether there is a middle block.
    pub(crate) middle: bool,
    pub(crate) levels: Vec<Level>,
}

/// The embedding of the whole text and of the picture's sizes, which Stable Diffusion XL adds to that of the timestep:
/// diffusers' `addition_embed_type` `text_time`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Added {
    /// Width of the embedding of each of the six sizes.
    pub(crate) size: usize,
    /// Width of all that is embedded.
    pub(crate) input: usize,
}

/// How many sizes there are: [`SizeIds`](super::super::conditioning::SizeIds).
const SIZES: usize = 6;

impl Added {
    /// Width of the embedding of the whole text, if there is room for one.
    pub(crate) fn pooled(self) -> Option<usize> {
        self.input.checked_sub(SIZES * self.size).filter(|&w| w > 0)
    }
}

/// A number for all, or one for each.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(usize),
    More(Vec<usize>),
}

const WITH_ATTENTION: [&str; 2] = ["CrossAttnDownBlock2D", "CrossAttnUpBlock2D"];
const WITHOUT: [&str; 2] = ["DownBlock2D", "UpBlock2D"];

impl UNetConfig {
    pub(crate) fn parse(file: &str, text: &str) -> Result<Self> {
        let mut keys = ConfigReader::parse_diffusers(file, text)?;
        let version = keys.or("_diffusers_version", String::new())?;
        let (in_channels, out_channels) = check_kind(file, &mut keys)?;
        let (widths, groups) = keys.widths(&[320, 640, 1280, 1280], 2)?;
        let n = widths.len();
        let down_default = ["CrossAttnDownBlock2D"; 3]
            .into_iter()
            .chain(["DownBlock2D"]);
        let up_default = ["UpBlock2D"].into_iter().chain(["CrossAttnUpBlock2D"; 3]);
        let down = block_types(&mut keys, "down_block_types", down_default, n, 0)?;
        let up = block_types(&mut keys, "up_block_types", up_default, n, 1)?;
        // diffusers' `attention_head_dim` is the number of heads: its older configurations depend on that.
        let heads = per_level(&mut keys, "attention_head_dim", 8, n)?;
        let depth = per_level(&mut keys, "transformer_layers_per_block", 1, n)?;
        let layers = per_level(&mut keys, "layers_per_block", 2, n)?;
        let levels = (0..n)
            .map(|i| Level {
                width: widths[i],
                heads: heads[i],
                depth: depth[i],
                layers: layers[i],
                attends_down: down[i],
                attends_up: up[n - 1 - i],
            })
            .collect::<Vec<_>>();
        if let Some(level) = levels.iter().find(|l| l.width % l.heads != 0) {
            return Err(keys.error(
                "attention_head_dim",
                format!("a divisor of {}", level.width),
                level.heads,
            ));
        }
        let first = widths[0];
        let config = Self {
            sample_size: sample_size(&mut keys, &version)?,
            in_channels,
            out_channels,
            context: context(&mut keys, n)?,
            groups,
            epsilon: keys.or("norm_eps", 1e-5)?,
            flip_sin_to_cos: keys.flag("flip_sin_to_cos")?.unwrap_or(true),
            freq_shift: keys.or("freq_shift", 0.0)?,
            time: match keys.optional("time_embedding_dim")? {
                None | Some(0) => 4 * first,
                Some(width) => keys.check_size("time_embedding_dim", width, 1)?,
            },
            added: added(&mut keys)?,
            middle: middle(&mut keys)?,
            levels,
        };
        if let Some(depths) = keys.optional::<Vec<usize>>("reverse_transformer_layers_per_block")?
            && !depths
                .iter()
                .eq(config.levels.iter().rev().map(|l| &l.depth))
        {
            let expected = "the same numbers as transformer_layers_per_block, from below";
            let found = format!("{depths:?}");
            return Err(keys.error("reverse_transformer_layers_per_block", expected, found));
        }
        refuse_unsupported(&mut keys, n)?;
        keys.finish()?;
        Ok(config)
    }
}

/// What a UNet is that is not Stable Diffusion's for text to picture: told first, so that no key is blamed that is
/// right for what it is. Else its channels in and out.
fn check_kind(file: &str, keys: &mut ConfigReader) -> Result<(usize, usize)> {
    const WANTED: &str = "the UNet of a Stable Diffusion 1.x, 2.x or XL model for text to picture";
    let refuse = |found: String| {
        let hint = "pass a model that draws pictures from text alone, such as the one that this was made from";
        Err(Error::file(file, WANTED, found, hint))
    };
    match keys.take("_class_name") {
        None => {}
        Some(class) if class == "UNet2DConditionModel" || class == "FlaxUNet2DConditionModel" => {}
        Some(class) => {
            let class = class.as_str().map_or_else(|| class.to_string(), described);
            return refuse(class);
        }
    }
    let (from, to) = (
        keys.size("in_channels", 4, 1)?,
        keys.size("out_channels", 4, 1)?,
    );
    let kind = |what: &str| refuse(format!("{what} ({from} channels in, {to} out)"));
    match (from, to) {
        (from, to) if from == to => {}
        (9, 4) => return kind("an inpainting UNet"),
        (8, 4) => return kind("an InstructPix2Pix UNet, which edits pictures,"),
        (7, 4) => return kind("an upscaler's UNet"),
        (5, 4) => return kind("a depth-to-picture UNet"),
        (from, to) if to == 2 * from => return kind("a UNet that predicts variances too"),
        _ => return kind("a UNet that takes something beside latents and text"),
    }
    let word = |keys: &ConfigReader, key: &str| keys.word(key).map(str::to_owned);
    match word(keys, "addition_embed_type").as_deref() {
        Some("text_time") | None => {}
        Some(other) => {
            return refuse(format!(
                "a UNet with embeddings beside the text's (`addition_embed_type` {other})"
            ));
        }
    }
    if let Some(kind) = word(keys, "encoder_hid_dim_type") {
        return refuse(format!(
            "a UNet with a projection of its own before it (`encoder_hid_dim_type` {kind})"
        ));
    }
    if let Some(kind) = word(keys, "class_embed_type") {
        return refuse(format!(
            "a UNet that takes a class beside the text (`class_embed_type` {kind})"
        ));
    }
    for (key, what) in [
        (
            "time_cond_proj_dim",
            "a latent consistency UNet, which takes the guidance as an input",
        ),
        (
            "num_class_embeds",
            "a UNet that takes a class beside the text",
        ),
    ] {
        if keys.has(key) {
            return refuse(format!("{what} (`{key}`)"));
        }
    }
    Ok((from, to))
}

/// The keys of what is added to the timestep's embedding.
fn added(keys: &mut ConfigReader) -> Result<Option<Added>> {
    const KEY: &str = "projection_class_embeddings_input_dim";
    if keys.optional::<String>("addition_embed_type")?.is_none() {
        return Ok(None); // `check_kind` left no other than `text_time`
    }
    let size: usize = keys.required("addition_time_embed_dim")?;
    let input: usize = keys.required(KEY)?;
    let added = Added {
        size: keys.check_size("addition_time_embed_dim", size, 2)?,
        input: keys.check_size(KEY, input, 1)?,
    };
    match added.pooled() {
        _ if !size.is_multiple_of(2) => {
            Err(keys.error("addition_time_embed_dim", "an even number", size))
        }
        Some(_) => Ok(Some(added)),
        None => {
            let expected = format!("more than {SIZES} times addition_time_embed_dim = {size}");
            Err(keys.error(KEY, expected, input))
        }
    }
}

/// Height and width of the latents that the model was trained on.
fn sample_size(keys: &mut ConfigReader, version: &str) -> Result<usize> {
    let sides: OneOrMore = keys.or("sample_size", OneOrMore::One(64))?;
    let side = match sides {
        // Written by diffusers of before 0.9, it is put right by StableDiffusionPipeline.
        OneOrMore::One(side) if side < 64 && is_before_0_9(version) => 64,
        OneOrMore::One(side) => side,
        OneOrMore::More(sides) => match sides[..] {
            [height, width] if height == width => height,
            _ => {
                return Err(keys.error(
                    "sample_size",
                    "one size, or two equal ones",
                    format!("{sides:?}"),
                ));
            }
        },
    };
    keys.check_size("sample_size", side, 1)
}

/// Whether this version of diffusers is 0.0 to 0.8.
fn is_before_0_9(version: &str) -> bool {
    let mut parts = version.split('.');
    let minor = parts.nth(1).and_then(|minor| minor.parse::<u32>().ok());
    version.starts_with("0.") && minor.is_some_and(|minor| minor < 9)
}

/// Width of the text embedding: one for all levels.
fn context(keys: &mut ConfigReader, n: usize) -> Result<usize> {
    const KEY: &str = "cross_attention_dim";
    let widths = per_level(keys, KEY, 1280, n)?;
    match widths.iter().find(|width| **width != widths[0]) {
        None => Ok(widths[0]),
        Some(_) => Err(keys.error(KEY, "the same width at all levels", format!("{widths:?}"))),
    }
}

/// Whether there is a middle block: null is none, as in the small models that were distilled without one.
fn middle(keys: &mut ConfigReader) -> Result<bool> {
    const KEY: &str = "mid_block_type";
    match keys.take(KEY) {
        None => Ok(true),
        Some(Value::Null) => Ok(false),
        Some(kind) if kind == "UNetMidBlock2DCrossAttn" => Ok(true),
        Some(kind) => Err(keys.error(KEY, "\"UNetMidBlock2DCrossAttn\" or null", kind)),
    }
}

/// Options that have one supported value, and those that change nothing here.
fn refuse_unsupported(keys: &mut ConfigReader, n: usize) -> Result<()> {
    keys.only("act_fn", &[json!("silu"), json!("swish")])?;
    keys.only("attention_type", &[json!("default"), Value::Null])?;
    keys.only("conv_in_kernel", &[json!(3)])?;
    keys.only("conv_out_kernel", &[json!(3)])?;
    keys.only("downsample_padding", &[json!(1)])?;
    keys.only("mid_block_scale_factor", &[json!(1)])?;
    keys.only(
        "only_cross_attention",
        &[json!(false), json!(vec![false; n])],
    )?;
    keys.only("resnet_time_scale_shift", &[json!("default")])?;
    keys.only("time_embedding_type", &[json!("positional")])?;
    let _off_outside_training: f64 = keys.or("dropout", 0.0)?;
    keys.ignore(&[
        "addition_embed_type_num_heads", // read by another type of embeddings only
        "cross_attention_norm", // this one and the next three: read by other kinds of blocks only
        "mid_block_only_cross_attention",
        "resnet_out_scale_factor",
        "resnet_skip_time_act",
        "upcast_attention",      // attention is computed in f32 in any case
        "use_linear_projection", // a 1 × 1 convolution is a linear layer
    ]);
    Ok(())
}

/// For each block whether it has transformers.
fn block_types(
    keys: &mut ConfigReader,
    key: &str,
    default: impl Iterator<Item = &'static str>,
    n: usize,
    kind: usize,
) -> Result<Vec<bool>> {
    let names: Vec<String> = keys.or(key, default.map(str::to_owned).collect())?;
    if names.len() != n {
        return Err(keys.error(
            key,
            format!("{n} blocks, as in block_out_channels"),
            names.len(),
        ));
    }
    let attends = |name: &String| match name.as_str() {
        name if name == WITH_ATTENTION[kind] => Ok(true),
        name if name == WITHOUT[kind] => Ok(false),
        name => Err(keys.error(
            key,
            format!("{} or {}", WITH_ATTENTION[kind], WITHOUT[kind]),
            name,
        )),
    };
    names.iter().map(attends).collect()
}

fn per_level(keys: &mut ConfigReader, key: &str, default: usize, n: usize) -> Result<Vec<usize>> {
    let values = match keys.or(key, OneOrMore::One(default))? {
        OneOrMore::One(value) => vec![value; n],
        OneOrMore::More(values) => values,
    };
    if values.len() != n {
        return Err(keys.error(
            key,
            format!("one value, or {n} as in block_out_channels"),
            values.len(),
        ));
    }
    values
        .into_iter()
        .map(|value| keys.check_size(key, value, 1))
        .collect()
}

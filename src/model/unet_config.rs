//! The options of a UNet, read from diffusers' `unet/config.json`.

use serde::Deserialize;
use serde_json::json;

use crate::Result;
use crate::keys::Keys;

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
    pub(crate) levels: Vec<Level>,
}

/// A value for all levels, or one for each.
#[derive(Deserialize)]
#[serde(untagged)]
enum PerLevel {
    All(usize),
    Each(Vec<usize>),
}

const WITH_ATTENTION: [&str; 2] = ["CrossAttnDownBlock2D", "CrossAttnUpBlock2D"];
const WITHOUT: [&str; 2] = ["DownBlock2D", "UpBlock2D"];

impl UNetConfig {
    pub(crate) fn parse(file: &str, text: &str) -> Result<Self> {
        let mut keys = Keys::parse(file, text)?;
        let widths: Vec<usize> = keys.or("block_out_channels", vec![320, 640, 1280, 1280])?;
        let n = widths.len();
        if !(1..=8).contains(&n) {
            return Err(keys.error("block_out_channels", "1 to 8 widths", n));
        }
        let groups = keys.size("norm_num_groups", 32, 1)?;
        for &width in &widths {
            keys.check_size("block_out_channels", width, 2)?;
            if width % groups != 0 {
                return Err(keys.error(
                    "block_out_channels",
                    format!("multiples of norm_num_groups = {groups}"),
                    width,
                ));
            }
        }
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
        let config = Self {
            sample_size: keys.size("sample_size", 64, 1)?,
            in_channels: keys.size("in_channels", 4, 1)?,
            out_channels: keys.size("out_channels", 4, 1)?,
            context: keys.size("cross_attention_dim", 1280, 1)?,
            groups,
            epsilon: keys.or("norm_eps", 1e-5)?,
            flip_sin_to_cos: keys.or("flip_sin_to_cos", true)?,
            freq_shift: keys.or("freq_shift", 0.0)?,
            levels,
        };
        if config.in_channels != config.out_channels {
            let expected = format!("as many as in_channels = {}", config.in_channels);
            return Err(keys.error("out_channels", expected, config.out_channels));
        }
        refuse_unsupported(&mut keys)?;
        keys.finish()?;
        Ok(config)
    }
}

/// Options that have one supported value, and those that change nothing here.
fn refuse_unsupported(keys: &mut Keys) -> Result<()> {
    keys.only("act_fn", &[json!("silu"), json!("swish")])?;
    keys.only("attention_type", &[json!("default")])?;
    keys.only("conv_in_kernel", &[json!(3)])?;
    keys.only("conv_out_kernel", &[json!(3)])?;
    keys.only("downsample_padding", &[json!(1)])?;
    keys.only("mid_block_scale_factor", &[json!(1)])?;
    keys.only("mid_block_type", &[json!("UNetMidBlock2DCrossAttn")])?;
    keys.only("resnet_out_scale_factor", &[json!(1)])?;
    keys.only("resnet_time_scale_shift", &[json!("default")])?;
    keys.only("time_embedding_type", &[json!("positional")])?;
    keys.ignore(&[
        "addition_embed_type_num_heads", // read only where addition_embed_type is set
        "dropout",                       // off outside training
        "upcast_attention",              // attention is computed in f32 in any case
        "use_linear_projection",         // a 1 × 1 convolution is a linear layer
    ]);
    Ok(())
}

/// For each block whether it has transformers.
fn block_types(
    keys: &mut Keys,
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

fn per_level(keys: &mut Keys, key: &str, default: usize, n: usize) -> Result<Vec<usize>> {
    let values = match keys.or(key, PerLevel::All(default))? {
        PerLevel::All(value) => vec![value; n],
        PerLevel::Each(values) => values,
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

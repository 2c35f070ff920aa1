//! The three networks of Stable Diffusion and its tokenizer, and CLIP to measure its pictures with, built from the
//! models' own files.
//!
//! Every size and option comes from the `config.json` beside the weights; what is not supported is refused by name.

mod clip;
mod conditioning;
mod config;
mod finite;
mod footprint;
mod loader;
mod resnet;
mod text;
mod unet;
mod vae;

pub use clip::Clip;
pub use clip::preprocess::Preprocessing;
pub(crate) use conditioning::{Conditioning, SizeIds};
pub(crate) use finite::Origin;
pub(crate) use footprint::Footprint;
pub use text::chunks::Cut;
pub(crate) use text::chunks::Token;
pub(crate) use text::encoder::TextClass;
pub(crate) use text::encoder::TextEncoder;
pub(crate) use text::tokenizer::Tokenizer;
pub(crate) use unet::UNet;
pub(crate) use unet::attention::{AttentionMap, AttentionStore};
pub(crate) use unet::config::UNetConfig;
pub(crate) use vae::Vae;

//! The three networks of Stable Diffusion and its tokenizer, and CLIP to measure its pictures with, built from the
//! models' own files.
//!
//! Every size and option comes from the `config.json` beside the weights; what is not supported is refused by name.

mod clip;
mod conditioning;
mod config;
mod finite;
mod loader;
mod resnet;
mod text;
mod unet;
mod vae;

pub use clip::Clip;
pub use clip::preprocess::Preprocessing;
pub use conditioning::{Conditioning, SizeIds};
pub(crate) use finite::Origin;
pub(crate) use text::encoder::TextClass;
pub use text::encoder::TextEncoder;
pub use text::tokenizer::Tokenizer;
pub use unet::UNet;
pub use unet::attention::{AttentionMap, AttentionStore};
pub use unet::backward::{Attended, Saved};
pub(crate) use unet::config::UNetConfig;
pub use unet::footprint::Footprint;
pub use vae::{Posterior, Vae};

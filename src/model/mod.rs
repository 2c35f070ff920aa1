//! The three networks of Stable Diffusion and its tokenizer, and CLIP to measure its pictures with, built from the
//! models' own files.
//!
//! Every size and option comes from the `config.json` beside the weights; what is not supported is refused by name.

mod attention;
mod clip;
mod clip_layers;
mod clip_pair;
mod clip_vision;
mod context;
mod finite;
mod memory;
mod preprocess;
mod resnet;
mod tokenizer;
mod transformer;
mod unet;
mod unet_backward;
mod unet_config;
mod unet_layers;
mod vae;
mod weights;

pub use attention::{AttentionMap, AttentionStore};
pub use clip::TextEncoder;
pub use clip_pair::Clip;
pub use context::Context;
pub(crate) use finite::Origin;
pub use memory::Footprint;
pub use preprocess::Preprocessing;
pub use tokenizer::Tokenizer;
pub use unet::UNet;
pub use unet_backward::{Attended, Saved};
pub use vae::{Posterior, Vae};
pub(crate) use weights::{Pages, TensorFile};

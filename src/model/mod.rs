//! The three networks of Stable Diffusion and its tokenizer, built from the model's own files.
//!
//! Every size and option comes from the `config.json` beside the weights; what is not supported is refused by name.

mod attention;
mod clip;
mod config;
mod resnet;
mod tokenizer;
mod transformer;
mod unet;
mod unet_backward;
mod unet_config;
mod unet_layers;
mod vae;
mod weights;

pub use attention::{AttentionMap, AttentionStore, SiteGradients};
pub use clip::TextEncoder;
pub(crate) use config::Keys;
pub use tokenizer::Tokenizer;
pub use unet::UNet;
pub use unet_backward::{Attended, Saved};
pub use vae::{Posterior, Vae};
pub(crate) use weights::TensorFile;

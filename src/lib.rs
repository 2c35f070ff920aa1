//! Concept neurons of Stable Diffusion: find them, store them, draw with them.
//!
//! An implementation of *Cones: Concept Neurons in Diffusion Models for Customized Generation* (Liu et al., ICML
//! 2023). A few weights of the attention layers' K and V matrices, set to zero ("shut"), make the model draw a
//! particular subject. What is stored of a subject is their positions, and nothing else.
//!
//! # Map
//!
//! Each room uses only those above it; `tests/it/rooms.rs` holds that.
//!
//! | room | |
//! | --- | --- |
//! | `error`, `shown`, `size`, `files`, `config` | errors, text for terminals, [`Size`], files, strict JSON |
//! | [`sampling`] | torch's noise, the noise schedule, the samplers |
//! | [`prompt`] | how subjects get into a prompt |
//! | [`picture`] | pictures in and out of files; heat maps, contact sheets |
//! | [`index`] | what a concept is, without tensors: sites, sets of neurons, the file |
//! | [`checkpoint`] | where a model's files are, and what their tensors are called |
//! | `nn` | the differentiable layers, forward and backward, and who computes them |
//! | [`model`] | text encoder, UNet, autoencoder, CLIP, from their `config.json` |
//! | [`pipeline`] | a whole model: embed, encode, shut, draw |
//! | [`find`] | from photos to neurons: loss, methods, choice, tuning |
//! | [`eval`] | whether a concept does what it claims |
//! | [`mod@bench`] | parts of the work, to be timed from outside |
//!
//! The binary's are `cli` (what can be said), `report` (what is shown) and `commands`.
//!
//! # Bounds
//!
//! What is read may be of anyone: what goes beyond these is refused by name, and within them reading takes memory near
//! the size of the file and time in proportion to it. Named pipes, devices and the like are no files.
//!
//! | of | at most |
//! | --- | --- |
//! | an index | 1 GiB, its header 4 MiB, 64 subjects, 30,000 photos, 256 prompts and settings of 1,000 characters |
//! | scores, or a part of them | 16 GiB, the header 4 MiB |
//! | weights | a header of 16 MiB, 65,536 tensors |
//! | a model's text files | 64 MiB |
//! | a photo | 512 MiB, 32,768 pixels a side; beyond 178 million pixels it is read at a half or a quarter |
//! | prompts of an evaluation | 10,000, of 10,000 bytes each |
//! | what a hub lists | 8 MiB, 5,000 files |
//!
//! # Names of the paper
//!
//! | paper | here |
//! | --- | --- |
//! | concept neuron | [`index::Site`] and an index into it |
//! | `L_con`, concept-implanting loss | the loss of [`find()`](find::find()) |
//! | M, accumulated statistic | the scores, [`find::Found::scores`] |
//! | τ | [`find::selection::Selection::Threshold`] |
//! | ρ, K, λ | [`find::paper::Options`]: `rho`, `steps`, `prior_loss_weight` |
//! | concatenation | [`index::NeuronIndex::union`] |

mod allocation;
pub mod bench;
pub mod checkpoint;
mod config;
mod error;
pub mod eval;
mod files;
pub mod find;
#[cfg(test)]
#[path = "../tests/fuzz/mod.rs"]
mod fuzz;
#[cfg(test)]
mod golden;
pub mod index;
pub mod model;
mod nn;
pub mod picture;
pub mod pipeline;
pub mod prompt;
pub mod sampling;
mod shown;
mod size;

pub use allocation::keep_freed_memory;
pub use error::{Error, IndexError, Result};
pub use files::part::{Kept, Part};
pub use files::{Existing, place as file_place, sha256 as file_sha256, write as atomic_write};
pub use picture::{
    HeatMap, LeftOut, Metadata, Photo, PhotoList, Photos, Picture, Texts, list_images,
    read_metadata,
};
pub use pipeline::{
    AttentionOptions, Defaults, Drawing, Init, MemoryEstimate, Pipeline, Progress, SampleOptions,
};
pub use shown::{escaped, is_unseen};
pub use size::Size;

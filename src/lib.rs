//! Concept neurons of Stable Diffusion: find them, store them, draw with them.
//!
//! An implementation of *Cones: Concept Neurons in Diffusion Models for Customized Generation* (Liu et al., ICML
//! 2023). A few weights of the attention layers' K and V matrices, set to zero ("shut"), make the model draw a
//! particular subject. What is stored of a subject is their positions, and nothing else.
//!
//! # Map
//!
//! | module | |
//! | --- | --- |
//! | [`concept`] | what a concept neuron is, how it is found, stored and joined |
//! | [`model`] | text encoder, UNet, autoencoder, tokenizer, from their `config.json` |
//! | [`nn`] | the differentiable layers, forward and backward |
//! | [`sampling`] | torch's noise, the noise schedule, the samplers |
//! | [`eval`] | whether a concept does what it claims: similarities, losses, random controls |
//! | [`source`] | where a model's files come from |
//! | [`prompt`] | how subjects get into a prompt |
//! | [`Pipeline`] | a whole model: embed, encode, draw |
//! | [`Picture`] | pictures in and out of files |
//!
//! # Names of the paper
//!
//! | paper | here |
//! | --- | --- |
//! | concept neuron | [`concept::Site`] and an index into it |
//! | `L_con`, concept-implanting loss | the loss in [`concept::score`] |
//! | M, accumulated statistic | the scores that [`concept::score::algorithm1`] returns |
//! | τ | [`concept::select::Selection::Threshold`] |
//! | ρ, K, λ | [`concept::score::Options`]: `rho`, `steps`, `prior_weight` |
//! | concatenation | [`concept::NeuronIndex::union`] |

mod allocation;
pub mod concept;
mod error;
pub mod eval;
mod file;
mod keys;
pub mod model;
pub mod nn;
mod picture;
mod pipeline;
pub mod prompt;
pub mod sampling;
mod shown;
pub mod source;

pub use allocation::keep_freed_memory;
pub use error::{Error, Result};
pub use file::{create as create_file, place as file_place, replace as write_file};
pub use picture::{
    Checked, HeatMap, LeftOut, Metadata, Photos, Picture, a1111_parameters, file_sha256, list,
    read_metadata,
};
pub use pipeline::{AttentionOptions, Defaults, Drawing, Needs, Pipeline, Progress, SampleOptions};
pub use shown::{escaped, escaped_json, escaped_lines};

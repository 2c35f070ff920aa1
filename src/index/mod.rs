//! What a concept is, without tensors: sites and sets of neurons, how they are joined, and the file that holds them.
//!
//! A *site* is one K or V weight matrix of an attention layer; a *neuron* is one of its weights. A concept is a set of
//! neurons that, shut (set to zero), make the model draw one subject.

mod blocks;
mod codec;
mod concept;
mod container;
mod control;
mod layers;
mod metadata;
mod overlap;
mod owners;
mod provenance;
mod scope;
mod set;
mod site;
mod subject;
mod union;

pub use crate::error::IndexError;
pub use blocks::BlockCount;
pub use concept::{Extent, NeuronIndex};
pub use control::random_control;
pub use layers::LayerSelection;
pub use overlap::{Overlap, OverlapReport};
pub use provenance::{Provenance, Source};
pub use scope::Scope;
pub use set::NeuronSet;
pub use site::{Projection, Site, SiteSelection};
pub use subject::Subject;
pub use union::{Distinct, distinct};

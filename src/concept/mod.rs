//! What a concept neuron is, how concepts are found, stored and joined.
//!
//! A *site* is one K or V weight matrix of an attention layer; a *neuron* is one of its weights. A concept is a set of
//! neurons that, shut (set to zero), make the model draw one subject. Only [`score`], [`learn`] and [`tune`]
//! know of tensors.

mod adam;
pub mod codec;
mod container;
pub mod gram;
mod importance;
mod index;
mod indices;
mod layers;
pub mod learn;
pub(crate) mod loss;
mod mask;
mod metadata;
mod overlap;
mod posterior;
mod provenance;
pub mod round;
mod scope;
pub mod score;
pub mod select;
mod site;
mod subject;
pub mod tune;
mod union;

pub use index::NeuronIndex;
pub use indices::SiteIndices;
pub use layers::LayerSelection;
pub use loss::{Examples, Lesson, Step, rows_at_once};
pub use mask::{shut, shut_of};
pub use overlap::{Overlap, OverlapReport};
pub use provenance::{Provenance, Source};
pub use scope::Scope;
pub use site::{Projection, Site, SiteSelection};
pub use subject::Subject;
pub use union::distinct;

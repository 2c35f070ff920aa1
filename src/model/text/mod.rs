//! Text encoders and their tokenizer: prompts to embeddings.

pub(in crate::model) mod chunks;
pub(in crate::model) mod encoder;
pub(in crate::model) mod layers;
pub(in crate::model) mod projection;
pub(in crate::model) mod tokenizer;

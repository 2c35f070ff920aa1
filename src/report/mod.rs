//! What the user sees: progress, messages, tables, JSON.

pub(crate) mod download;
pub(crate) mod hints;
pub(crate) mod memory;
pub(crate) mod meters;
pub(crate) mod photos;
pub(crate) mod ui;

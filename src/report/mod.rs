//! What the user sees: progress, messages, tables, JSON.

pub(crate) mod download;
pub(crate) mod memory;
pub(crate) mod photos;
pub(crate) mod ui;

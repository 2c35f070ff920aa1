//! How much memory layers and passes need.

/// Bytes of a number.
const F32: u64 = 4;

/// What a pass needs beside the weights, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Footprint {
    /// Held for later: for the backward pass, or for the way up.
    pub(crate) kept: u64,
    /// Inside the layer that needs most.
    pub(crate) working: u64,
    /// How many layers the backward pass computes again.
    pub(crate) recomputed: usize,
}

impl Footprint {
    /// All of it.
    pub(crate) fn total(&self) -> u64 {
        self.kept + self.working
    }
}

/// What one layer needs, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LayerNeeds {
    /// Its input.
    pub(super) input: u64,
    /// What it saves of its inside for the backward pass.
    pub(super) inside: u64,
    /// What its products give that the backward pass reads, and can compute again from the rest.
    pub(super) products: u64,
    /// What is alive at once while it is computed, there or back.
    pub(super) working: u64,
}

/// Bytes of so many channels over so many pixels.
pub(super) fn bytes(channels: usize, pixels: usize) -> u64 {
    F32 * channels as u64 * pixels as u64
}

//! What the transforms share: their sizes, and the tiles that are taken at a time.

use std::ops::Range;

use crate::nn::cpu::gemm::PANEL;

/// Outputs of a tile in each direction, inputs that it sees, and products that it takes.
pub(super) const TILE: usize = 4;
pub(super) const SEEN: usize = 6;
pub(super) const POINTS: usize = SEEN * SEEN;

/// Tiles, or input channels, that are transformed at a time: one register of AVX-512.
pub(super) const LANES: usize = 16;

pub(super) const ROOT_HALF: f32 = std::f32::consts::FRAC_1_SQRT_2;
pub(super) const ROOT_TWO: f32 = std::f32::consts::SQRT_2;

/// Some rows of tiles, counted through all pictures.
pub(super) struct Band {
    /// Tiles in a row, and rows in a picture.
    pub(super) across: usize,
    pub(super) down: usize,
    pub(super) rows: Range<usize>,
}

impl Band {
    pub(super) fn tiles(&self) -> usize {
        self.rows.len() * self.across
    }

    /// How wide the panels are that the tiles are the columns of, and how many.
    pub(super) fn panels(&self) -> (usize, usize) {
        let width = PANEL.min(self.tiles().next_multiple_of(LANES));
        (width, self.tiles().div_ceil(width))
    }

    /// Pictures that the band has a part of.
    pub(super) fn pictures(&self) -> usize {
        self.rows.end.div_ceil(self.down) - self.rows.start / self.down
    }
}

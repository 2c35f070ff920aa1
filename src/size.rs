//! Width and height, so that no two places order them differently.

use std::fmt;

/// How large a picture is in pixels, or its latents or a feature map in theirs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl Size {
    /// A size by its width and height.
    pub(crate) fn new(width: usize, height: usize) -> Self {
        Self { width, height }
    }

    /// As wide as high.
    pub(crate) fn square(side: usize) -> Self {
        Self::new(side, side)
    }

    /// How many pixels there are.
    pub(crate) fn pixels(self) -> usize {
        self.width * self.height
    }

    /// Both sides by `f`.
    pub(crate) fn map(self, f: impl Fn(usize) -> usize) -> Self {
        Self::new(f(self.width), f(self.height))
    }
}

/// `512x768`, width first.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

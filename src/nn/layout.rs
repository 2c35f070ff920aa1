//! How tensors hold what layers work on: the words that layers and backends share.

use candle_core::Tensor;

use super::tensor::misfit;
use crate::Result;

/// How a tensor holds n vectors of each sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// One after the other: `[.., n, c]`, or `[b, c]` with n = 1.
    Tokens,
    /// Channel by channel: `[b, c, h, w]`, n = h·w.
    Channels,
}

/// How many vectors a tensor holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Vectors {
    pub(super) samples: usize,
    /// Of each sample.
    pub(super) tokens: usize,
}

impl Layout {
    /// The vectors of `width` values in `x`.
    ///
    /// # Errors
    /// If it does not hold such.
    pub(super) fn vectors(self, x: &Tensor, width: usize) -> Result<Vectors> {
        let (samples, tokens) = match (self, x.dims()) {
            (Self::Channels, &[b, c, h, w]) if c == width => (b, h * w),
            (Self::Tokens, &[b, c]) if c == width => (b, 1),
            (Self::Tokens, &[ref b @ .., n, c]) if c == width && !b.is_empty() => {
                (b.iter().product(), n)
            }
            _ => return Err(misfit(&format!("vectors of {width} values"), x)),
        };
        Ok(Vectors { samples, tokens })
    }
}

/// Which way a layer is walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// `x·Wᵀ`.
    Forward,
    /// `grad·W`.
    Backward,
}

/// How many values vectors have on both sides of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Widths {
    /// Of those that are given.
    pub(super) input: usize,
    /// Of those that come out.
    pub(super) output: usize,
}

impl Direction {
    /// The widths of a layer with a weight `[rows, columns]`.
    pub(super) fn widths(self, (rows, columns): (usize, usize)) -> Widths {
        let (input, output) = match self {
            Self::Forward => (columns, rows),
            Self::Backward => (rows, columns),
        };
        Widths { input, output }
    }
}

/// The sides of a picture's channel, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plane {
    pub(super) height: usize,
    pub(super) width: usize,
}

impl Plane {
    /// Those of `x: [b, c, height, width]`.
    ///
    /// # Errors
    /// If it has another rank.
    pub(super) fn of(x: &Tensor) -> Result<Self> {
        let (_, _, height, width) = x.dims4()?;
        Ok(Self { height, width })
    }

    /// How many pixels it has.
    pub(super) fn pixels(self) -> usize {
        self.height * self.width
    }

    /// What is enlarged to this by nearest neighbours: half of it, rounded up.
    pub(super) fn halved(self) -> Self {
        Self {
            height: self.height.div_ceil(2),
            width: self.width.div_ceil(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn vectors_are_counted_or_refused() {
        let found = |layout: Layout, shape: &[usize]| {
            let x = Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
            let Vectors { samples, tokens } = layout.vectors(&x, 3).ok()?;
            Some((samples, tokens))
        };
        let (tokens, channels) = (Layout::Tokens, Layout::Channels);
        for (layout, shape, want) in [
            (tokens, &[2, 3][..], Some((2, 1))),
            (tokens, &[2, 5, 3], Some((2, 5))),
            (tokens, &[2, 4, 5, 3], Some((8, 5))),
            (tokens, &[0, 5, 3], Some((0, 5))),
            (tokens, &[2, 5, 4], None),
            (tokens, &[3], None),
            (tokens, &[], None),
            (channels, &[2, 3, 4, 5], Some((2, 20))),
            (channels, &[2, 4, 5, 3], None),
            (channels, &[2, 3, 4], None),
        ] {
            assert_eq!(found(layout, shape), want, "{layout:?} {shape:?}");
        }
    }
}

//! Pillow's bicubic resampling of 8-bit pictures, to the bit: what transformers prepares pictures for CLIP with.
//!
//! Pillow's `Resample.c`: a pass over rows, then one over columns, with weights in 22-bit fixed point and a rounding to
//! 8 bits after each. Scaling down widens the kernel by the scale, so that nothing is skipped.

use std::ops::Range;

use super::Picture;
use crate::{Error, Result};

/// Bits of a weight behind the point: 32, less 8 of a pixel and 2 of headroom.
const PRECISION: u32 = 32 - 8 - 2;
/// Reach of the bicubic kernel, in pixels of the coarser of the two grids.
const SUPPORT: f64 = 2.0;

/// Part of a picture scaled to a size: only that part is computed, and takes memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// The size that the whole picture is scaled to.
    pub(crate) scaled: (u32, u32),
    /// The window's left and upper edge in the scaled picture.
    pub(crate) at: (u32, u32),
    /// Its width and height.
    pub(crate) size: (u32, u32),
}

/// One axis of a window.
struct Axis {
    from: u32,
    to: u32,
    at: u32,
    size: u32,
}

/// What one pixel of the scaled picture is made of: pixels of the source and a weight for each.
struct Taps {
    first: usize,
    weights: Vec<i64>,
}

impl Picture {
    /// The part `window` of this picture scaled as Pillow does with `BICUBIC`.
    ///
    /// # Errors
    /// If the window is empty or does not lie in the scaled picture.
    pub(crate) fn bicubic(&self, window: Window) -> Result<Self> {
        let Window { scaled, at, size } = window;
        let inside = |at: u32, size: u32, whole: u32| {
            size > 0 && at.checked_add(size).is_some_and(|end| end <= whole)
        };
        let empty = self.width() == 0 || self.height() == 0;
        if empty || !inside(at.0, size.0, scaled.0) || !inside(at.1, size.1, scaled.1) {
            let expected = format!("a window in {}x{}", scaled.0, scaled.1);
            let found = format!("{}x{} at {},{}", size.0, size.1, at.0, at.1);
            return Err(Error::value("window", expected, found));
        }
        let columns = Axis {
            from: self.width(),
            to: scaled.0,
            at: at.0,
            size: size.0,
        };
        let rows = Axis {
            from: self.height(),
            to: scaled.1,
            at: at.1,
            size: size.1,
        };
        let (columns, mut rows) = (columns.taps(), rows.taps());
        let used = used(&rows);
        let width = self.width() as usize;
        let narrow: Vec<u8> = self
            .rgb()
            .chunks_exact(3 * width)
            .skip(used.start)
            .take(used.len())
            .flat_map(|row| {
                columns
                    .iter()
                    .flat_map(move |taps| [0, 1, 2].map(|c| taps.sum(|x| row[3 * x + c])))
            })
            .collect();
        rows.iter_mut().for_each(|taps| taps.first -= used.start);
        let stride = 3 * columns.len();
        let rgb = rows
            .iter()
            .flat_map(|taps| {
                let narrow = &narrow;
                (0..stride).map(move |i| taps.sum(|y| narrow[y * stride + i]))
            })
            .collect();
        Self::new(size.0, size.1, rgb)
    }
}

/// The source's rows that these taps touch.
fn used(taps: &[Taps]) -> Range<usize> {
    let first = taps.iter().map(|t| t.first).min().unwrap_or(0);
    let end = taps.iter().map(|t| t.first + t.weights.len()).max();
    first..end.unwrap_or(0)
}

impl Axis {
    fn taps(&self) -> Vec<Taps> {
        if self.from == self.to {
            // Pillow leaves out a pass that would change nothing.
            let one = |i| Taps {
                first: i as usize,
                weights: vec![1 << PRECISION],
            };
            return (self.at..self.at + self.size).map(one).collect();
        }
        let scale = f64::from(self.from) / f64::from(self.to);
        let stretch = scale.max(1.0);
        let support = SUPPORT * stretch;
        let tap = |i: u32| {
            let centre = (f64::from(i) + 0.5) * scale;
            let first = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(self.from as usize);
            let weights: Vec<f64> = (first..end)
                .map(|x| kernel((x as f64 - centre + 0.5) / stretch))
                .collect();
            let sum: f64 = weights.iter().sum();
            let fixed = |w: f64| {
                let w = w / sum * f64::from(1u32 << PRECISION);
                (w + 0.5f64.copysign(w)) as i64
            };
            Taps {
                first,
                weights: weights.into_iter().map(fixed).collect(),
            }
        };
        (self.at..self.at + self.size).map(tap).collect()
    }
}

impl Taps {
    /// The weighted sum of the pixels that `pixel` gives, rounded to 8 bits.
    fn sum(&self, pixel: impl Fn(usize) -> u8) -> u8 {
        let sum: i64 = self
            .weights
            .iter()
            .zip(self.first..)
            .map(|(weight, at)| weight * i64::from(pixel(at)))
            .sum();
        ((sum + (1 << (PRECISION - 1))) >> PRECISION).clamp(0, 255) as u8
    }
}

/// The cubic convolution kernel with a = −1/2: Keys 1981.
fn kernel(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Picture {
        let rgb = (0..7 * 5 * 3u32).map(|i| (i * 97 % 251) as u8).collect();
        Picture::new(7, 5, rgb).unwrap()
    }

    fn whole(scaled: (u32, u32)) -> Window {
        Window {
            scaled,
            at: (0, 0),
            size: scaled,
        }
    }

    #[test]
    fn the_same_size_is_the_same_picture() {
        assert_eq!(picture().bicubic(whole((7, 5))).unwrap(), picture());
    }

    #[test]
    fn a_window_is_a_part_of_the_whole() {
        let all = picture().bicubic(whole((9, 12))).unwrap();
        let window = Window {
            scaled: (9, 12),
            at: (2, 3),
            size: (4, 5),
        };
        let part = picture().bicubic(window).unwrap();
        for y in 0..5 {
            let row = &all.rgb()[3 * ((y + 3) * 9 + 2)..][..12];
            assert_eq!(&part.rgb()[y * 12..][..12], row);
        }
    }

    #[test]
    fn windows_outside_are_refused() {
        let at = |at, size| Window {
            scaled: (9, 12),
            at,
            size,
        };
        for window in [
            at((0, 0), (0, 1)),
            at((8, 0), (2, 1)),
            at((u32::MAX, 0), (2, 1)),
        ] {
            assert!(picture().bicubic(window).is_err());
        }
    }
}

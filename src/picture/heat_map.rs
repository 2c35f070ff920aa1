//! Heat maps: where a picture attends to a word.

use std::collections::BTreeMap;

use super::Picture;
use crate::{Error, Result, Size};

/// The attention that a picture's pixels pay to one word: the mean of maps of several sizes, each spread over the
/// picture bilinearly (as in DAAM, Tang et al. 2023, eq. 5, which sums them).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HeatMap {
    /// The sum of the maps of each size.
    sums: BTreeMap<Size, Vec<f64>>,
    maps: usize,
}

impl HeatMap {
    /// A heat map of nothing.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a map `[height, width]`, row by row.
    ///
    /// # Errors
    /// If it has not as many values as pixels, or none, or one is not finite.
    pub(crate) fn add(&mut self, size: Size, map: &[f32]) -> Result<()> {
        if map.is_empty() || map.len() != size.pixels() {
            let expected = format!("{size} values, one at least");
            return Err(Error::value("heat map", expected, map.len()));
        }
        if let Some(value) = map.iter().find(|value| !value.is_finite()) {
            return Err(Error::value("heat map", "finite values", value));
        }
        let sum = self
            .sums
            .entry(size)
            .or_insert_with(|| vec![0.0; map.len()]);
        for (sum, value) in sum.iter_mut().zip(map) {
            *sum += f64::from(*value);
        }
        self.maps += 1;
        Ok(())
    }

    /// The mean of all maps, `[height, width]`.
    pub(crate) fn spread(&self, height: usize, width: usize) -> Vec<f32> {
        let mut out = vec![0.0; height * width];
        for (size, sum) in &self.sums {
            let w = size.width;
            let columns: Vec<_> = (0..width).map(|x| neighbours(x, width, w)).collect();
            for (y, row) in out.chunks_exact_mut(width.max(1)).enumerate() {
                let (top, bottom, down) = neighbours(y, height, size.height);
                for (value, &(left, right, across)) in row.iter_mut().zip(&columns) {
                    let mix =
                        |y: usize| sum[y * w + left] * (1.0 - across) + sum[y * w + right] * across;
                    *value += mix(top) * (1.0 - down) + mix(bottom) * down;
                }
            }
        }
        let mean = |v: f64| (v / self.maps.max(1) as f64) as f32;
        out.into_iter().map(mean).collect()
    }

    /// The heat over a picture in grey, in colours from dark violet at the map's lowest to light yellow at its highest
    /// value; and these two values.
    pub fn over(&self, picture: &Picture) -> (Picture, (f32, f32)) {
        let heat = self.spread(picture.height as usize, picture.width as usize);
        let low = heat.iter().copied().fold(f32::INFINITY, f32::min);
        let high = heat.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let range = (high - low).max(f32::MIN_POSITIVE);
        let mut rgb = Vec::with_capacity(picture.rgb.len());
        for (pixel, value) in picture.rgb.chunks_exact(3).zip(&heat) {
            // ITU-R BT.601 luma
            let grey = 0.299 * f32::from(pixel[0])
                + 0.587 * f32::from(pixel[1])
                + 0.114 * f32::from(pixel[2]);
            let colour = colour((value - low) / range);
            rgb.extend(colour.map(|c| ((1.0 - HEAT) * grey + HEAT * c).round() as u8));
        }
        let over = Picture {
            rgb,
            ..picture.clone()
        };
        (over, (low, high))
    }
}

/// The share of the colour in a picture under heat.
const HEAT: f32 = 0.65;

/// Colours of even steps in lightness (OKLab L from 0.20 to 0.94) along hues from violet over red to yellow (OKLCh hue
/// from 285° to 460°), as colourful as sRGB allows up to a chroma of 0.23; sRGB.
const COLOURS: [[u8; 3]; 9] = [
    [22, 0, 71],
    [64, 0, 100],
    [113, 1, 112],
    [166, 2, 107],
    [219, 5, 81],
    [255, 71, 23],
    [254, 142, 42],
    [255, 193, 87],
    [255, 237, 134],
];

/// The colour of a value from 0 to 1.
fn colour(value: f32) -> [f32; 3] {
    let last = COLOURS.len() - 1;
    let at = value.clamp(0.0, 1.0) * last as f32;
    let below = (at as usize).min(last - 1);
    let part = at - below as f32;
    [0, 1, 2].map(|c| {
        let [from, to] = [below, below + 1].map(|i| f32::from(COLOURS[i][c]));
        from + (to - from) * part
    })
}

/// Of pixel `at` of `n`, centre over centre on `m` pixels: the two nearest of those, and the share of the second.
fn neighbours(at: usize, n: usize, m: usize) -> (usize, usize, f64) {
    let place = (at as f64 + 0.5) * m as f64 / n as f64 - 0.5;
    let place = place.clamp(0.0, (m - 1) as f64);
    let first = place as usize;
    (first, (first + 1).min(m - 1), place - first as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_averaged_over_sizes_and_steps() {
        let mut heat = HeatMap::new();
        heat.add(Size::new(2, 2), &[0.0, 1.0, 0.0, 1.0]).unwrap();
        assert_eq!(heat.spread(1, 4), [0.0, 0.25, 0.75, 1.0]);
        heat.add(Size::new(2, 2), &[0.0, 0.0, 0.0, 0.0]).unwrap();
        heat.add(Size::new(1, 1), &[0.3]).unwrap();
        for (got, want) in heat.spread(2, 4)[4..].iter().zip([0.0, 0.25, 0.75, 1.0]) {
            assert!((got - (want + 0.3) / 3.0).abs() < 1e-6, "{got}");
        }
        assert!(heat.add(Size::new(2, 2), &[0.0; 3]).is_err());
        assert!(heat.add(Size::new(0, 0), &[]).is_err());
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(heat.add(Size::new(2, 1), &[0.1, odd]).is_err());
        }
        assert_eq!(HeatMap::new().spread(1, 2), [0.0, 0.0]);
    }

    #[test]
    fn the_picture_shows_through_from_cold_to_hot() {
        let picture = Picture::new(2, 1, vec![255, 255, 255, 0, 0, 0]).unwrap();
        let mut heat = HeatMap::new();
        heat.add(Size::new(2, 1), &[0.1, 0.4]).unwrap();
        let (over, range) = heat.over(&picture);
        assert_eq!(range, (0.1, 0.4));
        let mix = |grey: f32, c: u8| (0.35 * grey + 0.65 * f32::from(c)).round() as u8;
        let want: Vec<u8> = [(255.0, COLOURS[0]), (0.0, COLOURS[8])]
            .iter()
            .flat_map(|(grey, colour)| colour.map(|c| mix(*grey, c)))
            .collect();
        assert_eq!(over.rgb(), want);
        // A flat map has no highest place, and is no error.
        let mut flat = HeatMap::new();
        flat.add(Size::new(1, 1), &[0.2]).unwrap();
        assert_eq!(flat.over(&picture).1, (0.2, 0.2));
    }

    #[test]
    fn colours_grow_lighter() {
        let luma = |v: f32| {
            let [r, g, b] = colour(v).map(|c| (c / 255.0).powf(2.2));
            0.2126 * r + 0.7152 * g + 0.0722 * b
        };
        let lumas: Vec<f32> = (0..=100).map(|i| luma(i as f32 / 100.0)).collect();
        assert!(lumas.is_sorted());
        assert_eq!(colour(-1.0), colour(0.0));
        assert_eq!(colour(2.0), colour(1.0));
    }
}

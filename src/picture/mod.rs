//! Pictures: pixels in memory, in the model's numbers, and in files.

mod contact_sheet;
mod exif;
mod file;
mod folder;
mod heat_map;
mod kind;
mod label;
mod large;
mod orientation;
mod photos;
mod read;
mod resample;
mod write;

pub use contact_sheet::contact_sheet;
pub use file::is_picture;
pub use folder::{LeftOut, PhotoList, list_images};
pub use heat_map::HeatMap;
pub use photos::{Photo, Photos};
pub(crate) use resample::Window;
pub(crate) use write::a1111_parameters;
pub use write::{ENDINGS, Metadata, Texts, read_metadata};

use crate::{Error, Result, Size};

/// An RGB picture of 8 bits a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
}

impl Picture {
    /// A picture from its pixels, row by row, three bytes each.
    ///
    /// # Errors
    /// If there are not `3·width·height` bytes.
    pub fn new(width: u32, height: u32, rgb: Vec<u8>) -> Result<Self> {
        let expected = u64::from(width) * u64::from(height) * 3;
        if rgb.len() as u64 != expected {
            return Err(Error::value(
                "pixels",
                format!("{expected} bytes for {width}x{height}"),
                rgb.len(),
            ));
        }
        Ok(Self { width, height, rgb })
    }

    /// How large it is.
    pub fn size(&self) -> Size {
        Size::new(self.width as usize, self.height as usize)
    }

    /// Width in pixels.
    pub(crate) fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub(crate) fn height(&self) -> u32 {
        self.height
    }

    /// The pixels, row by row, three bytes each.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// The picture as the autoencoder takes it: `[3, h, w]`, −1..=1.
    pub(crate) fn to_planar(&self) -> Vec<f32> {
        (0..3)
            .flat_map(|c| {
                self.rgb
                    .iter()
                    .skip(c)
                    .step_by(3)
                    .map(|&v| f32::from(v) / 127.5 - 1.0)
            })
            .collect()
    }

    /// A picture from what the autoencoder gives: `[3, h, w]`, nominally −1..=1; what lies outside is clipped.
    ///
    /// Rounds as diffusers does, half to even.
    ///
    /// # Errors
    /// If there are not `3·width·height` values, or one is not finite.
    pub(crate) fn from_planar(planar: &[f32], width: u32, height: u32) -> Result<Self> {
        let expected = u64::from(width) * u64::from(height) * 3;
        if planar.len() as u64 != expected {
            return Err(Error::value(
                "planes",
                format!("{expected} values for {width}x{height}"),
                planar.len(),
            ));
        }
        if let Some(value) = planar.iter().find(|value| !value.is_finite()) {
            return Err(Error::value("planes", "finite values", value));
        }
        let plane = planar.len() / 3;
        let byte = |v: f32| ((v / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8;
        let rgb = (0..plane)
            .flat_map(|i| [0, 1, 2].map(|c| byte(planar[c * plane + i])))
            .collect();
        Self::new(width, height, rgb)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_survive_the_models_numbers() {
        let rgb: Vec<u8> = (0..=254).chain([255; 12]).collect();
        let picture = Picture::new(89, 1, rgb).unwrap();
        assert_eq!(
            Picture::from_planar(&picture.to_planar(), 89, 1).unwrap(),
            picture
        );
    }

    #[test]
    fn what_lies_outside_is_clipped() {
        let picture = Picture::from_planar(&[-7.0, 0.0, 1e9], 1, 1).unwrap();
        assert_eq!(picture.rgb(), [0, 128, 255]);
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(Picture::from_planar(&[0.0, odd, 0.0], 1, 1).is_err());
        }
    }

    #[test]
    fn a_wrong_number_of_pixels_is_an_error() {
        assert!(Picture::new(2, 2, vec![0; 11]).is_err());
        assert!(Picture::from_planar(&[0.0; 4], 1, 1).is_err());
    }
}

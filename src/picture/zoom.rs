//! A picture smaller, within its own frame.

use image::imageops::{self, FilterType};

use super::Picture;
use crate::{Error, Result};

impl Picture {
    /// The picture scaled down to `width` × `height` and put at `(x, y)` into a frame of its own size. What is left of the
    /// frame repeats the pixels at its border.
    ///
    /// # Errors
    /// If the scaled picture is empty or reaches beyond the frame.
    pub fn zoomed_out(&self, (width, height): (u32, u32), (x, y): (u32, u32)) -> Result<Self> {
        let fits = |side: u32, at: u32, frame: u32| side > 0 && at <= frame && side <= frame - at;
        if !fits(width, x, self.width) || !fits(height, y, self.height) {
            let expected = format!("a part of {}x{}", self.width, self.height);
            let found = format!("{width}x{height} at {x}, {y}");
            return Err(Error::value("size", expected, found));
        }
        let Some(whole) = image::RgbImage::from_raw(self.width, self.height, self.rgb.clone())
        else {
            return Err(Error::value(
                "pixels",
                "as many as width × height",
                "others",
            ));
        };
        let small = imageops::resize(&whole, width, height, FilterType::CatmullRom);
        let framed = image::RgbImage::from_fn(self.width, self.height, |column, row| {
            let within = |at: u32, from: u32, side: u32| at.saturating_sub(from).min(side - 1);
            *small.get_pixel(within(column, x, width), within(row, y, height))
        });
        Self::new(self.width, self.height, framed.into_raw())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_are_repeated() {
        let grey = [
            10, 10, 200, 200, 10, 10, 200, 200, 90, 90, 30, 30, 90, 90, 30, 30,
        ];
        let rgb = grey.iter().flat_map(|&v| [v; 3]).collect();
        let picture = Picture::new(4, 4, rgb).unwrap();
        let small = picture.zoomed_out((2, 2), (1, 2)).unwrap();
        let row = |y: usize| [0, 1, 2, 3].map(|x| small.rgb()[3 * (4 * y + x)]);
        assert_eq!((row(0), row(2)), (row(1), row(1)), "repeated upwards");
        for y in [2, 3] {
            let [a, b, c, d] = row(y);
            assert!(a == b && c == d && a.abs_diff(c) > 20, "{:?}", row(y));
        }
        assert_eq!(picture.zoomed_out((4, 4), (0, 0)).unwrap(), picture);
        assert!(picture.zoomed_out((3, 3), (2, 0)).is_err());
        assert!(picture.zoomed_out((0, 3), (0, 0)).is_err());
    }
}

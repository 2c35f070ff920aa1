//! From a picture to the numbers that CLIP takes, by `preprocessor_config.json`.

use std::fmt;

use serde_json::{Value, json};

use crate::keys::Keys;
use crate::picture::Window;
use crate::{Picture, Result};

/// How pictures are prepared: scaled, cut around the centre, normalised.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocessing {
    resize: Resize,
    /// Width and height of the centre that is cut out.
    crop: (u32, u32),
    /// A byte times this is what `mean` and `std` are in.
    scale: f64,
    mean: [f32; 3],
    std: [f32; 3],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resize {
    /// The shorter side becomes this, and the shape stays.
    Shortest(u32),
    /// To this width and height, whatever the shape.
    Exactly(u32, u32),
}

/// Pillow's number of bicubic resampling.
const BICUBIC: u32 = 3;

impl Preprocessing {
    /// Reads `preprocessor_config.json` for a tower that takes pictures of `side` pixels.
    ///
    /// # Errors
    /// If an option is not supported, or the pictures would come out at another size.
    pub(crate) fn parse(file: &str, text: &str, side: usize) -> Result<Self> {
        let mut keys = Keys::parse(file, text)?;
        for step in ["do_resize", "do_rescale", "do_normalize"] {
            keys.only(step, &[json!(true)])?;
        }
        keys.only("resample", &[json!(BICUBIC)])?;
        let size = keys.or("size", json!({"shortest_edge": 224}))?;
        let resize = match edges(&size) {
            Some(Edges::Shortest(edge)) => Resize::Shortest(edge),
            Some(Edges::Both(width, height)) => Resize::Exactly(width, height),
            None => {
                let expected = "{\"shortest_edge\": N} or {\"height\": N, \"width\": N}";
                return Err(keys.error("size", expected, size));
            }
        };
        let cut: bool = keys.or("do_center_crop", true)?;
        let given = keys.or("crop_size", json!(224))?;
        let crop = match (cut, resize) {
            (true, _) => match edges(&given) {
                Some(Edges::Shortest(edge)) => (edge, edge),
                Some(Edges::Both(width, height)) => (width, height),
                None => {
                    let expected = "N or {\"height\": N, \"width\": N}";
                    return Err(keys.error("crop_size", expected, given));
                }
            },
            (false, Resize::Exactly(width, height)) => (width, height),
            (false, Resize::Shortest(_)) => {
                let expected = "true, as `size` leaves the shape of a picture as it is";
                return Err(keys.error("do_center_crop", expected, false));
            }
        };
        let largest = match resize {
            Resize::Shortest(edge) => (edge, edge),
            Resize::Exactly(width, height) => (width, height),
        };
        if crop.0 > largest.0 || crop.1 > largest.1 {
            let expected = format!("at most the scaled picture, {}x{}", largest.0, largest.1);
            return Err(keys.error("crop_size", expected, format!("{}x{}", crop.0, crop.1)));
        }
        if [crop.0 as usize, crop.1 as usize] != [side; 2] {
            let key = if cut { "crop_size" } else { "size" };
            let expected = format!("{side}x{side}, the picture tower's image_size");
            return Err(keys.error(key, expected, format!("{}x{}", crop.0, crop.1)));
        }
        let found = Self {
            resize,
            crop,
            scale: keys.or("rescale_factor", 1.0 / 255.0)?,
            mean: keys.or("image_mean", [0.48145466, 0.4578275, 0.40821073])?,
            std: keys.or("image_std", [0.26862954, 0.261_302_6, 0.275_777_1])?,
        };
        if let Some(std) = found.std.iter().find(|std| **std <= 0.0) {
            return Err(keys.error("image_std", "numbers above 0", std));
        }
        keys.ignore(&[
            "data_format", // of the arrays that Python gets
            "disable_grouping",
            "do_convert_rgb", // pictures are RGB here
            "feature_extractor_type",
            "image_processor_type",
            "input_data_format",
            "processor_class",
            "return_tensors",
        ]);
        keys.finish()?;
        Ok(found)
    }

    /// The numbers of a picture, `[3, h, w]`.
    ///
    /// # Errors
    /// If the picture has no pixels.
    pub fn pixels(&self, picture: &Picture) -> Result<Vec<f32>> {
        let scaled = match self.resize {
            Resize::Shortest(edge) => shortest_edge((picture.width(), picture.height()), edge),
            Resize::Exactly(width, height) => (width, height),
        };
        let window = Window {
            scaled,
            at: ((scaled.0 - self.crop.0) / 2, (scaled.1 - self.crop.1) / 2),
            size: self.crop,
        };
        let cut = picture.bicubic(window)?;
        let plane = |c: usize| {
            let channel = cut.rgb().iter().skip(c).step_by(3);
            channel.map(move |&v| ((f64::from(v) * self.scale) as f32 - self.mean[c]) / self.std[c])
        };
        Ok((0..3).flat_map(plane).collect())
    }

    /// Everything that changes the numbers, for reports.
    pub fn to_json(&self) -> Value {
        let size = match self.resize {
            Resize::Shortest(edge) => json!({"shortest_edge": edge}),
            Resize::Exactly(width, height) => json!({"width": width, "height": height}),
        };
        json!({
            "size": size,
            "crop": {"width": self.crop.0, "height": self.crop.1},
            "resampling": "bicubic",
            "rescale_factor": self.scale,
            "mean": self.mean,
            "std": self.std,
        })
    }
}

impl fmt::Display for Preprocessing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.resize {
            Resize::Shortest(edge) => write!(f, "shortest side {edge}")?,
            Resize::Exactly(width, height) => write!(f, "{width} x {height}")?,
        }
        let (width, height) = self.crop;
        write!(f, " bicubic, centre {width} x {height}")?;
        write!(f, ", mean {:?}, std {:?}", self.mean, self.std)
    }
}

enum Edges {
    Shortest(u32),
    Both(u32, u32),
}

/// A size in one of the forms of transformers' files.
fn edges(value: &Value) -> Option<Edges> {
    let number = |value: &Value| {
        value
            .as_u64()
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| (1..=1 << 16).contains(n))
    };
    if let Some(edge) = number(value) {
        return Some(Edges::Shortest(edge));
    }
    let object = value.as_object()?;
    // transformers 5 writes all the forms' keys, the unused ones as null.
    let used: Vec<_> = object.iter().filter(|(_, v)| !v.is_null()).collect();
    match used.as_slice() {
        [(key, edge)] if *key == "shortest_edge" => number(edge).map(Edges::Shortest),
        [(a, height), (b, width)] if *a == "height" && *b == "width" => {
            Some(Edges::Both(number(width)?, number(height)?))
        }
        _ => None,
    }
}

/// transformers' size for a shortest edge: the longer side is cut down to a whole number.
fn shortest_edge((width, height): (u32, u32), edge: u32) -> (u32, u32) {
    let long = |long: u32, short: u32| {
        let exact = u64::from(edge) * u64::from(long) / u64::from(short.max(1));
        u32::try_from(exact).unwrap_or(u32::MAX)
    };
    if width <= height {
        (edge, long(height, width))
    } else {
        (long(width, height), edge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Preprocessing> {
        Preprocessing::parse("preprocessor_config.json", text, 30)
    }

    #[test]
    fn every_form_of_a_size_is_read() {
        let new = r#"{"size": {"shortest_edge": 33}, "crop_size": {"height": 30, "width": 30}}"#;
        let old = r#"{"size": 33, "crop_size": 30}"#;
        let full =
            r#"{"size": {"shortest_edge": 33, "height": null}, "crop_size": 30, "resample": 3}"#;
        assert_eq!(parse(new).unwrap(), parse(old).unwrap());
        assert_eq!(parse(new).unwrap(), parse(full).unwrap());
        let exact = r#"{"size": {"height": 30, "width": 30}, "do_center_crop": false}"#;
        assert!(parse(exact).is_ok());
    }

    #[test]
    fn what_would_change_the_numbers_is_refused() {
        for text in [
            r#"{"size": 33, "crop_size": 30, "resample": 2}"#,
            r#"{"size": 33, "crop_size": 30, "do_resize": false}"#,
            r#"{"size": 33, "crop_size": 30, "do_pad": true}"#,
            r#"{"size": 33, "crop_size": 30, "image_std": [1, 0, 1]}"#,
            r#"{"size": 33, "crop_size": 31}"#,
            r#"{"size": 29, "crop_size": 30}"#,
            r#"{"size": 33, "do_center_crop": false}"#,
            r#"{"size": {"longest_edge": 33}, "crop_size": 30}"#,
            r#"{"size": -1, "crop_size": 30}"#,
            "{}",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("expected"), "{text}: {error}");
        }
    }

    #[test]
    fn long_pictures_take_no_memory() {
        let thin = Picture::new(1, 30_000, vec![7; 90_000]).unwrap();
        let made = parse(r#"{"size": 33, "crop_size": 30}"#).unwrap();
        assert_eq!(made.pixels(&thin).unwrap().len(), 3 * 30 * 30);
        assert_eq!(shortest_edge((1, 30_000), 33), (33, 990_000));
        assert_eq!(shortest_edge((50, 37), 33), (44, 33));
    }
}

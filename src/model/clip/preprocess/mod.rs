//! From a picture to the numbers that CLIP takes, as its files say.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::checkpoint::{Source, within};
use crate::config::ConfigReader;
use crate::picture::Window;
use crate::{Error, Picture, Result};

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

/// The classes that prepare pictures in this way, in the names that they have had.
const CLASSES: [&str; 4] = [
    "CLIPImageProcessor",
    "CLIPImageProcessorFast",
    "CLIPImageProcessorPil",
    "CLIPFeatureExtractor",
];

impl Preprocessing {
    /// Reads how pictures are prepared for a tower that takes them at `side` pixels.
    ///
    /// The rule is that of transformers 5.24 (`get_image_processor_dict` in `image_processing_base.py`): the object
    /// `image_processor` of `processor_config.json` holds, and `preprocessor_config.json` where there is none. 4.57
    /// asks in the other order.
    ///
    /// # Errors
    /// If there is no such file, an option is not supported, or the pictures would come out at another size.
    pub(crate) fn load(source: &Source, dir: &str, side: usize) -> Result<Self> {
        let [newer, older] =
            ["processor_config.json", "preprocessor_config.json"].map(|file| within(dir, file));
        if let Some(text) = source.text(&newer)? {
            let mut keys = ConfigReader::parse(&newer, &text)?;
            if keys.has("image_processor") {
                return Self::parse(keys.section("image_processor")?, side);
            }
        }
        match source.text(&older)? {
            Some(text) => Self::parse(ConfigReader::parse(&older, &text)?, side),
            None => Err(Error::Model {
                model: source.name().to_owned(),
                problem: format!("no `{older}`, and no `{newer}` with an `image_processor`"),
                hint: "one of them says how pictures are prepared: write it with \
                       `CLIPImageProcessor.from_pretrained(…).save_pretrained(FOLDER)`"
                    .to_owned(),
            }),
        }
    }

    /// An absent key has the default of `CLIPImageProcessor`. For null Python's rule holds: a step that is null is left
    /// out, and no other key may be null.
    fn parse(mut keys: ConfigReader, side: usize) -> Result<Self> {
        for key in ["image_processor_type", "feature_extractor_type"] {
            keys.only(key, &CLASSES.map(Value::from))?;
        }
        if !flag(&mut keys, "do_resize")? {
            return Err(keys.error("do_resize", "true", false));
        }
        match keys.take("resample") {
            Some(filter) if filter != BICUBIC => {
                return Err(keys.error("resample", format!("{BICUBIC} (bicubic)"), filter));
            }
            _ => {}
        }
        let square = keys.take("default_to_square") == Some(json!(true));
        let size = keys.take("size").unwrap_or(json!({"shortest_edge": 224}));
        let resize = match edges(&size) {
            Some(Edges::One(edge)) if square => Resize::Exactly(edge, edge),
            Some(Edges::One(edge) | Edges::Shortest(edge)) => Resize::Shortest(edge),
            Some(Edges::Both(width, height)) => Resize::Exactly(width, height),
            None => {
                let expected = "{\"shortest_edge\": N} or {\"height\": N, \"width\": N}";
                return Err(keys.error("size", expected, size));
            }
        };
        let cut = flag(&mut keys, "do_center_crop")?;
        let given = keys.take("crop_size").unwrap_or(json!(224));
        let crop = match (cut, resize) {
            (true, _) => match edges(&given) {
                Some(Edges::One(edge)) => (edge, edge),
                Some(Edges::Both(width, height)) => (width, height),
                Some(Edges::Shortest(_)) | None => {
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
        let (rescaled, normalised) = (
            flag(&mut keys, "do_rescale")?,
            flag(&mut keys, "do_normalize")?,
        );
        let [factor] = numbers(&mut keys, "rescale_factor", [1.0 / 255.0], rescaled)?;
        let means = [0.48145466, 0.4578275, 0.40821073];
        let deviations = [0.26862954, 0.26130258, 0.27577711];
        let means = numbers(&mut keys, "image_mean", means, normalised)?;
        let deviations = numbers(&mut keys, "image_std", deviations, normalised)?;
        if let Some(std) = deviations.iter().find(|std| **std <= 0.0) {
            return Err(keys.error("image_std", "numbers above 0", std));
        }
        keys.ignore(&[
            "data_format", // of the arrays that Python gets
            "disable_grouping",
            "do_convert_rgb", // pictures are RGB here
            "input_data_format",
            "processor_class",
            "return_tensors",
        ]);
        keys.finish()?;
        Ok(Self {
            resize,
            crop,
            scale: if rescaled { factor } else { 1.0 },
            mean: means.map(|mean| if normalised { mean as f32 } else { 0.0 }),
            std: deviations.map(|std| if normalised { std as f32 } else { 1.0 }),
        })
    }

    /// The numbers of a picture, `[3, h, w]`.
    ///
    /// # Errors
    /// If the picture has no pixels.
    pub(crate) fn pixels(&self, picture: &Picture) -> Result<Vec<f32>> {
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

    fn to_json(&self) -> Value {
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

/// Everything that changes the numbers, for reports.
impl Serialize for Preprocessing {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
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

/// Whether a step is done; null leaves it out.
fn flag(keys: &mut ConfigReader, key: &str) -> Result<bool> {
    match keys.take(key) {
        None => Ok(true),
        Some(Value::Null) => Ok(false),
        Some(Value::Bool(done)) => Ok(done),
        Some(other) => Err(keys.error(key, "true or false", other)),
    }
}

/// Finite numbers for a step, or one that stands for all; where the step is left out, they do not matter.
fn numbers<const N: usize>(
    keys: &mut ConfigReader,
    key: &str,
    default: [f64; N],
    used: bool,
) -> Result<[f64; N]> {
    let Some(value) = keys.take(key).filter(|_| used) else {
        return Ok(default);
    };
    let list = value.as_array().and_then(|list| {
        let list: Option<Vec<f64>> = list.iter().map(Value::as_f64).collect();
        list?.try_into().ok()
    });
    let one = value.as_f64().map(|number| [number; N]);
    let expected = match N {
        1 => "a number".to_owned(),
        _ => format!("{N} numbers, or one for all"),
    };
    list.or(one).ok_or_else(|| keys.error(key, expected, value))
}

enum Edges {
    /// A number alone.
    One(u32),
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
        return Some(Edges::One(edge));
    }
    if let Some([height, width]) = value.as_array().map(Vec::as_slice) {
        return Some(Edges::Both(number(width)?, number(height)?));
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
pub(in crate::model) mod tests;

//! Pictures into PNG files, with the text that other tools read.

use std::io::Cursor;
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder};

use super::Picture;
use super::exif;
use super::file;
use super::file::unusable;
use super::kind::Kind;
use super::orientation::exif_of;
use super::read::{Problem, check, guarded};
use crate::{Error, Result};

/// Texts inside a PNG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The `parameters` text of the A1111 web UI.
    pub parameters: String,
    /// JSON that is enough to draw the picture again.
    pub cones: String,
}

/// [`Metadata`] of any picture, each as far as there is one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts {
    /// [`Metadata::parameters`]
    pub parameters: Option<String>,
    /// [`Metadata::cones`]
    pub cones: Option<String>,
}

/// What a picture file that is written can be, by the ending of its name, in any case.
pub const ENDINGS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];
/// Of JPEGs, of 100.
const QUALITY: u8 = 95;

impl Picture {
    /// Its bytes as a file of this name, with metadata where given: a JPEG or a WebP, which loses nothing, where the
    /// name ends so, else a PNG.
    ///
    /// # Errors
    /// If there is more of it than such a file holds.
    pub fn to_file(&self, path: &Path, metadata: Option<&Metadata>) -> Result<Vec<u8>> {
        let ending = path
            .extension()
            .map(|ending| ending.to_string_lossy().to_lowercase());
        let encoded = match ending.as_deref() {
            Some("jpg" | "jpeg") => {
                let mut bytes = Vec::new();
                let encoder = JpegEncoder::new_with_quality(&mut bytes, QUALITY);
                self.encode(encoder, metadata).map(|()| bytes)
            }
            Some("webp") => {
                let mut bytes = Vec::new();
                self.encode(WebPEncoder::new_lossless(&mut bytes), metadata)
                    .map(|()| bytes)
            }
            _ => {
                return self.png(metadata).map_err(|error| Error::Picture {
                    path: path.to_owned(),
                    problem: error.to_string(),
                    hint: String::new(),
                });
            }
        };
        encoded.map_err(|error| Error::Picture {
            path: path.to_owned(),
            problem: error.to_string(),
            hint: "write a PNG: it holds every picture".to_owned(),
        })
    }

    fn encode(
        &self,
        mut encoder: impl ImageEncoder,
        metadata: Option<&Metadata>,
    ) -> image::ImageResult<()> {
        if let Some(Metadata { parameters, cones }) = metadata {
            encoder
                .set_exif_metadata(exif::write(parameters, cones))
                .map_err(image::ImageError::Unsupported)?;
        }
        encoder.write_image(
            self.rgb(),
            self.width(),
            self.height(),
            ExtendedColorType::Rgb8,
        )
    }

    /// Every pixel as a square of `factor`².
    ///
    /// # Errors
    /// If that is more than a picture may have.
    pub fn enlarged(&self, factor: u32) -> Result<Self> {
        const MOST: u64 = 1 << 27;
        let pixels = u64::from(self.width()) * u64::from(self.height()) * u64::from(factor).pow(2);
        if factor == 0 || pixels > MOST {
            let expected =
                format!("a factor from 1 with which the picture has at most {MOST} pixels");
            return Err(Error::value("zoom", expected, factor));
        }
        let rows = self.rgb().chunks_exact(3 * self.width().max(1) as usize);
        let rgb = rows.flat_map(|row| {
            let wide: Vec<u8> = row
                .chunks_exact(3)
                .flat_map(|pixel| pixel.repeat(factor as usize))
                .collect();
            wide.repeat(factor as usize)
        });
        Self::new(self.width() * factor, self.height() * factor, rgb.collect())
    }

    /// Writes [`Picture::to_file`]; the file appears whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path, metadata: Option<&Metadata>) -> Result<()> {
        crate::files::replace(path, &self.to_file(path, metadata)?)
    }

    fn png(&self, metadata: Option<&Metadata>) -> Result<Vec<u8>, png::EncodingError> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.width(), self.height());
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        if let Some(metadata) = metadata {
            for (keyword, text) in [
                ("parameters", &metadata.parameters),
                ("cones", &metadata.cones),
            ] {
                // tEXt holds Latin-1 only, and is what most tools look for.
                if text.chars().all(|c| u32::from(c) < 256) {
                    encoder.add_text_chunk(keyword.to_owned(), text.clone())?;
                } else {
                    encoder.add_itxt_chunk(keyword.to_owned(), text.clone())?;
                }
            }
        }
        let mut writer = encoder.write_header()?;
        writer.write_image_data(self.rgb())?;
        writer.finish()?;
        Ok(bytes)
    }
}

/// The texts of a picture, as far as there are.
///
/// # Errors
/// If the file cannot be read, is no picture or is damaged.
pub fn read_metadata(path: &Path) -> Result<Texts> {
    let (bytes, kind) = file::read(path)?;
    let texts = check(&bytes, kind).and_then(|()| {
        guarded(|| match kind {
            Kind::Png => {
                let keywords = ["parameters", "cones"];
                let texts = png_texts(&bytes, keywords);
                let [parameters, cones] = texts.map_err(|e| Problem::Damaged(e.to_string()))?;
                Ok(Texts { parameters, cones })
            }
            _ => Ok(exif_of(&bytes, kind).map_or_else(Texts::default, |bytes| {
                let (parameters, cones) = exif::read(&bytes);
                Texts { parameters, cones }
            })),
        })
    });
    texts.map_err(|problem| {
        let (Problem::Damaged(problem) | Problem::TooLarge(problem)) = problem;
        let hint = "the file may be damaged; take the one that `cones generate` wrote";
        unusable(path, problem, hint)
    })
}

/// Looks before the pixels, where `cones` writes them, then behind them, where some tools move them.
fn png_texts(bytes: &[u8], keywords: [&str; 2]) -> Result<[Option<String>; 2], png::DecodingError> {
    let mut reader = png::Decoder::new(Cursor::new(bytes)).read_info()?;
    let text = |info: &png::Info, wanted: &str| {
        let latin = info.uncompressed_latin1_text.iter();
        let latin = latin.map(|chunk| (chunk.keyword.clone(), Some(chunk.text.clone())));
        let packed = info.compressed_latin1_text.iter();
        let packed = packed.map(|chunk| (chunk.keyword.clone(), chunk.get_text().ok()));
        let utf8 = info.utf8_text.iter();
        let utf8 = utf8.map(|chunk| (chunk.keyword.clone(), chunk.get_text().ok()));
        latin
            .chain(packed)
            .chain(utf8)
            .find(|(keyword, _)| keyword == wanted)
            .and_then(|(_, text)| text)
    };
    let found = keywords.map(|keyword| text(reader.info(), keyword));
    if found.iter().all(Option::is_some) {
        return Ok(found);
    }
    reader.finish()?;
    Ok(keywords.map(|keyword| text(reader.info(), keyword)))
}

/// The text that the A1111 web UI writes: the prompt, the negative prompt, and `key: value` pairs on one line, values
/// in quotes where a comma, a colon or a line break would confuse its parsers.
pub(crate) fn a1111_parameters(prompt: &str, negative: &str, fields: &[(&str, &str)]) -> String {
    let quoted = |value: &str| match value.contains([',', ':', '\n', '"']) {
        true => serde_json::Value::from(value).to_string(),
        false => value.to_owned(),
    };
    let fields: Vec<String> = fields
        .iter()
        .map(|(key, value)| format!("{key}: {}", quoted(value)))
        .collect();
    let negative = if negative.is_empty() {
        String::new()
    } else {
        format!("\nNegative prompt: {negative}")
    };
    format!("{prompt}{negative}\n{}", fields.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_in_the_file() {
        let picture = Picture::new(2, 1, vec![1, 2, 3, 4, 5, 6]).unwrap();
        let metadata = Metadata {
            parameters: "a café\nSteps: 5".to_owned(),
            cones: r#"{"prompt":"犬"}"#.to_owned(),
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.png");
        picture.write(&path, Some(&metadata)).unwrap();
        let file = std::io::BufReader::new(std::fs::File::open(&path).unwrap());
        let reader = png::Decoder::new(file).read_info().unwrap();
        let text = &reader.info().uncompressed_latin1_text[0];
        assert_eq!(
            (text.keyword.as_str(), &text.text),
            ("parameters", &metadata.parameters)
        );
        let text = &reader.info().utf8_text[0];
        assert_eq!(
            (text.keyword.as_str(), text.get_text().unwrap()),
            ("cones", metadata.cones.clone())
        );
        assert_eq!(
            Picture::read(&path, crate::Size::new(2, 1)).unwrap(),
            picture
        );
        assert_eq!(read_metadata(&path).unwrap().cones, Some(metadata.cones));
    }

    #[test]
    fn metadata_is_absent_misplaced_or_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.png");
        let picture = Picture::new(2, 1, vec![1, 2, 3, 4, 5, 6]).unwrap();
        picture.write(&path, None).unwrap();
        assert_eq!(read_metadata(&path).unwrap().cones, None);

        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 1, 1);
        encoder.set_color(png::ColorType::Rgb);
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&[1, 2, 3]).unwrap();
        let chunk = png::text_metadata::TEXtChunk::new("cones", "{}");
        writer.write_text_chunk(&chunk).unwrap();
        writer.finish().unwrap();
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read_metadata(&path).unwrap().cones.as_deref(), Some("{}"));

        std::fs::write(&path, &bytes[..30]).unwrap();
        assert!(read_metadata(&path).is_err());
        assert!(read_metadata(&dir.path().join("missing.png")).is_err());
    }

    #[test]
    fn a_picture_without_metadata_has_no_text() {
        let picture = Picture::new(1, 1, vec![1, 2, 3]).unwrap();
        let bytes = picture.png(None).unwrap();
        assert!(!bytes.windows(4).any(|w| w == b"tEXt" || w == b"iTXt"));
    }

    #[test]
    fn parameters_are_as_the_web_ui_writes_them() {
        let fields = [("Steps", "20"), ("Cones", "dog@1a2b, cat@3c4d")];
        assert_eq!(
            a1111_parameters("a dog", "blurry", &fields),
            "a dog\nNegative prompt: blurry\nSteps: 20, Cones: \"dog@1a2b, cat@3c4d\""
        );
        assert_eq!(
            a1111_parameters("a dog", "", &fields[..1]),
            "a dog\nSteps: 20"
        );
    }
}

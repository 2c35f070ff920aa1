//! Pictures into PNG files, with the text that other tools read.

use std::io::Cursor;
use std::path::Path;

use super::Picture;
use super::file;
use super::file::unusable;
use super::kind::Kind;
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

impl Picture {
    /// Writes a PNG, with metadata where given; the file appears whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_png(&self, path: &Path, metadata: Option<&Metadata>) -> Result<()> {
        crate::files::replace(path, &self.to_png(path, metadata)?)
    }

    /// The bytes of a PNG, with metadata where given, for a file of this name.
    ///
    /// # Errors
    /// If there is more of it than a PNG holds.
    pub fn to_png(&self, path: &Path, metadata: Option<&Metadata>) -> Result<Vec<u8>> {
        self.png(metadata).map_err(|error| Error::Picture {
            path: path.to_owned(),
            problem: error.to_string(),
            hint: String::new(),
        })
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

/// The `cones` text of a PNG: [`Metadata::cones`], if it has any. A JPEG has none.
///
/// # Errors
/// If the file cannot be read, is no picture or is damaged.
pub fn read_metadata(path: &Path) -> Result<Option<String>> {
    let (bytes, kind) = file::read(path)?;
    if kind != Kind::Png {
        return Ok(None);
    }
    let text = check(&bytes, kind)
        .and_then(|()| guarded(|| cones_text(&bytes).map_err(|e| Problem::Damaged(e.to_string()))));
    text.map_err(|problem| {
        let (Problem::Damaged(problem) | Problem::TooLarge(problem)) = problem;
        let hint = "the file may be damaged; take the one that `cones generate` wrote";
        unusable(path, problem, hint)
    })
}

/// Looks before the pixels, where `cones` writes it, then behind them, where some tools move it.
fn cones_text(bytes: &[u8]) -> Result<Option<String>, png::DecodingError> {
    let mut reader = png::Decoder::new(Cursor::new(bytes)).read_info()?;
    let text = |info: &png::Info| {
        let latin = info.uncompressed_latin1_text.iter();
        let latin = latin.map(|chunk| (chunk.keyword.clone(), Some(chunk.text.clone())));
        let packed = info.compressed_latin1_text.iter();
        let packed = packed.map(|chunk| (chunk.keyword.clone(), chunk.get_text().ok()));
        let utf8 = info.utf8_text.iter();
        let utf8 = utf8.map(|chunk| (chunk.keyword.clone(), chunk.get_text().ok()));
        latin
            .chain(packed)
            .chain(utf8)
            .find(|(keyword, _)| keyword == "cones")
            .and_then(|(_, text)| text)
    };
    if let Some(found) = text(reader.info()) {
        return Ok(Some(found));
    }
    reader.finish()?;
    Ok(text(reader.info()))
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
        picture.write_png(&path, Some(&metadata)).unwrap();
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
        assert_eq!(read_metadata(&path).unwrap(), Some(metadata.cones));
    }

    #[test]
    fn metadata_is_absent_misplaced_or_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.png");
        let picture = Picture::new(2, 1, vec![1, 2, 3, 4, 5, 6]).unwrap();
        picture.write_png(&path, None).unwrap();
        assert_eq!(read_metadata(&path).unwrap(), None);

        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 1, 1);
        encoder.set_color(png::ColorType::Rgb);
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&[1, 2, 3]).unwrap();
        let chunk = png::text_metadata::TEXtChunk::new("cones", "{}");
        writer.write_text_chunk(&chunk).unwrap();
        writer.finish().unwrap();
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read_metadata(&path).unwrap().as_deref(), Some("{}"));

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

//! Pictures out of files.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};
use sha2::{Digest, Sha256};

use super::Picture;
use crate::{Error, Result};

/// No photo has longer sides; larger claims are of damaged or hostile files.
const MAX_SIDE: u32 = 32_768;
/// Most bytes of a file, and most bytes of its pixels once decoded: 178 million pixels of 8-bit RGB.
const MAX_BYTES: u64 = 512 << 20;

const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];

impl Picture {
    /// Reads a PNG or JPEG as a picture of exactly this width and height.
    ///
    /// The camera's orientation (EXIF) is applied, transparency is laid over white, and the picture is cut around its
    /// centre to the shape asked for and scaled. A picture of that size already keeps every pixel. Colour profiles are
    /// not applied.
    ///
    /// # Errors
    /// If the file cannot be read, is not such a picture, or is cut off.
    pub fn read(path: &Path, (width, height): (u32, u32)) -> Result<Self> {
        if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) {
            return Err(Error::value(
                "size",
                format!("1 to {MAX_SIDE} pixels a side"),
                format!("{width}x{height}"),
            ));
        }
        let rgb = cover(pixels(path)?, width, height);
        Self::new(width, height, rgb.into_raw())
    }

    /// Reads a PNG or JPEG at the size that it has, otherwise like [`Picture::read`].
    ///
    /// # Errors
    /// If the file cannot be read, is not such a picture, or is cut off.
    pub fn read_whole(path: &Path) -> Result<Self> {
        let rgb = pixels(path)?;
        Self::new(rgb.width(), rgb.height(), rgb.into_raw())
    }
}

/// A file's pixels, turned as the camera was held, over white.
fn pixels(path: &Path) -> Result<RgbImage> {
    let (bytes, format) = read_picture_file(path)?;
    let image = decode(&bytes, format).map_err(|error| {
        unusable(
            path,
            error.to_string(),
            "the file may be damaged; save it again as PNG or JPEG",
        )
    })?;
    Ok(over_white(image))
}

/// The bytes of a PNG or JPEG file, and which of them it is by its content.
pub(super) fn read_picture_file(path: &Path) -> Result<(Vec<u8>, ImageFormat)> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(Error::io("read", path))?;
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::io("read", path))?;
    if bytes.len() as u64 > MAX_BYTES {
        let problem = format!("larger than {} MiB", MAX_BYTES >> 20);
        return Err(unusable(path, problem, "give a smaller PNG or JPEG file"));
    }
    let problem = match image::guess_format(&bytes) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg)) => return Ok((bytes, format)),
        Ok(other) => format!("expected a PNG or JPEG file, found {other:?}"),
        Err(_) if bytes.is_empty() => "the file is empty".to_owned(),
        Err(_) => "expected a PNG or JPEG file, found another format".to_owned(),
    };
    Err(unusable(path, problem, "convert it to PNG or JPEG"))
}

/// An [`Error::Picture`].
pub(super) fn unusable(path: &Path, problem: impl Into<String>, hint: &str) -> Error {
    Error::Picture {
        path: path.to_owned(),
        problem: problem.into(),
        hint: hint.to_owned(),
    }
}

fn decode(bytes: &[u8], format: ImageFormat) -> image::ImageResult<DynamicImage> {
    if format == ImageFormat::Jpeg && !jpeg_is_whole(bytes) {
        // The decoder would fill what is missing with grey and say nothing.
        let error = std::io::Error::new(
            std::io::ErrorKind::UnexpectedEof,
            "the JPEG file is cut off",
        );
        return Err(error.into());
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder()?;
    // `from_decoder` allocates whatever the header claims, so that is checked here.
    limits.reserve(decoder.total_bytes())?;
    let orientation = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// Whether a JPEG goes on to its end marker (T.81, B.1.1): segments have a length, and the coded data behind `SOS` has
/// none but escapes every `FF` as `FF 00`, restart markers apart.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let mut at = 2; // behind SOI
    while let Some(&[first, marker]) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        at += match (first, marker) {
            (0xFF, 0xD9) => return true,
            (0xFF, 0xFF) => 1, // a fill byte
            (0xFF, 0x00..=0x01 | 0xD0..=0xD8) => 2,
            (0xFF, _) => match bytes.get(at + 2..).and_then(|rest| rest.first_chunk()) {
                Some(&length) => 2 + usize::from(u16::from_be_bytes(length)),
                None => return false,
            },
            _ => 1,
        };
    }
    false
}

/// Lays a picture with transparency over white.
fn over_white(image: DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.into_rgb8();
    }
    let rgba = image.into_rgba8();
    RgbImage::from_fn(rgba.width(), rgba.height(), |x, y| {
        let [r, g, b, a] = rgba.get_pixel(x, y).0.map(u32::from);
        image::Rgb([r, g, b].map(|c| ((c * a + 255 * (255 - a) + 127) / 255) as u8))
    })
}

/// Cuts a picture around its centre to the shape of a size, and scales it to that.
///
/// Cut first: a picture of one pixel's height scaled to cover a square would not fit into memory.
fn cover(image: RgbImage, width: u32, height: u32) -> RgbImage {
    let (w, h) = image.dimensions();
    if (w, h) == (width, height) {
        return image;
    }
    // The longest side that goes with `other` in the shape of `this`:`that`; at most `limit`.
    let side = |other: u32, this: u32, that: u32, limit: u32| {
        let ideal = f64::from(other) * f64::from(this) / f64::from(that);
        (ideal.round() as u32).clamp(1, limit)
    };
    let (cut_w, cut_h) = (side(h, width, height, w), side(w, height, width, h));
    let cut = image::imageops::crop_imm(&image, (w - cut_w) / 2, (h - cut_h) / 2, cut_w, cut_h);
    if (cut_w, cut_h) == (width, height) {
        return cut.to_image();
    }
    image::imageops::resize(&*cut, width, height, FilterType::CatmullRom)
}

/// The picture files that these paths name: files as they are, folders for the PNG and JPEG files in them; sorted by
/// file name, then by path, each file once however it is spelled.
///
/// # Errors
/// If a path does not exist, a folder holds no picture, or there is no path.
pub fn list(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    if paths.is_empty() {
        return Err(Error::value(
            "pictures",
            "at least one file or folder",
            "none",
        ));
    }
    let mut files = Vec::new();
    for path in paths {
        if !path.metadata().map_err(Error::io("read", path))?.is_dir() {
            files.push(path.clone());
            continue;
        }
        let before = files.len();
        for entry in path.read_dir().map_err(Error::io("read", path))? {
            let file = entry.map_err(Error::io("read", path))?.path();
            // A broken link is an error, not a picture less.
            if is_picture(&file) && file.metadata().map_err(Error::io("read", &file))?.is_file() {
                files.push(file);
            }
        }
        if files.len() == before {
            return Err(unusable(
                path,
                "no pictures in this folder",
                "put PNG or JPEG files into it",
            ));
        }
    }
    files.sort_by(|a, b| a.file_name().cmp(&b.file_name()).then_with(|| a.cmp(b)));
    let mut seen = HashSet::new();
    files.retain(|file| seen.insert(file.canonicalize().unwrap_or_else(|_| file.clone())));
    Ok(files)
}

/// Whether a file is named like a picture and not hidden.
fn is_picture(path: &Path) -> bool {
    let hidden = path
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    !hidden && extension.is_some_and(|e| EXTENSIONS.contains(&e.as_str()))
}

/// SHA-256 of a file's bytes, in hexadecimal.
///
/// # Errors
/// If the file cannot be read.
pub fn file_sha256(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(Error::io("read", path))? {
            0 => return Ok(crate::file::hex(&hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

#[cfg(test)]
mod tests;

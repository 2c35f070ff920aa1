//! Pictures out of files.
//!
//! One picture is decoded at a time. Up to [`MAX_BYTES`] of pixels it is decoded whole, which takes at its peak the
//! file twice, its pixels twice where the camera was turned, and where the JPEG is progressive its coefficients: 2.5 GB
//! at the very most, 75 MB for a photo of 12 megapixels. Larger ones are read at a half or a quarter of their size:
//! [`large`].

use std::borrow::Cow;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};

use super::file;
use super::file::unusable;
use super::kind::Kind;
use super::orientation::{chunks, orientation, segments};
use super::{Picture, large};
use crate::{Error, Result, Size};

/// No photo has longer sides; larger claims are of damaged or hostile files.
pub(super) const MAX_SIDE: u32 = 32_768;
/// Most bytes of a picture's pixels that are decoded whole: 178 million pixels of 8-bit RGB.
pub(super) const MAX_BYTES: u64 = 512 << 20;

/// Why a file gives no picture.
#[derive(Debug)]
pub(super) enum Problem {
    /// It is not what it should be.
    Damaged(String),
    /// It is more than is read.
    TooLarge(String),
}

impl From<image::ImageError> for Problem {
    fn from(error: image::ImageError) -> Self {
        Self::Damaged(error.to_string())
    }
}

impl Problem {
    pub(super) fn of(self, path: &Path) -> Error {
        match self {
            Self::Damaged(problem) => {
                let hint = "the file may be damaged; save it again as PNG or JPEG";
                unusable(path, problem, hint)
            }
            Self::TooLarge(problem) => unusable(path, problem, "save it at a smaller size"),
        }
    }
}

impl Picture {
    /// Reads a PNG, JPEG, WebP, BMP, TIFF or GIF (its first picture) as a picture of exactly this size; of none it is
    /// the size that the file has, or a half or a quarter of it where that has more pixels than are decoded whole.
    ///
    /// The camera's orientation (EXIF, XMP) is applied, transparency is laid over white, and the picture is cut around
    /// its centre to the shape asked for and scaled. A picture of that size already keeps every pixel. Colour profiles
    /// are not applied.
    ///
    /// # Errors
    /// If the file cannot be read, is not such a picture, is cut off, or is too large.
    pub fn read(path: &Path, size: impl Into<Option<Size>>) -> Result<Self> {
        let size = size.into();
        size.map_or(Ok(()), |size| check_size(size).map(drop))?;
        fitted(Cow::Owned(decoded_again(path)?.0), size)
    }
}

/// Width and height of a picture that can be made.
fn check_size(size: Size) -> Result<(u32, u32)> {
    let side = |side: usize| u32::try_from(side).ok();
    let sides = side(size.width).zip(side(size.height));
    let fits = |side: u32| (1..=MAX_SIDE).contains(&side);
    sides
        .filter(|(width, height)| fits(*width) && fits(*height))
        .ok_or_else(|| Error::value("size", format!("1 to {MAX_SIDE} pixels a side"), size))
}

/// Pixels cut and scaled to a size, or as they are.
pub(super) fn fitted(rgb: Cow<RgbImage>, size: Option<Size>) -> Result<Picture> {
    let Some(size) = size else {
        let rgb = rgb.into_owned();
        return Picture::new(rgb.width(), rgb.height(), rgb.into_raw());
    };
    let (width, height) = check_size(size)?;
    Picture::new(width, height, cover(rgb, width, height).into_raw())
}

/// A file's pixels, turned as the camera was held, over white; and its SHA-256.
pub(super) fn decoded_again(path: &Path) -> Result<(RgbImage, String)> {
    let (bytes, kind) = file::read(path)?;
    let image = decode(&bytes, kind).map_err(|problem| problem.of(path))?;
    let sha256 = file::sha256(&bytes);
    drop(bytes);
    Ok((over_white(image), sha256))
}

/// Decodes a file: its SHA-256, its width in pixels, about how many bytes that takes, and the pixels where they are no
/// more than `keep` bytes.
pub(super) fn survey(path: &Path, keep: u64) -> Result<Survey> {
    let (bytes, kind) = file::read(path)?;
    let image = decode(&bytes, kind).map_err(|problem| problem.of(path))?;
    let (coefficients, components) = match kind {
        Kind::Jpeg => (large::coefficients(&bytes), large::components(&bytes)),
        _ => (None, None),
    };
    let pixels = u64::from(image.width()) * u64::from(image.height());
    let native = image.as_bytes().len() as u64;
    let upright = orientation(&bytes, kind) == image::metadata::Orientation::NoTransforms;
    let turned = if upright { 0 } else { native };
    let rgb = match image.color() {
        image::ColorType::Rgb8 => 0,
        _ => 3 * pixels,
    };
    // A scaled JPEG comes in planes, which are put together, and may be of four colours.
    let scaled =
        claimed(&bytes, kind).is_some_and(|(w, h)| u64::from(w) * u64::from(h) > 2 * pixels);
    let planes = match components {
        Some(4) if scaled => 8 * pixels,
        Some(n) if scaled => n * pixels,
        _ => 0,
    };
    let file = 2 * bytes.len() as u64; // the decoder of JPEG has a copy
    let decoding = native + planes + coefficients.unwrap_or(0);
    Ok(Survey {
        sha256: file::sha256(&bytes),
        width: image.width(),
        memory: (file + decoding.max(native + turned)).max(native + rgb),
        pixels: (3 * pixels <= keep).then(|| over_white(image)),
    })
}

/// What [`survey`] sees.
pub(super) struct Survey {
    pub(super) sha256: String,
    pub(super) width: u32,
    pub(super) memory: u64,
    pub(super) pixels: Option<RgbImage>,
}

/// Runs a decoder that is not ours: what it panics over is a damaged file.
pub(super) fn guarded<T>(decode: impl FnOnce() -> Result<T, Problem>) -> Result<T, Problem> {
    let gave_up = |_| Err(Problem::Damaged("the decoder gave up on it".to_owned()));
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(gave_up)
}

fn decode(bytes: &[u8], kind: Kind) -> Result<DynamicImage, Problem> {
    check(bytes, kind)?;
    let mut image = guarded(|| match whole(bytes, kind)? {
        Some(image) => Ok(image),
        None => large::read(bytes, kind).map(DynamicImage::ImageRgb8),
    })?;
    image.apply_orientation(orientation(bytes, kind));
    Ok(image)
}

/// Refuses what decoders would pass over or panic at.
pub(super) fn check(bytes: &[u8], kind: Kind) -> Result<(), Problem> {
    if !matches!(kind, Kind::Png | Kind::Jpeg) {
        return Ok(());
    }
    if kind == Kind::Jpeg {
        // The decoder would fill what is missing with grey and say nothing.
        return match jpeg_is_whole(bytes) {
            true => Ok(()),
            false => Err(Problem::Damaged("the JPEG file is cut off".to_owned())),
        };
    }
    // png 0.18.1 takes for granted that entries are whole.
    let palette = chunks(bytes).find(|(name, _)| *name == b"PLTE");
    match palette.map(|(_, body)| body.len()) {
        Some(length) if !(3..=768).contains(&length) || length % 3 != 0 => {
            let expected = "expected a palette (PLTE) of 3 to 768 bytes, three for each colour";
            Err(Problem::Damaged(format!("{expected}, found {length}")))
        }
        _ => Ok(()),
    }
}

/// The picture, decoded whole; `None` if that would take too much.
fn whole(bytes: &[u8], kind: Kind) -> Result<Option<DynamicImage>, Problem> {
    let format = match kind {
        Kind::Jpeg => ImageFormat::Jpeg,
        Kind::WebP => ImageFormat::WebP,
        Kind::Bmp => ImageFormat::Bmp,
        Kind::Gif => ImageFormat::Gif,
        Kind::Tiff => ImageFormat::Tiff,
        _ => ImageFormat::Png,
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    if !matches!(kind, Kind::Png | Kind::Jpeg) {
        let decoder = reader.into_decoder()?;
        let (width, height) = decoder.dimensions();
        if width > MAX_SIDE || height > MAX_SIDE || decoder.total_bytes() > MAX_BYTES {
            let problem = format!(
                "{} of {width}x{height} pixels: expected a smaller one",
                kind.name()
            );
            return Err(Problem::TooLarge(problem));
        }
        return Ok(Some(DynamicImage::from_decoder(decoder)?));
    }
    let (width, height) = claimed(bytes, kind).unwrap_or_default();
    if width > MAX_SIDE || height > MAX_SIDE {
        let problem = format!("expected at most {MAX_SIDE} pixels a side, found {width}x{height}");
        return Err(Problem::TooLarge(problem));
    }
    let pixels = u64::from(width) * u64::from(height);
    if 3 * pixels > MAX_BYTES {
        return Ok(None);
    }
    let decoder = reader.into_decoder()?;
    // `from_decoder` allocates whatever the header claims, so that is checked here.
    if decoder.total_bytes() > MAX_BYTES {
        return Ok(None);
    }
    Ok(Some(DynamicImage::from_decoder(decoder)?))
}

/// Width and height by the file's header.
pub(super) fn claimed(bytes: &[u8], kind: Kind) -> Option<(u32, u32)> {
    if !matches!(kind, Kind::Png | Kind::Jpeg) {
        return None;
    }
    if kind == Kind::Jpeg {
        let (_, frame) = segments(bytes).find(|(marker, _)| is_frame(*marker))?;
        let side = |at: usize| {
            Some(u32::from(u16::from_be_bytes([
                *frame.get(at)?,
                *frame.get(at + 1)?,
            ])))
        };
        return Some((side(3)?, side(1)?));
    }
    let (_, header) = chunks(bytes).find(|(name, _)| *name == b"IHDR")?;
    let side = |at: usize| Some(u32::from_be_bytes(*header.get(at..)?.first_chunk()?));
    Some((side(0)?, side(4)?))
}

/// Whether a marker is one of `SOF`, which begin a frame (T.81, table B.1).
pub(super) fn is_frame(marker: u8) -> bool {
    matches!(marker, 0xC0..=0xCF) && !matches!(marker, 0xC4 | 0xC8 | 0xCC)
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
fn cover(image: Cow<RgbImage>, width: u32, height: u32) -> RgbImage {
    let (w, h) = image.dimensions();
    if (w, h) == (width, height) {
        return image.into_owned();
    }
    // The longest side that goes with `other` in the shape of `this`:`that`; at most `limit`.
    let side = |other: u32, this: u32, that: u32, limit: u32| {
        let ideal = f64::from(other) * f64::from(this) / f64::from(that);
        (ideal.round() as u32).clamp(1, limit)
    };
    let (cut_w, cut_h) = (side(h, width, height, w), side(w, height, width, h));
    let cut = image::imageops::crop_imm(&*image, (w - cut_w) / 2, (h - cut_h) / 2, cut_w, cut_h);
    if (cut_w, cut_h) == (width, height) {
        return cut.to_image();
    }
    image::imageops::resize(&*cut, width, height, FilterType::CatmullRom)
}

#[cfg(test)]
mod tests;

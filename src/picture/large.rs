//! Pictures with more pixels than are decoded whole, read at a half or a quarter of their size.
//!
//! A JPEG's blocks of 8 × 8 are transformed to 4 × 4 or 2 × 2 pixels, as libjpeg does it; of a PNG, rows are read one
//! after the other and squares of pixels averaged. What is kept has 67 million pixels at most.

use std::io::Cursor;

use image::{DynamicImage, GrayImage, RgbImage};
use jpeg_decoder::PixelFormat;

use super::kind::Kind;
use super::orientation::{chunks, segments};
use super::read::{MAX_SIDE, Problem, claimed, is_frame};

/// Most pixels that are kept: a quarter of the longest sides.
const MAX_PIXELS: u64 = (MAX_SIDE as u64 / 4).pow(2);
/// Most bytes of the coefficients of a progressive JPEG, all of which have to be there before a pixel is known.
const MAX_COEFFICIENTS: u64 = 1280 << 20;

/// The picture over white, by the smallest whole factor that makes it small enough.
pub(super) fn read(bytes: &[u8], kind: Kind) -> Result<RgbImage, Problem> {
    let Some((width, height)) = claimed(bytes, kind) else {
        return Err(Problem::Damaged("it has no size".to_owned()));
    };
    let pixels = u64::from(width) * u64::from(height);
    let factor = if pixels.div_ceil(4) <= MAX_PIXELS {
        2
    } else {
        4
    };
    match kind {
        Kind::Jpeg => jpeg(bytes, (width, height), factor),
        _ => {
            // Rows come in seven passes, so that all of them would have to be kept.
            let header = chunks(bytes).find(|(name, _)| *name == b"IHDR");
            if header.is_some_and(|(_, body)| body.get(12) == Some(&1)) {
                let expected = "expected a PNG that is not interlaced at this size";
                let problem = format!("{expected}, found {width}x{height} pixels interlaced");
                return Err(Problem::TooLarge(problem));
            }
            png(bytes, factor)
        }
    }
}

/// Bytes of the coefficients that a progressive JPEG makes a decoder keep.
pub(super) fn coefficients(bytes: &[u8]) -> Option<u64> {
    let (marker, frame) = segments(bytes).find(|(marker, _)| is_frame(*marker))?;
    if !matches!(marker, 0xC2 | 0xC6 | 0xCA | 0xCE) {
        return Some(0);
    }
    let (width, height) = claimed(bytes, Kind::Jpeg)?;
    let sampling: Vec<u64> = frame
        .get(6..)?
        .chunks_exact(3)
        .map(|c| u64::from(c[1]))
        .collect();
    let parts = sampling.iter().map(|s| (s >> 4) * (s & 15));
    let most = |shift: u32| {
        sampling
            .iter()
            .map(move |s| s >> shift & 15)
            .max()
            .unwrap_or(1)
            .max(1)
    };
    let samples = parts.sum::<u64>() * u64::from(width) * u64::from(height) / (most(4) * most(0));
    Some(2 * samples)
}

/// Components of a JPEG's pixels.
pub(super) fn components(bytes: &[u8]) -> Option<u64> {
    let (_, frame) = segments(bytes).find(|(marker, _)| is_frame(*marker))?;
    frame.get(5).map(|&count| u64::from(count))
}

fn jpeg(bytes: &[u8], (width, height): (u32, u32), factor: u32) -> Result<RgbImage, Problem> {
    let coefficients = coefficients(bytes).unwrap_or(0);
    if coefficients > MAX_COEFFICIENTS {
        let most =
            MAX_COEFFICIENTS * u64::from(width) * u64::from(height) / coefficients / 1_000_000;
        return Err(Problem::TooLarge(format!(
            "a progressive JPEG of {width}x{height} pixels: expected at most {most} million"
        )));
    }
    let damaged = |error: jpeg_decoder::Error| Problem::Damaged(error.to_string());
    let mut decoder = jpeg_decoder::Decoder::new(bytes);
    let side = |side: u32| u16::try_from(side.div_ceil(factor)).unwrap_or(u16::MAX);
    let (width, height) = decoder.scale(side(width), side(height)).map_err(damaged)?;
    let pixels = decoder.decode().map_err(damaged)?;
    let (width, height) = (u32::from(width), u32::from(height));
    let rgb = match decoder.info().map(|info| info.pixel_format) {
        Some(PixelFormat::RGB24) => RgbImage::from_raw(width, height, pixels),
        Some(PixelFormat::L8) => GrayImage::from_raw(width, height, pixels)
            .map(|grey| DynamicImage::ImageLuma8(grey).into_rgb8()),
        Some(PixelFormat::CMYK32) => RgbImage::from_raw(width, height, without_black(&pixels)),
        _ => {
            return Err(Problem::Damaged(
                "its kind of pixels is not supported".to_owned(),
            ));
        }
    };
    rgb.ok_or_else(|| Problem::Damaged("its size is not what it says".to_owned()))
}

/// RGB of CMYK in which 0 is no ink.
fn without_black(cmyk: &[u8]) -> Vec<u8> {
    let light = |ink: u8| 255 - u32::from(ink);
    let times = |c: u8, k: u8| ((light(c) * light(k) + 127) / 255) as u8;
    let rgb = |p: &[u8]| [0, 1, 2].map(|i| times(p[i], p[3]));
    cmyk.chunks_exact(4).flat_map(rgb).collect()
}

fn png(bytes: &[u8], factor: u32) -> Result<RgbImage, Problem> {
    let damaged = |error: png::DecodingError| Problem::Damaged(error.to_string());
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
    let mut reader = decoder.read_info().map_err(damaged)?;
    let (width, height) = reader.info().size();
    let channels = reader.output_color_type().0.samples();
    let factor = factor as usize;
    let across = (width as usize).div_ceil(factor);
    let mut rgb = Vec::with_capacity(3 * across * (height as usize).div_ceil(factor));
    // Sums of three colours and how many pixels are in them.
    let mut sums = vec![[0u32; 4]; across];
    let mut rows = 0;
    while let Some(row) = reader.next_row().map_err(damaged)? {
        for (square, sums) in row.data().chunks(factor * channels).zip(&mut sums) {
            for pixel in square.chunks_exact(channels) {
                let colours = over_white(pixel);
                for (sum, colour) in sums.iter_mut().zip(colours) {
                    *sum += colour;
                }
                sums[3] += 1;
            }
        }
        rows += 1;
        if rows % factor == 0 || rows == height as usize {
            let mean = |[r, g, b, n]: &[u32; 4]| [r, g, b].map(|c| ((c + n / 2) / n.max(&1)) as u8);
            rgb.extend(sums.iter().flat_map(mean));
            sums.fill([0; 4]);
        }
    }
    RgbImage::from_raw(
        across as u32,
        (height as usize).div_ceil(factor) as u32,
        rgb,
    )
    .ok_or_else(|| Problem::Damaged("its rows are not what it says".to_owned()))
}

/// A pixel's colours, laid over white where it has transparency.
fn over_white(pixel: &[u8]) -> [u32; 3] {
    let over =
        |c: u8, a: u8| (u32::from(c) * u32::from(a) + 255 * (255 - u32::from(a)) + 127) / 255;
    match *pixel {
        [v] => [u32::from(v); 3],
        [v, a] => [over(v, a); 3],
        [r, g, b] => [r, g, b].map(u32::from),
        [r, g, b, a] => [r, g, b].map(|c| over(c, a)),
        _ => [0; 3], // no PNG has more channels
    }
}

//! How the camera was held: what Pillow's `ImageOps.exif_transpose` (version 13) finds, in the places where it looks.
//!
//! EXIF comes first: segments `APP1` of a JPEG, put together where there are several; of a PNG the last chunk `eXIf`,
//! else the text `Raw profile type exif` that ImageMagick writes in hexadecimal. Only where that says nothing of an
//! orientation is XMP asked for its `tiff:Orientation`. What is broken says nothing.

use std::io::Read;

use flate2::read::ZlibDecoder;
use image::metadata::Orientation;

use super::kind::Kind;

/// Most bytes of a text once decompressed, as in Pillow.
const MAX_TEXT: u64 = 1 << 20;
/// The tag of the orientation in EXIF.
const TAG: u16 = 0x0112;
const EXIF: &[u8] = b"Exif\0\0";
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

/// What a file says of itself.
#[derive(Default)]
struct Said {
    exif: Option<Vec<u8>>,
    /// The profile in hexadecimal, with the lines before it.
    profile: Option<Vec<u8>>,
    xmp: Option<Vec<u8>>,
}

/// How the pixels of this file have to be turned.
pub(super) fn orientation(bytes: &[u8], kind: Kind) -> Orientation {
    let said = match kind {
        Kind::Jpeg => of_jpeg(bytes),
        Kind::WebP => of_webp(bytes),
        Kind::Png => of_png(bytes),
        // It is laid out as EXIF is.
        Kind::Tiff => Said {
            exif: Some(bytes.to_vec()),
            ..Said::default()
        },
        _ => Said::default(),
    };
    let exif = said.exif.or_else(|| unhex(&said.profile?));
    let number = match exif.as_deref().and_then(of_exif) {
        Some(number) => u8::try_from(number).ok(),
        None => said.xmp.as_deref().and_then(of_xmp),
    };
    number
        .and_then(Orientation::from_exif)
        .unwrap_or(Orientation::NoTransforms)
}

/// The EXIF of a file, from its TIFF header on.
pub(super) fn exif_of(bytes: &[u8], kind: Kind) -> Option<Vec<u8>> {
    match kind {
        Kind::Jpeg => of_jpeg(bytes).exif,
        Kind::WebP => of_webp(bytes).exif,
        Kind::Png => of_png(bytes).exif,
        _ => None,
    }
}

/// The chunk `EXIF` of a RIFF file.
fn of_webp(bytes: &[u8]) -> Said {
    let mut said = Said::default();
    let mut rest = bytes.get(12..).unwrap_or(&[]); // behind RIFF, the length and WEBP
    while let Some((name, after)) = rest.split_first_chunk::<4>() {
        let Some((length, after)) = after.split_first_chunk::<4>() else {
            break;
        };
        let length = u32::from_le_bytes(*length) as usize;
        let Some(body) = after.get(..length) else {
            break;
        };
        match name {
            b"EXIF" => said.exif = Some(body.strip_prefix(EXIF).unwrap_or(body).to_vec()),
            b"XMP " => said.xmp = Some(body.to_vec()),
            _ => {}
        }
        rest = after.get(length + length % 2..).unwrap_or(&[]);
    }
    said
}

/// Segments before the first scan.
fn of_jpeg(bytes: &[u8]) -> Said {
    let mut said = Said::default();
    for (marker, body) in segments(bytes) {
        if marker != 0xE1 {
            continue;
        }
        if let Some(more) = body.strip_prefix(EXIF) {
            said.exif.get_or_insert_default().extend_from_slice(more);
        } else if let Some(xmp) = body.strip_prefix(XMP) {
            said.xmp = Some(xmp.to_vec());
        }
    }
    said
}

/// The segments of a JPEG before its first scan: marker and body.
pub(super) fn segments(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = bytes.get(2..).unwrap_or(&[]); // behind SOI
    std::iter::from_fn(move || {
        loop {
            match *rest {
                [0xFF, 0xFF, ..] => rest = &rest[1..], // a fill byte
                [0xFF, 0x00..=0x01 | 0xD0..=0xD8, ..] => rest = &rest[2..],
                [0xFF, 0xD9..=0xDA, ..] => return None,
                [0xFF, marker, a, b, ..] => {
                    let length = usize::from(u16::from_be_bytes([a, b]));
                    let body = rest.get(4..2 + length)?;
                    rest = &rest[2 + length..];
                    return Some((marker, body));
                }
                [_, _, ..] => rest = &rest[1..],
                _ => return None,
            }
        }
    })
}

/// Chunks before and behind the pixels.
fn of_png(bytes: &[u8]) -> Said {
    let mut said = Said::default();
    for (name, body) in chunks(bytes) {
        let text = match name {
            b"eXIf" => {
                said.exif = Some(body.to_vec());
                continue;
            }
            b"tEXt" => split(body).map(|(key, text)| (key, text.to_vec())),
            b"zTXt" => split(body).and_then(|(key, rest)| match rest {
                [0, packed @ ..] => Some((key, unpack(packed)?)),
                _ => None,
            }),
            b"iTXt" => international(body),
            _ => None,
        };
        match text {
            Some((b"Raw profile type exif", text)) => said.profile = Some(text),
            Some((b"XML:com.adobe.xmp", text)) => said.xmp = Some(text),
            _ => {}
        }
    }
    said
}

/// The chunks of a PNG: name and body, whatever their checksums.
pub(super) fn chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    let mut rest = bytes.get(8..).unwrap_or(&[]); // behind the signature
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (name, after) = after.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length) as usize;
        let body = after.get(..length)?;
        rest = after.get(length + 4..).unwrap_or(&[]);
        Some((name, body))
    })
}

/// What is before and behind the first zero byte.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|&byte| byte == 0)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// Keyword and text of an `iTXt` chunk.
fn international(body: &[u8]) -> Option<(&[u8], Vec<u8>)> {
    let (key, rest) = split(body)?;
    let (&[packed, method], rest) = rest.split_first_chunk::<2>()?;
    let (_language, rest) = split(rest)?;
    let (_translated, text) = split(rest)?;
    match (packed, method) {
        (0, _) => Some((key, text.to_vec())),
        (_, 0) => Some((key, unpack(text)?)),
        _ => None,
    }
}

fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let read = ZlibDecoder::new(packed)
        .take(MAX_TEXT)
        .read_to_end(&mut text);
    read.ok().map(|_| text)
}

/// The bytes of a profile: hexadecimal from the fourth line on, behind an empty one, its name and its length.
fn unhex(profile: &[u8]) -> Option<Vec<u8>> {
    let lines = profile.split(|&byte| byte == b'\n').skip(3);
    let digits: Vec<u8> = lines
        .flatten()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|&byte| char::from(byte).to_digit(16).map(|digit| digit as u8))
        .collect::<Option<_>>()?;
    let whole = digits.len().is_multiple_of(2);
    whole.then(|| digits.chunks_exact(2).map(|d| d[0] << 4 | d[1]).collect())
}

/// The orientation in the first directory of EXIF: a TIFF file, perhaps behind the name of the segment.
///
/// A value that is no number of an orientation is there all the same, and asks for nothing: 0.
fn of_exif(bytes: &[u8]) -> Option<u32> {
    let mut tiff = bytes;
    for _ in 0..2 {
        tiff = tiff.strip_prefix(EXIF).unwrap_or(tiff);
    }
    let little = match tiff.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let number = |bytes: &[u8]| {
        let fold = |sum: u32, byte: &u8| sum << 8 | u32::from(*byte);
        match little {
            true => bytes.iter().rev().fold(0, fold),
            false => bytes.iter().fold(0, fold),
        }
    };
    let directory = tiff.get(number(&tiff[4..8.min(tiff.len())]) as usize..)?;
    let count = number(directory.get(..2)?) as usize;
    let entries = directory[2..].chunks_exact(12).take(count);
    // Of several with the tag the first holds that has a value.
    let mut found = entries.filter(|entry| number(&entry[..2]) == u32::from(TAG));
    found.find_map(|entry| value(tiff, entry, number))
}

/// The value of an entry of EXIF as the number of an orientation, if it has any value.
fn value(tiff: &[u8], entry: &[u8], number: impl Fn(&[u8]) -> u32) -> Option<u32> {
    let (kind, times) = (number(&entry[2..4]), number(&entry[4..8]));
    let size = match kind {
        1 | 2 | 6 | 7 => 1,
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16 => 8,
        _ => return None, // no type of TIFF's
    };
    let total = usize::try_from(times).ok()?.checked_mul(size)?;
    let value = match total {
        0 => return None,
        1..=4 => &entry[8..8 + size],
        _ => {
            let at = number(&entry[8..12]) as usize;
            tiff.get(at..)?.get(..total)?.get(..size)?
        }
    };
    Some(match kind {
        3 | 4 | 8 | 9 | 13 => number(value),
        5 | 10 => match (number(&value[..4]), number(&value[4..])) {
            (above, below) if below > 0 && above % below == 0 => above / below,
            _ => 0,
        },
        11 => whole(f32::from_bits(number(value))),
        _ => 0,
    })
}

/// A number of an orientation, or 0.
fn whole(value: f32) -> u32 {
    match value.fract() == 0.0 && (1.0..=8.0).contains(&value) {
        true => value as u32,
        false => 0,
    }
}

/// The digit behind `tiff:Orientation="` or `tiff:Orientation>`, at the first place that has one.
fn of_xmp(bytes: &[u8]) -> Option<u8> {
    const KEY: &[u8] = b"tiff:Orientation";
    let behind = bytes
        .windows(KEY.len())
        .enumerate()
        .filter(|(_, w)| *w == KEY);
    behind
        .filter_map(|(at, _)| {
            let rest = &bytes[at + KEY.len()..];
            let value = rest
                .strip_prefix(b"=\"")
                .or_else(|| rest.strip_prefix(b">"))?;
            value.first().filter(|byte| byte.is_ascii_digit())
        })
        .map(|digit| digit - b'0')
        .next()
}

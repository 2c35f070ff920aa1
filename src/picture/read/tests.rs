//! Tests of reading pictures.

use image::{ImageEncoder, Rgb, RgbaImage};

use super::*;

/// A 4 × 2 picture: red left half, blue right half, the upper row darker.
fn sample() -> RgbImage {
    RgbImage::from_fn(4, 2, |x, y| {
        let v = if y == 0 { 100 } else { 200 };
        if x < 2 {
            Rgb([v, 0, 0])
        } else {
            Rgb([0, 0, v])
        }
    })
}

/// A PNG with an EXIF chunk that holds one orientation.
fn png(image: &RgbImage, orientation: u8) -> Vec<u8> {
    let exif = [
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".as_slice(),
        &[orientation, 0, 0, 0, 0, 0, 0, 0],
    ];
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    encoder.set_exif_metadata(exif.concat()).unwrap();
    encoder
        .write_image(
            image,
            image.width(),
            image.height(),
            image::ExtendedColorType::Rgb8,
        )
        .unwrap();
    bytes
}

fn written(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    file
}

#[test]
fn every_orientation_is_applied() {
    let image = sample();
    let upright = |o: u8| match o {
        2 => image::imageops::flip_horizontal(&image),
        3 => image::imageops::rotate180(&image),
        4 => image::imageops::flip_vertical(&image),
        5 => image::imageops::flip_horizontal(&image::imageops::rotate90(&image)),
        6 => image::imageops::rotate90(&image),
        7 => image::imageops::flip_horizontal(&image::imageops::rotate270(&image)),
        8 => image::imageops::rotate270(&image),
        _ => image.clone(),
    };
    for orientation in 1..=8 {
        let expected = upright(orientation);
        let file = written(&png(&image, orientation));
        let (width, height) = expected.dimensions();
        let size = Size::new(width as usize, height as usize);
        let picture = Picture::read(file.path(), size).unwrap();
        assert_eq!(
            picture.rgb(),
            expected.as_raw().as_slice(),
            "orientation {orientation}"
        );
    }
}

#[test]
fn transparency_is_laid_over_white() {
    let image = RgbaImage::from_raw(2, 1, vec![10, 20, 30, 0, 100, 0, 0, 255]).unwrap();
    let file = tempfile::Builder::new().suffix(".png").tempfile().unwrap();
    image.save(file.path()).unwrap();
    assert_eq!(
        Picture::read(file.path(), Size::new(2, 1)).unwrap().rgb(),
        [255, 255, 255, 100, 0, 0]
    );
}

#[test]
fn a_wide_picture_is_cut_around_its_centre() {
    let image = RgbImage::from_fn(40, 10, |x, _| {
        if (15..25).contains(&x) {
            Rgb([255; 3])
        } else {
            Rgb([0; 3])
        }
    });
    let file = written(&png(&image, 1));
    let picture = Picture::read(file.path(), Size::new(10, 10)).unwrap();
    assert!(picture.rgb().iter().all(|&v| v == 255));
    assert_eq!(
        Picture::read(file.path(), Size::new(5, 7))
            .unwrap()
            .rgb()
            .len(),
        5 * 7 * 3
    );
}

#[test]
fn damaged_files_are_errors_that_name_the_file() {
    let whole = png(&sample(), 1);
    for cut in [0, 1, 8, 20, whole.len() / 2, whole.len() - 20] {
        let file = written(&whole[..cut]);
        let error = Picture::read(file.path(), Size::new(4, 2)).unwrap_err();
        assert!(
            error
                .to_string()
                .contains(&file.path().display().to_string()),
            "{error}"
        );
    }
    assert!(Picture::read(Path::new("/no/such.png"), Size::new(4, 2)).is_err());
}

/// Noise compresses badly, so that cuts fall into the coded data.
fn jpeg() -> Vec<u8> {
    let image = RgbImage::from_fn(64, 48, |x, y| {
        Rgb([(x * 37 + y * 91) as u8, (x * y) as u8, 7])
    });
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new(&mut bytes)
        .encode_image(&image)
        .unwrap();
    bytes
}

#[test]
fn a_jpeg_is_read_whole_or_not_at_all() {
    let whole = jpeg();
    assert!(Picture::read(written(&whole).path(), Size::new(64, 48)).is_ok());
    let trailing = [&whole[..], b"more"].concat();
    assert!(Picture::read(written(&trailing).path(), Size::new(64, 48)).is_ok());
    for cut in 0..whole.len() - 1 {
        let error = decode(&whole[..cut], Kind::Jpeg);
        assert!(error.is_err(), "{cut} of {} bytes", whole.len());
    }
}

#[test]
fn damaged_bytes_do_not_panic() {
    for (whole, kind) in [(jpeg(), Kind::Jpeg), (png(&sample(), 6), Kind::Png)] {
        for at in 0..whole.len() {
            for value in [0, 0xFF, whole[at] ^ 0x10] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let _ = decode(&bytes, kind);
            }
        }
    }
}

#[test]
fn extreme_shapes_stay_small() {
    let wide = RgbImage::from_pixel(32_768, 1, Rgb([9, 8, 7]));
    for size in [(64, 64), (1, 2000), (2000, 1)] {
        let scaled = cover(Cow::Borrowed(&wide), size.0, size.1);
        assert_eq!(scaled.dimensions(), size);
        assert!(scaled.pixels().all(|pixel| pixel.0 == [9, 8, 7]));
    }
}

#[test]
fn a_claim_of_gigabytes_is_refused() {
    let mut bytes = png(&sample(), 1);
    // Width and height of IHDR, and its checksum.
    bytes[16..24].copy_from_slice(&[0, 0, 0x80, 0, 0, 0, 0x80, 0]);
    let checksum = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
    let error = decode(&bytes, Kind::Png).unwrap_err();
    assert!(matches!(error, Problem::Damaged(_)), "{error:?}");
}

/// The checksum of PNG chunks.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn other_formats_are_named_with_the_way_out() {
    for bytes in [&b"8BPS"[..], b"II*\0\x08\0\0\0", b"hello", b""] {
        let error = Picture::read(written(bytes).path(), Size::new(4, 2)).unwrap_err();
        assert_eq!(error.hint(), Some("convert it to PNG or JPEG"), "{error}");
    }
}

#[test]
fn sixteen_bits_and_grey_become_rgb() {
    let file = tempfile::Builder::new().suffix(".png").tempfile().unwrap();
    let grey =
        image::ImageBuffer::<image::Luma<u16>, _>::from_raw(2, 1, vec![0u16, 0xFFFF]).unwrap();
    grey.save(file.path()).unwrap();
    let picture = Picture::read(file.path(), Size::new(2, 1)).unwrap();
    assert_eq!(picture.rgb(), [0, 0, 0, 255, 255, 255]);
}

/// What the decoders of other formats give is what was written, turned as TIFF says; and what is cut off is an error.
#[test]
fn other_formats_are_read() {
    use image::ImageFormat::{Bmp, Gif, Tiff, WebP};
    let pixels: Vec<u8> = (0..6 * 4 * 3).map(|i| (i * 37 % 251) as u8).collect();
    let image = RgbImage::from_raw(6, 4, pixels).unwrap();
    for (format, ending) in [
        (WebP, ".webp"),
        (Bmp, ".bmp"),
        (Tiff, ".tiff"),
        (Gif, ".gif"),
    ] {
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::from(image.clone())
            .write_to(&mut bytes, format)
            .unwrap();
        let bytes = bytes.into_inner();
        let file = tempfile::Builder::new().suffix(ending).tempfile().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        let picture = Picture::read(file.path(), None).unwrap();
        assert_eq!((picture.width(), picture.height()), (6, 4), "{ending}");
        let apart = picture
            .rgb()
            .iter()
            .zip(image.as_raw())
            .map(|(a, b)| a.abs_diff(*b))
            .max();
        // A GIF has 256 colours, which are enough here; what it writes them as may round.
        assert!(
            apart <= Some(if format == Gif { 8 } else { 0 }),
            "{ending}: {apart:?}"
        );
        for end in [bytes.len() / 2, bytes.len() / 3, 20] {
            std::fs::write(file.path(), &bytes[..end]).unwrap();
            assert!(Picture::read(file.path(), None).is_err(), "{ending}: {end}");
        }
    }
}

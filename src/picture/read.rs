//! Pictures out of files.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbImage};
use sha2::{Digest, Sha256};

use super::Picture;
use crate::{Error, Result};

/// No photo has longer sides; larger claims are of damaged or hostile files.
const MAX_SIDE: u32 = 32_768;
/// Most memory that a decoder may take.
const MAX_BYTES: u64 = 2 << 30;

const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];

impl Picture {
    /// Reads a PNG or JPEG as a picture of exactly this width and height.
    ///
    /// The camera's orientation (EXIF) is applied, transparency is laid over white, and the picture is scaled to cover
    /// the size and cut to it around its centre. A picture of that size already keeps every pixel.
    ///
    /// # Errors
    /// If the file cannot be read or is not such a picture.
    pub fn read(path: &Path, (width, height): (u32, u32)) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("read", path))?;
        let image = decode(BufReader::new(file)).map_err(|error| Error::Picture {
            path: path.to_owned(),
            problem: error.to_string(),
            hint: "give a PNG or JPEG file; convert other formats first".to_owned(),
        })?;
        let rgb = cover(&over_white(image), width, height);
        Self::new(width, height, rgb.into_raw())
    }
}

fn decode(file: impl Read + Seek + std::io::BufRead) -> image::ImageResult<DynamicImage> {
    let mut reader = ImageReader::new(file).with_guessed_format()?;
    let mut limits = Limits::no_limits();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    let orientation = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(image)
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

/// Scales a picture so that it covers a size, and cuts it to that around its centre.
fn cover(image: &RgbImage, width: u32, height: u32) -> RgbImage {
    let (w, h) = image.dimensions();
    if (w, h) == (width, height) {
        return image.clone();
    }
    let scale =
        (f64::from(width) / f64::from(w.max(1))).max(f64::from(height) / f64::from(h.max(1)));
    let scaled = |side: u32, least: u32| ((f64::from(side) * scale).round() as u32).max(least);
    let (w, h) = (scaled(w, width), scaled(h, height));
    let resized = image::imageops::resize(image, w, h, FilterType::CatmullRom);
    image::imageops::crop_imm(&resized, (w - width) / 2, (h - height) / 2, width, height).to_image()
}

/// The picture files that these paths name: files as they are, folders for the PNG and JPEG files in them; sorted by
/// file name, each once.
///
/// # Errors
/// If a path does not exist, or a folder holds no picture.
pub fn list(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.metadata().map_err(Error::io("read", path))?.is_dir() {
            files.push(path.clone());
            continue;
        }
        let before = files.len();
        for entry in path.read_dir().map_err(Error::io("read", path))? {
            let file = entry.map_err(Error::io("read", path))?.path();
            if file.is_file() && is_picture(&file) {
                files.push(file);
            }
        }
        if files.len() == before {
            return Err(Error::Picture {
                path: path.clone(),
                problem: "no pictures in this folder".to_owned(),
                hint: "put PNG or JPEG files into it".to_owned(),
            });
        }
    }
    files.sort_by(|a, b| a.file_name().cmp(&b.file_name()).then_with(|| a.cmp(b)));
    files.dedup();
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
mod tests {
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
            let picture = Picture::read(file.path(), expected.dimensions()).unwrap();
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
            Picture::read(file.path(), (2, 1)).unwrap().rgb(),
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
        let picture = Picture::read(file.path(), (10, 10)).unwrap();
        assert!(picture.rgb().iter().all(|&v| v == 255));
        assert_eq!(
            Picture::read(file.path(), (5, 7)).unwrap().rgb().len(),
            5 * 7 * 3
        );
    }

    #[test]
    fn damaged_files_are_errors_that_name_the_file() {
        let whole = png(&sample(), 1);
        for cut in [0, 1, 8, 20, whole.len() / 2, whole.len() - 20] {
            let file = written(&whole[..cut]);
            let error = Picture::read(file.path(), (4, 2)).unwrap_err();
            assert!(
                error
                    .to_string()
                    .contains(&file.path().display().to_string()),
                "{error}"
            );
        }
        assert!(Picture::read(Path::new("/no/such.png"), (4, 2)).is_err());
    }

    #[test]
    fn folders_are_listed_by_name() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.PNG", "a.jpeg", "notes.txt", ".hidden.png", "c.jpg"] {
            std::fs::write(dir.path().join(name), b"").unwrap();
        }
        let b = dir.path().join("b.PNG");
        let files = list(&[dir.path().to_owned(), b]).unwrap();
        let names: Vec<_> = files
            .iter()
            .map(|f| f.file_name().unwrap().to_str().unwrap())
            .collect();
        assert_eq!(names, ["a.jpeg", "b.PNG", "c.jpg"]);
        let empty = tempfile::tempdir().unwrap();
        assert!(list(&[empty.path().to_owned()]).is_err());
        assert!(list(&[dir.path().join("missing")]).is_err());
    }
}

//! Photos as people have them: turned, large, in folders with other things, and not what their name says.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::path::{Path, PathBuf};

use cones::{Picture, Size};
use image::{ImageEncoder, RgbImage};
use serde_json::Value;

use crate::cli::{cones, fails, golden, json, ok};

fn bytes(hex: &Value) -> Vec<u8> {
    let digits: Vec<char> = hex.as_str().unwrap().chars().collect();
    let pair = |d: &[char]| u8::from_str_radix(&String::from_iter(d), 16).unwrap();
    digits.chunks_exact(2).map(pair).collect()
}

/// A picture turned by an orientation's number.
fn turned(image: &RgbImage, number: u64) -> RgbImage {
    use image::imageops::{flip_horizontal, flip_vertical, rotate90, rotate180, rotate270};
    match number {
        2 => flip_horizontal(image),
        3 => rotate180(image),
        4 => flip_vertical(image),
        5 => flip_horizontal(&rotate90(image)),
        6 => rotate90(image),
        7 => flip_horizontal(&rotate270(image)),
        8 => rotate270(image),
        _ => image.clone(),
    }
}

/// EXIF, ImageMagick's profiles and XMP in every place, against what Pillow makes of the same files.
#[test]
fn pictures_are_turned_as_pillow_turns_them() {
    let cases = json(&std::fs::read_to_string(golden("orientation.json")).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.bin");
    let plain = RgbImage::from_fn(24, 16, |x, y| {
        image::Rgb([(x * 10) as u8, (y * 15) as u8, 99])
    });
    let (mut png, mut jpeg) = (Vec::new(), Vec::new());
    let kind = image::ExtendedColorType::Rgb8;
    let encoder = image::codecs::png::PngEncoder::new(&mut png);
    encoder.write_image(&plain, 24, 16, kind).unwrap();
    let mut encoder = image::codecs::jpeg::JpegEncoder::new(&mut jpeg);
    encoder.encode_image(&plain).unwrap();
    let read = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        let picture = Picture::read(&file, None).unwrap();
        let Size { width, height } = picture.size();
        RgbImage::from_raw(width as u32, height as u32, picture.rgb().to_vec()).unwrap()
    };
    let (upright, of_jpeg) = (read(&png), read(&jpeg));
    let mut turns = 0;
    for case in cases.as_array().unwrap() {
        let number = case["turn"].as_u64().unwrap();
        let (picture, whole) = match &case["png"] {
            Value::Array(parts) => {
                let (front, back) = (bytes(&parts[0]), bytes(&parts[1]));
                let end = png.len() - 12;
                (
                    &upright,
                    [&png[..33], &front, &png[33..end], &back, &png[end..]].concat(),
                )
            }
            _ => (
                &of_jpeg,
                [&jpeg[..2], &bytes(&case["jpeg"]), &jpeg[2..]].concat(),
            ),
        };
        assert!(
            read(&whole) == turned(picture, number),
            "{}: {number}",
            case["name"]
        );
        turns += usize::from(number > 1);
    }
    assert!(turns > 30, "{turns}");
}

/// A JPEG or PNG of so many pixels that it is not decoded whole: a red left half, a blue right one.
fn halves(width: usize, height: usize) -> impl Iterator<Item = Vec<u8>> {
    let row: Vec<u8> = (0..width)
        .flat_map(|x| {
            if x < width / 2 {
                [200, 0, 0]
            } else {
                [0, 0, 200]
            }
        })
        .collect();
    (0..height).map(move |_| row.clone())
}

fn write_large_png(path: &Path, (width, height): (u32, u32), interlaced: bool) {
    let file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    let mut encoder = png::Encoder::new(file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::Fastest);
    let mut writer = encoder.write_header().unwrap();
    if interlaced {
        drop(writer);
        let mut bytes = std::fs::read(path).unwrap();
        bytes[28] = 1; // IHDR's last byte; its checksum follows
        let crc = crc32(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&crc.to_be_bytes());
        std::fs::write(path, bytes).unwrap();
        return;
    }
    let mut stream = writer.stream_writer().unwrap();
    for row in halves(width as usize, height as usize) {
        stream.write_all(&row).unwrap();
    }
    stream.finish().unwrap();
}

/// The checksum of PNG chunks.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

/// More pixels than are decoded whole: red stays left of blue, in bounded memory.
#[test]
fn pictures_of_two_hundred_megapixels_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.png");
    write_large_png(&path, (16000, 12000), false);
    let (width, height) = (40, 30);
    let size = Size { width, height };
    let picture = Picture::read(&path, size).unwrap();
    for (i, pixel) in picture.rgb().chunks_exact(3).enumerate() {
        match i % 40 {
            0..18 => assert_eq!(pixel, [200, 0, 0], "{i}"),
            22.. => assert_eq!(pixel, [0, 0, 200], "{i}"),
            _ => {}
        }
    }
    let whole = Picture::read(&path, None).unwrap();
    assert_eq!(whole.size().to_string(), "8000x6000");
}

/// What is more than is read is said to be so, with the limit; it is not called damaged.
#[test]
fn what_is_too_large_is_refused_as_that() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    write_large_png(&file("interlaced.png"), (16000, 12000), true);
    let claim = |name: &str, width: u16, height: u16, marker: u8| {
        // SOI, a frame of three components without subsampling, EOI.
        let [a, b] = height.to_be_bytes();
        let [c, d] = width.to_be_bytes();
        let frame = [0, 17, 8, a, b, c, d, 3, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0];
        let whole = [&[0xFF, 0xD8, 0xFF, marker][..], &frame, &[0xFF, 0xD9]].concat();
        std::fs::write(file(name), whole).unwrap();
    };
    claim("wide.jpg", 65535, 8, 0xC0);
    claim("tall.jpg", 8, 40000, 0xC2);
    claim("progressive.jpg", 30000, 20000, 0xC2);
    let mut claimed = std::fs::read(file("interlaced.png")).unwrap();
    claimed[16..24].copy_from_slice(&[0, 0, 0x80, 1, 0, 0, 0, 1]);
    let crc = crc32(&claimed[12..29]);
    claimed[29..33].copy_from_slice(&crc.to_be_bytes());
    std::fs::write(file("wide.png"), claimed).unwrap();
    for (name, limit) in [
        ("interlaced.png", "not interlaced"),
        ("wide.jpg", "at most 32768 pixels a side"),
        ("tall.jpg", "at most 32768 pixels a side"),
        ("wide.png", "at most 32768 pixels a side"),
        ("progressive.jpg", "at most 223 million"),
    ] {
        let error = Picture::read(&file(name), None).unwrap_err();
        assert!(error.to_string().contains(limit), "{name}: {error}");
        assert_eq!(
            error.hint(),
            Some("save it at a smaller size"),
            "{name}: {error}"
        );
    }
}

/// A chunk of a PNG.
fn chunk(name: &[u8], body: &[u8]) -> Vec<u8> {
    let named = [name, body].concat();
    let length = (body.len() as u32).to_be_bytes();
    [&length[..], &named, &crc32(&named).to_be_bytes()].concat()
}

/// A palette that is no whole number of colours is a damaged file, not a fault of the program.
#[test]
fn palettes_are_whole() {
    let dir = tempfile::tempdir().unwrap();
    let header = [0, 0, 0, 4, 0, 0, 0, 4, 8, 3, 0, 0, 0];
    for length in [0, 1, 2, 4, 5, 7, 767, 769, 771, 1000] {
        let parts = [
            b"\x89PNG\r\n\x1a\n".to_vec(),
            chunk(b"IHDR", &header),
            chunk(b"PLTE", &vec![7; length]),
            chunk(b"IDAT", &[0x78, 1]),
            chunk(b"IEND", b""),
        ];
        std::fs::write(dir.path().join("a.png"), parts.concat()).unwrap();
        let error = fails(
            dir.path(),
            &["find", "--subject", "dog", "--dry-run", "a.png"],
            1,
        );
        assert!(error.contains("a.png"), "{length}: {error}");
        assert!(
            error.contains(&format!("found {length}\n")),
            "{length}: {error}"
        );
        assert!(cones::read_metadata(&dir.path().join("a.png")).is_err());
    }
}

fn photo(path: PathBuf, shade: u8) {
    let rgb = (0..64 * 64 * 3u32)
        .map(|i| (i * i % 251) as u8 ^ shade)
        .collect();
    Picture::new(64, 64, rgb)
        .unwrap()
        .write(&path, None)
        .unwrap();
}

/// Every command that takes folders says once what it left out.
#[test]
fn commands_say_what_they_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::create_dir_all(dir.join("p/more")).unwrap();
    photo(dir.join("p/a.png"), 1);
    photo(dir.join("p/b"), 2);
    std::fs::copy(dir.join("p/a.png"), dir.join("p/c.webp")).unwrap();
    std::fs::write(dir.join("p/d.HEIC"), b"\0\0\0\x18ftypheic\0\0\0\0mif1heic").unwrap();
    for silent in [".DS_Store", "Thumbs.db", "a.txt", "a.json"] {
        std::fs::write(dir.join("p").join(silent), b"x").unwrap();
    }
    let said = "3 photos; left out 1 HEIC, 1 folder: d.HEIC, more\n";
    let told = |args: &[&str]| {
        let output = cones(dir, args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code().unwrap() < 2, "{args:?}: {stderr}");
        assert_eq!(stderr.matches("left out").count(), 1, "{args:?}: {stderr}");
        assert!(stderr.contains(said), "{args:?}: {stderr}");
        assert!(
            stderr.contains("`c.webp` is the same picture as `a.png`"),
            "{args:?}: {stderr}"
        );
        let json = json(&String::from_utf8(output.stdout).unwrap());
        let kinds = json["left_out"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["kind"].clone());
        assert_eq!(kinds.collect::<Vec<_>>(), ["HEIC", "folder"], "{args:?}");
        json
    };
    let find = ["find", "--subject", "dog", "--json", "--batch", "1", "-o"];
    told(&[&find[..], &["a.idx", "--dry-run", "p"]].concat());
    told(&[&find[..], &["a.idx", "--steps", "1", "p"]].concat());
    told(&[
        "merge", "a.idx", "-o", "b.idx", "--tune", "1", "--batch", "1", "--images", "dog=p",
        "--json",
    ]);
    let eval = [
        "eval",
        "a.idx",
        "--count",
        "1",
        "--steps",
        "1",
        "--loss-draws",
        "0",
        "--json",
    ];
    let report = told(&[&eval[..], &["--controls", "0", "--images", "p"]].concat());
    assert_eq!(report["photos"].as_array().unwrap().len(), 3);
    // A folder of pictures of the class is a folder too.
    let class = [
        "c.idx",
        "--method",
        "paper",
        "--steps",
        "1",
        "--class-images",
        "p",
        "p/b",
    ];
    told(&[&find[..], &class].concat());
}

/// A photo that cannot be read is told before the model is loaded, by every command.
#[test]
fn damaged_photos_are_told_first() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::create_dir(dir.join("good")).unwrap();
    photo(dir.join("good/a.png"), 1);
    let find = ["find", "--subject", "dog", "--steps", "1", "--batch", "1"];
    ok(dir, &[&find[..], &["-o", "a.idx", "good"]].concat());
    let whole = std::fs::read(dir.join("good/a.png")).unwrap();
    let (mut jpeg, plain) = (Vec::new(), RgbImage::new(64, 64));
    image::codecs::jpeg::JpegEncoder::new(&mut jpeg)
        .encode_image(&plain)
        .unwrap();
    let page = b"<html><body>404</body></html>".to_vec();
    let bad: [(&str, Vec<u8>); 7] = [
        ("cut.png", whole[..whole.len() / 2].to_vec()),
        ("cut.jpg", jpeg[..jpeg.len() - 3].to_vec()),
        ("empty.png", Vec::new()),
        ("page.jpg", page),
        (
            "pointer.png",
            b"version https://git-lfs.github.com/spec/v1\noid x\n".to_vec(),
        ),
        ("text.jpeg", b"hello".to_vec()),
        ("flipped.png", {
            let mut bytes = whole.clone();
            bytes[60] ^= 0xFF;
            bytes
        }),
    ];
    for (name, content) in bad {
        let folder = dir.join("bad");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join(name), content).unwrap();
        photo(folder.join("z.png"), 3);
        let eval = [
            "eval", "a.idx", "--count", "1", "--images", "bad", "--model", "none",
        ];
        let merge = [
            "merge", "a.idx", "-o", "b.idx", "--tune", "1", "--images", "dog=bad",
        ];
        // A model that is not there: whatever comes after the photos would say so.
        for args in [
            &[&find[..], &["-o", "x.idx", "bad", "--model", "none"]].concat()[..],
            &[&find[..], &["--dry-run", "bad", "--model", "none"]].concat(),
            &eval,
            &[&merge[..], &["--model", "none"]].concat(),
        ] {
            let error = fails(dir, args, 1);
            assert!(error.contains(name), "{args:?}: {error}");
            assert!(!dir.join("x.idx").exists());
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

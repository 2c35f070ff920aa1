//! What a file is by its first bytes, whatever it is called.

use std::path::Path;

/// Bytes that tell a kind; more than any magic number reaches.
pub(super) const HEAD: usize = 512;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Png,
    Jpeg,
    WebP,
    Bmp,
    /// Of several pictures the first is read.
    Gif,
    /// What cameras call raw has the same beginning; it is told by its name.
    Tiff,
    /// What is known and not read, by its name.
    Known(&'static str),
    /// What was put or sent in the place of a file, by its name.
    Instead(&'static str),
    Empty,
    Unknown,
}

/// Where a format has its magic number.
const MAGIC: [(usize, &[u8], Kind); 24] = [
    (0, b"\x89PNG\r\n\x1a\n", Kind::Png),
    (0, b"\xff\xd8\xff", Kind::Jpeg),
    (8, b"WEBP", Kind::WebP),
    (0, b"GIF8", Kind::Gif),
    (0, b"II*\0", Kind::Tiff),
    (0, b"MM\0*", Kind::Tiff),
    (0, b"II+\0", Kind::Tiff),
    (0, b"MM\0+", Kind::Tiff),
    (0, b"BM", Kind::Bmp),
    (0, b"\xff\x0a", Kind::Known("JPEG XL")),
    (0, b"\0\0\0\x0cJXL ", Kind::Known("JPEG XL")),
    (0, b"\0\0\0\x0cjP  ", Kind::Known("JPEG 2000")),
    (0, b"\xff\x4f\xff\x51", Kind::Known("JPEG 2000")),
    (0, b"8BPS", Kind::Known("PSD")),
    (0, b"qoif", Kind::Known("QOI")),
    (0, b"\x76\x2f\x31\x01", Kind::Known("EXR")),
    (0, b"#?RADIANCE", Kind::Known("HDR")),
    (0, b"FUJIFILMCCD-RAW", Kind::Known("RAW")),
    (0, b"IIU\0", Kind::Known("RAW")),
    (0, b"IIRO", Kind::Known("RAW")),
    (0, b"%PDF", Kind::Known("PDF")),
    (0, b"PK\x03\x04", Kind::Known("ZIP")),
    (0, b"\x1a\x45\xdf\xa3", Kind::Known("video")),
    (
        0,
        b"version https://git-lfs",
        Kind::Instead("Git LFS pointer"),
    ),
];

/// Brands of ISO media files (ISO/IEC 14496-12, `ftyp`); of several that a file has, the first here says what it is.
const BRANDS: [(&[u8], &str); 12] = [
    (b"avif", "AVIF"),
    (b"avis", "AVIF"),
    (b"heic", "HEIC"),
    (b"heix", "HEIC"),
    (b"heim", "HEIC"),
    (b"heis", "HEIC"),
    (b"hevc", "HEIC"),
    (b"hevx", "HEIC"),
    (b"mif1", "HEIC"),
    (b"msf1", "HEIC"),
    (b"crx ", "RAW"),
    (b"qt  ", "video"),
];

impl Kind {
    /// The kind of a file that begins like this.
    pub(super) fn of(head: &[u8]) -> Self {
        if head.is_empty() {
            return Self::Empty;
        }
        let at = |at: usize, magic: &[u8]| head.get(at..).is_some_and(|h| h.starts_with(magic));
        if at(4, b"ftyp") {
            return Self::of_brands(head);
        }
        match MAGIC.iter().find(|(place, magic, _)| at(*place, magic)) {
            // Two letters may begin a text; in a picture of today four zeros follow the file's length.
            Some((.., Kind::Bmp)) if !at(6, &[0; 4]) => return Self::Known("BMP"),
            Some((.., kind)) => return *kind,
            None => {}
        }
        let text = String::from_utf8_lossy(head).to_lowercase();
        let text = text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']);
        match text {
            t if t.starts_with("<!doctype html") || t.starts_with("<html") => {
                Self::Instead("HTML page")
            }
            t if t.starts_with('<') && t.contains("<svg") => Self::Known("SVG"),
            _ => Self::Unknown,
        }
    }

    /// The major brand first, then those that the file is compatible with; `mif1` and `msf1` say the least.
    fn of_brands(head: &[u8]) -> Self {
        let end = usize::from(head.get(3).copied().unwrap_or(0)).min(head.len());
        let others = head.get(16..end).unwrap_or(&[]).chunks_exact(4);
        let brands: Vec<&[u8]> = head.get(8..12).into_iter().chain(others).collect();
        let known = BRANDS.iter().find(|(brand, _)| brands.contains(brand));
        Self::Known(known.map_or("video", |(_, name)| name))
    }

    /// Whether it is read: of what begins as TIFF only what is called so.
    pub(super) fn is_read(self, path: &Path) -> bool {
        let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
        match self {
            Self::Png | Self::Jpeg | Self::WebP | Self::Bmp | Self::Gif => true,
            Self::Tiff => ending.is_some_and(|ending| ending == "tif" || ending == "tiff"),
            _ => false,
        }
    }

    /// What to do about it where a picture should be.
    pub(super) fn hint(self) -> &'static str {
        match self {
            Self::Instead("Git LFS pointer") => {
                "fetch the picture that it stands for: `git lfs pull`"
            }
            Self::Instead(_) => "download the picture itself instead of a page about it",
            _ => "convert it to PNG or JPEG",
        }
    }

    /// What it is called in a sentence.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::WebP => "WebP",
            Self::Bmp => "BMP",
            Self::Gif => "GIF",
            Self::Tiff => "TIFF",
            Self::Known(name) | Self::Instead(name) => name,
            Self::Empty => "empty file",
            Self::Unknown => "other file",
        }
    }
}

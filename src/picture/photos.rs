//! Photos that were read: each decoded once where memory allows, and known by its SHA-256.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::PathBuf;

use image::RgbImage;

use super::Picture;
use super::file::unusable;
use super::folder::{LeftOut, PhotoList, name};
use super::read::{decoded_again, fitted, survey};
use crate::{Result, Size};

/// A picture file that can be decoded.
#[derive(Debug, Clone)]
pub struct Photo {
    /// The file.
    pub path: PathBuf,
    /// The SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// As they are, where they were kept.
    pixels: Option<RgbImage>,
}

/// Photos that can be decoded, every one.
#[derive(Debug, Clone, Default)]
pub struct Photos {
    photos: Vec<Photo>,
    /// What else was in their folders.
    pub left_out: Vec<LeftOut>,
    /// One line on photos that are there twice, if any are.
    pub note: Option<String>,
    /// The most that decoding one of them takes.
    memory: u64,
    /// The widest.
    width: u32,
    /// Bytes of the pixels that are kept.
    kept: u64,
}

impl Photo {
    /// The picture as [`Picture::read`] gives it.
    ///
    /// # Errors
    /// If the file is another by now; as [`Picture::read`].
    pub fn picture(&self, size: impl Into<Option<Size>>) -> Result<Picture> {
        fitted(self.pixels()?, size.into())
    }

    fn pixels(&self) -> Result<Cow<'_, RgbImage>> {
        if let Some(kept) = &self.pixels {
            return Ok(Cow::Borrowed(kept));
        }
        let (pixels, sha256) = decoded_again(&self.path)?;
        if sha256 != self.sha256 {
            let hint = "leave the photos alone while this runs, and start again";
            return Err(unusable(&self.path, "the file was changed meanwhile", hint));
        }
        Ok(Cow::Owned(pixels))
    }
}

impl PhotoList {
    /// Decodes every picture, one at a time: before hours of work the damaged one is to be known. The pixels of the
    /// first of them are kept, up to `keep` bytes in all; the others are decoded again when they are used.
    ///
    /// `progress` is told how many are done and how many there are; its error ends the work.
    ///
    /// # Errors
    /// If a picture cannot be read; an error of `progress`.
    pub fn read(
        self,
        keep: u64,
        mut progress: impl FnMut(usize, usize) -> Result<()>,
    ) -> Result<Photos> {
        let count = self.files.len();
        let mut photos = Photos {
            left_out: self.left_out,
            ..Photos::default()
        };
        let (mut seen, mut twins) = (HashMap::<String, PathBuf>::new(), Vec::new());
        for (i, path) in self.files.into_iter().enumerate() {
            let found = survey(&path, keep - photos.kept)?;
            photos.memory = photos.memory.max(found.memory);
            photos.width = photos.width.max(found.width);
            photos.kept += found
                .pixels
                .as_ref()
                .map_or(0, |rgb| rgb.as_raw().len() as u64);
            match seen.entry(found.sha256.clone()) {
                Entry::Occupied(first) => twins.push((path.clone(), first.get().clone())),
                Entry::Vacant(entry) => drop(entry.insert(path.clone())),
            }
            photos.photos.push(Photo {
                path,
                sha256: found.sha256,
                pixels: found.pixels,
            });
            progress(i + 1, count)?;
        }
        photos.note = note(&twins);
        Ok(photos)
    }
}

impl Photos {
    /// Bytes of pixels to keep where memory is not short: twenty photos of four megapixels.
    pub const KEEP: u64 = 256 << 20;

    /// Bytes that reading some lists of photos takes at its peak, scaled to this height, beside those that are kept: an
    /// estimate.
    pub(crate) fn memory<'a>(lists: impl IntoIterator<Item = &'a Self>, height: usize) -> u64 {
        // Resampling has rows of this height in four numbers a pixel.
        let reading = |list: &Self| list.memory + 16 * u64::from(list.width) * height as u64;
        let (mut kept, mut most) = (0, 0);
        for list in lists {
            kept += list.kept;
            most = most.max(reading(list));
        }
        kept + most
    }
}

/// One line on photos that are the same as an earlier one, byte for byte, each with that.
fn note(twins: &[(PathBuf, PathBuf)]) -> Option<String> {
    let (path, first) = twins.first()?;
    let more = match twins.len() - 1 {
        0 => String::new(),
        n => format!(", and {n} more such"),
    };
    Some(format!(
        "`{}` is the same picture as `{}`{more}",
        name(path),
        name(first)
    ))
}

/// The photos, in order.
impl std::ops::Deref for Photos {
    type Target = [Photo];

    fn deref(&self) -> &[Photo] {
        &self.photos
    }
}

impl<'a> IntoIterator for &'a Photos {
    type Item = &'a Photo;
    type IntoIter = std::slice::Iter<'a, Photo>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::super::list_images;
    use std::path::Path;

    use super::*;

    fn read(folder: &Path, keep: u64) -> Photos {
        let list = list_images(&[folder.to_owned()]).unwrap();
        list.read(keep, |_, _| Ok(())).unwrap()
    }

    /// Kept or decoded again, it is the same picture; and one that was changed meanwhile is refused.
    #[test]
    fn photos_are_kept_as_far_as_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        for (n, name) in ["a.png", "b.png", "c.png"].iter().enumerate() {
            let rgb = (0..8 * 6 * 3).map(|i| (i * (n + 3)) as u8).collect();
            let picture = Picture::new(8, 6, rgb).unwrap();
            picture.write(&dir.path().join(name), None).unwrap();
        }
        let all = read(dir.path(), Photos::KEEP);
        for (keep, kept) in [(0, 0), (8 * 6 * 3, 1), (8 * 6 * 3 * 3 - 1, 2)] {
            let some = read(dir.path(), keep);
            assert_eq!(
                some.iter().filter(|p| p.pixels.is_some()).count(),
                kept,
                "{keep}"
            );
            assert_eq!(some.kept, kept as u64 * 8 * 6 * 3);
            for (a, b) in all.iter().zip(&some) {
                assert_eq!(a.sha256, b.sha256);
                assert_eq!(a.picture(None).unwrap(), b.picture(None).unwrap());
                let size = Size::square(4);
                let plain = Picture::read(&a.path, size).unwrap();
                assert_eq!(a.picture(size).unwrap(), plain);
                assert_eq!(b.picture(size).unwrap(), plain);
            }
        }
        let none = read(dir.path(), 0);
        let other = Picture::new(8, 6, vec![9; 8 * 6 * 3]).unwrap();
        other.write(&dir.path().join("a.png"), None).unwrap();
        let error = none.photos[0].picture(None).unwrap_err().to_string();
        assert!(error.contains("changed meanwhile"), "{error}");
        all.photos[0].picture(None).unwrap();
    }
}

//! Pictures side by side in one.

use super::resample::Window;
use super::{Picture, label};
use crate::{Error, Result};

/// White pixels between pictures.
const GAP: u32 = 4;
/// Smaller pictures are enlarged by a whole factor up to this side, larger ones made smaller.
const SMALL: u32 = 128;
const LARGE: u32 = 256;
/// Most pixels of a sheet.
const MAX_PIXELS: u64 = 1 << 27;

/// One row of pictures under the other, all scaled to the size of the first; rows may be of unequal length.
fn unlabelled(rows: &[Vec<Picture>]) -> Result<Picture> {
    let Some(first) = rows.iter().flatten().next() else {
        return Err(Error::value("sheet", "at least one picture", "none"));
    };
    let (width, height) = cell((first.width(), first.height()));
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0) as u64;
    let across = |count: u64, side: u32| count * u64::from(side + GAP) + u64::from(GAP);
    let whole = (across(columns, width), across(rows.len() as u64, height));
    if whole.0.saturating_mul(whole.1) > MAX_PIXELS {
        let expected = format!("at most {MAX_PIXELS} pixels");
        return Err(Error::value(
            "sheet",
            expected,
            format!("{}x{}", whole.0, whole.1),
        ));
    }
    let stride = 3 * whole.0 as usize;
    let mut rgb = vec![255; stride * whole.1 as usize];
    for (y, row) in rows.iter().enumerate() {
        for (x, picture) in row.iter().enumerate() {
            let scaled = scale(picture, (width, height))?;
            let left = 3 * (GAP as usize + x * (width + GAP) as usize);
            let top = GAP as usize + y * (height + GAP) as usize;
            for (i, line) in scaled.rgb().chunks_exact(3 * width as usize).enumerate() {
                rgb[(top + i) * stride + left..][..line.len()].copy_from_slice(line);
            }
        }
    }
    Picture::new(whole.0 as u32, whole.1 as u32, rgb)
}

/// One row of pictures under the other, all scaled to the size of the first; rows may be of unequal length. Over each
/// column and before each row is its label, where there is one.
///
/// # Errors
/// If there is no picture, or there are too many for one sheet.
pub fn contact_sheet(
    rows: &[Vec<Picture>],
    columns: &[String],
    lines: &[String],
) -> Result<Picture> {
    let plain = unlabelled(rows)?;
    let first = rows.iter().flatten().next();
    let (width, height) = first.map_or((0, 0), |first| cell((first.width(), first.height())));
    let widest = lines.iter().map(|line| label::size(line).0).max();
    let highest = columns.iter().map(|column| label::size(column).1).max();
    let [left, top] = [widest, highest].map(|side| side.map_or(0, |side| side + GAP as usize));
    let (old, across) = (3 * plain.width() as usize, plain.width() as usize + left);
    let mut rgb = vec![255; 3 * across * (plain.height() as usize + top)];
    for (y, line) in plain.rgb().chunks_exact(old.max(1)).enumerate() {
        rgb[3 * ((y + top) * across + left)..][..old].copy_from_slice(line);
    }
    let mut whole = Picture::new(across as u32, (plain.height() as usize + top) as u32, rgb)?;
    let (gap, step) = (GAP as usize, |side: u32| (side + GAP) as usize);
    for (n, text) in columns.iter().enumerate() {
        label::write(&mut whole, text, (left + gap + n * step(width), gap));
    }
    for (n, text) in lines.iter().enumerate() {
        label::write(&mut whole, text, (gap, top + gap + n * step(height)));
    }
    Ok(whole)
}

impl Picture {
    /// The picture as a sheet shows it, but not enlarged: a side of at most 256 pixels.
    ///
    /// # Errors
    /// If it has no pixels.
    pub fn thumbnail(&self) -> Result<Self> {
        match self.width().max(self.height()) > LARGE {
            true => scale(self, cell((self.width(), self.height()))),
            false => Ok(self.clone()),
        }
    }
}

/// The size that pictures of this size are shown at.
fn cell((width, height): (u32, u32)) -> (u32, u32) {
    let long = width.max(height).max(1);
    if long > LARGE {
        let side = |s: u32| (u64::from(s) * u64::from(LARGE) / u64::from(long)).max(1) as u32;
        return (side(width), side(height));
    }
    let factor = (SMALL / long).max(1);
    (width * factor, height * factor)
}

/// Whole factors repeat pixels, so that small pictures stay sharp.
fn scale(picture: &Picture, (width, height): (u32, u32)) -> Result<Picture> {
    let (w, h) = (picture.width().max(1), picture.height().max(1));
    if !width.is_multiple_of(w) || width / w * h != height {
        return picture.bicubic(Window {
            scaled: (width, height),
            at: (0, 0),
            size: (width, height),
        });
    }
    picture.enlarged(width / w)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(width: u32, height: u32, value: u8) -> Picture {
        Picture::new(width, height, vec![value; (3 * width * height) as usize]).unwrap()
    }

    #[test]
    fn rows_are_under_each_other() {
        let rows = [vec![plain(64, 64, 10); 2], vec![plain(64, 64, 20)]];
        let sheet = contact_sheet(&rows, &[], &[]).unwrap();
        assert_eq!((sheet.width(), sheet.height()), (2 * 132 + 4, 2 * 132 + 4));
        let at = |x: usize, y: usize| sheet.rgb()[3 * (y * sheet.width() as usize + x)];
        assert_eq!(
            [at(0, 0), at(4, 4), at(131, 131), at(132, 4)],
            [255, 10, 10, 255]
        );
        assert_eq!([at(136, 10), at(10, 136), at(140, 140)], [10, 20, 255]);
    }

    #[test]
    fn labels_are_beside_the_pictures() {
        let rows = [vec![plain(64, 64, 10); 2], vec![plain(64, 64, 20)]];
        let labels = ["ä".to_owned(), "b c".to_owned()];
        let sheet = contact_sheet(&rows, &labels, &labels).unwrap();
        // Three characters of 16 pixels, and one row of them.
        assert_eq!((sheet.width(), sheet.height()), (268 + 52, 268 + 20));
        let inner = contact_sheet(&rows, &[], &[]).unwrap();
        let black = |x: std::ops::Range<usize>, y: std::ops::Range<usize>| {
            let at = |x: usize, y: usize| sheet.rgb()[3 * (y * sheet.width() as usize + x)] == 0;
            y.flat_map(|y| x.clone().map(move |x| (x, y)))
                .filter(|&(x, y)| at(x, y))
                .count()
        };
        assert!(black(0..52, 20..152) > 50 && black(0..52, 152..288) > 50);
        assert!(black(52..184, 0..20) > 50 && black(184..320, 0..20) > 50);
        for y in 0..inner.height() as usize {
            let from = 3 * ((y + 20) * 320 + 52);
            assert_eq!(
                sheet.rgb()[from..from + 3 * 268],
                inner.rgb()[3 * y * 268..][..3 * 268]
            );
        }
    }

    #[test]
    fn large_pictures_are_made_smaller() {
        let size = |picture: Picture| {
            let small = picture.thumbnail().unwrap();
            (small.width(), small.height())
        };
        assert_eq!(size(plain(64, 32, 9)), (64, 32));
        assert_eq!(size(plain(512, 768, 9)), (170, 256));
    }

    #[test]
    fn any_sizes_fit() {
        assert_eq!(cell((512, 768)), (170, 256));
        assert_eq!(cell((200, 100)), (200, 100));
        assert_eq!(cell((1, 100_000)), (1, 256));
        let sheet = unlabelled(&[vec![plain(300, 200, 9), plain(7, 5, 9)], vec![]]).unwrap();
        assert_eq!((sheet.width(), sheet.height()), (2 * 260 + 4, 2 * 174 + 4));
        assert!(unlabelled(&[vec![], vec![]]).is_err());
        assert!(unlabelled(&vec![vec![plain(1, 1, 0); 100]; 1000]).is_err());
    }
}

//! Words as pixels, for labels.

use font8x8::{BASIC_FONTS, LATIN_FONTS, UnicodeFonts};

use super::Picture;

/// Columns and rows of a character.
const SIDE: usize = 8;
/// How many times larger characters are drawn.
const SCALE: usize = 2;
/// What is longer is cut.
const MOST: usize = 32;

/// How large a label is, in pixels.
pub(super) fn size(text: &str) -> (usize, usize) {
    let characters = text.chars().count().min(MOST);
    (characters * SIDE * SCALE, SIDE * SCALE)
}

/// Writes a text in black into a picture's pixels, its left upper corner at `(x, y)`; what is outside is left out, and
/// a character that has no pixels here is a question mark.
pub(super) fn write(picture: &mut Picture, text: &str, (x, y): (usize, usize)) {
    let (width, height) = (picture.width as usize, picture.height as usize);
    for (place, character) in text.chars().take(MOST).enumerate() {
        let known = BASIC_FONTS.get(character);
        let rows = known.or_else(|| LATIN_FONTS.get(character));
        let rows = rows.or_else(|| BASIC_FONTS.get('?')).unwrap_or_default();
        for row in 0..SIDE * SCALE {
            for column in 0..SIDE * SCALE {
                let set = rows[row / SCALE] >> (column / SCALE) & 1 == 1;
                let (left, top) = (x + place * SIDE * SCALE + column, y + row);
                if set && left < width && top < height {
                    picture.rgb[3 * (top * width + left)..][..3].fill(0);
                }
            }
        }
    }
}

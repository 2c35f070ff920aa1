//! Numbers as pixels, for labels.

use super::Picture;

/// Columns and rows of a digit, with the space behind it.
const WIDTH: usize = 4;
const HEIGHT: usize = 5;
/// Rows of each digit from above, three bits each.
const DIGITS: [[u8; HEIGHT]; 10] = [
    [7, 5, 5, 5, 7],
    [2, 6, 2, 2, 7],
    [7, 1, 7, 4, 7],
    [7, 1, 3, 1, 7],
    [5, 5, 7, 1, 1],
    [7, 4, 7, 1, 7],
    [7, 4, 7, 5, 7],
    [7, 1, 2, 2, 2],
    [7, 5, 7, 5, 7],
    [7, 5, 7, 1, 7],
];
/// How many times larger digits are drawn.
const SCALE: usize = 2;

/// How large a label of this many digits is, in pixels.
pub(super) fn size(digits: usize) -> (usize, usize) {
    (digits * WIDTH * SCALE, HEIGHT * SCALE)
}

/// Writes a number in black into a picture's pixels, its left upper corner at `(x, y)`; what is outside is left out.
pub(super) fn write(picture: &mut Picture, number: u64, (x, y): (usize, usize)) {
    let (width, height) = (picture.width as usize, picture.height as usize);
    for (place, digit) in number.to_string().bytes().enumerate() {
        let rows = DIGITS[usize::from(digit - b'0')];
        for row in 0..HEIGHT * SCALE {
            for column in 0..(WIDTH - 1) * SCALE {
                let set = rows[row / SCALE] >> (WIDTH - 2 - column / SCALE) & 1 == 1;
                let (left, top) = (x + place * WIDTH * SCALE + column, y + row);
                if set && left < width && top < height {
                    picture.rgb[3 * (top * width + left)..][..3].fill(0);
                }
            }
        }
    }
}

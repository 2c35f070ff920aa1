//! Changes of good inputs: of their bytes, of numbers and words in them, and pieces of others.

/// A generator of numbers (xorshift64*), the same on every machine.
pub(super) struct Random(u64);

impl Random {
    /// One of a target's own.
    pub(super) fn new(name: &str, seed: u64) -> Self {
        let start = name
            .bytes()
            .fold(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), |all, byte| {
                (all ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        Self(start | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`; 0 if that is 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    pub(super) fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// Pieces that readers of files trip over.
const PIECES: &[&str] = &[
    "0",
    "1",
    "-1",
    "2",
    "255",
    "256",
    "65535",
    "65536",
    "65537",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e999",
    "1e-999",
    "0.5",
    "-0.0",
    "null",
    "true",
    "false",
    "NaN",
    "Infinity",
    "[]",
    "{}",
    "\"\"",
    "[[[[[[[[",
    "{\"a\":",
    "\\u0000",
    "\\ud800",
    "\u{202e}",
    "\u{1b}[31m",
    "\u{0}",
    "\u{feff}",
    "\u{10ffff}",
    "e\u{301}\u{301}",
    "\u{fffd}",
    "../",
    "/dev/zero",
    "(",
    "((((",
    ")",
    ":1.5)",
    "\\(",
    " and ",
    ", ",
    "sks dog",
    "a",
    "\n",
    "\r\n",
    "\t",
    "  ",
    "</w>",
    "<|endoftext|>",
    "__metadata__",
    "F32",
    "U8",
    "I64",
    "data_offsets",
    "shape",
    "dtype",
];

/// A good input with one to four changes.
pub(super) fn changed(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = random.of(corpus).clone();
    for _ in 0..=random.below(4) {
        change(&mut bytes, corpus, random);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    let at = random.below(bytes.len());
    // Mostly short pieces, now and then a long one.
    let most = *random.of(&[4, 16, 64, 1024]);
    let length = random.below(most + 1).min(bytes.len() - at);
    match random.below(11) {
        0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        2 if !bytes.is_empty() => bytes[at] = *random.of(&[0, 1, 0x20, 0x22, 0x7f, 0x80, 0xff]),
        3 => bytes.truncate(at),
        4 => drop(bytes.drain(at..at + length)),
        5 => {
            let piece = bytes[at..at + length].to_vec();
            let to = random.below(bytes.len() + 1);
            bytes.splice(to..to, piece);
        }
        6 => {
            let other = random.of(corpus);
            let from = random.below(other.len());
            let piece = other[from..(from + length).min(other.len())].to_vec();
            bytes.splice(at..at + length.min(random.below(64)), piece);
        }
        // Lengths and sizes of binary files.
        7 if bytes.len() >= 8 => {
            let at = random.below(bytes.len() - 7);
            let width = *random.of(&[2, 4, 8]);
            let value = *random.of(&[
                0u64,
                1,
                7,
                255,
                65_536,
                1 << 31,
                (1 << 32) - 1,
                1 << 40,
                u64::MAX,
            ]);
            let value = if random.below(2) == 0 {
                value.to_le_bytes()
            } else {
                value.to_be_bytes()
            };
            let from = if random.below(2) == 0 { 0 } else { 8 - width };
            bytes[at..at + width].copy_from_slice(&value[from..from + width]);
        }
        // A number or a word for another.
        8 => {
            let is_part = |byte: u8| {
                byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-' || byte == b'_'
            };
            let start = (at..bytes.len())
                .find(|&i| is_part(bytes[i]))
                .unwrap_or(bytes.len());
            let end = (start..bytes.len())
                .find(|&i| !is_part(bytes[i]))
                .unwrap_or(bytes.len());
            bytes.splice(start..end, random.of(PIECES).bytes());
        }
        9 => {
            // Again and again.
            let piece = bytes[at..at + length.min(16)].repeat(random.below(200));
            bytes.splice(at..at, piece);
        }
        _ => drop(bytes.splice(at..at, random.of(PIECES).bytes())),
    }
}
